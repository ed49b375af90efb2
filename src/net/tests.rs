//! Listeners of every kind, on real sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::*;
use crate::sys;

const MODE: ListenMode = ListenMode { backlog: 8, reuse_port: false, blocking: false, copies: 1 };
const WORKERS: usize = 4;

fn open(url: &str, mode: ListenMode) -> Result<Vec<Listener>> {
    Listener::open(&Endpoint::parse(url).unwrap(), mode)
}

fn status(url: &str) -> Status {
    open(url, MODE).expect_err(url).status
}

/// A folder of the test's own; removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ahoy-net-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> (PathBuf, String) {
        let path = self.0.join(name);
        let text = path.display().to_string();
        (path, text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn receive(listener: &Listener) -> Option<(Vec<u8>, SocketAddr)> {
    let socket = UdpSocket::from(listener.duplicate().unwrap());
    let mut buffer = [0; 64];
    match socket.recv_from(&mut buffer) {
        Ok((count, from)) => Some((buffer[..count].to_vec(), from)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Which of the listeners has got one datagram from `client`, and no other has.
fn receiver(listeners: &[Listener], client: &UdpSocket) -> usize {
    let got: Vec<_> = listeners.iter().map(receive).collect();
    let at = got.iter().position(Option::is_some).expect("somebody gets it");
    let (text, from) = got[at].clone().unwrap();
    assert_eq!((text, from), (b"hello".to_vec(), client.local_addr().unwrap()));
    assert_eq!(got.iter().flatten().count(), 1);
    at
}

#[test]
fn the_system_spreads_peers_over_the_sockets_of_an_address() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let listeners = open(&format!("udp://{local}"), ListenMode { copies: WORKERS, ..MODE }).unwrap();
        let copies: Vec<bool> = listeners.iter().map(Listener::is_copy).collect();
        assert_eq!(copies, [false, true, true, true]);
        let address = listeners[0].url().to_owned();
        assert!(listeners.iter().all(|listener| listener.is_datagram() && listener.url() == address));
        let mut peers = [0; WORKERS];
        for _ in 0..200 {
            let client = UdpSocket::bind(local).unwrap();
            client.connect(address.trim_start_matches("udp://")).unwrap();
            client.send(b"hello").unwrap();
            let at = receiver(&listeners, &client);
            peers[at] += 1;
            // A peer stays where it is.
            client.send(b"hello").unwrap();
            assert_eq!(receiver(&listeners, &client), at);
        }
        // That one of four gets none of 200 has a chance of 10^-24.
        assert!(peers.iter().all(|peers| *peers > 0), "{peers:?}");
    }
}

#[test]
fn a_second_server_does_not_get_the_port_of_a_group() {
    let group = ListenMode { copies: WORKERS, ..MODE };
    let first = open("udp://127.0.0.1:0", group).unwrap();
    let url = first[0].url();
    for mode in [MODE, group] {
        assert_eq!(open(url, mode).unwrap_err().status, Status::AddressInUse);
    }
    // IPv6 takes nothing from IPv4.
    let both = url.replace("127.0.0.1", "[::]");
    assert_eq!(open(&both, group).unwrap()[0].url(), both);
    let url = url.to_owned();
    drop(first);
    assert_eq!(open(&url, group).unwrap().len(), WORKERS);
}

#[test]
fn with_reuse_port_servers_share_a_port() {
    for copies in [1, WORKERS] {
        for scheme in ["udp", "tcp"] {
            let mode = ListenMode { reuse_port: true, copies, ..MODE };
            let first = open(&format!("{scheme}://127.0.0.1:0"), mode).unwrap();
            let second = open(first[0].url(), mode).unwrap();
            assert_eq!(second[0].url(), first[0].url());
        }
    }
}

#[test]
fn only_udp_has_copies() {
    let folder = Folder::new("copies");
    let (_, path) = folder.file("a");
    for url in ["tcp://127.0.0.1:0".to_owned(), format!("unix:{path}1"), format!("unixgram:{path}2")] {
        let listeners = open(&url, ListenMode { copies: WORKERS, ..MODE }).unwrap();
        assert_eq!(listeners.len(), 1, "{url}");
        assert!(!listeners[0].is_copy());
    }
    assert_eq!(open("udp://127.0.0.1:0", ListenMode { copies: 0, ..MODE }).unwrap().len(), 1);
}

#[test]
fn names_that_do_not_resolve_are_none_of_this_machine() {
    for url in ["tcp://no-such-host.invalid:1", "udp://no-such-host.invalid:1", "udp://192.0.2.1:0"] {
        assert_eq!(status(url), Status::AddressUnavailable, "{url}");
    }
}

fn make_stale(path: &Path, kind: Type) {
    let socket = Socket::new(Domain::UNIX, kind, None).unwrap();
    socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
}

#[test]
fn a_stale_file_is_replaced_and_removed_in_the_end() {
    let folder = Folder::new("stale");
    for scheme in ["unix", "unixgram"] {
        for kind in [Type::STREAM, Type::DGRAM] {
            let (path, text) = folder.file("a.sock");
            make_stale(&path, kind);
            let listeners = open(&format!("{scheme}:{text}"), MODE).unwrap();
            assert_eq!(listeners[0].url(), format!("{scheme}:{text}"));
            assert_eq!(listeners[0].is_datagram(), scheme == "unixgram");
            drop(listeners);
            assert!(!path.exists());
        }
    }
}

#[test]
fn the_file_of_somebody_who_listens_is_left_alone() {
    let folder = Folder::new("live");
    let (path, text) = folder.file("a.sock");
    let datagram = UnixDatagram::bind(&path).unwrap();
    for scheme in ["unix", "unixgram"] {
        assert_eq!(status(&format!("{scheme}:{text}")), Status::AddressInUse);
    }
    UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
    assert_eq!(datagram.recv(&mut [0; 8]).unwrap(), 5);
    drop(datagram);
    std::fs::remove_file(&path).unwrap();
    let stream = UnixListener::bind(&path).unwrap();
    assert_eq!(status(&format!("unixgram:{text}")), Status::AddressInUse);
    drop(stream);
    let (path, text) = folder.file("plain");
    std::fs::write(&path, "not a socket").unwrap();
    assert_eq!(status(&format!("unixgram:{text}")), Status::AddressInUse);
    assert!(path.exists());
}

#[test]
fn a_file_that_is_anothers_by_now_stays() {
    let folder = Folder::new("kept");
    let (path, text) = folder.file("a.sock");
    let url = format!("unixgram:{text}");
    let listeners = open(&url, MODE).unwrap();
    listeners[0].hand_over();
    drop(listeners);
    assert!(path.exists(), "it was handed over");
    let listeners = open(&url, MODE).unwrap();
    std::fs::remove_file(&path).unwrap();
    let successor = UnixDatagram::bind(&path).unwrap();
    drop(listeners);
    assert!(path.exists(), "it is the successor's");
    drop(successor);
}

#[test]
fn abstract_names_have_no_file() {
    let name = format!("@ahoy-net-{}", std::process::id());
    let first = open(&format!("unixgram:{name}"), MODE).unwrap();
    assert_eq!(first[0].url(), format!("unixgram:{name}"));
    assert_eq!(status(&format!("unixgram:{name}")), Status::AddressInUse);
    // A stream socket's names are others.
    assert_eq!(open(&format!("unix:{name}"), MODE).unwrap()[0].url(), format!("unix:{name}"));
}

/// What a descriptor of this process is, whoever opened it.
fn identity(fd: RawFd) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

fn is_blocking(socket: BorrowedFd<'_>) -> bool {
    !SockRef::from(&socket).nonblocking().unwrap()
}

#[test]
fn an_adopted_socket_is_the_programs_until_it_is_committed() {
    let program = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = program.as_raw_fd();
    let socket = identity(fd).unwrap();
    let listeners = open(&format!("fd:{fd}"), MODE).unwrap();
    assert_eq!(listeners[0].url(), format!("tcp://{}", program.local_addr().unwrap()));
    assert!(!listeners[0].is_datagram());
    drop(listeners);
    assert_eq!(identity(fd).unwrap(), socket);
    assert!(is_blocking(program.as_fd()));

    let listeners = open(&format!("fd:{fd}"), MODE).unwrap();
    assert_eq!(program.into_raw_fd(), fd);
    listeners[0].commit();
    // Another thread may have the number by now, but not this socket.
    assert_ne!(identity(fd).as_ref(), Some(&socket));
    assert!(!is_blocking(listeners[0].as_fd()));
    // The second time it must not close what has the number by now.
    let next = sys::duplicate(listeners[0].as_fd().as_raw_fd()).unwrap();
    listeners[0].commit();
    assert_eq!(identity(next.as_raw_fd()).unwrap(), socket);

    let _client = TcpStream::connect(listeners[0].url().trim_start_matches("tcp://")).unwrap();
    let accepted = listeners[0].accept().unwrap();
    assert!(SockRef::from(&accepted).tcp_nodelay().unwrap());
}

#[test]
fn bound_datagram_sockets_are_adopted() {
    let folder = Folder::new("adopted");
    let (path, text) = folder.file("a.sock");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (unix, udp_address) = (UnixDatagram::bind(&path).unwrap(), udp.local_addr().unwrap());
    for (fd, url) in
        [(udp.into_raw_fd(), format!("udp://{udp_address}")), (unix.into_raw_fd(), format!("unixgram:{text}"))]
    {
        let listeners = open(&format!("fd:{fd}"), ListenMode { copies: WORKERS, ..MODE }).unwrap();
        let [listener] = &listeners[..] else { panic!("an adopted socket is one socket") };
        assert_eq!((listener.url(), listener.is_datagram()), (&*url, true));
        listener.commit();
    }
    assert!(path.exists(), "it was made by somebody else");
}

#[test]
fn what_cannot_listen_is_not_adopted() {
    let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    let (pair, _other) = UnixDatagram::pair().unwrap();
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for fd in [unbound.as_raw_fd(), pair.as_raw_fd(), stream.as_raw_fd(), client.as_raw_fd(), file.as_raw_fd()] {
        assert_eq!(status(&format!("fd:{fd}")), Status::BadDescriptor);
        assert!(sys::is_open(fd));
    }
    for fd in [1_000_000, RawFd::MAX] {
        assert_eq!(status(&format!("fd:{fd}")), Status::BadDescriptor);
    }
}
