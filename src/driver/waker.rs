//! An eventfd: one thread makes it readable, another waits for that.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::fault::{self, Call};
use crate::sys;

#[derive(Debug)]
pub(crate) struct Waker {
    descriptor: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        fault::check(Call::Eventfd)?;
        // SAFETY: the call takes two numbers and gives a descriptor that is ours alone.
        let descriptor = unsafe { sys::owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        Ok(Self { descriptor })
    }

    /// Makes it readable. It can only fail when it is readable already.
    pub(crate) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the eight bytes are readable.
        unsafe { libc::write(self.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it not readable.
    pub(crate) fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the eight bytes are writable.
        unsafe { libc::read(self.descriptor.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
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
    fn it_wakes_until_it_is_drained() {
        let waker = Waker::new().unwrap();
        let readable = || sys::poll([(waker.descriptor.as_raw_fd(), libc::POLLIN)], Some(0)).unwrap()[0];
        assert!(!readable());
        waker.wake();
        waker.wake();
        waker.wait().unwrap();
        assert!(readable());
        waker.drain();
        assert!(!readable());
    }
}
