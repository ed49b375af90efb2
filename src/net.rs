//! Addresses: the URLs that programs write, and the sockets that listen on them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `tcp://host:port`
    Tcp {
        /// An IP address (without brackets) or a name.
        host: String,
        /// 0: any free one.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
    /// `unix:@name`: Linux's abstract names, which no file stands for.
    UnixAbstract(String),
}

/// Most bytes of a Unix socket's path or abstract name.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl Endpoint {
    /// Reads one URL.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(rest) = url.strip_prefix("tcp://") {
            return Self::parse_tcp(url, rest);
        }
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::parse_unix(url, path);
        }
        Err(bad(Status::Url, url, "the scheme is none of tcp:// and unix:"))
    }

    /// Reads a list of URLs with commas between.
    pub fn parse_list(urls: &str) -> Result<Vec<Self>> {
        urls.split(',').map(|url| Self::parse(url.trim())).collect()
    }

    fn parse_tcp(url: &str, rest: &str) -> Result<Self> {
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) =
                    bracketed.split_once(']').ok_or_else(|| bad(Status::Url, url, "the bracket is not closed"))?;
                host.parse::<Ipv6Addr>().map_err(|_| bad(Status::Url, url, "no IPv6 address is in the brackets"))?;
                (host, after.strip_prefix(':').ok_or_else(|| bad(Status::Port, url, "there is no port"))?)
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        if host.is_empty() {
            return Err(bad(Status::Url, url, "there is no host (0.0.0.0 stands for every address)"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if !host.bytes().all(plain) || port.contains(['/', '?', '#', '@', ':']) {
            return Err(bad(Status::Url, url, "it is not of the form tcp://host:port"));
        }
        // parse() alone would take "+1".
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad(Status::Port, url, "the port is not a number"));
        }
        let port = port.parse().map_err(|_| bad(Status::Port, url, "the port is more than 65535"))?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    fn parse_unix(url: &str, path: &str) -> Result<Self> {
        let (name, is_abstract) = match path.strip_prefix('@') {
            Some(name) => (name, true),
            None => (path, false),
        };
        if name.is_empty() || name.starts_with("//") {
            return Err(bad(Status::Url, url, "it is not of the form unix:/path or unix:@name"));
        }
        if name.len() > UNIX_PATH_BYTES_MAX {
            let text = format!("{} bytes are too long for a Unix socket: at most {UNIX_PATH_BYTES_MAX}", name.len());
            return Err(bad(Status::PathTooLong, url, &text));
        }
        Ok(if is_abstract { Self::UnixAbstract(name.to_owned()) } else { Self::Unix(PathBuf::from(name)) })
    }

    /// The socket addresses that it stands for: several where a name has several.
    fn resolve(&self) -> Result<Vec<SockAddr>> {
        let system = |error| Error::system(self, &error);
        match self {
            Self::Tcp { host, port } => {
                let found = match host.parse::<IpAddr>() {
                    Ok(address) => vec![SocketAddr::new(address, *port)],
                    Err(_) => (host.as_str(), *port)
                        .to_socket_addrs()
                        .map_err(|error| Error::new(Status::AddressUnavailable, format!("{self}: {error}")))?
                        .collect(),
                };
                let mut addresses: Vec<SockAddr> = Vec::new();
                for address in found.into_iter().map(SockAddr::from) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                Ok(addresses)
            }
            Self::Unix(path) => Ok(vec![SockAddr::unix(path).map_err(system)?]),
            Self::UnixAbstract(name) => Ok(vec![SockAddr::unix(format!("\0{name}")).map_err(system)?]),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

fn bad(status: Status, url: &str, why: &str) -> Error {
    Error::new(status, format!("\"{url}\": {why}"))
}

/// A socket that listens, and the file that stands for it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    url: String,
    /// Removed when this is dropped.
    _file: Option<SocketFile>,
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenMode {
    /// Pending connections that the system keeps.
    pub backlog: u32,
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// Whether accept waits.
    pub blocking: bool,
}

impl Listener {
    /// Listens on every address of an endpoint.
    pub fn open(endpoint: &Endpoint, mode: ListenMode) -> Result<Vec<Self>> {
        endpoint.resolve()?.iter().map(|address| Self::open_one(endpoint, address, mode)).collect()
    }

    fn open_one(endpoint: &Endpoint, address: &SockAddr, mode: ListenMode) -> Result<Self> {
        let failed = |what: &str, error: io::Error| Error::system(format_args!("{what} {endpoint}"), &error);
        let kind = if mode.blocking { Type::STREAM } else { Type::STREAM.nonblocking() };
        let socket = fault::check(Call::Socket)
            .and_then(|()| Socket::new(address.domain(), kind.cloexec(), None))
            .map_err(|error| failed("socket", error))?;
        let prepared = match address.domain() {
            Domain::UNIX => Ok(()),
            domain => prepare_tcp(&socket, domain, mode),
        };
        prepared.map_err(|error| failed("set options of", error))?;
        let file = match endpoint {
            Endpoint::Unix(path) => {
                bind_file(&socket, address, path).map_err(|error| failed("bind", error))?;
                SocketFile::of(path)
            }
            _ => {
                bind(&socket, address).map_err(|error| failed("bind", error))?;
                None
            }
        };
        // From here on a failure takes the file along: `listener` is dropped.
        let mut listener = Self { socket, url: endpoint.to_string(), _file: file };
        let backlog = i32::try_from(mode.backlog).unwrap_or(i32::MAX);
        fault::check(Call::Listen)
            .and_then(|()| listener.socket.listen(backlog))
            .map_err(|error| failed("listen", error))?;
        let local = listener.socket.local_addr().map_err(|error| failed("getsockname", error))?;
        if let Some(local) = local.as_socket() {
            listener.url = format!("tcp://{local}");
        }
        Ok(listener)
    }

    /// Where it listens, with the port that it really has.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for a client (in blocking mode).
    pub fn accept(&self) -> io::Result<OwnedFd> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => return Ok(socket.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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

/// Set once on the listener; connections inherit TCP_NODELAY, so that no call is spent on each.
fn prepare_tcp(socket: &Socket, domain: Domain, mode: ListenMode) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(mode.reuse_port)?;
    socket.set_tcp_nodelay(true)?;
    if domain == Domain::IPV6 {
        // So that tcp://0.0.0.0:80 and tcp://[::]:80 do not shut each other out.
        socket.set_only_v6(true)?;
    }
    Ok(())
}

fn bind(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    fault::check(Call::Bind)?;
    socket.bind(address)
}

/// Binds to a path; replaces the file of a process that has died, and no other.
fn bind_file(socket: &Socket, address: &SockAddr, path: &Path) -> io::Result<()> {
    let in_use = match bind(socket, address) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => error,
        other => return other,
    };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket || !nobody_listens(address) {
        return Err(in_use);
    }
    std::fs::remove_file(path)?;
    bind(socket, address)
}

fn nobody_listens(address: &SockAddr) -> bool {
    let Ok(probe) = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None) else { return false };
    probe.connect(address).is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}

/// The file of a Unix socket: removed with the listener, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> Option<Self> {
        Some(Self { path: std::path::absolute(path).ok()?, identity: identity(path)? })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) && !self.path.as_os_str().as_bytes().is_empty() {
            // Nobody is left to hear of a failure: the folder may be gone as well.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Refuses what is no stream socket.
pub fn check_stream(socket: BorrowedFd<'_>) -> Result<()> {
    match socket2::SockRef::from(&socket).r#type() {
        Ok(Type::STREAM) => Ok(()),
        _ => Err(Error::new(Status::BadDescriptor, format!("{} is not a stream socket", socket.as_raw_fd()))),
    }
}

/// The peer of a connected stream socket.
pub fn peer_of_stream(socket: BorrowedFd<'_>) -> Result<Peer> {
    check_stream(socket)?;
    let bad = |_| Error::new(Status::BadDescriptor, format!("{} is not connected", socket.as_raw_fd()));
    Peer::of(socket).map_err(bad)
}

/// A peer's address in three words, so that any thread can read it out of a connection's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub(crate) [u64; 3]);

const PEER_V4: u64 = 1;
const PEER_V6: u64 = 2;

impl Peer {
    /// A peer without an address: the other end of a Unix socket.
    pub const UNNAMED: Self = Self([0; 3]);

    /// Packs an address.
    pub fn new(address: SocketAddr) -> Self {
        let port = u64::from(address.port()) << 8;
        match address {
            SocketAddr::V4(v4) => Self([PEER_V4 | port, u64::from(u32::from(*v4.ip())), 0]),
            SocketAddr::V6(v6) => {
                let bits = u128::from(*v6.ip());
                #[allow(clippy::cast_possible_truncation)] // the two halves
                Self([PEER_V6 | port | u64::from(v6.scope_id()) << 32, (bits >> 64) as u64, bits as u64])
            }
        }
    }

    /// The peer of a connected socket.
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let address = socket2::SockRef::from(&socket).peer_addr()?;
        Ok(address.as_socket().map_or(Self::UNNAMED, Self::new))
    }

    /// The address, where there is one.
    pub fn address(self) -> Option<SocketAddr> {
        let [head, high, low] = self.0;
        let port = (head >> 8 & 0xffff) as u16;
        match head & 0xff {
            PEER_V4 => Some(SocketAddr::from((Ipv4Addr::from(u32::try_from(high).ok()?), port))),
            PEER_V6 => {
                let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
                let scope = u32::try_from(head >> 32).ok()?;
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => write!(f, "tcp://{address}"),
            None => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(url: &str) -> Status {
        Endpoint::parse(url).expect_err(url).status
    }

    #[test]
    fn urls_are_read() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.to_owned(), port };
        assert_eq!(Endpoint::parse("tcp://0.0.0.0:8888").unwrap(), tcp("0.0.0.0", 8888));
        assert_eq!(Endpoint::parse("tcp://[::1]:0").unwrap(), tcp("::1", 0));
        assert_eq!(Endpoint::parse("tcp://localhost:65535").unwrap(), tcp("localhost", 65535));
        assert_eq!(Endpoint::parse("unix:/run/a.sock").unwrap(), Endpoint::Unix("/run/a.sock".into()));
        assert_eq!(Endpoint::parse("unix:@name").unwrap(), Endpoint::UnixAbstract("name".into()));
        assert_eq!(Endpoint::parse_list("tcp://a:1, unix:b").unwrap().len(), 2);
    }

    #[test]
    fn each_fault_of_a_url_has_its_status() {
        for url in ["", "8888", "http://a:1", "tcp:/a:1", "tcp://:1", "tcp://[::1:1", "tcp://[x]:1", "tcp://a b:1"] {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in ["tcp://a:1/path", "tcp://a:1?x=y", "tcp://u@a:1", "unix:", "unix:@", "unix://tmp/x", "tcp://a:1:2"]
        {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in [
            "tcp://a",
            "tcp://a:",
            "tcp://a:65536",
            "tcp://a:-1",
            "tcp://a:+1",
            "tcp://a:x",
            "tcp://[::1]",
            "tcp://a: 1",
        ] {
            assert_eq!(status(url), Status::Port, "{url}");
        }
        assert_eq!(status(&format!("unix:/{}", "x".repeat(107))), Status::PathTooLong);
        assert!(Endpoint::parse(&format!("unix:/{}", "x".repeat(106))).is_ok());
        for list in ["", " ", "tcp://a:1,", ",tcp://a:1"] {
            assert_eq!(Endpoint::parse_list(list).unwrap_err().status, Status::Url, "{list}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in ".{0,64}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), endpoint);
            }
        }

        #[test]
        fn a_peer_unpacks_to_what_was_packed(v6: bool, bits: u128, port: u16, scope: u32) {
            #[allow(clippy::cast_possible_truncation)] // any 32 bits
            let address = if v6 {
                SocketAddr::V6(SocketAddrV6::new(bits.into(), port, 0, scope))
            } else {
                SocketAddr::from((Ipv4Addr::from(bits as u32), port))
            };
            prop_assert_eq!(Peer::new(address).address(), Some(address));
        }
    }
}
