//! What the driver keeps of a stream.

use std::collections::TryReserveError;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;

/// One connection. What is not set is as it is for a new one.
#[derive(Default)]
pub(super) struct Stream {
    /// None: the driver does not have the connection.
    pub(super) socket: Option<OwnedFd>,
    pub(super) generation: u32,
    /// Orders that the kernel has, or gets with the next wait. As long as there is one the socket stays open and the
    /// number is nobody else's.
    pub(super) orders: u8,
    pub(super) state: State,
    /// With the kernel, or waiting for room.
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) held: Option<Box<Held>>,
}

/// What came while the worker did not read.
#[derive(Default)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    /// What came behind the bytes: the end, or an error.
    pub(super) end: Option<io::Result<()>>,
}

/// What a stream is about, in flags: there may be a million of them.
#[derive(Clone, Copy, Default)]
pub(super) struct State(u16);

impl State {
    /// The worker wants to receive.
    pub(super) const READING: u16 = 1;
    /// The kernel has an order to receive.
    pub(super) const RECEIVING: u16 = 1 << 1;
    /// That order is told to end.
    pub(super) const PAUSING: u16 = 1 << 2;
    /// The kernel tells when the stream breaks, while nobody reads.
    pub(super) const WATCHED: u16 = 1 << 3;
    /// And that is told to end.
    pub(super) const UNWATCHING: u16 = 1 << 4;
    /// It took less than all: there is no point in trying before it says that there is room.
    pub(super) const BLOCKED: u16 = 1 << 6;
    /// Much came at a time.
    pub(super) const POURS: u16 = 1 << 5;
    /// It is asked to say so.
    pub(super) const AWAITS_ROOM: u16 = 1 << 7;
    /// New: the kernel has no order of it yet, and what it says and hears is a system call each.
    pub(super) const FRESH: u16 = 1 << 8;
    /// Is on the list of those whose orders are to be brought in line with what the worker wants.
    pub(super) const CHANGED: u16 = 1 << 9;
    /// Nothing more will be received: the end was told, or is held.
    pub(super) const ENDED: u16 = 1 << 10;
    pub(super) const CLOSING: u16 = 1 << 11;
    /// The peer is to know that something is missing.
    pub(super) const RESET: u16 = 1 << 12;

    #[inline]
    pub(super) fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    /// Sets a flag; says what it was.
    #[inline]
    pub(super) fn set(&mut self, flag: u16, on: bool) -> bool {
        let before = self.has(flag);
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
        before
    }
}

impl Stream {
    /// The socket's number; only of a stream that the driver has.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Keeps what came until the worker reads again.
    pub(super) fn hold(&mut self, data: &[u8]) -> Result<(), TryReserveError> {
        let held = self.held.get_or_insert_default();
        held.bytes.try_reserve(data.len())?;
        held.bytes.extend_from_slice(data);
        Ok(())
    }
}

#[inline]
pub(super) fn find(streams: &mut Chunks<Stream>, conn: ConnId) -> Option<&mut Stream> {
    streams.get_mut(conn.index()).filter(|stream| stream.socket.is_some() && stream.generation == conn.generation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_small() {
        // There may be a million of them.
        assert_eq!(size_of::<Stream>(), 32);
    }
}
