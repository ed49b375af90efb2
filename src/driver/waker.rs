//! What one thread wakes another with.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[cfg(feature = "uring")]
use super::uring;
use crate::fault::{self, Call};
use crate::sys;

/// A descriptor that one thread makes readable, and another waits for that: an eventfd, or the rings of io_uring, which get
/// a message.
#[derive(Debug)]
pub(crate) struct Waker {
    descriptor: OwnedFd,
    /// What the message to the rings is called.
    #[cfg(feature = "uring")]
    message: Option<u64>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        fault::check(Call::Eventfd)?;
        // SAFETY: the call takes two numbers and gives a descriptor that is ours alone.
        let descriptor = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        Ok(Self {
            descriptor,
            #[cfg(feature = "uring")]
            message: None,
        })
    }

    /// One that completes something of that name in these rings, which are not used yet.
    #[cfg(feature = "uring")]
    pub(super) fn of_ring(descriptor: OwnedFd, message: u64) -> io::Result<Self> {
        let waker = Self { descriptor, message: Some(message) };
        // Rings that are not used yet take no message; a kernel that has no such messages says something else.
        match uring::send_message(waker.as_fd(), message) {
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => Ok(waker),
            Err(error) => Err(error),
            Ok(()) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Makes it readable, once more if it is so already. It can only fail when that was done 2⁶⁴ times.
    pub(crate) fn wake(&self) {
        #[cfg(feature = "uring")]
        if let Some(message) = self.message {
            // It takes a little memory. A wake-up that is lost is lost for good.
            let is_passing =
                |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EINTR));
            while uring::send_message(self.as_fd(), message).is_err_and(|error| is_passing(&error)) {
                std::thread::yield_now();
            }
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: the eight bytes are readable.
        unsafe { libc::write(self.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits until it is readable, however many signal handlers run meanwhile.
    pub(crate) fn wait(&self) -> io::Result<()> {
        sys::poll([(self.descriptor.as_raw_fd(), libc::POLLIN)], None).map(drop)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_readable() {
        let waker = Waker::new().unwrap();
        let readable = || sys::poll([(waker.descriptor.as_raw_fd(), libc::POLLIN)], Some(0)).unwrap()[0];
        assert!(!readable());
        waker.wake();
        waker.wake();
        waker.wait().unwrap();
        assert!(readable());
    }
}
