//! # Connection
//!
//! What a program does with one connection, inside its callbacks or from any thread.

use std::ffi::{c_char, c_void};

use super::guard::{guard, guard_here, guard_or, guard_short};
use super::handle::{ahoy_conn, ahoy_server};
use super::pointer::{array, bytes, out_text};
use super::server::ahoy_free_fn;
use crate::conn::handle::ConnId;
use crate::server::commands;
use crate::status::{Result, Status};
use crate::sys::{Finalizer, LentBytes};

/// Sends one message of `len` bytes, in the frame that the connection's framing demands. It is copied, queued,
/// and leaves in the order of the calls; what is sent inside one turn of the worker leaves in one
/// system call. (A long answer to the connection whose message is just being delivered, and for which nothing is queued,
/// is not copied: what the system takes of it leaves at once.) On a datagram connection a message is a datagram.
///
/// @return AHOY_OK: queued. Nothing was queued on an error:
///         AHOY_ERR_AGAIN: `queue_bytes_max` or `queue_total_bytes_max` is reached; on_writable tells
///         when to try again. AHOY_ERR_OVERFLOW: `queue_bytes_max` is reached, and the server's `overflow` is
///         AHOY_OVERFLOW_CLOSE: the connection closes. AHOY_ERR_TOO_LONG: longer than `message_bytes_max`,
///         `queue_bytes_max` or the framing allow at all. AHOY_ERR_CLOSED: the connection is closing, or
///         `ahoy_conn_end` was called. AHOY_ERR_STALE. AHOY_ERR_NULL: `data` is NULL and `len` is not 0.
///         AHOY_ERR_MEMORY.
///
/// AHOY_OK does not say that the peer has received it; what could not be delivered is counted in
/// `ahoy_stats`. Without framing sending 0 bytes does nothing; with framing it sends an empty message.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send(conn: ahoy_conn, data: *const c_void, len: usize) -> Status {
    // SAFETY: the caller passes `len` readable bytes.
    let again = || unsafe { bytes(data, len) }.is_ok_and(|data| commands::send_again(id(conn), data));
    // SAFETY: as above.
    guard_short(again, || unsafe { send(conn, data, len) })
}

/// [`ahoy_send`], whatever there is. Apart, so that the short way is short.
///
/// SAFETY: as there.
#[inline(never)]
unsafe fn send(conn: ahoy_conn, data: *const c_void, len: usize) -> Status {
    // SAFETY: the caller passes `len` readable bytes.
    let data = || unsafe { bytes(data, len) };
    let here = || match data() {
        Ok(data) => commands::send_here(id(conn), data),
        Err(error) => Some(Err(error)),
    };
    guard_here(here, || commands::send(id(conn), data()?))
}

/// Memory that is a part of a message. (As a `struct iovec`.)
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_part {
    /// Where it starts; NULL if `len` is 0.
    pub data: *const c_void,
    /// Its length in bytes.
    pub len: usize,
}

/// Sends one message that lies in several places: all of it or, on an error, nothing.
///
/// @param parts  in order; NULL if `count` is 0.
/// @param count  how many.
/// @return as `ahoy_send`. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send_parts(conn: ahoy_conn, parts: *const ahoy_part, count: usize) -> Status {
    // SAFETY: the caller passes `count` parts, each with so many readable bytes.
    guard(|| unsafe { with_slices(parts, count, |parts| commands::send_parts(id(conn), parts)) })
}

/// So many parts take no memory from the heap.
const PARTS_FEW: usize = 16;

/// SAFETY: `parts` is NULL or has `count` entries, each with `len` readable bytes until the end of `send`.
unsafe fn with_slices(parts: *const ahoy_part, count: usize, send: impl FnOnce(&[&[u8]]) -> Result<()>) -> Result<()> {
    // SAFETY: as promised by our caller.
    let parts = unsafe { array(parts, count, "parts")? };
    let mut few = [&[][..]; PARTS_FEW];
    let mut many = Vec::new();
    let slices = if parts.len() <= PARTS_FEW {
        &mut few[..parts.len()]
    } else {
        many.try_reserve_exact(parts.len())?;
        many.resize(parts.len(), &[][..]);
        &mut many[..]
    };
    for (slice, part) in slices.iter_mut().zip(parts) {
        // SAFETY: as promised by our caller.
        *slice = unsafe { bytes(part.data, part.len)? };
    }
    send(slices)
}

/// Sends a message of `len` bytes without copying them: they belong to the library until `on_free` is
/// called, exactly once, with `user`, when they are sent or can no longer be. For memory from
/// malloc(3):
///
///     ahoy_send_owned(conn, data, len, free, data);
///
/// @param on_free  called from any thread; NULL: nothing, for memory that lives as long as the program.
/// @return as `ahoy_send`. On an error the memory stays the program's and `on_free` is not called.
///
/// Worth it from some KiB on. Each call counts 64 bytes more in the limits. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send_owned(
    conn: ahoy_conn,
    data: *const c_void,
    len: usize,
    on_free: ahoy_free_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `len` readable bytes that live until `on_free` is called.
        let lent = unsafe { LentBytes::new(bytes(data, len)?, Finalizer::new(on_free, user)) };
        commands::send_lent(id(conn), lent)
    })
}

/// Sends the server's greeting, as `ahoy_send` would.
///
/// @return as `ahoy_send`. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_greet(conn: ahoy_conn) -> Status {
    guard(|| commands::greet(id(conn)))
}

/// Closes a connection: no further message comes, what is queued is sent, and on_close follows. If the
/// peer does not take it within the server's `drain_ms`, the rest is cut off. If the peer has sent what was
/// not read, on_close comes up to a second later: a close at once would reset the connection and destroy
/// what is on its way.
///
/// @return AHOY_OK, also when it is closing already. AHOY_ERR_STALE. AHOY_ERR_MEMORY.
///
/// on_close never runs inside this call. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_close(conn: ahoy_conn) -> Status {
    guard(|| commands::close(id(conn)))
}

/// Closes a connection at once: what is queued is cut off and counted (`bytes_cut`), and a TCP peer sees a
/// reset. on_close follows.
///
/// @return AHOY_OK, also when it is closing already (then it no longer waits). AHOY_ERR_STALE. AHOY_ERR_AGAIN: the
///         worker's mailbox is full. AHOY_ERR_MEMORY.
///
/// on_close never runs inside this call. Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_abort(conn: ahoy_conn) -> Status {
    guard(|| commands::abort(id(conn)))
}

/// Ends our side (a half-close): what is queued is sent, then the peer sees the end. Messages still
/// come, until the peer ends its side as well (then the connection closes: AHOY_ERR_EOF) or the program
/// closes.
///
/// @return AHOY_OK, also when it has ended already. AHOY_ERR_CLOSED: it is closing. AHOY_ERR_STALE.
///         AHOY_ERR_MEMORY. AHOY_ERR_UNSUPPORTED: it is a datagram connection.
///
/// Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_end(conn: ahoy_conn) -> Status {
    guard(|| commands::end(id(conn)))
}

/// Bytes queued for a connection and not yet handed to the system, as the limits count them: frames
/// included, and 64 more for each `ahoy_send_owned` and publish; 0 for a stale handle. From another
/// thread it is a moment old. If it is `queue_high_bytes` or more, on_writable follows when it has
/// fallen. Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_queued(conn: ahoy_conn) -> usize {
    guard_or(0, || commands::queued(id(conn)))
}

/// Pauses reading: no further message comes until `ahoy_conn_resume`, and the peer is held back by its own
/// full buffers. Called in a callback of the connection it holds from the next message on; from
/// another thread some may still come. A paused connection may not notice that its peer ended. (A datagram
/// socket has many peers and cannot be paused: datagrams of a paused one are dropped, and counted.)
///
/// @return AHOY_OK, also when it is paused already. AHOY_ERR_STALE. AHOY_ERR_AGAIN: the worker's mailbox is
///         full.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_pause(conn: ahoy_conn) -> Status {
    guard(|| commands::pause(id(conn), true))
}

/// Goes on reading after `ahoy_conn_pause`.
///
/// @return as `ahoy_conn_pause`. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_resume(conn: ahoy_conn) -> Status {
    guard(|| commands::pause(id(conn), false))
}

/// Writes the peer's address as a URL, such as "tcp://192.0.2.7:50312" or "udp://192.0.2.7:5353";
/// "unix:" or "unixgram:", without a path, for one on a Unix socket.
///
/// @param text      receives the URL and a zero byte.
/// @param capacity  size of `text` in bytes; 64 suffice.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged.
///
/// Also in on_close. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_peer(conn: ahoy_conn, text: *mut c_char, capacity: usize) -> Status {
    guard(|| {
        let peer = commands::peer(id(conn))?;
        // SAFETY: the caller passes `capacity` writable bytes.
        unsafe { out_text(text, capacity, &peer.to_string()) }
    })
}

/// The connection's user data: what `ahoy_conn_set_user` set, else the server's `user`. NULL for a stale
/// handle. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_user(conn: ahoy_conn) -> *mut c_void {
    guard_or(std::ptr::null_mut(), || commands::user(id(conn)))
}

/// Gives a connection user data of its own, which its callbacks get from here on.
///
/// @param on_free  called exactly once with `user`: after on_close, or when other user data takes its place.
///                 NULL: nothing to free.
/// @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_AGAIN (the worker's
///         mailbox is full), AHOY_ERR_MEMORY.
///
/// From another thread it takes effect with the worker's next turn. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_set_user(conn: ahoy_conn, user: *mut c_void, on_free: ahoy_free_fn) -> Status {
    // SAFETY: the caller gives the function for this purpose.
    guard(|| commands::set_user(id(conn), user, unsafe { Finalizer::new(on_free, user) }))
}

/// The server of a connection; zero for a stale handle. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_conn_server(conn: ahoy_conn) -> ahoy_server {
    guard_or(ahoy_server { id: 0 }, || Some(ahoy_server { id: commands::server(id(conn))?.raw() }))
}

fn id(conn: ahoy_conn) -> ConnId {
    ConnId::from_raw(conn.id)
}
