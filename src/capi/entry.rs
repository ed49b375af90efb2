//! Keys and entries of buckets between C and Rust.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use super::handle::ahoy_kv;
use super::handler::enter_host;
use super::kv::{AHOY_KV_DELETE, AHOY_KV_PUT, ahoy_kv_entry, ahoy_kv_fn};
use super::pointer::{bytes, require};
use crate::cluster::bucket::{Entry, Operation};
use crate::cluster::kv::{KVS, Kv};
use crate::server::{self, Server, ServerId};
use crate::status::{Error, Result, Status};
use crate::sys::HostWord;

// ---- What C gives

/// SAFETY: `key` is NULL, or has `length` readable bytes that outlive the result, or ends with a zero byte if that is 0.
pub(super) unsafe fn key_bytes<'a>(key: *const c_void, length: usize) -> Result<&'a [u8]> {
    require(key, "key")?;
    match length {
        // SAFETY: not NULL, and as promised by our caller.
        0 => Ok(unsafe { CStr::from_ptr(key.cast()) }.to_bytes()),
        // SAFETY: as promised by our caller.
        length => unsafe { bytes(key, length) },
    }
}

/// SAFETY: as for [`key_bytes`]; NULL is no bytes.
pub(super) unsafe fn prefix_bytes<'a>(prefix: *const c_void, length: usize) -> Result<&'a [u8]> {
    // SAFETY: as promised by our caller.
    if prefix.is_null() && length == 0 { Ok(&[]) } else { unsafe { key_bytes(prefix, length) } }
}

pub(super) fn find_kv(kv: ahoy_kv) -> Result<Arc<Kv>> {
    KVS.find(kv.id)
}

/// For a call that waits.
pub(super) fn server_of(kv: &Kv) -> Result<Arc<Server>> {
    server::refuse_in_callback()?;
    server::find(ServerId::from_raw(kv.server))
}

// ---- What C gets

/// Shows an entry to a function of the program's. A zero byte follows key and value, so that they can be printed.
pub(super) fn with_entry(entry: &Entry, show: impl FnOnce(&ahoy_kv_entry)) -> Result<()> {
    let mut text = Vec::new();
    crate::sys::reserve(&mut text, entry.key.len() + entry.value.len() + 2)?;
    for part in [&*entry.key, b"\0", &*entry.value, b"\0"] {
        text.extend_from_slice(part);
    }
    show(&ahoy_kv_entry {
        size: size_of::<ahoy_kv_entry>(),
        key: text.as_ptr().cast(),
        key_bytes: entry.key.len(),
        value: text[entry.key.len() + 1..].as_ptr().cast(),
        value_bytes: entry.value.len(),
        revision: entry.revision,
        operation: match entry.operation {
            Operation::Put => AHOY_KV_PUT,
            Operation::Delete => AHOY_KV_DELETE,
        },
        reserved: 0,
    });
    Ok(())
}

/// A function of the program's, with its user data.
#[derive(Clone, Copy)]
pub(super) struct Call {
    function: unsafe extern "C" fn(ahoy_kv, Status, *const ahoy_kv_entry, *mut c_void),
    kv: ahoy_kv,
    user: HostWord,
}

impl Call {
    pub(super) fn new(function: ahoy_kv_fn, kv: ahoy_kv, user: *mut c_void, name: &str) -> Result<Self> {
        let function = function.ok_or_else(|| Error::new(Status::Null, format!("{name} is NULL")))?;
        Ok(Self { function, kv, user: HostWord::new(user) })
    }

    pub(super) fn enter(self, status: Status, entry: *const ahoy_kv_entry) {
        // SAFETY: the program gave this function for this purpose; `entry` lives until it returns.
        enter_host(|| unsafe { (self.function)(self.kv, status, entry, self.user.get()) });
    }

    /// What came of one call.
    pub(super) fn tell(self, result: &Result<Entry>) {
        let _ = self.make(result.as_ref().map(Some).map_err(Error::again));
    }

    /// False: for want of memory it was told that instead of the entry.
    pub(super) fn make(self, result: Result<Option<&Entry>>) -> bool {
        match result.and_then(|entry| self.show(entry)) {
            Ok(()) => true,
            Err(error) => {
                self.enter(error.status, std::ptr::null());
                false
            }
        }
    }

    /// An entry, or the end of them.
    pub(super) fn show(self, entry: Option<&Entry>) -> Result<()> {
        match entry {
            Some(entry) => with_entry(entry, |entry| self.enter(Status::Ok, entry)),
            None => {
                self.enter(Status::Ok, std::ptr::null());
                Ok(())
            }
        }
    }
}
