//! # Handing over
//!
//! A restart without a refused connection: the old process gives its listening sockets to the new one,
//! which starts with them ("fd:5,fd:6"), and only then stops. c_examples/restart.c does it. (A listener that
//! systemd holds, "systemd:", survives a restart by itself.)

use std::ffi::c_int;

use super::guard::guard;
use super::handle::ahoy_server;
use super::pointer::{borrow, descriptors, out_descriptors, require};
use super::server::find;
use crate::handover;
use crate::status::Status;

/// Gives copies of a server's listening sockets: stream and datagram ones, in the order of the options (a udp://
/// listener has one for each worker). They
/// belong to the caller and are close-on-exec. From here on the server does not remove the files of its Unix
/// sockets: somebody else may listen there. (A start replaces a file where nobody does.)
///
/// @param fds       receives the descriptors; NULL only if `capacity` is 0.
/// @param capacity  how many there is room for.
/// @param count     receives how many there are.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: there are more than `capacity`;
///         `count` says how many, and no copy was made. AHOY_ERR_DESCRIPTORS.
///
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_listeners(
    server: ahoy_server,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> Status {
    guard(|| {
        let server = find(server)?;
        require(count, "count")?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { count.write(server.listener_count()) };
        // SAFETY: the caller passes room for `capacity` descriptors.
        unsafe { out_descriptors(fds, capacity, || server.listeners(capacity)) }
    })
}

/// Sends copies of descriptors to the process at the other end of a connected Unix stream socket (SCM_RIGHTS).
///
/// @param socket  the Unix socket; it stays open. May be blocking or not.
/// @param count   1 to 253.
/// @return AHOY_OK: handed to the system. AHOY_ERR_BAD_DESCRIPTOR: one of them is not open, or `socket` is none.
///         AHOY_ERR_INVALID: `count`. AHOY_ERR_NULL, AHOY_ERR_RESET. AHOY_ERR_DEADLOCK: inside a callback.
///
/// Waits while the socket has no room. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_descriptors_send(socket: c_int, fds: *const c_int, count: usize) -> Status {
    guard(|| {
        // SAFETY: the caller passes `count` descriptors; that they stay open during the call is for it to see to.
        unsafe { handover::send(borrow(socket)?, descriptors(fds, count)?) }
    })
}

/// Receives what `ahoy_descriptors_send` sent. The descriptors belong to the caller and are close-on-exec.
///
/// @param fds       receives the descriptors.
/// @param capacity  how many there is room for.
/// @param count     receives how many came.
/// @return AHOY_OK. AHOY_ERR_EOF: the other end is gone. AHOY_ERR_TOO_LONG: more came than there is room for; they
///         are closed, and `count` says how many. AHOY_ERR_INVALID: what came was not sent by
///         `ahoy_descriptors_send`. AHOY_ERR_DESCRIPTORS: this process has no room for them.
///         AHOY_ERR_BAD_DESCRIPTOR, AHOY_ERR_NULL, AHOY_ERR_TIMEOUT (the socket's own SO_RCVTIMEO).
///         AHOY_ERR_DEADLOCK: inside a callback.
///
/// Waits, as long as the socket's own timeout allows. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_descriptors_receive(
    socket: c_int,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> Status {
    guard(|| {
        require(count, "count")?;
        // SAFETY: that the socket stays open during the call is for the caller to see to.
        let socket = unsafe { borrow(socket)? };
        let receive = || {
            let received = handover::receive(socket)?;
            // SAFETY: not NULL, and the caller owns what it points to.
            unsafe { count.write(received.len()) };
            Ok(received)
        };
        // SAFETY: the caller passes room for `capacity` descriptors.
        unsafe { out_descriptors(fds, capacity, receive) }
    })
}
