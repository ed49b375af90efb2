//! The contract between a worker and the kernel.
//!
//! It is shaped like completions (accepted, received, sent, closed), so that one worker runs on readiness
//! (epoll) and on completion rings alike. What is given to a driver is the driver's until an event gives it back:
//! an outbox until [`Event::Sent`] or [`Event::Closed`], so that bytes outlive the operation that sends them.
//!
//! A driver calls nobody. The worker asks for one event at a time, and between two events it may give orders: a
//! connection that was closed or paused in the callback for one event gets no further event of the same
//! turn, but for the [`Event::Closed`] that ends it.
#![allow(unsafe_code)]

mod batch;
mod epoll;
mod socket;
#[cfg(feature = "uring")]
mod uring;
mod waker;

use std::ffi::CStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

pub(crate) use epoll::Epoll;
pub(crate) use socket::send_slices;
#[cfg(feature = "uring")]
pub(crate) use uring::Uring;
pub(crate) use waker::Waker;

use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::net::Peer;

/// What a driver is opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Most bytes that one receive takes.
    pub(crate) receive_bytes_max: usize,
    /// Several workers accept from the same listeners.
    pub(crate) shares_listeners: bool,
    /// Whether those who are accepted have to have an address.
    pub(crate) names_peers: bool,
    /// The program waits on the driver's descriptor in a loop of its own: the driver must see to timeouts.
    pub(crate) own_loop: bool,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Someone connected to a listener. The peer may be without an address, unless they are to be named.
    Accepted { listener: usize, socket: OwnedFd, peer: Peer },
    /// A listener could not accept. It is still on.
    AcceptFailed { listener: usize, error: io::Error },
    /// Bytes came (never none), or a datagram. They live until the next call to the driver, and the socket until
    /// [`Driver::close`]: while the driver has no outbox of the connection's, bytes may be sent to it, if there is one here.
    Received { conn: ConnId, socket: Option<RawFd>, data: &'a [u8] },
    /// A datagram came to a listener. `is_cut`: it was longer than a datagram may be, and is not whole.
    Datagram { listener: usize, origin: Origin, data: &'a [u8], is_cut: bool },
    /// A datagram came that is longer than a datagram may be.
    TooLong { conn: ConnId },
    /// An attempt to connect has come to an end.
    Connected { attempt: u64, result: io::Result<OwnedFd> },
    /// The peer has ended its side; nothing more will be received.
    Ended { conn: ConnId },
    /// Some of an outbox is handed to the system, or an error says why not. The outbox is the worker's again, as
    /// it was: the worker drops what is sent.
    Sent { conn: ConnId, outbox: Box<Outbox>, result: io::Result<Sent> },
    /// The system takes no more at present: the peer does not read. What the driver has of the connection waits.
    /// `unsent`: what [`Driver::unsent`] says now.
    Blocked { conn: ConnId, unsent: usize },
    /// The connection is broken.
    Failed { conn: ConnId, error: io::Error },
    /// The connection is closed: its last event. What was in the driver's hands comes back.
    Closed { conn: ConnId, outbox: Option<Box<Outbox>> },
}

impl Event<'_> {
    /// The connection that it is about.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Event::Accepted { .. } | Event::AcceptFailed { .. } | Event::Datagram { .. } | Event::Connected { .. } => {
                None
            }
            Event::Received { conn, .. }
            | Event::TooLong { conn }
            | Event::Blocked { conn, .. }
            | Event::Ended { conn }
            | Event::Sent { conn, .. }
            | Event::Failed { conn, .. }
            | Event::Closed { conn, .. } => Some(*conn),
        }
    }
}

/// What became of an outbox, or of the first part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Bytes of the outbox that are done with.
    pub(crate) taken: usize,
    /// Bytes handed to the system: without the lengths that keep datagrams apart.
    pub(crate) out: usize,
    /// Datagrams that the system refused.
    pub(crate) lost: u32,
    /// The peer, on a Unix socket, has no room at present, and nothing will say when it has: to be tried again later.
    pub(crate) later: bool,
}

/// Where a datagram came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Ip(SocketAddr),
    /// A Unix socket's path, or its abstract name with the zero byte before it.
    Path(Box<[u8]>),
    /// A Unix socket without a name: nothing can be sent there.
    Unnamed,
}

/// What a connection's socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Stream,
    /// The outbox holds a length of four bytes, big-endian, before each.
    Datagrams,
}

/// Between one worker and the kernel. Orders for a connection that the driver does not have do nothing.
pub(crate) trait Driver: Sized + Send {
    /// What programs know it by.
    const NAME: &'static CStr;

    /// Opens it.
    fn open(config: Config) -> io::Result<Self>;

    /// Ends a wait from another thread.
    fn waker(&self) -> Arc<Waker>;

    /// A descriptor that is readable when a wait would not wait.
    fn poll_fd(&self) -> RawFd;

    /// Accepts from a listening socket, which stays open until `unlisten`.
    fn listen(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Receives datagrams from a socket, which stays open as long as the driver; each peer of it can be attached.
    fn listen_datagrams(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Accepts no more from it, or receives no more datagrams: what is queued for their peers is still sent.
    fn unlisten(&mut self, listener: usize, socket: BorrowedFd<'_>);

    /// Takes a connected socket on and receives from it. On an error the socket is closed.
    fn attach(&mut self, conn: ConnId, socket: OwnedFd, carries: Carries) -> io::Result<()>;

    /// Takes a peer of a datagram listener on, to send to it.
    fn attach_peer(&mut self, conn: ConnId, listener: usize, origin: &Origin) -> io::Result<()>;

    /// Waits until a socket has connected; `attempt` is the worker's name for it.
    fn connect(&mut self, attempt: u64, socket: OwnedFd);

    /// Gives an attempt to connect up.
    fn abandon(&mut self, attempt: u64);

    /// Receives from a connection, or holds it back.
    fn receive(&mut self, conn: ConnId, on: bool);

    /// Whether the peer has sent what was not received.
    fn unread(&self, conn: ConnId) -> bool;

    /// Bytes that the system has and the peer has not taken. It grows less while a peer reads, long before the system
    /// has room for more.
    fn unsent(&self, conn: ConnId) -> usize;

    /// Sends an outbox that is not empty; at most one for a connection at a time.
    fn send(&mut self, conn: ConnId, outbox: Box<Outbox>);

    /// Whether the system was not even asked yet to take what was to be sent: the next wait does that.
    fn has_unasked(&self) -> bool;

    /// Ends our side: the peer sees the end of the stream.
    fn finish(&mut self, conn: ConnId);

    /// Closes a connection: [`Event::Closed`] follows, also for one that the driver does not have. `reset`: the peer is
    /// to know that something is missing.
    fn close(&mut self, conn: ConnId, reset: bool);

    /// Waits until something has happened, at most `timeout_ms` (None: for ever). It may return early.
    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()>;

    /// What has happened, one after the other, until there is nothing more.
    fn next(&mut self) -> Option<Event<'_>>;

    /// With [`Config::own_loop`], at the end of a turn: gets ready for the program to wait on the descriptor, which
    /// becomes readable when something happens, or after `timeout_ms` (None: never).
    fn arm(&mut self, timeout_ms: Option<u64>);
}
