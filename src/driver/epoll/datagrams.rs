//! Datagrams: received and sent in batches, one system call for many.
//!
//! Peers of a listener share its socket. What they send is held in one line while the system has no room; what an
//! outbox holds are datagrams with their lengths before them (`Carries::Datagrams`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use socket2::{SockAddr, SockRef};

use super::token::Token;
use super::{BROKEN, End, Entry, Epoll, IN, OUT, Peer, Step, find};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::driver::batch::{self, Batch, Outgoing};
use crate::driver::{Event, Origin, Sent};

/// The socket of a datagram listener.
pub(super) struct DatagramSocket {
    socket: RawFd,
    is_reading: bool,
    /// The system has no room: what is to be sent waits here.
    waiting: VecDeque<Pending>,
}

/// An outbox of datagrams.
pub(super) struct Pending {
    pub(super) conn: ConnId,
    pub(super) outbox: Box<Outbox>,
}

/// Datagrams that were received and not yet told.
pub(super) struct Inbound {
    batch: Batch,
    listener: usize,
    next: usize,
    count: usize,
}

impl Inbound {
    pub(super) fn has_more(&self) -> bool {
        self.next < self.count
    }

    /// The number of the next datagram.
    pub(super) fn next(&mut self) -> Option<usize> {
        let at = Some(self.next).filter(|at| *at < self.count)?;
        self.next += 1;
        Some(at)
    }

    pub(super) fn event(&self, at: usize) -> Event<'_> {
        let (data, origin, is_cut) = self.batch.get(at);
        Event::Datagram { listener: self.listener, origin, data, is_cut }
    }
}

/// The address to send to. None: there is none.
pub(super) fn address(origin: &Origin) -> io::Result<Option<SockAddr>> {
    use std::os::unix::ffi::OsStrExt;
    match origin {
        Origin::Ip(address) => Ok(Some(SockAddr::from(*address))),
        Origin::Path(path) => SockAddr::unix(std::ffi::OsStr::from_bytes(path)).map(Some),
        Origin::Unnamed => Ok(None),
    }
}

impl Epoll {
    pub(super) fn add_datagram_socket(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(Some(known)) = self.datagram_sockets.get_mut(listener) {
            // It has rested.
            known.is_reading = true;
            let is_waiting = !known.waiting.is_empty();
            self.watch_datagrams(listener, is_waiting);
            return Ok(());
        }
        self.control(libc::EPOLL_CTL_ADD, socket, IN, Token::Datagrams(listener))?;
        if self.datagram_sockets.len() <= listener {
            self.datagram_sockets.resize_with(listener + 1, || None);
        }
        self.datagram_sockets[listener] =
            Some(DatagramSocket { socket: socket.as_raw_fd(), is_reading: true, waiting: VecDeque::new() });
        if self.inbound.is_none() {
            self.inbound = Some(Box::new(Inbound { batch: Batch::new()?, listener, next: 0, count: 0 }));
        }
        Ok(())
    }

    /// A datagram listener is ready.
    pub(super) fn receive_datagrams(&mut self, listener: usize, events: u32) -> Step {
        let Some(Some(socket)) = self.datagram_sockets.get_mut(listener) else { return Step::Next };
        let (number, socket_reads) = (socket.socket, socket.is_reading);
        if events & OUT != 0 {
            // In line before those that came later.
            while let Some(waiting) = socket.waiting.pop_back() {
                self.pending.push_front(waiting);
            }
            self.watch_datagrams(listener, false);
        }
        if !socket_reads {
            // Handed over: what is wrong with it, if anything, is taken note of, or it would be reported for ever.
            // SAFETY: the worker keeps a listener's socket open as long as the driver has it.
            let _ = SockRef::from(&unsafe { BorrowedFd::borrow_raw(number) }).take_error();
            return Step::Next;
        }
        if events & (IN | BROKEN) == 0 {
            return Step::Next;
        }
        let Some(inbound) = &mut self.inbound else { return Step::Next };
        match inbound.batch.receive(number) {
            Ok(count) => {
                inbound.listener = listener;
                inbound.next = 0;
                inbound.count = count;
                Step::Next
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Next,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS)) => {
                Step::TellLast(Event::AcceptFailed { listener, error })
            }
            // An error of one of many peers that the system reports late: nobody can tell whose.
            Err(error) => {
                log::debug!("a datagram listener: {error}");
                Step::Next
            }
        }
    }

    /// Receives no more: what is still to be sent is.
    pub(super) fn stop_datagrams(&mut self, listener: usize) {
        let Some(Some(socket)) = self.datagram_sockets.get_mut(listener) else { return };
        socket.is_reading = false;
        let is_waiting = !socket.waiting.is_empty();
        self.watch_datagrams(listener, is_waiting);
    }

    fn watch_datagrams(&mut self, listener: usize, out: bool) {
        let Some(Some(socket)) = self.datagram_sockets.get(listener) else { return };
        let events = if socket.is_reading { IN } else { 0 } | if out { OUT } else { 0 };
        // SAFETY: the worker keeps a listener's socket open as long as the driver has it.
        let socket = unsafe { BorrowedFd::borrow_raw(socket.socket) };
        if let Err(error) = self.control(libc::EPOLL_CTL_MOD, socket, events, Token::Datagrams(listener)) {
            log::warn!("a datagram listener is not watched: {error}");
        }
    }

    pub(super) fn add_peer(&mut self, conn: ConnId, listener: usize, origin: &Origin) -> io::Result<()> {
        let peer = Peer { listener, address: address(origin)? };
        let peer = self.peers.insert(peer).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.insert(conn, Entry { end: End::Peer(peer), ..Entry::default() }).inspect_err(|_| {
            self.peers.remove(peer);
        })
    }

    /// Sends what is pending for one socket. False: there was nothing.
    pub(super) fn send_pending(&mut self) -> bool {
        let Some(first) = self.pending.pop_front() else { return false };
        let Some(socket) = self.socket_of(first.conn) else {
            self.done.push_back(Event::Closed { conn: first.conn, outbox: Some(first.outbox) });
            return true;
        };
        let mut group = vec![first];
        // Those behind it that go to the same socket go in the same system call.
        while group.len() < batch::DATAGRAMS_MAX
            && self.pending.front().is_some_and(|next| self.socket_of(next.conn) == Some(socket))
            && let Some(next) = self.pending.pop_front()
        {
            group.push(next);
        }
        if self.is_blocked(socket) {
            group.into_iter().for_each(|pending| self.hold(socket, pending));
            return true;
        }
        let mut sent = vec![Sent::default(); group.len()];
        let mut outgoing: Vec<Outgoing<'_>> = Vec::with_capacity(group.len());
        for pending in &group {
            let entry = self.entries.get(pending.conn.index());
            let peer =
                entry.and_then(|entry| if let End::Peer(peer) = entry.end { self.peers.get(peer) } else { None });
            let is_nowhere = peer.is_some_and(|peer| peer.address.is_none());
            let address = peer.and_then(|peer| peer.address.as_ref());
            outgoing.push(Outgoing { address, is_nowhere, outbox: &pending.outbox });
        }
        let result = batch::send(socket.number, &outgoing, &mut sent);
        let is_blocked = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        drop(outgoing);
        let mut error = result.err().filter(|_| !is_blocked);
        for (pending, sent) in group.into_iter().zip(sent) {
            let Pending { conn, outbox } = pending;
            if sent.later {
                self.done.push_back(Event::Blocked { conn, unsent: 0 });
            }
            if sent.taken > 0 || sent.later || error.is_some() {
                let result = match error.take() {
                    Some(error) if sent.taken == 0 && !sent.later => Err(error),
                    _ => Ok(sent),
                };
                self.done.push_back(Event::Sent { conn, outbox, result });
            } else {
                self.hold(socket, Pending { conn, outbox });
            }
        }
        true
    }

    /// Keeps an outbox until the system has room.
    fn hold(&mut self, socket: Socket, pending: Pending) {
        let conn = pending.conn;
        self.done.push_back(Event::Blocked { conn, unsent: 0 });
        if let Some(listener) = socket.listener {
            if let Some(Some(socket)) = self.datagram_sockets.get_mut(listener) {
                socket.waiting.push_back(pending);
            }
            self.watch_datagrams(listener, true);
        } else if let Some(entry) = find(&mut self.entries, conn) {
            entry.outbox = Some(pending.outbox);
            entry.blocked = true;
            self.watch(conn);
        }
    }

    fn is_blocked(&self, socket: Socket) -> bool {
        let listener = socket.listener.and_then(|listener| self.datagram_sockets.get(listener));
        listener.is_some_and(|socket| socket.as_ref().is_some_and(|socket| !socket.waiting.is_empty()))
    }

    /// A connection's own datagram socket has room again.
    pub(super) fn unblock(&mut self, conn: ConnId) {
        let Some(entry) = find(&mut self.entries, conn).filter(|entry| matches!(entry.end, End::Datagrams(_))) else {
            return;
        };
        if let Some(outbox) = entry.outbox.take() {
            self.pending.push_back(Pending { conn, outbox });
        }
    }

    /// What waits to be sent for a connection that closes.
    pub(super) fn take_pending(&mut self, conn: ConnId) -> Option<Box<Outbox>> {
        let waiting = self.datagram_sockets.iter_mut().flatten().map(|socket| &mut socket.waiting);
        for line in waiting.chain([&mut self.pending]) {
            if let Some(at) = line.iter().position(|pending| pending.conn == conn) {
                return line.remove(at).map(|pending| pending.outbox);
            }
        }
        None
    }

    fn socket_of(&self, conn: ConnId) -> Option<Socket> {
        let entry = self.entries.get(conn.index()).filter(|entry| entry.generation == conn.generation())?;
        match &entry.end {
            End::Datagrams(socket) => Some(Socket { number: socket.as_raw_fd(), listener: None }),
            End::Peer(peer) => {
                let listener = self.peers.get(*peer)?.listener;
                let socket = self.datagram_sockets.get(listener)?.as_ref()?;
                Some(Socket { number: socket.socket, listener: Some(listener) })
            }
            End::None | End::Stream(_) => None,
        }
    }
}

/// A socket that datagrams are sent through.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Socket {
    number: RawFd,
    /// Of which listener; None: it is a connection's own.
    listener: Option<usize>,
}
