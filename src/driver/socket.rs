//! The system calls on connected and listening sockets that drivers on readiness make.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
#[cfg(feature = "uring")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::conn::outbox::Outbox;
use crate::fault::Call;
use crate::net::Peer;
use crate::sys::{direct, retry};

/// Segments that one system call sends.
const SEGMENTS_MAX: usize = 64;

/// Large enough for TCP. Of a Unix socket's address only the family is looked at.
#[allow(clippy::cast_possible_truncation)] // 28
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

/// Sends the first bytes of an outbox with one system call; says how much the system took of how much.
#[inline(never)]
pub(super) fn send(socket: RawFd, outbox: &Outbox) -> io::Result<(usize, usize)> {
    send_slices(socket, outbox.slices())
}

/// Sends the first slices with one system call; says how much the system took of how much.
#[inline(always)]
pub(crate) fn send_slices<'a>(socket: RawFd, slices: impl Iterator<Item = &'a [u8]>) -> io::Result<(usize, usize)> {
    let mut vectors = [MaybeUninit::<libc::iovec>::uninit(); SEGMENTS_MAX];
    let mut count = 0;
    let mut tried = 0;
    for slice in slices.take(SEGMENTS_MAX) {
        vectors[count].write(libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() });
        count += 1;
        tried += slice.len();
    }
    // SAFETY: `count` vectors are written, and each names bytes that are borrowed, which are only read.
    let sent = retry(Call::Sendmsg, || unsafe {
        if count == 1 {
            let only = vectors[0].assume_init_ref();
            return direct::send(socket, only.iov_base, only.iov_len, libc::MSG_NOSIGNAL);
        }
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = vectors.as_mut_ptr().cast();
        message.msg_iovlen = count as _;
        direct::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL)
    })?;
    Ok((sent, tried))
}

/// Accepts one connection, not blocking and closed on exec.
pub(super) fn accept(listener: RawFd) -> io::Result<(OwnedFd, Peer)> {
    let mut address = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut length = 0;
    let socket = retry(Call::Accept4, || {
        length = ADDRESS_BYTES;
        // SAFETY: the address has room for `length` bytes.
        unsafe { libc::accept4(listener, address.as_mut_ptr().cast(), &raw mut length, flags) as isize }
    })?;
    let socket = RawFd::try_from(socket).expect("the system's descriptors are of this type");
    // SAFETY: the descriptor was just given to us, and the address was plain zeros at least.
    unsafe { Ok((OwnedFd::from_raw_fd(socket), peer(address.assume_init()))) }
}

/// The other end of a connected socket.
#[cfg(feature = "uring")]
pub(super) fn peer_of(socket: BorrowedFd<'_>) -> Peer {
    let mut address = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut length = ADDRESS_BYTES;
    // SAFETY: the address has room for `length` bytes, and was plain zeros at least.
    unsafe {
        libc::getpeername(socket.as_raw_fd(), address.as_mut_ptr().cast(), &raw mut length);
        peer(address.assume_init())
    }
}

/// An address that the system wrote, whatever its family.
fn peer(address: libc::sockaddr_in6) -> Peer {
    // SAFETY: plain bytes.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const address).cast(), size_of_val(&address)) };
    socket_address(bytes).map_or(Peer::UNNAMED, Peer::new)
}

/// The bytes of an address that the system wrote. None: it is neither IPv4 nor IPv6.
pub(super) fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = bytes.first_chunk().map(|family| i32::from(libc::sa_family_t::from_ne_bytes(*family)))?;
    match family {
        libc::AF_INET if bytes.len() >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: there are enough bytes, and any bytes will do.
            let v4 = unsafe { bytes.as_ptr().cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 if bytes.len() >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let v6 = unsafe { bytes.as_ptr().cast::<libc::sockaddr_in6>().read_unaligned() };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id)))
        }
        _ => None,
    }
}
