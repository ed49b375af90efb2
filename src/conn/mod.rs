//! One connection: its handle, its life, and the bytes it still has to send.

pub(crate) mod budget;
pub(crate) mod chunks;
pub mod handle;
pub(crate) mod ids;
pub(crate) mod outbox;
pub(crate) mod payload;
pub(crate) mod places;
pub(crate) mod slot;

use crate::conn::outbox::Outbox;
use crate::framing::Partial;
use crate::status::Status;
use crate::timer::TimerKey;

/// Where a connection is in its life. It only ever moves down this list, but for an outgoing one that is opened
/// again after it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// No connection has this place in the table.
    #[default]
    Vacant,
    /// On its way out: sends are taken and wait. The driver does not have it.
    Connecting,
    /// Messages come in, sends are taken.
    Open,
    /// Closing: what is queued goes out; what comes in is thrown away.
    Draining,
    /// All is out, but the peer has sent what nobody read: closing now would reset the connection and destroy
    /// what is on its way. Our side is ended, and the rest is thrown away for a moment.
    Lingering,
    /// Over: the driver is to close it at the next chance.
    Doomed,
    /// The driver closes it; its last event is on the way.
    Closing,
    /// `on_close` is running; the handle is good for questions.
    Closed,
}

impl Phase {
    /// Whether sends are taken.
    #[inline]
    pub(crate) fn takes_sends(self) -> bool {
        matches!(self, Self::Open | Self::Connecting)
    }
}

/// What the worker keeps of a connection. A quiet one has neither an outbox nor an intake nor a timer. `E` is what
/// few connections have: the server's own business.
#[derive(Debug)]
pub(crate) struct Conn<E> {
    pub(crate) generation: u32,
    pub(crate) flags: Flags,
    pub(crate) phase: Phase,
    /// The number of its framing in the server's table.
    pub(crate) framing: u8,
    /// The code of the status, which is negative, in few bits.
    reason: u8,
    /// The low half of when bytes last came or went; kept only where idle connections are closed.
    active_ms: u32,
    pub(crate) timer: Option<TimerKey>,
    /// What is queued and not yet given to the driver.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// What came and is not yet delivered.
    pub(crate) intake: Option<Box<Intake>>,
    pub(crate) extra: Option<Box<E>>,
}

/// A partial message, or messages that came before the program paused the connection.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) partial: Partial,
    /// When the message began that is not complete.
    pub(crate) since_ms: u64,
}

impl<E> Default for Conn<E> {
    fn default() -> Self {
        Self {
            generation: 0,
            flags: Flags::default(),
            phase: Phase::Vacant,
            framing: 0,
            reason: 0,
            active_ms: 0,
            timer: None,
            outbox: None,
            intake: None,
            extra: None,
        }
    }
}

impl<E> Conn<E> {
    pub(crate) fn open(generation: u32, framing: u8, now_ms: u64) -> Self {
        let mut conn = Self { generation, framing, phase: Phase::Open, ..Self::default() };
        conn.touch(now_ms);
        conn
    }

    /// Why it closes.
    pub(crate) fn reason(&self) -> Status {
        Status::from_code(-i32::from(self.reason)).unwrap_or(Status::Ok)
    }

    #[allow(clippy::cast_possible_truncation)] // there are fewer than 256 codes
    pub(crate) fn set_reason(&mut self, reason: Status) {
        self.reason = (reason as i32).unsigned_abs() as u8;
    }

    /// Bytes came or went.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the low half
    pub(crate) fn touch(&mut self, now_ms: u64) {
        self.active_ms = now_ms as u32;
    }

    /// When bytes last came or went, of a connection that is looked at while that is less than [`ACTIVE_REACH_MS`] ago.
    #[allow(clippy::cast_possible_truncation)] // the low half
    pub(crate) fn active_ms(&self, now_ms: u64) -> u64 {
        now_ms - u64::from((now_ms as u32).wrapping_sub(self.active_ms))
    }
}

/// How far back [`Conn::active_ms`] sees: 49 days, and an hour to spare for whoever looks late.
pub(crate) const ACTIVE_REACH_MS: u64 = (1 << 32) - 3_600_000;

/// A set of yes-or-no facts about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    /// In the worker's list of connections with something to send.
    pub(crate) const DIRTY: Self = Self(1);
    /// In the worker's list of connections that the driver has to be told about.
    pub(crate) const UNSETTLED: Self = Self(1 << 1);
    /// The driver has an outbox of it.
    pub(crate) const IN_FLIGHT: Self = Self(1 << 2);
    /// The program paused it.
    pub(crate) const PAUSED: Self = Self(1 << 3);
    /// The driver reads from it.
    pub(crate) const READING: Self = Self(1 << 4);
    /// The peer has ended its side.
    pub(crate) const ENDED: Self = Self(1 << 5);
    /// A send was refused: the program waits for `on_writable`.
    pub(crate) const WAITING: Self = Self(1 << 6);
    /// The program knows the handle: it is owed an `on_close`.
    pub(crate) const ANNOUNCED: Self = Self(1 << 7);
    /// In the worker's list of connections that wait for room in the limit for all of them.
    pub(crate) const STARVED: Self = Self(1 << 8);
    /// Counted among those whose bytes were cut off.
    pub(crate) const CUT: Self = Self(1 << 9);
    /// Its intake holds messages that were not delivered because it is paused.
    pub(crate) const HELD: Self = Self(1 << 10);
    /// The program ended our side: no more sends, and the peer is told when all is out.
    pub(crate) const ENDING: Self = Self(1 << 11);
    /// The peer was told.
    pub(crate) const FINISHED: Self = Self(1 << 12);
    /// To be closed with a reset.
    pub(crate) const RESET: Self = Self(1 << 13);
    /// A message is a datagram.
    pub(crate) const DATAGRAM: Self = Self(1 << 14);
    /// In the worker's list of connections that have held messages to deliver.
    pub(crate) const RESUMED: Self = Self(1 << 16);
    /// Opened by this side.
    pub(crate) const OUTGOING: Self = Self(1 << 15);
    /// Opened by this side, and it has been open since the last time that it was lost.
    pub(crate) const CONNECTED: Self = Self(1 << 17);
    /// Since then its peer has sent something.
    pub(crate) const HEARD: Self = Self(1 << 18);
    /// Its peer went on sending after it was to be closed.
    pub(crate) const UPLOADING: Self = Self(1 << 19);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Sets the flag to `on`; says what it was.
    pub(crate) fn set(&mut self, flag: Self, on: bool) -> bool {
        let before = self.has(flag);
        self.0 = if on { self.0 | flag.0 } else { self.0 & !flag.0 };
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // There may be a million of them.
        assert_eq!(size_of::<Conn<()>>(), 48);
    }

    #[test]
    fn every_reason_comes_back() {
        let mut conn = Conn::<()>::default();
        assert_eq!(conn.reason(), Status::Ok);
        for status in Status::all() {
            conn.set_reason(status);
            assert_eq!(conn.reason(), status);
        }
    }

    #[test]
    fn half_a_time_says_when() {
        let mut conn = Conn::<()>::default();
        for active_ms in [0, 5, (1 << 32) - 1, 1 << 32, (1 << 40) + 7] {
            conn.touch(active_ms);
            for after_ms in [0, 1, 1 << 31, ACTIVE_REACH_MS + 3_599_999] {
                assert_eq!(conn.active_ms(active_ms + after_ms), active_ms);
            }
        }
    }
}
