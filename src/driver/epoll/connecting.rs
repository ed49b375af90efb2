//! Sockets that connect: epoll says when they can be written to, and the socket itself how it went.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::SockRef;

use super::token::Token;
use super::{Epoll, OUT, Step};
use crate::driver::Event;

impl Epoll {
    pub(super) fn add_attempt(&mut self, attempt: u64, socket: OwnedFd) {
        let added = self.control(libc::EPOLL_CTL_ADD, socket.as_fd(), OUT, Token::Attempt(attempt));
        match added.and_then(|()| self.attempts.try_reserve(1).map_err(|_| io::ErrorKind::OutOfMemory.into())) {
            Ok(()) => drop(self.attempts.insert(attempt, socket)),
            Err(error) => self.done.push_back(Event::Connected { attempt, result: Err(error) }),
        }
    }

    /// Takes an attempt's socket out of epoll.
    pub(super) fn take_attempt(&mut self, attempt: u64) -> Option<OwnedFd> {
        let socket = self.attempts.remove(&attempt)?;
        // It can only fail if the socket is not watched.
        let _ = self.control(libc::EPOLL_CTL_DEL, socket.as_fd(), 0, Token::Attempt(attempt));
        Some(socket)
    }

    pub(super) fn connected(&mut self, attempt: u64) -> Step {
        let Some(socket) = self.take_attempt(attempt) else { return Step::Next };
        let result = match SockRef::from(&socket).take_error() {
            Ok(None) => Ok(socket),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        Step::TellLast(Event::Connected { attempt, result })
    }
}
