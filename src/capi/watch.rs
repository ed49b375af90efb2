//! # Keys and watches
//!
//! What a bucket holds, now; or now and from now on, whoever changes it.

use std::ffi::c_void;

use super::entry::{self, Call, find_kv, server_of, with_entry};
use super::guard::guard;
use super::handle::{ahoy_kv, ahoy_watch};
use super::kv::ahoy_kv_fn;
use super::pointer::set_out;
use super::server::ahoy_free_fn;
use crate::cluster::kv::READS_MAX;
use crate::cluster::watch;
use crate::status::Status;
use crate::sys::{self, Finalizer};

/// Reads all keys that begin so, with their values.
///
/// @param prefix        what they begin with; NULL: all. `prefix_bytes` 0: a string that ends with a zero byte.
/// @param prefix_bytes  its length.
/// @param on_key        called for each key, in no order, then once with `entry` NULL: AHOY_OK: that were all. An error
///                      (as of `ahoy_kv_get`): there may be more.
/// @param user          passed to `on_key`.
/// @return AHOY_OK: `on_key` will be called. On an error it is not: as `ahoy_kv_get`.
///
/// A key that is there all the while is among them; one that comes or goes meanwhile may be. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_keys(
    kv: ahoy_kv,
    prefix: *const c_void,
    prefix_bytes: usize,
    on_key: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL, `prefix_bytes` readable bytes, or a string that ends with a zero byte.
        let prefix = unsafe { entry::prefix_bytes(prefix, prefix_bytes)? };
        let call = Call::new(on_key, kv, user, "on_key")?;
        find_kv(kv)?.each_key(prefix, Box::new(move |entry| call.make(entry)))
    })
}

/// As `ahoy_kv_keys`, and waits for the end. `on_key` is called on this thread, for each key; not for the end, which is
/// what this returns.
///
/// @return AHOY_OK: that were all. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_get` and its
///         `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_keys_wait(
    kv: ahoy_kv,
    prefix: *const c_void,
    prefix_bytes: usize,
    on_key: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_keys`.
        let prefix = unsafe { entry::prefix_bytes(prefix, prefix_bytes)? };
        let call = Call::new(on_key, kv, user, "on_key")?;
        let found = find_kv(kv)?;
        let server = server_of(&found)?;
        let listing = server.wait_for(|done| found.list(prefix, found.in_hand(done)?))?;
        for keys in listing.keys.chunks(READS_MAX) {
            let entries = server.wait_for(|done| {
                found.get_many(keys, found.in_hand(done)?);
                Ok(())
            })?;
            for entry in &entries {
                with_entry(entry, |entry| call.enter(Status::Ok, entry))?;
            }
            // In a child of the program's function nobody is left who could answer.
            if sys::forked() {
                return Err(Status::Forked.into());
            }
        }
        Ok(())
    })
}

/// Watches the keys that begin so: first what there is, then a call with `entry` NULL, then each change.
///
/// @param prefix        what they begin with; NULL: all. `prefix_bytes` 0: a string that ends with a zero byte.
/// @param prefix_bytes  its length.
/// @param on_change     called with AHOY_OK and an entry, or NULL, once, when all that was there has been told.
/// @param user          passed to `on_change`.
/// @param on_free       called exactly once with `user` when the watch is over: `ahoy_kv_unwatch`, `ahoy_kv_close`, or
///                      the server has stopped. NULL: nothing to free.
/// @param watch         receives the handle, before `on_change` is called; NULL if you do not need it.
/// @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the prefix.
///         AHOY_ERR_STALE, _STOPPED, _NULL (`on_change`), _AGAIN, _MEMORY.
///
/// A watch outlives the loss of a server, and of the link, and tells what has changed meanwhile: of each key its last
/// value comes in the end. Revisions in between may be left out, never come in another order, and never twice. Who is
/// slow is told less, not later. Changes that happen during the first part may be told in it. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_watch(
    kv: ahoy_kv,
    prefix: *const c_void,
    prefix_bytes: usize,
    on_change: ahoy_kv_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    watch: *mut ahoy_watch,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL, `prefix_bytes` readable bytes, or a string that ends with a zero byte.
        let prefix = unsafe { entry::prefix_bytes(prefix, prefix_bytes)? };
        let call = Call::new(on_change, kv, user, "on_change")?;
        let found = find_kv(kv)?;
        // SAFETY: the caller gives the function for this purpose.
        let finalizer = unsafe { Finalizer::new(on_free, user) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |number| unsafe { set_out(watch, ahoy_watch { id: number }) };
        watch::begin(&found, prefix, Box::new(move |entry| call.show(entry).is_ok()), finalizer, announce)
    })
}

/// Ends a watch. Called inside its callback, or another of the same bucket handle, it is not called again. From
/// another thread it may still be called once; its `on_free` says when it is over.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it is over already. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_kv_unwatch(watch: ahoy_watch) -> Status {
    guard(|| watch::end(watch.id))
}
