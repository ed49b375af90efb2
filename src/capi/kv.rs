//! # Buckets
//!
//! A bucket is a set of keys with values that every node of the cluster reads, changes and watches. Its servers keep it, with
//! copies (`replicas`), also when no node is there. Without a cluster it is in memory, or in a file.
//!
//! Each change gives its key a revision: a number that only grows, over all keys of the bucket. With
//! `ahoy_kv_create` and `ahoy_kv_update` a change is done only if the key is as the program has read it, whoever else
//! is at it. docs/CLUSTER.md says what is promised when servers fail, and how to build a lock.
//!
//! Keys are any 1 to 255 bytes; `key_bytes` 0 means that the key is a string that ends with a zero byte. Values are as long
//! as the servers allow (1 MiB, if nobody has said otherwise).
//!
//! Each call is there twice: as it is, it does not wait, and calls a function when it is done; with _wait it waits
//! for that, outside of callbacks only. The functions run on a worker, for one handle always the same, one after the
//! other. What is under way when the server stops is waited for, as connections are, and may end with AHOY_ERR_STOPPED.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use super::guard::guard;
use super::handle::{ahoy_kv, ahoy_server, ahoy_watch};
use super::handler::enter_host;
use super::pointer::{Sized, bytes, optional_text, out_buffer, read_sized, require, set_out, text};
use super::server::{ahoy_free_fn, find};
use crate::cluster::bucket::{BucketOptions, Condition, Entry, Operation};
use crate::cluster::kv::{KVS, Kv, READS_MAX};
use crate::cluster::watch;
use crate::server::{self, Server, ServerId};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostWord};

/// As `reads`: what is read is the last that was acknowledged. It is asked of the server that leads the bucket.
pub const AHOY_KV_LEADER: i32 = 0;
/// As `reads`: any server of the bucket may answer, which is faster; what is read may be older than the last. A new
/// bucket allows that to all programs. Watches and conditions are as exact as ever.
pub const AHOY_KV_STALE_OK: i32 = 1;

/// As `operation`: the key has this value.
pub const AHOY_KV_PUT: i32 = 0;
/// As `operation`: the key was deleted, or its time has passed.
pub const AHOY_KV_DELETE: i32 = 1;

/// What a bucket is to be. Leave zero what you do not need. A bucket that is there already has to be so where it is
/// not zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_kv_options {
    /// sizeof(ahoy_kv_options).
    pub size: usize,
    /// Servers of the cluster that keep a copy: 1 to 5, of which more than half have to be there. 0: as it is; a new one has 3
    /// where the cluster has three servers that are there, otherwise 1.
    pub replicas: u32,
    /// Revisions of a key that are kept, for other NATS clients: 1 to 64. 0: as it is; a new one has 1.
    pub history: u32,
    /// Milliseconds after which every value goes: 100 or more. 0: as it is; in a new one they stay.
    pub ttl_ms: u64,
    /// Bytes of all keys and values; a change that does not fit is refused (AHOY_ERR_AGAIN). NATS counts some more
    /// for each. 0: as it is; a new one has no limit.
    pub bytes_max: u64,
    /// AHOY_KV_LEADER or AHOY_KV_STALE_OK.
    pub reads: i32,
    /// 0.
    pub reserved: i32,
    /// Without a cluster: the file that keeps the bucket; it is made if need be, and may keep several. All of it is
    /// in memory as well. NULL: memory only, as long as the server runs.
    pub path: *const c_char,
}

/// How a key is put. Leave zero what you do not need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_kv_put_options {
    /// sizeof(ahoy_kv_put_options).
    pub size: usize,
    /// Milliseconds after which the key goes, unless it is put again meanwhile. In a cluster it is rounded up to whole
    /// seconds. 0: with the bucket.
    pub ttl_ms: u64,
}

/// A key at one revision.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_kv_entry {
    /// sizeof(ahoy_kv_entry).
    pub size: usize,
    /// The key; a zero byte follows it.
    pub key: *const c_void,
    /// Its length.
    pub key_bytes: usize,
    /// The value; a zero byte follows it.
    pub value: *const c_void,
    /// Its length. 0 also where a call has changed the key, whose value the program knows.
    pub value_bytes: usize,
    /// Its revision.
    pub revision: u64,
    /// AHOY_KV_PUT or AHOY_KV_DELETE.
    pub operation: i32,
    /// 0.
    pub reserved: i32,
}

/// A call on a bucket is done. `entry` lives until this returns; NULL unless `status` is AHOY_OK, and at the end of
/// `ahoy_kv_keys`. Runs on a worker. Any call is legal, but for those that wait.
pub type ahoy_kv_fn =
    Option<unsafe extern "C" fn(kv: ahoy_kv, status: Status, entry: *const ahoy_kv_entry, user: *mut c_void)>;

// SAFETY: plain C structs for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_kv_options {
    const SIZE_MIN: usize = size_of::<Self>();
}
// SAFETY: as above.
unsafe impl Sized for ahoy_kv_put_options {
    const SIZE_MIN: usize = size_of::<Self>();
}

// ---- What C gives

/// SAFETY: `options` is NULL or points to as many bytes as its first field says; its strings end with a zero byte.
unsafe fn bucket_options(options: *const ahoy_kv_options) -> Result<BucketOptions> {
    if options.is_null() {
        return Ok(BucketOptions::default());
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    // SAFETY: as promised by our caller.
    let path = unsafe { optional_text(given.path, "path")? };
    if path == Some("") {
        return Err(Error::new(Status::Invalid, "path is empty"));
    }
    Ok(BucketOptions {
        replicas: given.replicas,
        history: given.history,
        ttl_ms: given.ttl_ms,
        bytes_max: given.bytes_max,
        stale_ok: match given.reads {
            AHOY_KV_LEADER => false,
            AHOY_KV_STALE_OK => true,
            other => return Err(Error::new(Status::Enum, format!("reads: no way to read has the number {other}"))),
        },
        path: path.map(str::to_owned),
    })
}

/// SAFETY: `options` is NULL or points to as many bytes as its first field says.
unsafe fn ttl_ms(options: *const ahoy_kv_put_options) -> Result<u64> {
    // SAFETY: as promised by our caller.
    if options.is_null() { Ok(0) } else { Ok(unsafe { read_sized(options)? }.ttl_ms) }
}

/// SAFETY: `key` is NULL, or has `length` readable bytes that outlive the result, or ends with a zero byte if that is 0.
unsafe fn key_bytes<'a>(key: *const c_void, length: usize) -> Result<&'a [u8]> {
    require(key, "key")?;
    match length {
        // SAFETY: not NULL, and as promised by our caller.
        0 => Ok(unsafe { CStr::from_ptr(key.cast()) }.to_bytes()),
        // SAFETY: as promised by our caller.
        length => unsafe { bytes(key, length) },
    }
}

/// SAFETY: as for [`key_bytes`]; NULL is no bytes.
unsafe fn prefix_bytes<'a>(prefix: *const c_void, length: usize) -> Result<&'a [u8]> {
    // SAFETY: as promised by our caller.
    if prefix.is_null() && length == 0 { Ok(&[]) } else { unsafe { key_bytes(prefix, length) } }
}

fn find_kv(kv: ahoy_kv) -> Result<Arc<Kv>> {
    KVS.find(kv.id)
}

/// For a call that waits.
fn server_of(kv: &Kv) -> Result<Arc<Server>> {
    server::refuse_in_callback()?;
    server::find(ServerId::from_raw(kv.server))
}

// ---- What C gets

/// Shows an entry to a function of the program's. A zero byte follows key and value, so that they can be printed.
fn with_entry(entry: &Entry, show: impl FnOnce(&ahoy_kv_entry)) -> Result<()> {
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
struct Call {
    function: unsafe extern "C" fn(ahoy_kv, Status, *const ahoy_kv_entry, *mut c_void),
    kv: ahoy_kv,
    user: HostWord,
}

impl Call {
    fn new(function: ahoy_kv_fn, kv: ahoy_kv, user: *mut c_void, name: &str) -> Result<Self> {
        let function = function.ok_or_else(|| Error::new(Status::Null, format!("{name} is NULL")))?;
        Ok(Self { function, kv, user: HostWord::new(user) })
    }

    fn enter(self, status: Status, entry: *const ahoy_kv_entry) {
        // SAFETY: the program gave this function for this purpose; `entry` lives until it returns.
        enter_host(|| unsafe { (self.function)(self.kv, status, entry, self.user.get()) });
    }

    fn make(self, result: Result<Option<&Entry>>) {
        let shown = match result {
            Ok(Some(entry)) => with_entry(entry, |entry| self.enter(Status::Ok, entry)),
            Ok(None) => {
                self.enter(Status::Ok, std::ptr::null());
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = shown {
            self.enter(error.status, std::ptr::null());
        }
    }
}

// ---- Opening and closing

/// Opens a bucket, or makes it. Waits for the cluster.
///
/// @param name     1 to 64 letters, digits, - and _. Other NATS clients know the bucket as CLUSTER_NAME.
/// @param options  NULL: the defaults.
/// @param kv       receives the handle, which is good until `ahoy_kv_close`, or until the server has stopped.
/// @return AHOY_OK. AHOY_ERR_INVALID: the name, or an option; or the bucket is there and is otherwise (`ahoy_last_error` says
///         what); or `path` with a cluster. AHOY_ERR_REPLICAS: the cluster has fewer servers. AHOY_ERR_NO_STORE: its
///         servers run without JetStream. AHOY_ERR_BUSY: another server, here or in another process, has the file.
///         AHOY_ERR_DISCONNECTED, AHOY_ERR_TIMEOUT. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_UNSUPPORTED:
///         `path`, and this build knows no files. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _ENUM, _AGAIN, _MEMORY,
///         _THREAD; and what the system says of the file: AHOY_ERR_PERMISSION, _NOT_FOUND, _SYSTEM.
///
/// Each call gives a handle of its own. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_open(
    server: ahoy_server,
    name: *const c_char,
    options: *const ahoy_kv_options,
    kv: *mut ahoy_kv,
) -> Status {
    guard(|| {
        require(kv, "kv")?;
        // SAFETY: the caller passes a string that ends with a zero byte, and NULL or a struct with its size.
        let (name, options) = unsafe { (text(name, "name")?, bucket_options(options)?) };
        let found = find(server)?;
        let cluster = Arc::clone(found.cluster()?);
        let opened = found.wait_for(|done| cluster.open_kv(server.id, name, &options, done))?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { set_out(kv, ahoy_kv { id: opened.number() }) };
        Ok(())
    })
}

/// Makes a handle stale, and ends its watches, as `ahoy_kv_unwatch` does. Calls that are under way end as they would have. The
/// bucket, and what is in it, stays.
///
/// @return AHOY_OK. AHOY_ERR_STALE. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_kv_close(kv: ahoy_kv) -> Status {
    guard(|| {
        find_kv(kv)?.close();
        Ok(())
    })
}

// ---- Reading

/// Reads a key.
///
/// @param on_done  called exactly once, with the entry. AHOY_ERR_NO_KEY: there is none. AHOY_ERR_TIMEOUT: no server
///                 has answered. AHOY_ERR_DISCONNECTED, _NO_STORE (the bucket was deleted), _STOPPED, _MEMORY.
/// @param user     passed to `on_done`.
/// @return AHOY_OK: `on_done` will be called. On an error it is not: AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the key.
///         AHOY_ERR_DISCONNECTED. AHOY_ERR_AGAIN: 65,536 calls are under way. AHOY_ERR_STALE, _STOPPED, _NULL.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_get(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `key_bytes` readable bytes, or a string that ends with a zero byte.
        let key = unsafe { self::key_bytes(key, key_bytes)? };
        let call = Call::new(on_done, kv, user, "on_done")?;
        let found = find_kv(kv)?;
        found.get(key, found.on_worker(move |entry| call.make(entry.as_ref().map(Some).map_err(Error::again)))?)
    })
}

/// Reads a key, and waits for it.
///
/// @param value        receives the value, at most `capacity` - 1 bytes of it, and a zero byte after it; NULL if you do not
///                     need it.
/// @param capacity     size of `value` in bytes; 0 if it is NULL.
/// @param value_bytes  receives the value's length, also when it does not fit; NULL if you do not need it.
/// @param revision     receives the revision; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_TOO_LONG: the value does not fit, or the key is too long. AHOY_ERR_DEADLOCK: inside a
///         callback. Otherwise as `ahoy_kv_get` and its `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_get_wait(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *mut c_void,
    capacity: usize,
    value_bytes: *mut usize,
    revision: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `key_bytes` readable bytes or a string that ends with a zero byte, and `capacity`
        // writable bytes.
        let (key, buffer) = unsafe { (self::key_bytes(key, key_bytes)?, out_buffer(value, capacity)?) };
        let found = find_kv(kv)?;
        let entry = server_of(&found)?.wait_for(|done| found.get(key, found.in_hand(done)?))?;
        // SAFETY: the caller passes NULL or pointers to what it owns.
        unsafe {
            set_out(value_bytes, entry.value.len());
            set_out(revision, entry.revision);
        }
        let Some(buffer) = buffer else { return Ok(()) };
        if entry.value.len() >= buffer.len() {
            let text = format!("the value has {} bytes: there is room for {}", entry.value.len(), buffer.len() - 1);
            return Err(Error::new(Status::TooLong, text));
        }
        for (to, from) in buffer.iter_mut().zip(entry.value.iter().chain(&[0])) {
            to.write(*from);
        }
        Ok(())
    })
}

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
        let prefix = unsafe { self::prefix_bytes(prefix, prefix_bytes)? };
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
        let prefix = unsafe { self::prefix_bytes(prefix, prefix_bytes)? };
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
        }
        Ok(())
    })
}

// ---- Writing

/// What all of the changes have in common.
fn change(
    kv: ahoy_kv,
    key: &[u8],
    value: Option<&[u8]>,
    condition: Condition,
    ttl_ms: u64,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Result<()> {
    let call = Call::new(on_done, kv, user, "on_done")?;
    let found = find_kv(kv)?;
    let done =
        found.on_worker(move |entry: Result<Entry>| call.make(entry.as_ref().map(Some).map_err(Error::again)))?;
    found.write(key, value, condition, ttl_ms, done)
}

fn change_wait(kv: ahoy_kv, key: &[u8], value: Option<&[u8]>, condition: Condition, ttl_ms: u64) -> Result<u64> {
    let found = find_kv(kv)?;
    let server = server_of(&found)?;
    let entry = server.wait_for(|done| found.write(key, value, condition, ttl_ms, found.in_hand(done)?))?;
    Ok(entry.revision)
}

/// Gives a key a value, whatever it had.
///
/// @param options  NULL: the defaults.
/// @param on_done  called exactly once, with the key and its new revision. AHOY_ERR_UNKNOWN_OUTCOME: the answer is lost,
///                 and it may have been done or not, or be done yet. AHOY_ERR_TIMEOUT: no server has taken it, and it was
///                 not done. AHOY_ERR_AGAIN: the bucket, or the servers, are full. AHOY_ERR_DISCONNECTED,
///                 _NO_STORE (the bucket was deleted), _TOO_LONG, _UNSUPPORTED, _FAILED, _STOPPED, _SYSTEM, _MEMORY: it
///                 was not done, as far as the answer is from a server; AHOY_ERR_STOPPED may also be an answer lost.
/// @param user     passed to `on_done`.
/// @return AHOY_OK: `on_done` will be called. On an error it is not, and nothing is done: AHOY_ERR_INVALID,
///         AHOY_ERR_TOO_LONG: the key, or the value. AHOY_ERR_UNSUPPORTED: `ttl_ms`, and the bucket's servers are
///         older than NATS 2.11. AHOY_ERR_DISCONNECTED. AHOY_ERR_AGAIN: 65,536 calls are under way.
///         AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _MEMORY.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_put(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const ahoy_kv_put_options,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes so many readable bytes, and NULL or a struct with its size.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        change(kv, key, Some(value), Condition::None, ttl_ms, on_done, user)
    })
}

/// As `ahoy_kv_put`, and waits for it.
///
/// @param revision  receives the new revision; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_put` and its `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_put_wait(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const ahoy_kv_put_options,
    revision: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_put`.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        let done = change_wait(kv, key, Some(value), Condition::None, ttl_ms)?;
        // SAFETY: the caller passes NULL or a pointer to a number it owns.
        unsafe { set_out(revision, done) };
        Ok(())
    })
}

/// As `ahoy_kv_put`, but only if there is no such key.
///
/// @param on_done  AHOY_ERR_KEY_EXISTS: there is one.
/// @return as `ahoy_kv_put`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_create(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const ahoy_kv_put_options,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_put`.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        change(kv, key, Some(value), Condition::Absent, ttl_ms, on_done, user)
    })
}

/// As `ahoy_kv_create`, and waits for it.
///
/// @param revision  receives the new revision; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_create` and its `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_create_wait(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const ahoy_kv_put_options,
    revision: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_put`.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        let done = change_wait(kv, key, Some(value), Condition::Absent, ttl_ms)?;
        // SAFETY: the caller passes NULL or a pointer to a number it owns.
        unsafe { set_out(revision, done) };
        Ok(())
    })
}

/// As `ahoy_kv_put`, but only if the key has this revision.
///
/// @param revision  as a read, a change or a watch has told it; not 0.
/// @param on_done   AHOY_ERR_REVISION: it has another, or there is no such key.
/// @return as `ahoy_kv_put`; AHOY_ERR_INVALID: the revision is 0. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_update(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    revision: u64,
    options: *const ahoy_kv_put_options,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_put`.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        change(kv, key, Some(value), Condition::At(revision), ttl_ms, on_done, user)
    })
}

/// As `ahoy_kv_update`, and waits for it.
///
/// @param updated  receives the new revision; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_update` and its `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_update_wait(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    revision: u64,
    options: *const ahoy_kv_put_options,
    updated: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_kv_put`.
        let (key, value, ttl_ms) =
            unsafe { (self::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?) };
        let done = change_wait(kv, key, Some(value), Condition::At(revision), ttl_ms)?;
        // SAFETY: the caller passes NULL or a pointer to a number it owns.
        unsafe { set_out(updated, done) };
        Ok(())
    })
}

/// The condition of a deletion.
fn at(revision: u64) -> Condition {
    if revision == 0 { Condition::None } else { Condition::At(revision) }
}

/// Deletes a key.
///
/// @param revision  only if the key has this one; 0: whatever it has, also if there is none.
/// @param on_done   called exactly once, with the revision of the deletion. AHOY_ERR_REVISION: the key has another, or
///                  there is none. Otherwise as that of `ahoy_kv_put`.
/// @return as `ahoy_kv_put`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_delete(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    revision: u64,
    on_done: ahoy_kv_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `key_bytes` readable bytes, or a string that ends with a zero byte.
        let key = unsafe { self::key_bytes(key, key_bytes)? };
        change(kv, key, None, at(revision), 0, on_done, user)
    })
}

/// As `ahoy_kv_delete`, and waits for it.
///
/// @return AHOY_OK. AHOY_ERR_DEADLOCK: inside a callback. Otherwise as `ahoy_kv_delete` and its `on_done`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_kv_delete_wait(
    kv: ahoy_kv,
    key: *const c_void,
    key_bytes: usize,
    revision: u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `key_bytes` readable bytes, or a string that ends with a zero byte.
        let key = unsafe { self::key_bytes(key, key_bytes)? };
        change_wait(kv, key, None, at(revision), 0).map(drop)
    })
}

// ---- Watching

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
        let prefix = unsafe { self::prefix_bytes(prefix, prefix_bytes)? };
        let call = Call::new(on_change, kv, user, "on_change")?;
        let found = find_kv(kv)?;
        // SAFETY: the caller gives the function for this purpose.
        let finalizer = unsafe { Finalizer::new(on_free, user) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |number| unsafe { set_out(watch, ahoy_watch { id: number }) };
        watch::begin(&found, prefix, Box::new(move |entry| call.make(Ok(entry))), finalizer, announce)
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
