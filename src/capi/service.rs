//! # Services
//!
//! A service is a name, and a function that answers calls. Any number of nodes may offer it; each call is answered by
//! one of them, our own included. Without a cluster all of this works inside the process. NATS clients take part:
//! a service listens on CLUSTER.service.NAME, and answers what NATS tools ask about services ($SRV.PING, $SRV.INFO,
//! $SRV.STATS). Names are 1 to 64 letters, digits, - and _.
//!
//! A call is answered once, or its outcome is unknown: AHOY_ERR_UNKNOWN_OUTCOME says that it may have been done or not,
//! because the node that had it died, the link was lost meanwhile, or the time was up. Only a call that
//! is marked as idempotent is ever sent a second time.

use std::ffi::{c_char, c_void};

use super::guard::guard;
use super::handle::ahoy_server;
use super::handler::enter_host;
use super::pointer::{Sized, bytes, optional_text, out_buffer, read_sized, require, set_out, text};
use super::server::{ahoy_free_fn, find};
use crate::cluster::calls::CallOptions;
use crate::cluster::services::{self, ServiceOptions};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostUser, HostWord};

/// A service that this server offers. `id` 0: none. Valid until `ahoy_offer_end`, or until the server stops.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_offer {
    /// Opaque.
    pub id: u64,
}

/// A call that is to be answered. `id` 0: none. Valid until it is answered, by the program or for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_incoming {
    /// Opaque.
    pub id: u64,
}

/// A call has come, with `len` bytes at `data`, which live until this returns. Answer it with `ahoy_reply` or
/// `ahoy_reply_failed`, in here or later. Runs on any of the workers, and on several at once. Any call is legal.
pub type ahoy_service_fn =
    Option<unsafe extern "C" fn(call: ahoy_incoming, data: *const c_void, len: usize, user: *mut c_void)>;

/// What came of a call. With AHOY_OK `len` bytes at `data` are the answer; with AHOY_ERR_FAILED they are the text with
/// which the service says why; otherwise they say what happened, for people. They live until this returns.
/// Runs once for each call, on a worker. Any call is legal.
pub type ahoy_reply_fn = Option<
    unsafe extern "C" fn(server: ahoy_server, status: Status, data: *const c_void, len: usize, user: *mut c_void),
>;

/// The particulars of a service. Leave zero what you do not need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_service_options {
    /// sizeof(ahoy_service_options).
    pub size: usize,
    /// Calls that may be in hand, not answered yet. Those beyond are refused, and their callers get AHOY_ERR_AGAIN. 0: 1,024.
    pub in_hand_max: u32,
    /// Milliseconds after which a call that is not answered is answered for the program: it failed. 0: 60,000.
    pub answer_ms: u32,
    /// Version, for those who ask about services: three numbers, as in "1.2.0". NULL: "0.0.0".
    pub version: *const c_char,
    /// What it does, for people: up to 1,024 bytes. NULL: nothing.
    pub description: *const c_char,
}

// SAFETY: a plain C struct for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_service_options {
    const SIZE_MIN: usize = size_of::<usize>();
}

/// The particulars of a call. Leave zero what you do not need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_call_options {
    /// sizeof(ahoy_call_options).
    pub size: usize,
    /// Milliseconds to wait for the answer. 0: 5,000.
    pub timeout_ms: u32,
    /// 1: to do it twice does no harm. If the node that has it dies, or the link is lost, it is sent once more.
    pub idempotent: i32,
}

// SAFETY: as above.
unsafe impl Sized for ahoy_call_options {
    const SIZE_MIN: usize = size_of::<usize>();
}

const DESCRIPTION_BYTES_MAX: usize = 1_024;

/// SAFETY: `options` is NULL or points to a struct that starts with its size; its strings end with a zero byte.
unsafe fn service_options(options: *const ahoy_service_options) -> Result<ServiceOptions> {
    if options.is_null() {
        return Ok(ServiceOptions::default());
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    // SAFETY: as promised by our caller.
    let text = |pointer, name| unsafe { Ok::<_, Error>(optional_text(pointer, name)?.map(str::to_owned)) };
    let description = text(given.description, "description")?.unwrap_or_default();
    if description.len() > DESCRIPTION_BYTES_MAX {
        let text = format!("description has {} bytes: at most {DESCRIPTION_BYTES_MAX}", description.len());
        return Err(Error::new(Status::TooLong, text));
    }
    Ok(ServiceOptions {
        in_hand_max: given.in_hand_max,
        answer_ms: given.answer_ms,
        version: text(given.version, "version")?,
        description,
    })
}

/// SAFETY: `options` is NULL or points to a struct that starts with its size.
unsafe fn call_options(options: *const ahoy_call_options) -> Result<CallOptions> {
    if options.is_null() {
        return Ok(CallOptions::default());
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    Ok(CallOptions { timeout_ms: given.timeout_ms, is_idempotent: given.idempotent != 0 })
}

/// Offers a service. While the cluster cannot be reached it is offered to nobody, and to all again when it can.
///
/// @param options  NULL: the defaults.
/// @param handler  called for each call.
/// @param user     passed to `handler`.
/// @param on_free  called exactly once with `user`, on a worker, when `handler` will not be called any more: the service
///                 was ended, or the server has stopped. NULL: nothing to free.
/// @param offer    receives the handle; NULL if you do not need it.
/// @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL (`name`,
///         `handler`), AHOY_ERR_INVALID (`name`, `version`), AHOY_ERR_TOO_LONG, AHOY_ERR_SIZE, AHOY_ERR_MEMORY.
///
/// A server that stops takes no further call; those in hand may be answered until its time to drain is over.
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_service(
    server: ahoy_server,
    name: *const c_char,
    options: *const ahoy_service_options,
    handler: ahoy_service_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    offer: *mut ahoy_offer,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes strings that end with a zero byte, and NULL or a struct that starts with its size.
        let (name, options) = unsafe { (text(name, "name")?, service_options(options)?) };
        let call = handler.ok_or_else(|| Error::new(Status::Null, "handler is NULL"))?;
        let call = move |number: u64, data: &[u8], user: HostUser| {
            let incoming = ahoy_incoming { id: number };
            // SAFETY: the program gave this function for this purpose; `data` lives until the call returns.
            enter_host(|| unsafe { call(incoming, data.as_ptr().cast(), data.len(), user) });
        };
        let server = find(server)?;
        let cluster = server.cluster()?;
        // SAFETY: the caller gives the function for this purpose.
        let finalizer = unsafe { Finalizer::new(on_free, user) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |number| unsafe { set_out(offer, ahoy_offer { id: number }) };
        cluster.offer(name, options, Box::new(call), user, finalizer, announce)
    })
}

/// Ends the offer of a service. Calls that are on their way may still come; its `on_free` says when that is over. Those in
/// hand can be answered as before.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it is over already.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_offer_end(offer: ahoy_offer) -> Status {
    guard(|| services::end(offer.id))
}

/// Answers a call with `len` bytes at `data`. From any thread. While the cluster cannot be reached the answer waits.
///
/// @return AHOY_OK: on its way. AHOY_ERR_STALE: the call is answered already, by the program or, when its time was up or
///         the server stopped, for it. AHOY_ERR_TOO_LONG: the cluster carries at most 1 MiB, or what its servers
///         are set to; the call is still to be answered. AHOY_ERR_AGAIN: 64 MiB of answers wait for the cluster already;
///         this one is lost, and the call is over. AHOY_ERR_NULL, AHOY_ERR_MEMORY, AHOY_ERR_STOPPED.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_reply(call: ahoy_incoming, data: *const c_void, len: usize) -> Status {
    // SAFETY: the caller passes `len` readable bytes.
    guard(|| services::answer(call.id, Ok(unsafe { bytes(data, len)? })))
}

/// Answers a call: it failed. The caller gets AHOY_ERR_FAILED and the text; line ends become spaces.
///
/// @return As `ahoy_reply`; AHOY_ERR_TOO_LONG: the text has more than 1,024 bytes. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_reply_failed(call: ahoy_incoming, why: *const c_char) -> Status {
    // SAFETY: the caller passes a string that ends with a zero byte.
    guard(|| services::answer(call.id, Err(unsafe { text(why, "why")? })))
}

/// Calls a service with `len` bytes at `data`, and does not wait for the answer.
///
/// @param options   NULL: the defaults.
/// @param on_reply  called exactly once with what came of it, if this returns AHOY_OK; never inside of this call.
/// @param user      passed to `on_reply`.
/// @return AHOY_OK: on its way. On an error `on_reply` is not called: AHOY_ERR_DISCONNECTED: the cluster cannot be reached
///         at present. AHOY_ERR_TOO_LONG: the cluster carries at most 1 MiB, or what its servers are set to.
///         AHOY_ERR_AGAIN: 65,536 calls are under way, or too much waits to be sent, or 64 MiB of idempotent calls
///         are kept. AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_INVALID, AHOY_ERR_SIZE,
///         AHOY_ERR_MEMORY.
///
/// `on_reply` gets AHOY_OK, or AHOY_ERR_FAILED: the service says so. AHOY_ERR_NO_SERVICE, at once: nobody offers it.
/// AHOY_ERR_AGAIN: the node that got it has too many in hand, and has not begun. AHOY_ERR_UNKNOWN_OUTCOME: see above.
/// AHOY_ERR_STOPPED: this server stopped before the answer came. A stop waits for calls under way until
/// its time to drain is over. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_call(
    server: ahoy_server,
    name: *const c_char,
    data: *const c_void,
    len: usize,
    options: *const ahoy_call_options,
    on_reply: ahoy_reply_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte, `len` readable bytes, and NULL or a struct that
        // starts with its size.
        let (name, data, options) = unsafe { (text(name, "name")?, bytes(data, len)?, call_options(options)?) };
        let call = on_reply.ok_or_else(|| Error::new(Status::Null, "on_reply is NULL"))?;
        let user = HostWord::new(user);
        let told = move |result: Result<Vec<u8>>| {
            let (status, data) = match &result {
                Ok(data) => (Status::Ok, &data[..]),
                Err(error) => (error.status, error.detail.as_bytes()),
            };
            // SAFETY: the program gave this function for this purpose; `data` lives until the call returns.
            enter_host(|| unsafe { call(server, status, data.as_ptr().cast(), data.len(), user.get()) });
        };
        find(server)?.cluster()?.call_back(name, data, options, Box::new(told))
    })
}

/// Calls a service with `data_len` bytes at `data`, and waits for the answer. With a loop of the program's own it runs
/// the turns meanwhile.
///
/// @param options   NULL: the defaults.
/// @param buffer    receives the answer.
/// @param capacity  how much it has room for.
/// @param len       receives the length of the answer, also of one that is too long. NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_TOO_LONG: the answer does not fit, and is lost; or the question is too long. AHOY_ERR_FAILED:
///         the service says so; `ahoy_last_error` is its text. AHOY_ERR_DEADLOCK: called inside a callback. Otherwise
///         as `ahoy_call` returns, or as its `on_reply` would get.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_call_wait(
    server: ahoy_server,
    name: *const c_char,
    data: *const c_void,
    data_len: usize,
    options: *const ahoy_call_options,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_call`.
        let (name, data, options) = unsafe { (text(name, "name")?, bytes(data, data_len)?, call_options(options)?) };
        if capacity > 0 {
            require(buffer, "buffer")?;
        }
        let server = find(server)?;
        let cluster = server.cluster()?;
        let answer = server.wait_for(|done| cluster.call_for(name, data, options, done))?;
        // SAFETY: the caller passes NULL or a pointer to a number it owns.
        unsafe { set_out(len, answer.len()) };
        if answer.len() > capacity {
            let text = format!("the answer has {} bytes, and there is room for {capacity}", answer.len());
            return Err(Error::new(Status::TooLong, text));
        }
        // SAFETY: the caller passes `capacity` writable bytes.
        if let Some(buffer) = unsafe { out_buffer(buffer, capacity)? } {
            for (place, byte) in buffer.iter_mut().zip(&answer) {
                place.write(*byte);
            }
        }
        Ok(())
    })
}
