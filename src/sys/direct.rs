//! The system calls of the hot path, as the kernel has them.
//!
//! The C library's functions of these names are points at which a thread may be cancelled. Nobody cancels ours; but glibc
//! gets ready for it, and back, with a locked instruction each: two atomic read-modify-writes for each system call.
//!
//! Sanitizers and Miri know what the functions read and write, and not what the calls do.

#[cfg(any(miri, ahoy_sanitized))]
pub(crate) use libc::{epoll_wait, recv, send, sendmsg};

#[cfg(not(any(miri, ahoy_sanitized)))]
pub(crate) use calls::{epoll_wait, recv, send, sendmsg};

/// With the arguments and results of the functions, `errno` included.
#[cfg(not(any(miri, ahoy_sanitized)))]
#[allow(clippy::cast_possible_truncation)] // no result is wider than the function's
mod calls {
    use std::ffi::c_void;
    use std::ptr::null_mut;

    use libc::{c_int, epoll_event, msghdr, size_t, ssize_t, syscall};

    /// SAFETY: as recv(2).
    #[inline]
    pub(crate) unsafe fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
        let nobody = null_mut::<c_void>();
        // SAFETY: as promised by our caller; nobody asks where it came from.
        unsafe { syscall(libc::SYS_recvfrom, fd, buffer, length, flags, nobody, nobody) as ssize_t }
    }

    /// SAFETY: as send(2).
    #[inline]
    pub(crate) unsafe fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t {
        let nobody = null_mut::<c_void>();
        let no_length: size_t = 0;
        // SAFETY: as promised by our caller; the socket is connected.
        unsafe { syscall(libc::SYS_sendto, fd, buffer, length, flags, nobody, no_length) as ssize_t }
    }

    /// SAFETY: as sendmsg(2).
    #[inline]
    pub(crate) unsafe fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        // SAFETY: as promised by our caller.
        unsafe { syscall(libc::SYS_sendmsg, fd, message, flags) as ssize_t }
    }

    /// SAFETY: as epoll_wait(2).
    #[inline]
    pub(crate) unsafe fn epoll_wait(fd: c_int, events: *mut epoll_event, count: c_int, timeout_ms: c_int) -> c_int {
        let no_mask = null_mut::<c_void>();
        let no_length: size_t = 0;
        // SAFETY: as promised by our caller; no signals are let through meanwhile. Not every machine has the call
        // without them.
        unsafe { syscall(libc::SYS_epoll_pwait, fd, events, count, timeout_ms, no_mask, no_length) as c_int }
    }
}
