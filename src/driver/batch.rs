//! The system calls that receive and send many datagrams at once.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use socket2::SockAddr;

use super::{Origin, Sent};
use crate::conn::outbox::Outbox;
use crate::fault::{self, Call};
use crate::sys::retry;

/// Datagrams that one system call takes.
pub(super) const DATAGRAMS_MAX: usize = 32;
/// Longest datagram received whole.
const DATAGRAM_BYTES: usize = 64 << 10;
/// Pieces of memory that one system call sends.
const PIECES_MAX: usize = 256;
/// Bytes of the length before each datagram in an outbox.
const LENGTH_BYTES: usize = 4;

/// Room for received datagrams, where each came from, and what the system says of them. Memory that no datagram has
/// touched costs nothing.
pub(super) struct Batch {
    bytes: Box<[MaybeUninit<u8>]>,
    names: Box<[MaybeUninit<libc::sockaddr_storage>]>,
    /// What [`Batch::receive`] wrote: the length of the datagram, of the name, and whether it was cut.
    results: Vec<(usize, usize, bool)>,
}

impl Batch {
    pub(super) fn new() -> io::Result<Self> {
        fault::check(Call::Memory)?;
        Ok(Self {
            bytes: Box::new_uninit_slice(DATAGRAMS_MAX * DATAGRAM_BYTES),
            names: Box::new_uninit_slice(DATAGRAMS_MAX),
            results: Vec::with_capacity(DATAGRAMS_MAX),
        })
    }

    /// Receives what is there, without waiting; says how many datagrams.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        let mut pieces = [const { MaybeUninit::<libc::iovec>::uninit() }; DATAGRAMS_MAX];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; DATAGRAMS_MAX];
        self.results.clear();
        let count = retry(Call::Recvmmsg, || {
            // SAFETY: each header names room of its own for a datagram and for a name, which the system may write to.
            unsafe {
                for at in 0..DATAGRAMS_MAX {
                    let start = self.bytes.as_mut_ptr().add(at * DATAGRAM_BYTES);
                    let piece = pieces[at].write(libc::iovec { iov_base: start.cast(), iov_len: DATAGRAM_BYTES });
                    let header = &mut headers[at].assume_init_mut().msg_hdr;
                    header.msg_iov = piece;
                    header.msg_iovlen = 1;
                    header.msg_name = self.names[at].as_mut_ptr().cast();
                    header.msg_namelen = NAME_BYTES;
                }
                let headers = headers.as_mut_ptr().cast();
                libc::recvmmsg(socket, headers, COUNT_MAX, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) as isize
            }
        })?;
        for header in &headers[..count] {
            // SAFETY: the system has filled it.
            let header = unsafe { header.assume_init_ref() };
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.results.push((header.msg_len as usize, header.msg_hdr.msg_namelen as usize, is_cut));
        }
        Ok(count)
    }

    /// A datagram that was received: its bytes, where it came from, and whether it was cut.
    pub(super) fn get(&self, at: usize) -> (&[u8], Origin, bool) {
        let (length, name_length, is_cut) = self.results[at];
        let bytes = &self.bytes[at * DATAGRAM_BYTES..][..length.min(DATAGRAM_BYTES)];
        // SAFETY: the system has written so many bytes there.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) };
        let name_length = name_length.min(size_of::<libc::sockaddr_storage>());
        // SAFETY: the system has written so many bytes of a name there.
        let name = unsafe { std::slice::from_raw_parts(self.names[at].as_ptr().cast::<u8>(), name_length) };
        (bytes, origin(name), is_cut)
    }
}

#[allow(clippy::cast_possible_truncation)] // 128
const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
#[allow(clippy::cast_possible_truncation)] // 32
const COUNT_MAX: libc::c_uint = DATAGRAMS_MAX as libc::c_uint;

/// An address that the system wrote.
fn origin(name: &[u8]) -> Origin {
    const FAMILY_BYTES: usize = size_of::<libc::sa_family_t>();
    let Some((family, rest)) = name.split_first_chunk::<FAMILY_BYTES>() else { return Origin::Unnamed };
    if i32::from(libc::sa_family_t::from_ne_bytes(*family)) == libc::AF_UNIX {
        // A path ends with a zero byte; an abstract name begins with one.
        let is_path = rest.first().is_some_and(|first| *first != 0);
        let end = if is_path { rest.iter().position(|byte| *byte == 0) } else { None };
        let path = &rest[..end.unwrap_or(rest.len())];
        return if path.is_empty() { Origin::Unnamed } else { Origin::Path(path.into()) };
    }
    match super::socket::socket_address(name) {
        Some(address) => Origin::Ip(address),
        None => Origin::Unnamed,
    }
}

/// An outbox of datagrams that go to one address.
pub(super) struct Outgoing<'a> {
    /// None: the socket is connected, or there is no address (`is_nowhere`).
    pub(super) address: Option<&'a SockAddr>,
    /// Nothing can be sent there: its datagrams are lost.
    pub(super) is_nowhere: bool,
    pub(super) outbox: &'a Outbox,
}

/// Sends outboxes of datagrams through one socket; `sent` says for each what became of it. An error says that no more
/// can be sent at present (WouldBlock), or that the connected socket is broken.
pub(super) fn send(socket: RawFd, outgoing: &[Outgoing<'_>], sent: &mut [Sent]) -> io::Result<()> {
    let mut first = 0;
    while first < outgoing.len() {
        let Outgoing { is_nowhere, outbox, .. } = outgoing[first];
        if is_nowhere {
            let mut cursor = Cursor::new(outbox, sent[first].taken);
            while let Some(length) = cursor.next(|_| {}) {
                lose(&mut sent[first], length);
            }
        }
        if sent[first].taken == outbox.bytes() {
            first += 1;
            continue;
        }
        let mut pieces = Vec::with_capacity(PIECES_MAX);
        // Which outbox each datagram is of, its length, and where its pieces begin.
        let mut datagrams: Vec<(usize, usize, usize)> = Vec::with_capacity(DATAGRAMS_MAX);
        'fill: for (at, Outgoing { is_nowhere, outbox, .. }) in outgoing.iter().enumerate().skip(first) {
            if *is_nowhere {
                continue;
            }
            let mut cursor = Cursor::new(outbox, sent[at].taken);
            loop {
                if datagrams.len() == DATAGRAMS_MAX || pieces.len() >= PIECES_MAX {
                    break 'fill;
                }
                let start = pieces.len();
                let piece = |slice: &[u8]| {
                    pieces.push(libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() });
                };
                let Some(length) = cursor.next(piece) else { break };
                datagrams.push((at, length, start));
            }
        }
        match send_once(socket, outgoing, &datagrams, &mut pieces) {
            Ok(count) => {
                for (at, length, _) in &datagrams[..count] {
                    sent[*at].taken += LENGTH_BYTES + length;
                    sent[*at].out += length;
                }
            }
            // Unix sockets say that of the peer's queue, not of ours.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_unix(outgoing[first].address) => {
                sent[first].later = true;
                first += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // One of many peers: its datagram is lost, which is what datagrams are like.
            Err(error) if outgoing[first].address.is_some() => {
                log::debug!("a datagram was not sent: {error}");
                let (at, length, _) = datagrams[0];
                lose(&mut sent[at], length);
            }
            // They say nothing of the peer.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM | libc::EPERM)
                ) =>
            {
                lose(&mut sent[first], datagrams[0].1);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_unix(address: Option<&SockAddr>) -> bool {
    address.is_some_and(|address| address.is_unix())
}

fn lose(sent: &mut Sent, length: usize) {
    sent.taken += LENGTH_BYTES + length;
    sent.lost += 1;
}

fn send_once(
    socket: RawFd,
    outgoing: &[Outgoing<'_>],
    datagrams: &[(usize, usize, usize)],
    pieces: &mut [libc::iovec],
) -> io::Result<usize> {
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; DATAGRAMS_MAX];
    for (number, (at, _, start)) in datagrams.iter().enumerate() {
        let end = datagrams.get(number + 1).map_or(pieces.len(), |(_, _, start)| *start);
        // SAFETY: all zeros is a header that names nothing.
        let header = unsafe { &mut headers[number].assume_init_mut().msg_hdr };
        header.msg_iov = pieces[*start..end].as_mut_ptr();
        header.msg_iovlen = (end - start) as _;
        if let Some(address) = outgoing[*at].address {
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
        }
    }
    let count = libc::c_uint::try_from(datagrams.len()).unwrap_or(COUNT_MAX);
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: `count` headers are filled; they name bytes of outboxes and addresses, which are only read.
    retry(Call::Sendmmsg, || unsafe { libc::sendmmsg(socket, headers.as_mut_ptr().cast(), count, FLAGS as _) as isize })
}

/// Walks over the datagrams of an outbox.
struct Cursor<'a, I: Iterator<Item = &'a [u8]>> {
    slices: I,
    current: &'a [u8],
}

impl<'a> Cursor<'a, std::vec::IntoIter<&'a [u8]>> {
    fn new(outbox: &'a Outbox, skip: usize) -> Self {
        let slices: Vec<&[u8]> = outbox.slices().collect();
        let mut cursor = Self { slices: slices.into_iter(), current: &[] };
        cursor.take(skip, |_| {});
        cursor
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cursor<'a, I> {
    /// Hands the pieces of the next datagram to `piece`; says how long it is. None: there is none.
    fn next(&mut self, piece: impl FnMut(&'a [u8])) -> Option<usize> {
        let mut length = [0; LENGTH_BYTES];
        let mut at = 0;
        self.take(LENGTH_BYTES, |bytes| {
            length[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        });
        if at < LENGTH_BYTES {
            return None;
        }
        let length = u32::from_be_bytes(length) as usize;
        self.take(length, piece);
        Some(length)
    }

    fn take(&mut self, mut count: usize, mut piece: impl FnMut(&'a [u8])) {
        while count > 0 {
            if self.current.is_empty() {
                let Some(next) = self.slices.next() else { return };
                self.current = next;
                continue;
            }
            let (head, rest) = self.current.split_at(count.min(self.current.len()));
            count -= head.len();
            self.current = rest;
            piece(head);
        }
    }
}
