//! Sockets on their way to somebody who listens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::fault::{self, Call};

/// How long an attempt has the field to itself, before the next address is tried beside it (RFC 8305, "Connection
/// Attempt Delay").
pub(crate) const ATTEMPT_DELAY_MS: u64 = 250;

/// Begins to connect a socket, which is non-blocking and close-on-exec, and says whether it is connected already.
/// Otherwise it is writable when the attempt has come to an end, and [`outcome`] says to which.
pub(crate) fn open_toward(address: &SockAddr, is_datagram: bool) -> io::Result<(OwnedFd, bool)> {
    let socket = open(address, is_datagram)?;
    match connect_once(&socket, address) {
        Ok(()) => outcome(&socket).map(|()| (socket.into(), true)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINPROGRESS) => Ok((socket.into(), false)),
            // This machine has no IPv6 address to come from: there is no way there, and nothing is wrong with the address.
            Some(libc::EADDRNOTAVAIL) if address.is_ipv6() => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
            _ => Err(error),
        },
    }
}

fn open(address: &SockAddr, is_datagram: bool) -> io::Result<Socket> {
    fault::check(Call::Socket)?;
    let kind = if is_datagram { Type::DGRAM } else { Type::STREAM };
    let socket = Socket::new(address.domain(), kind.nonblocking().cloexec(), None)?;
    match (address.domain(), is_datagram) {
        // Without a name of its own nobody could answer it: the system gives it an abstract one.
        (Domain::UNIX, true) => socket.bind(&SockAddr::unix("")?)?,
        (Domain::UNIX, false) | (_, true) => {}
        (_, false) => socket.set_tcp_nodelay(true)?,
    }
    Ok(socket)
}

fn connect_once(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    loop {
        match fault::check(Call::Connect).and_then(|()| socket.connect(address)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What an attempt to connect has come to.
pub(crate) fn outcome(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    let peer = socket.peer_addr()?;
    // Where nobody listens on a port of this machine that the system gives to whoever asks for any, a socket can come to
    // be connected to itself: TCP calls that a simultaneous open.
    if peer.as_socket().is_some() && socket.r#type()? == Type::STREAM && socket.local_addr()? == peer {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(())
}
