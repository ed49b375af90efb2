//! Waiting for a socket of the program's, blocking or not, as long as its own timeouts allow.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use socket2::SockRef;

use crate::status::{Error, Result, Status};
use crate::sys;

/// Until when a socket's own timeout allows to wait for it, however often signal handlers interrupt that.
pub(crate) struct Deadline<'a> {
    socket: BorrowedFd<'a>,
    event: i16,
    until_ms: Option<u64>,
}

impl<'a> Deadline<'a> {
    /// Counts from now: SO_RCVTIMEO if `event` is `POLLIN`, otherwise SO_SNDTIMEO.
    pub(crate) fn new(socket: BorrowedFd<'a>, event: i16) -> Result<Self> {
        let options = SockRef::from(&socket);
        let timeout = if event == libc::POLLIN { options.read_timeout() } else { options.write_timeout() };
        let timeout = timeout.map_err(|error| Error::system("ask the socket for its timeout", &error))?;
        let after = |timeout: Duration| sys::now_ms() + u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 2);
        Ok(Self { socket, event, until_ms: timeout.map(after) })
    }

    /// Waits, if it is only that the socket is not ready.
    pub(crate) fn wait_or_fail(&self, error: io::Error) -> Result<()> {
        let what = if self.event == libc::POLLIN { "recv" } else { "send" };
        match error.raw_os_error() {
            // A socket that listens.
            Some(libc::EINVAL) => Err(Error { status: Status::BadDescriptor, ..Error::system(what, &error) }),
            Some(libc::EAGAIN) => {
                let ready = sys::poll([(self.socket.as_raw_fd(), self.event)], self.until_ms);
                match ready.map_err(|error| Error::system("poll", &error))? {
                    [true] => Ok(()),
                    [false] => Err(Error::new(Status::Timeout, format!("{what}: the socket's own timeout has passed"))),
                }
            }
            _ => Err(Error::system(what, &error)),
        }
    }
}
