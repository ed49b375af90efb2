//! From addresses to a socket that has connected: the race of "happy eyeballs" (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::{ATTEMPT_DELAY_MS, Endpoint, open_toward, outcome};
use crate::status::{Error, Result, Status};
use crate::sys;

/// Connects to one of the addresses, the next one a while after the last if that has not answered; the first that
/// answers is taken. Addresses that were not needed are left.
pub(super) fn connect(endpoint: &Endpoint, addresses: &mut VecDeque<SockAddr>, until_ms: u64) -> Result<OwnedFd> {
    let failed = |error: &io::Error| Error::system(format_args!("connect {endpoint}"), error);
    let mut failure = Error::new(Status::Name, format!("{endpoint}: the name has no address"));
    let mut attempts: Vec<OwnedFd> = Vec::new();
    let mut next_ms = 0;
    loop {
        let now_ms = sys::now_ms();
        if now_ms >= until_ms {
            return Err(Error::new(Status::Timeout, format!("connect {endpoint}: no answer in time")));
        }
        if now_ms >= next_ms
            && let Some(address) = addresses.pop_front()
        {
            match begin(&address, endpoint.is_datagram(), until_ms) {
                Ok((socket, true)) => return Ok(socket),
                Ok((socket, false)) => {
                    attempts.push(socket);
                    next_ms = now_ms + ATTEMPT_DELAY_MS;
                }
                Err(error) => failure = failed(&error),
            }
            continue;
        }
        if attempts.is_empty() && addresses.is_empty() {
            return Err(failure);
        }
        let wake_ms = if addresses.is_empty() { until_ms } else { until_ms.min(next_ms) };
        let wanted: Vec<_> = attempts.iter().map(|socket| (socket.as_raw_fd(), libc::POLLOUT)).collect();
        let ready = sys::poll_list(&wanted, Some(wake_ms)).map_err(|error| Error::system("poll", &error))?;
        let (ended, waiting): (Vec<_>, Vec<_>) = attempts.into_iter().zip(ready).partition(|(_, is_ready)| *is_ready);
        attempts = waiting.into_iter().map(|(socket, _)| socket).collect();
        for (socket, _) in ended {
            match outcome(&socket) {
                Ok(()) => return Ok(socket),
                // The next one need not wait any longer.
                Err(error) => (failure, next_ms) = (failed(&error), 0),
            }
        }
    }
}

/// A Unix stream socket whose listener has a full queue is neither connected nor on its way, and no poll tells when
/// there is room: only a connect that waits does.
fn begin(address: &SockAddr, is_datagram: bool, until_ms: u64) -> io::Result<(OwnedFd, bool)> {
    match open_toward(address, is_datagram) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && !is_datagram => wait_for_room(address, until_ms),
        result => result,
    }
}

fn wait_for_room(address: &SockAddr, until_ms: u64) -> io::Result<(OwnedFd, bool)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    loop {
        // Not 0, which would mean no limit.
        let left_ms = until_ms.saturating_sub(sys::now_ms()).max(1);
        socket.set_write_timeout(Some(Duration::from_millis(left_ms)))?;
        return match socket.connect(address) {
            Ok(()) => socket.set_nonblocking(true).map(|()| (socket.into(), true)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
            }
            Err(error) => Err(error),
        };
    }
}
