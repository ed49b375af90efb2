//! One connection: its handle, its life, and the bytes it still has to send.

pub(crate) mod chunks;
pub mod handle;
pub(crate) mod outbox;
pub(crate) mod slot;

use crate::conn::outbox::Outbox;
use crate::status::Status;
use crate::sys::Finalizer;
use crate::timer::TimerKey;

/// Where a connection is in its life. It only ever moves down this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// No connection has this place in the table.
    #[default]
    Vacant,
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

/// What the worker keeps of a connection. A quiet one has neither an outbox nor a timer.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) reason: Status,
    pub(crate) flags: Flags,
    /// When bytes last came or went; kept only where idle connections are closed.
    pub(crate) active_ms: u64,
    pub(crate) timer: Option<TimerKey>,
    /// What is queued and not yet given to the driver.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// Gives the program's user data back.
    pub(crate) finalizer: Finalizer,
}

impl Default for Conn {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: Phase::Vacant,
            reason: Status::Ok,
            flags: Flags::default(),
            active_ms: 0,
            timer: None,
            outbox: None,
            finalizer: Finalizer::NONE,
        }
    }
}

/// A set of yes-or-no facts about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

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
