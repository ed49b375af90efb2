//! # Drivers
//!
//! What the workers of a server ask the system with. The same program runs on each; `driver` in the server's options
//! says which one it is to be.

use std::ffi::c_char;

use super::guard::guard_or;
use super::handle::ahoy_server;
use super::server::find;

/// As `driver`: what was never found worse than epoll. Today that is io_uring for one worker that greets and closes, where it may
/// be used (a log line says if not), and epoll otherwise.
pub const AHOY_DRIVER_AUTO: i32 = 0;
/// As `driver`: epoll, which every Linux has.
pub const AHOY_DRIVER_EPOLL: i32 = 1;
/// As `driver`: io_uring. It takes Linux 6.13, a process that may use it, and worker threads; otherwise
/// `ahoy_server_start` answers AHOY_ERR_UNSUPPORTED.
pub const AHOY_DRIVER_URING: i32 = 2;

/// What a server's workers run on: "epoll" or "io_uring". NULL: the handle is stale. The string lives forever. Since 0.4.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_server_driver(server: ahoy_server) -> *const c_char {
    guard_or(std::ptr::null(), || Some(find(server).ok()?.driver().as_ptr()))
}
