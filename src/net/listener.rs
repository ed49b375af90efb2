//! Sockets that listen: opened here, or adopted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use super::endpoint::Endpoint;
use super::file::{SocketFile, remove_stale};
use super::systemd;
use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};
use crate::sys;

/// A socket that listens, or a bound datagram socket, and the file that stands for it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    url: String,
    is_datagram: bool,
    is_copy: bool,
    is_handed_over: AtomicBool,
    /// Some: it is a copy of a descriptor that the program has, which is closed in the end; [`NONE`]: of one that is
    /// systemd's, or the program's is closed already.
    original: Option<AtomicI32>,
    /// Removed when this is dropped.
    file: Option<SocketFile>,
}

const NONE: RawFd = -1;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenMode {
    /// Pending connections that the system keeps.
    pub backlog: u32,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// Whether accept waits.
    pub blocking: bool,
    /// Sockets to open for each UDP address: the system spreads the peers over them. At least 1.
    pub copies: usize,
}

impl Listener {
    /// Listens on every address of an endpoint.
    ///
    /// What it adopts (`fd:`, `systemd:`) is to be committed when the start can no longer fail: see
    /// [`Listener::commit`].
    pub fn open(endpoint: &Endpoint, mode: ListenMode) -> Result<Vec<Self>> {
        match endpoint {
            Endpoint::Descriptor(fd) => {
                let copy = sys::duplicate(*fd).map_err(|error| Error::system(endpoint, &error))?;
                Ok(vec![Self::adopt(copy, endpoint, *fd)?])
            }
            Endpoint::Systemd(name) => {
                let passed = systemd::passed(name.as_deref())?;
                passed.into_iter().map(|copy| Self::adopt(copy, endpoint, NONE)).collect()
            }
            _ => Self::open_all(endpoint, mode),
        }
    }

    fn open_all(endpoint: &Endpoint, mode: ListenMode) -> Result<Vec<Self>> {
        let addresses = endpoint.look_up().map_err(|error| match error.status {
            // The name is one of this machine's, or it is a mistake: nothing that another try would mend.
            Status::Name => Error { status: Status::AddressUnavailable, ..error },
            _ => error,
        })?;
        let copies = if matches!(endpoint, Endpoint::Udp { .. }) { mode.copies.saturating_sub(1) } else { 0 };
        let mut listeners = Vec::new();
        for address in &addresses {
            let first = Self::open_one(endpoint, address, mode, false)?;
            let shared = (copies > 0).then(|| first.share()).transpose()?;
            listeners.push(first);
            if let Some(shared) = shared {
                for _ in 0..copies {
                    listeners.push(Self::open_one(endpoint, &shared, mode, true)?);
                }
            }
        }
        Ok(listeners)
    }

    /// Lets further sockets have the same address, and says which it is. After the bind: so it was refused if another
    /// server has the port. Set before, two servers would get each other's peers without an error.
    fn share(&self) -> Result<SockAddr> {
        let shared = self.socket.set_reuse_port(true).and_then(|()| self.socket.local_addr());
        shared.map_err(|error| Error::system(format_args!("share {}", self.url), &error))
    }

    fn open_one(endpoint: &Endpoint, address: &SockAddr, mode: ListenMode, is_copy: bool) -> Result<Self> {
        let failed = |what: &str, error: io::Error| Error::system(format_args!("{what} {endpoint}"), &error);
        let is_datagram = endpoint.is_datagram();
        let kind = if is_datagram { Type::DGRAM } else { Type::STREAM };
        let flags = if mode.blocking { kind } else { kind.nonblocking() };
        let socket = fault::check(Call::Socket)
            .and_then(|()| Socket::new(address.domain(), flags.cloexec(), None))
            .map_err(|error| failed("socket", error))?;
        let prepared = match address.domain() {
            Domain::UNIX => Ok(()),
            domain => prepare(&socket, domain, is_datagram, mode.reuse_port || is_copy),
        };
        prepared.map_err(|error| failed("set options of", error))?;
        let file = match endpoint {
            Endpoint::Unix(path) | Endpoint::UnixGram(path) => {
                let bound = match bind(&socket, address) {
                    Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                        remove_stale(address, kind, path, error).and_then(|()| bind(&socket, address))
                    }
                    bound => bound,
                };
                bound.map_err(|error| failed("bind", error))?;
                SocketFile::of(path)
            }
            _ => {
                bind(&socket, address).map_err(|error| failed("bind", error))?;
                None
            }
        };
        // From here on a failure takes the file along: `listener` is dropped.
        let mut listener = Self {
            socket,
            url: endpoint.to_string(),
            is_datagram,
            is_copy,
            is_handed_over: AtomicBool::new(false),
            original: None,
            file,
        };
        if !is_datagram {
            let backlog = i32::try_from(mode.backlog).unwrap_or(i32::MAX);
            fault::check(Call::Listen)
                .and_then(|()| listener.socket.listen(backlog))
                .map_err(|error| failed("listen", error))?;
        }
        let local = local_url(&listener.socket, is_datagram).map_err(|error| failed("getsockname", error))?;
        listener.url = local.unwrap_or(listener.url);
        Ok(listener)
    }

    /// Checks a copy of somebody's descriptor, and changes nothing of what it shares with the original.
    fn adopt(copy: OwnedFd, endpoint: &Endpoint, original: RawFd) -> Result<Self> {
        let bad = |why: &str| Error::new(Status::BadDescriptor, format!("{endpoint}: {why}"));
        let socket = Socket::from(copy);
        let kind = socket.r#type().map_err(|error| bad(&Error::system("getsockopt", &error).detail))?;
        let is_datagram = kind == Type::DGRAM;
        if !is_datagram && (kind != Type::STREAM || !socket.is_listener().unwrap_or(false)) {
            return Err(bad("it is neither a stream socket that listens nor a datagram socket"));
        }
        let url = local_url(&socket, is_datagram).map_err(|error| Error::system(endpoint, &error))?;
        let url = url.ok_or_else(|| bad("the socket has no address of a family that this library knows"))?;
        Ok(Self {
            socket,
            url,
            is_datagram,
            is_copy: false,
            is_handed_over: AtomicBool::new(false),
            original: Some(AtomicI32::new(original)),
            file: None,
        })
    }

    /// Takes an adopted socket over for good: makes it non-blocking, and closes the program's own descriptor, if it
    /// was one. To be called when the start can no longer fail, but before anybody accepts. A listener that is
    /// dropped without this leaves the program's descriptor open and as it was. For one that was opened here, and
    /// for the second time, it does nothing.
    pub fn commit(&self) {
        let Some(original) = &self.original else { return };
        let original = original.swap(NONE, Ordering::Relaxed);
        // Neither can fail for an open socket; those that accept inherit TCP_NODELAY, where there is such a thing.
        let _ = self.socket.set_nonblocking(true);
        let _ = self.socket.set_tcp_nodelay(true);
        if original != NONE {
            sys::close(original);
        }
    }

    /// Whether it is a datagram socket.
    pub fn is_datagram(&self) -> bool {
        self.is_datagram
    }

    /// Whether it is a further socket of an address that another listener stands for.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Where it listens, with the port that it really has.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Somebody else listens on from here on: dropping it does not remove its file.
    pub fn hand_over(&self) {
        self.is_handed_over.store(true, Ordering::Relaxed);
        if let Some(file) = &self.file {
            file.keep();
        }
    }

    /// Whether somebody else may listen on it by now.
    pub fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::Relaxed)
    }

    /// A copy of the descriptor, closed on exec.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        let failed = |error: io::Error| Error::system(format_args!("copy the descriptor of {}", self.url), &error);
        sys::duplicate(self.socket.as_raw_fd()).map_err(failed)
    }

    /// Waits for a client (in blocking mode, and where it is adopted).
    pub fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => return Ok(socket.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.original.is_some() => {
                    sys::poll([(self.socket.as_raw_fd(), libc::POLLIN)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn prepare(socket: &Socket, domain: Domain, is_datagram: bool, reuse_port: bool) -> io::Result<()> {
    socket.set_reuse_port(reuse_port)?;
    if domain == Domain::IPV6 {
        // So that tcp://0.0.0.0:80 and tcp://[::]:80 do not shut each other out.
        socket.set_only_v6(true)?;
    }
    if !is_datagram {
        // For datagrams it would mean that another socket may take the port, and all that comes to it.
        socket.set_reuse_address(true)?;
        // Set once on the listener; connections inherit it, so that no call is spent on each.
        socket.set_tcp_nodelay(true)?;
    }
    Ok(())
}

fn bind(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    fault::check(Call::Bind)?;
    socket.bind(address)
}

/// The URL of the address that a socket is bound to, if it is bound to one of a family that we know.
fn local_url(socket: &Socket, is_datagram: bool) -> io::Result<Option<String>> {
    let local = socket.local_addr()?;
    let (inet, unix) = if is_datagram { ("udp", "unixgram") } else { ("tcp", "unix") };
    if let Some(address) = local.as_socket() {
        return Ok((address.port() != 0).then(|| format!("{inet}://{address}")));
    }
    if let Some(path) = local.as_pathname() {
        return Ok(Some(format!("{unix}:{}", path.display())));
    }
    let name = local.as_abstract_namespace();
    Ok(name.map(|name| format!("{unix}:@{}", String::from_utf8_lossy(name))))
}
