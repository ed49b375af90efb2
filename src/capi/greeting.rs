//! # Greeting
//!
//! The least that a program needs: a whole server in one call, one greeting in one call, or one
//! call for the accept loop that the program already has.

use std::ffi::{c_char, c_int, c_void};

use super::guard::guard;
use super::pointer::{borrow, optional_bytes, optional_text, out_buffer, set_out};
use crate::greeting::{self, DEFAULT_GREETING, DEFAULT_URL};
use crate::server;
use crate::status::Status;

/// Runs a whole greeting server: listens on `url`, answers each client's first bytes with `greeting`,
/// closes, and returns after SIGINT or SIGTERM, when what was queued is out (a second signal does not
/// wait for that).
///
/// @param url       where to listen; NULL: "tcp://0.0.0.0:8888".
/// @param greeting  a string; NULL: "Hello from server".
/// @return AHOY_OK after a signal; otherwise what `ahoy_server_start` answers. AHOY_ERR_DEADLOCK in a
///         callback.
///
/// For programs that do nothing else: the calling thread waits, and SIGINT and SIGTERM are blocked in it
/// meanwhile, so that they end this call and not the process. Call it before other threads are started
/// (they inherit the mask). The mask is restored before it returns. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_serve(url: *const c_char, greeting: *const c_char) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL or strings that end with a zero byte.
        let (url, greeting) = unsafe { (optional_text(url, "url")?, optional_bytes(greeting)) };
        server::serve(url.unwrap_or(DEFAULT_URL), greeting.unwrap_or(DEFAULT_GREETING))
    })
}

/// Greets one client, once, as the well-known tutorial server does: listens on `url` (with SO_REUSEADDR
/// and SO_REUSEPORT, backlog 3), accepts one client, reads its first bytes, sends `greeting`, and closes
/// both sockets.
///
/// @param url       where to listen; NULL: "tcp://0.0.0.0:8888".
/// @param greeting  a string; NULL: "Hello from server".
/// @param buffer    receives what the client sent, at most `capacity` - 1 bytes of it, and a zero byte
///                  after them; NULL if you do not care.
/// @param capacity  size of `buffer` in bytes; 0 if it is NULL.
/// @param received  receives the number of bytes read, without the zero byte; NULL if you do not care.
///                  0: the client ended without sending (it is greeted all the same).
/// @return AHOY_OK when the greeting is handed to the system. AHOY_ERR_URL, _PORT, _ADDRESS_IN_USE,
///         _PERMISSION and so on when listening fails; AHOY_ERR_RESET when the client is gone;
///         AHOY_ERR_DEADLOCK in a callback.
///
/// Waits as long as it takes, on the calling thread; a signal handler that runs meanwhile does not end
/// it. No server, no thread and no descriptor is left. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_greet_once(
    url: *const c_char,
    greeting: *const c_char,
    buffer: *mut c_void,
    capacity: usize,
    received: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL or strings that end with a zero byte.
        let (url, greeting) = unsafe { (optional_text(url, "url")?, optional_bytes(greeting)) };
        // SAFETY: the caller passes NULL and 0, or `capacity` writable bytes.
        let buffer = unsafe { out_buffer(buffer, capacity)? };
        let greeting = greeting.unwrap_or(DEFAULT_GREETING);
        let count = greeting::greet_once(url.unwrap_or(DEFAULT_URL), greeting, buffer)?;
        // SAFETY: the caller passes NULL or a pointer to a size_t it owns.
        unsafe { set_out(received, count) };
        Ok(())
    })
}

/// Greets the client behind a connected stream socket that the program accepted itself: reads its first
/// bytes, sends `greeting`. The socket stays open and the program's own. Blocking and non-blocking
/// sockets will do.
///
/// @param fd        the connected socket.
/// @param greeting  a string; NULL: "Hello from server".
/// @param buffer    as in `ahoy_greet_once`.
/// @param capacity  as in `ahoy_greet_once`.
/// @param received  as in `ahoy_greet_once`.
/// @return AHOY_OK when the greeting is handed to the system; AHOY_ERR_BAD_DESCRIPTOR when `fd` is not a
///         connected socket; AHOY_ERR_RESET when the client is gone; AHOY_ERR_TIMEOUT when the
///         socket's own SO_RCVTIMEO or SO_SNDTIMEO has passed; AHOY_ERR_DEADLOCK in a callback.
///
/// Waits as long as the socket's own timeouts allow, on the calling thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_greet_fd(
    fd: c_int,
    greeting: *const c_char,
    buffer: *mut c_void,
    capacity: usize,
    received: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL or a string that ends with a zero byte.
        let greeting = unsafe { optional_bytes(greeting) };
        // SAFETY: the caller passes NULL and 0, or `capacity` writable bytes.
        let buffer = unsafe { out_buffer(buffer, capacity)? };
        // SAFETY: that the socket stays open during the call is for the caller to see to.
        let socket = unsafe { borrow(fd)? };
        let count = greeting::greet_fd(socket, greeting.unwrap_or(DEFAULT_GREETING), buffer)?;
        // SAFETY: the caller passes NULL or a pointer to a size_t it owns.
        unsafe { set_out(received, count) };
        Ok(())
    })
}
