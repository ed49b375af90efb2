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

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::entry::{self, Call, find_kv, server_of};
use super::guard::guard;
use super::handle::{ahoy_kv, ahoy_server};
use super::pointer::{Sized, bytes, optional_text, out_buffer, read_sized, require, set_out, text};
use super::server::find;
use crate::cluster::bucket::{BucketOptions, Condition};
use crate::status::{Error, Result, Status};

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
    /// Milliseconds after which the key goes, unless it is put again meanwhile; only where the bucket's history is 1. In
    /// a cluster it is rounded up to whole seconds. 0: with the bucket.
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

// ---- Opening and closing

/// Opens a bucket, or makes it. Waits for the answer of the cluster's servers, but not for a cluster that is not joined:
/// that is AHOY_ERR_DISCONNECTED, at once.
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
        let key = unsafe { entry::key_bytes(key, key_bytes)? };
        let call = Call::new(on_done, kv, user, "on_done")?;
        let found = find_kv(kv)?;
        found.get(key, found.on_worker(move |entry| call.tell(&entry))?)
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
        let (key, buffer) = unsafe { (entry::key_bytes(key, key_bytes)?, out_buffer(value, capacity)?) };
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
    let done = found.on_worker(move |entry| call.tell(&entry))?;
    found.write(key, value, condition, ttl_ms, done)
}

fn change_wait(kv: ahoy_kv, key: &[u8], value: Option<&[u8]>, condition: Condition, ttl_ms: u64) -> Result<u64> {
    let found = find_kv(kv)?;
    let server = server_of(&found)?;
    let entry = server.wait_for(|done| found.write(key, value, condition, ttl_ms, found.in_hand(done)?))?;
    Ok(entry.revision)
}

/// A key, its value, and how long it lives.
///
/// # Safety
/// So many readable bytes (or a key that ends with a zero byte), and NULL or a struct with its size; all live as long as
/// the C function's call.
unsafe fn given<'a>(
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    options: *const ahoy_kv_put_options,
) -> Result<(&'a [u8], &'a [u8], u64)> {
    // SAFETY: as above.
    unsafe { Ok((entry::key_bytes(key, key_bytes)?, bytes(value, value_bytes)?, ttl_ms(options)?)) }
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
///         older than NATS 2.11, or its history is more than 1. AHOY_ERR_DISCONNECTED. AHOY_ERR_AGAIN: 65,536 calls are
///         under way. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _MEMORY.
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
        // SAFETY: the caller promises the same.
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
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
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
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
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
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
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
        let done = change_wait(kv, key, Some(value), Condition::Absent, ttl_ms)?;
        // SAFETY: the caller passes NULL or a pointer to a number it owns.
        unsafe { set_out(revision, done) };
        Ok(())
    })
}

/// As `ahoy_kv_put`, but only if the key has this revision.
///
/// @param revision  as a read, a change or a watch has told it, that of a deletion, too; not 0.
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
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
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
        let (key, value, ttl_ms) = unsafe { given(key, key_bytes, value, value_bytes, options)? };
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
/// @param on_done   called exactly once, with the revision of the deletion, which `ahoy_kv_update` takes: who else
///                  wants to write where a key was deleted uses `ahoy_kv_create`. AHOY_ERR_REVISION: the key has
///                  another, or there is none. Otherwise as that of `ahoy_kv_put`.
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
        let key = unsafe { entry::key_bytes(key, key_bytes)? };
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
        let key = unsafe { entry::key_bytes(key, key_bytes)? };
        change_wait(kv, key, None, at(revision), 0).map(drop)
    })
}
