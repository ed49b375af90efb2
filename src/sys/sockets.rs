//! What is asked of a connected socket: to receive, to send, what it has.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{direct, retry};
use crate::fault::Call;

/// Reads from a stream socket into `buffer`, without waiting; 0 at its end.
#[inline]
pub fn recv(fd: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its whole length.
    retry(Call::Recv, || unsafe {
        direct::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    })
}

/// Reads behind what `buffer` has, as much as it has room for, without waiting. Says how many bytes came: 0 at the end of
/// a stream, or of an empty datagram.
pub fn recv_more(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let count = recv(fd, buffer.spare_capacity_mut())?;
    // SAFETY: the call has written so many bytes behind those that were there.
    unsafe { buffer.set_len(buffer.len() + count) };
    Ok(count)
}

/// Receives a datagram, without waiting; says how long it is, which may be more than there was room for.
pub fn recv_datagram(fd: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the buffer is writable for its whole length.
    retry(Call::Recv, || unsafe { direct::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), FLAGS) })
}

/// Sends to a stream socket, without waiting, and without the signal that would kill a host whose peer is gone.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the bytes are readable for their whole length.
    retry(Call::Sendmsg, || unsafe { direct::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), FLAGS) })
}

/// Whether the peer has sent what was not received.
pub fn unread(socket: BorrowedFd<'_>) -> bool {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    result == 0 && count > 0
}

/// Bytes that were sent and that the peer has not taken.
pub fn unsent(socket: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Ends our side of the stream.
pub fn finish(socket: BorrowedFd<'_>) {
    // SAFETY: the descriptor is open. A failure says that the peer is gone: an event will, too.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}
