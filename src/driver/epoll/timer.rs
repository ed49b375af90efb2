//! The timer that ends a wait which the program makes in a loop of its own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::Epoll;
use crate::fault::{self, Call};
use crate::sys;

pub(super) fn open_timer() -> io::Result<OwnedFd> {
    fault::check(Call::Timerfd)?;
    // SAFETY: the call takes two numbers and gives a descriptor that is ours alone.
    unsafe { sys::owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)) }
}

impl Epoll {
    /// Makes the timer go off after a time; None: switches it off.
    pub(super) fn set_timer(&mut self, timeout_ms: Option<u64>) {
        let Some(timer) = self.timer.as_ref().filter(|_| self.is_armed || timeout_ms.is_some()) else { return };
        self.is_armed = timeout_ms.is_some();
        // A time of zero would switch it off.
        let value = match timeout_ms {
            None => libc::timespec { tv_sec: 0, tv_nsec: 0 },
            Some(0) => libc::timespec { tv_sec: 0, tv_nsec: 1 },
            Some(ms) => libc::timespec {
                tv_sec: libc::time_t::try_from(ms / 1000).unwrap_or(libc::time_t::MAX),
                tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long,
            },
        };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the struct is readable and the descriptor a timer.
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
    }
}
