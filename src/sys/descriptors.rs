//! Descriptors that are not ours yet: copied, closed, and sent to another process.

use std::ffi::c_int;
use std::io::{self, Error};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{owned, retry};
use crate::fault::Call;

/// Most descriptors that the system sends with one message (its SCM_MAX_FD).
pub const DESCRIPTORS_MAX: usize = 253;

/// Room for that many, and for what the receiver may have asked the system to add (SO_PASSCRED and the like). Words,
/// so that the headers in it are aligned.
const CONTROL_WORDS: usize = 256;

/// Bytes of one descriptor in a message.
const EACH: usize = size_of::<c_int>();

/// A copy of a descriptor, closed on exec; of a number that is not open, EBADF. Never one of the numbers that
/// programs take for their standard streams.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number need not be open, and the copy is ours alone.
    unsafe { owned(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3)) }
}

/// Lets a descriptor be closed on exec.
pub fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: changes a flag; the number need not be open.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Closes a descriptor that the host program has given to us. A number that is not open is left alone.
pub fn close(fd: RawFd) {
    // SAFETY: no value of ours owns it, and the host has given it up.
    unsafe { libc::close(fd) };
}

/// Sends bytes over a Unix stream socket, and copies of descriptors with the first of them; does not wait. Says how
/// many bytes went.
pub fn send_descriptors(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    const FLAGS: c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    if fds.len() > DESCRIPTORS_MAX {
        return Err(Error::from_raw_os_error(libc::EINVAL));
    }
    #[allow(clippy::cast_possible_truncation)] // at most 1012
    let length = size_of_val(fds) as libc::c_uint;
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all fields zero is an empty message. The control buffer is aligned and has room for one header and
    // DESCRIPTORS_MAX descriptors; the bytes are only read.
    retry(Call::Sendmsg, || unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if length > 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(length) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(length) as _;
            libc::CMSG_DATA(header).copy_from_nonoverlapping(fds.as_ptr().cast(), size_of_val(fds));
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, FLAGS)
    })
}

/// What one read of [`receive_descriptors`] gave.
#[derive(Debug)]
pub struct Received {
    /// Bytes read; 0 at the end of the stream.
    pub count: usize,
    /// What came with them, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// There were more descriptors than this process may have: the system has dropped the rest.
    pub is_cut: bool,
}

/// Reads bytes from a Unix stream socket, and the descriptors that came with them; does not wait.
pub fn receive_descriptors(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    const FLAGS: c_int = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all fields zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // SAFETY: both buffers are writable for the lengths given.
    let count = retry(Call::Recv, || unsafe {
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, FLAGS)
    })?;
    let mut fds = Vec::new();
    // SAFETY: the system wrote the headers, whole and within the buffer, which is aligned; each descriptor of an
    // SCM_RIGHTS is new and ours alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let length = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let first = libc::CMSG_DATA(header).cast::<c_int>();
                fds.extend((0..length / EACH).map(|at| OwnedFd::from_raw_fd(first.add(at).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Received { count, fds, is_cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}
