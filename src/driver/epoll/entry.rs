//! What the driver keeps of a connection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::SockAddr;

use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::driver::{Event, Sent, socket};

/// One connection; there may be a million of them. What is not set is as it is for a new one.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) end: End,
    pub(super) generation: u32,
    pub(super) watched: Watched,
    pub(super) reading: bool,
    /// The system took less than all: there is no point in trying before it says that there is room.
    pub(super) blocked: bool,
    pub(super) outbox: Option<Box<Outbox>>,
}

/// Where a connection's bytes go.
#[derive(Default)]
pub(super) enum End {
    /// The driver does not have the connection.
    #[default]
    None,
    Stream(OwnedFd),
    Datagrams(OwnedFd),
    /// A peer of a datagram listener, by its place among them.
    Peer(u32),
}

pub(super) struct Peer {
    pub(super) listener: usize,
    /// None: nothing can be sent there.
    pub(super) address: Option<SockAddr>,
}

impl Entry {
    /// The connection's own socket.
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        match &self.end {
            End::Stream(socket) | End::Datagrams(socket) => Some(socket),
            End::None | End::Peer(_) => None,
        }
    }
}

/// Whether epoll has a socket, and for what it watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watched {
    /// Not yet.
    #[default]
    Not,
    /// For these events; for none, it still reports a connection that breaks.
    For(u8),
    /// Not any more: the connection is broken in both directions and nobody reads from it at present, so that it
    /// would be reported for ever.
    Broken,
}

#[inline]
pub(super) fn find(entries: &mut Chunks<Entry>, conn: ConnId) -> Option<&mut Entry> {
    entries
        .get_mut(conn.index())
        .filter(|entry| !matches!(entry.end, End::None) && entry.generation == conn.generation())
}

/// Sends as much as the system takes. None: nothing at all; the entry is blocked and keeps its outbox.
pub(super) fn write(entry: &mut Entry, conn: ConnId) -> Option<Event<'static>> {
    let socket = entry.socket()?.as_raw_fd();
    let outbox = entry.outbox.take()?;
    let result = socket::send(socket, &outbox);
    match &result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            entry.blocked = true;
            entry.outbox = Some(outbox);
            return None;
        }
        // More segments than one call takes are no sign of a full socket.
        Ok((sent, tried)) if sent < tried => entry.blocked = true,
        _ => {}
    }
    let result = result.map(|(sent, _)| Sent { taken: sent, out: sent, ..Sent::default() });
    Some(Event::Sent { conn, outbox, result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 24);
    }
}
