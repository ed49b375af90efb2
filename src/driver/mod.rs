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

mod epoll;
mod socket;
mod waker;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

pub(crate) use epoll::Epoll;
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
    /// The program waits on the driver's descriptor in a loop of its own: the driver must see to timeouts.
    pub(crate) own_loop: bool,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Someone connected to a listener.
    Accepted { socket: OwnedFd, peer: Peer },
    /// A listener could not accept. It is still on.
    AcceptFailed { listener: usize, error: io::Error },
    /// Bytes came; never none. They live until the next call to the driver.
    Received { conn: ConnId, data: &'a [u8] },
    /// The peer has ended its side; nothing more will be received.
    Ended { conn: ConnId },
    /// Some of an outbox is handed to the system, or an error says why not. The outbox is the worker's again, as
    /// it was: the worker drops what is sent.
    Sent { conn: ConnId, outbox: Box<Outbox>, result: io::Result<usize> },
    /// The connection is broken.
    Failed { conn: ConnId, error: io::Error },
    /// The connection is closed: its last event. What was in the driver's hands comes back.
    Closed { conn: ConnId, outbox: Option<Box<Outbox>> },
}

impl Event<'_> {
    /// The connection that it is about.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Event::Accepted { .. } | Event::AcceptFailed { .. } => None,
            Event::Received { conn, .. }
            | Event::Ended { conn }
            | Event::Sent { conn, .. }
            | Event::Failed { conn, .. }
            | Event::Closed { conn, .. } => Some(*conn),
        }
    }
}

/// Between one worker and the kernel. Orders for a connection that the driver does not have do nothing.
pub(crate) trait Driver: Sized + Send {
    /// Opens it.
    fn open(config: Config) -> io::Result<Self>;

    /// Ends a wait from another thread.
    fn waker(&self) -> Arc<Waker>;

    /// A descriptor that is readable when a wait would not wait.
    fn poll_fd(&self) -> RawFd;

    /// Accepts from a listening socket, which stays open until `unlisten`.
    fn listen(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Accepts no more from it.
    fn unlisten(&mut self, listener: usize, socket: BorrowedFd<'_>);

    /// Takes a connected socket on and receives from it. On an error the socket is closed.
    fn attach(&mut self, conn: ConnId, socket: OwnedFd) -> io::Result<()>;

    /// Receives from a connection, or holds it back.
    fn receive(&mut self, conn: ConnId, on: bool);

    /// Whether the peer has sent what was not received.
    fn unread(&self, conn: ConnId) -> bool;

    /// Sends an outbox that is not empty; at most one for a connection at a time.
    fn send(&mut self, conn: ConnId, outbox: Box<Outbox>);

    /// Ends our side: the peer sees the end of the stream.
    fn finish(&mut self, conn: ConnId);

    /// Closes a connection.
    fn close(&mut self, conn: ConnId);

    /// Waits until something has happened, at most `timeout_ms` (None: for ever). It may return early.
    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()>;

    /// What has happened, one after the other, until there is nothing more.
    fn next(&mut self) -> Option<Event<'_>>;

    /// With [`Config::own_loop`], at the end of a turn: gets ready for the program to wait on the descriptor, which
    /// becomes readable when something happens, or after `timeout_ms` (None: never).
    fn arm(&mut self, timeout_ms: Option<u64>);
}
