//! # Outgoing connections
//!
//! `ahoy_connect` gives a server a connection that it opens itself, with the same callbacks as those it
//! accepts. `ahoy_request` is for scripts and tests: one question, one answer, no server.
//!
//! Both take one URL or several with commas between: tcp://, unix:, udp://, unixgram:, cluster+nats://,
//! cluster+tls://. They are tried in order; those after the first stand in for it. A name with several
//! addresses is tried in the order of "happy eyeballs" (RFC 8305): IPv6 and IPv4 in turn, the next one 250 ms
//! after the last if that has not answered, and the first that answers is taken.
//!
//! "cluster+nats://10.0.0.1,10.0.0.2/chat/echo" is whichever node of the cluster "chat" listens under the name
//! "echo" (.listen = "tcp://10.0.0.7:9000?name=echo"); without a name at the end, whichever listens at all. One is
//! chosen at random, anew at each connecting, so that a client moves when its node is gone. Only tcp:// listeners
//! are found so: the path of a unix: one means something on its own machine alone. With cluster+tls:// the NATS
//! servers are spoken to in TLS; the node that was found is not.
//!
//! `ahoy_connect` comes to those NATS servers with the certificates of its server's own cluster (see `ahoy_cluster_options`),
//! and with its login if the URL has none ("user:password@host", "token@host") and names only servers of that cluster.
//! `ahoy_request` has no server: it has the login in the URL, and trusts whom the system trusts.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::framing::{ahoy_framing_options, framing};
use super::guard::guard;
use super::handle::{ahoy_conn, ahoy_server};
use super::handler::enter_host;
use super::pointer::{Sized, bytes, out_buffer, read_sized, set_out, text};
use super::server::{ahoy_close_fn, ahoy_free_fn, find};
use crate::client::{self, RequestOptions};
use crate::conn::handle::ConnId;
use crate::framing::Framing;
use crate::server::connect::{self, ConnectOptions};
use crate::status::{Result, Status};
use crate::sys::{Finalizer, HostUser};

/// How `ahoy_connect` connects. Set `size`, leave the rest zero for the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_connect_options {
    /// sizeof(ahoy_connect_options).
    pub size: usize,
    /// The connection's user data, from its first callback on. NULL: the server's `user`.
    pub user: *mut c_void,
    /// Called exactly once with `user`: after on_close, or when other user data takes its place; not
    /// when `ahoy_connect` fails. NULL: nothing to free.
    pub on_free: ahoy_free_fn,
    /// With `reconnect`: the connection is down, for this reason, and will be tried again. Runs on its worker.
    /// It is not the last callback: that is on_close. May be NULL.
    pub on_down: ahoy_close_fn,
    /// AHOY_FRAMING_...; 0: the server's. (A URL may say otherwise in its query.)
    pub framing: i32,
    /// Milliseconds within which one of the URLs must have answered, name resolution included; each gets its
    /// share of what is left. 0: 10,000.
    pub connect_ms: u32,
    /// The particulars of `framing`; NULL: none.
    pub framing_options: *const ahoy_framing_options,
    /// Not 0: a connection that cannot be opened, or is lost, is opened again after a while, as the same
    /// handle, beginning with the first URL; until the program closes it or the server stops. on_open is
    /// called each time it is open. A peer that ends its side is lost: on_end is not called.
    pub reconnect: i32,
    /// The while is random, between 0 and `reconnect_min_ms` the first time ("full jitter"). 0: 100.
    pub reconnect_min_ms: u32,
    /// The bound doubles each time, up to this, and begins anew when the peer has sent something. 0: 30,000.
    pub reconnect_max_ms: u32,
    /// Tries in a row that may fail before the connection is closed after all; one after which the peer said nothing
    /// has failed. 0: no end.
    pub reconnect_tries_max: u32,
}

/// Opens a connection to somebody who listens. Does not wait: on_open follows, or on_close with the reason.
/// The handle is good at once. What is sent before on_open is queued and goes out then. Called in a callback, the
/// connection is on the same worker.
///
/// @param urls     one URL, or several with commas between.
/// @param options  NULL: the defaults.
/// @param conn     receives the handle, before any callback; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_STALE, _STOPPED, _NULL, _SIZE, _ENUM, _INVALID, _URL, _PORT, _PATH_TOO_LONG.
///         AHOY_ERR_INVALID also: the URLs differ in their framing, or streams and datagrams are mixed.
///         AHOY_ERR_AGAIN: `connections_max` is reached. AHOY_ERR_MEMORY.
///
/// Reasons of on_close when it could not be opened: AHOY_ERR_NAME: the name does not resolve.
/// AHOY_ERR_REFUSED: nobody listens. AHOY_ERR_UNREACHABLE: no way there. AHOY_ERR_TIMEOUT: no answer
/// within `connect_ms`. AHOY_ERR_NOT_FOUND, AHOY_ERR_PERMISSION: what the system says of a Unix path.
/// AHOY_ERR_DESCRIPTORS, AHOY_ERR_THREAD, AHOY_ERR_MEMORY: what ran out. AHOY_ERR_AGAIN: too many names
/// wait to be resolved. In a cluster: AHOY_ERR_NO_SERVICE: no node listens under the name. AHOY_ERR_DISCONNECTED:
/// none of its NATS servers answers. AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE: they do not let us in, or we do
/// not trust them. AHOY_ERR_UNSUPPORTED: this library is built without clusters. With several URLs it is the last one's. on_close comes without an on_open then.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_connect(
    server: ahoy_server,
    urls: *const c_char,
    options: *const ahoy_connect_options,
    conn: *mut ahoy_conn,
) -> Status {
    guard(|| {
        let server = find(server)?;
        // SAFETY: the caller passes a string that ends with a zero byte, and NULL or a struct with its size.
        let (urls, options) = unsafe { (text(urls, "urls")?, connect_options(options)?) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id: ConnId| unsafe { set_out(conn, ahoy_conn { id: id.raw() }) };
        connect::connect(&server, urls, options, announce)
    })
}

/// SAFETY: `options` is NULL or points to as many bytes as its first field says; its callbacks may be called as
/// the header says.
unsafe fn connect_options(options: *const ahoy_connect_options) -> Result<ConnectOptions> {
    if options.is_null() {
        return Ok(ConnectOptions::default());
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    Ok(ConnectOptions {
        user: (!given.user.is_null()).then_some(given.user),
        on_down: given.on_down.map(|call| {
            Arc::new(move |conn: ConnId, reason, user: HostUser| {
                // SAFETY: the program gave this function for this purpose.
                enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, reason, user) });
            }) as _
        }),
        // SAFETY: as promised by our caller.
        framing: unsafe { framing(given.framing, given.framing_options)? },
        connect_ms: given.connect_ms,
        reconnect: given.reconnect != 0,
        reconnect_min_ms: given.reconnect_min_ms,
        reconnect_max_ms: given.reconnect_max_ms,
        reconnect_tries_max: given.reconnect_tries_max,
        // SAFETY: the caller gives the function for this purpose.
        finalizer: unsafe { Finalizer::new(given.on_free, given.user) },
    })
}

/// How `ahoy_request` asks. Set `size`, leave the rest zero for the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_request_options {
    /// sizeof(ahoy_request_options).
    pub size: usize,
    /// AHOY_FRAMING_..., of the question and of the answer; 0: none. (A URL may say otherwise in its query.)
    pub framing: i32,
    /// Milliseconds for all of it. 0: 10,000.
    pub timeout_ms: u32,
    /// The particulars of `framing`; NULL: none.
    pub framing_options: *const ahoy_framing_options,
    /// Not 0: the question may be asked twice. Then the next URL stands in also for one that has got the
    /// question and breaks off before the answer.
    pub idempotent: i32,
    /// 0.
    pub reserved: i32,
}

/// Asks one question and waits for the answer: connects, sends `len` bytes as one message, reads one message,
/// closes. Without framing the answer is what one read gave.
///
/// @param urls      one URL, or several with commas between: if one cannot be reached the next is tried.
/// @param options   NULL: the defaults.
/// @param data      the question; NULL if `len` is 0.
/// @param buffer    receives the answer, at most `capacity` - 1 bytes of it, and a zero byte after it; NULL if
///                  you do not care.
/// @param capacity  size of `buffer` in bytes; 0 if it is NULL.
/// @param received  receives the length of the answer, without the zero byte; NULL if you do not care.
/// @return AHOY_OK. AHOY_ERR_TOO_LONG: the answer does not fit. AHOY_ERR_EOF: the peer ended without an
///         answer. AHOY_ERR_NAME, _REFUSED, _UNREACHABLE, _RESET: the last URL's. AHOY_ERR_TIMEOUT.
///         In a cluster: AHOY_ERR_NO_SERVICE: nobody listens under the name, and nobody offers a service that is
///         called so. AHOY_ERR_DISCONNECTED, _CREDENTIALS, _CERTIFICATE, _UNSUPPORTED: as with `ahoy_connect`. Of a
///         service: AHOY_ERR_UNKNOWN_OUTCOME: its answer is lost, and it may have done what it was asked or not.
///         AHOY_ERR_FAILED: it has answered that it failed. AHOY_ERR_AGAIN: it has too much in hand.
///         AHOY_ERR_NULL, _SIZE, _ENUM, _INVALID, _URL, _PORT, _PATH_TOO_LONG. AHOY_ERR_DEADLOCK: inside a callback.
///         Of a cluster (cluster+nats://…/NAME): AHOY_ERR_NO_SERVICE: no node listens under the name, and none offers such a
///         service. AHOY_ERR_FAILED: the service has; `ahoy_last_error` is what it says. AHOY_ERR_AGAIN: it has too
///         much in hand. AHOY_ERR_UNKNOWN_OUTCOME: it may have been called, and the answer is lost.
///         AHOY_ERR_DISCONNECTED, AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE: of the cluster's servers.
///
/// In a cluster the service of the name is called where no node listens under it; once more if the question is
/// `idempotent` and its answer was lost.
///
/// Waits on the calling thread. No thread and no descriptor is left (but that of a name server that does not
/// answer, for a while). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_request(
    urls: *const c_char,
    options: *const ahoy_request_options,
    data: *const c_void,
    len: usize,
    buffer: *mut c_void,
    capacity: usize,
    received: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte, NULL or a struct with its size, `len`
        // readable and `capacity` writable bytes.
        let (urls, options, question, buffer) = unsafe {
            (text(urls, "urls")?, request_options(options)?, bytes(data, len)?, out_buffer(buffer, capacity)?)
        };
        let length = client::request(urls, &options, question, buffer)?;
        // SAFETY: the caller passes NULL or a pointer to a size_t it owns.
        unsafe { set_out(received, length) };
        Ok(())
    })
}

/// SAFETY: `options` is NULL or points to as many bytes as its first field says.
unsafe fn request_options(options: *const ahoy_request_options) -> Result<RequestOptions> {
    if options.is_null() {
        return Ok(RequestOptions { framing: Framing::Raw, timeout_ms: 0, idempotent: false });
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    Ok(RequestOptions {
        // SAFETY: as promised by our caller.
        framing: unsafe { framing(given.framing, given.framing_options)? }.unwrap_or(Framing::Raw),
        timeout_ms: given.timeout_ms,
        idempotent: given.idempotent != 0,
    })
}

// SAFETY: plain C structs for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_connect_options {
    const SIZE_MIN: usize = size_of::<Self>();
}
// SAFETY: as above.
unsafe impl Sized for ahoy_request_options {
    const SIZE_MIN: usize = size_of::<Self>();
}
