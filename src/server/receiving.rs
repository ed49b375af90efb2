//! The roster's side of receiving: what is a message, what is kept for later, and pauses.

use std::os::fd::RawFd;

use super::deadlines::touch;
use super::roster::{self, Roster};
use crate::conn::handle::ConnId;
use crate::conn::{Flags, Intake, Phase};
use crate::framing::{Partial, Refused};
use crate::status::Status;
use crate::sys::{self, HostUser};

/// Spare intakes that a worker keeps, and the largest buffer that one may have.
const INTAKES_MAX: usize = 16;
const INTAKE_BYTES_MAX: usize = 4 << 10;

/// What the delivery of messages begins with.
pub(super) struct Delivery {
    pub(super) framing: u8,
    /// What came is one message, and is counted.
    pub(super) is_whole: bool,
    pub(super) is_outgoing: bool,
    pub(super) user: HostUser,
    /// What the connection has kept so far, or an empty one. It is the deliverer's until [`Roster::end_delivery`].
    pub(super) intake: Option<Box<Intake>>,
    /// It has kept something.
    pub(super) is_begun: bool,
}

impl Roster {
    /// Bytes came, or (none) a connection goes on after a pause. Some: there may be messages in it.
    #[inline]
    pub(super) fn begin_delivery(&mut self, id: ConnId, socket: Option<RawFd>, length: usize) -> Option<Delivery> {
        self.me.counters.bytes_in.add(length as u64);
        self.at_hand.set(id, socket);
        let Self { conns, server, slots, me, spare_intakes, .. } = self;
        let conn = conns.get_mut(id.index()).filter(|conn| conn.generation == id.generation())?;
        touch(conn, &server.limits);
        if conn.phase != Phase::Open {
            // Datagrams have no end that one could wait for.
            conn.flags.set(Flags::UPLOADING, !conn.flags.has(Flags::DATAGRAM));
            return None;
        }
        let is_datagram = conn.flags.has(Flags::DATAGRAM);
        let is_outgoing = conn.flags.has(Flags::OUTGOING);
        if is_outgoing {
            conn.flags.set(Flags::HEARD, true);
        }
        let most = server.limits.message_bytes_max as usize;
        if is_datagram && length > most {
            me.counters.datagrams_dropped.add(1);
            return None;
        }
        let is_raw =
            server.framings.get(conn.framing).is_raw() && conn.intake.is_none() && length <= most && length > 0;
        let is_whole = is_raw || is_datagram;
        if is_whole {
            me.counters.messages_in.add(1);
        }
        let mut intake = conn.intake.take();
        let is_begun = intake.is_some();
        if !is_begun && !is_whole {
            intake = spare_intakes.pop();
        }
        let user = slots.slot(id.index()).user();
        Some(Delivery { framing: conn.framing, is_whole, is_outgoing, user, intake, is_begun })
    }

    /// Whether the next message of the same read may be delivered, after the program had the one before; and the
    /// user data that it gets.
    #[inline]
    pub(super) fn goes_on(&mut self, id: ConnId) -> Option<HostUser> {
        let is_on = self.conn(id).is_some_and(|conn| conn.phase == Phase::Open && !conn.flags.has(Flags::PAUSED));
        is_on.then(|| self.user(id))
    }

    /// Keeps what is left: the beginning of a message, and, if the program has paused the connection, what came
    /// behind the last message that it had (`rest`).
    pub(super) fn end_delivery(&mut self, id: ConnId, end: DeliveryEnd<'_>) {
        let DeliveryEnd { mut partial, rest, charged, delivered, refused, before, is_begun } = end;
        let is_paused = self.conn(id).is_some_and(|conn| conn.flags.has(Flags::PAUSED));
        let is_open = self.conn(id).is_some_and(|conn| conn.phase == Phase::Open);
        let refused = refused.or_else(|| if is_open { partial.hold(rest).err() } else { None });
        let keeps = is_open && refused.is_none() && !partial.is_empty();
        let kept = if keeps { partial.bytes() as u64 } else { 0 };
        let has_room = if kept > charged {
            self.lease.take(&self.server.budget, kept - charged)
        } else {
            self.lease.give(&self.server.budget, charged - kept);
            true
        };
        let counter = &self.me.counters.bytes_partial;
        let now_charged = if has_room { kept } else { charged };
        counter.subtract(charged);
        counter.add(now_charged);
        let reason = match refused {
            Some(Refused::TooLong) => Some(Status::TooLong),
            Some(Refused::Memory) => Some(Status::Memory),
            None if !has_room => Some(Status::Overflow),
            None => None,
        };
        if reason.is_some() || !keeps {
            // What was charged for it goes back, if it has not.
            self.lease.give(&self.server.budget, now_charged);
            self.me.counters.bytes_partial.subtract(now_charged);
            if let Some(intake) = before {
                self.keep_intake(intake, partial);
            }
            if let Some(reason) = reason {
                self.doom(id, reason);
            }
            return;
        }
        // The deadline of a message goes on if nothing was delivered: it is still the same one.
        let since_ms = match &before {
            Some(intake) if is_begun && !delivered => intake.since_ms,
            _ => sys::now_ms(),
        };
        let boxed = match before {
            Some(mut intake) => {
                *intake = Intake { partial, since_ms };
                Ok(intake)
            }
            None => sys::boxed(Intake { partial, since_ms }),
        };
        let Ok(intake) = boxed else {
            self.lease.give(&self.server.budget, kept);
            self.me.counters.bytes_partial.subtract(kept);
            return self.doom(id, Status::Memory);
        };
        if let Some(conn) = self.conn(id) {
            conn.intake = Some(intake);
            conn.flags.set(Flags::HELD, is_paused);
        }
        if !is_paused {
            self.message_began(id);
        }
    }

    /// Keeps an intake that nothing is in, so that the next partial message takes no memory.
    fn keep_intake(&mut self, mut intake: Box<Intake>, mut partial: Partial) {
        if self.spare_intakes.len() < INTAKES_MAX && partial.bytes() <= INTAKE_BYTES_MAX {
            partial.clear();
            intake.partial = partial;
            self.spare_intakes.push(intake);
        }
    }

    /// The peer has ended its side. Some: the program wants to know.
    pub(super) fn ended(&mut self, id: ConnId) -> Option<HostUser> {
        let half_open = self.server.conduct.half_open;
        // One that is opened again when it is lost is lost now.
        let reconnects = |extra: &mut roster::Extra| extra.connector.as_ref().is_some_and(|at| at.reconnect);
        let is_lost = self.extra(id).is_some_and(reconnects);
        let conn = self.conn(id)?;
        conn.flags.set(Flags::ENDED, true);
        conn.flags.set(Flags::READING, false);
        if conn.phase == Phase::Open && half_open && !is_lost && !conn.flags.has(Flags::FINISHED) {
            return Some(self.user(id));
        }
        self.close(id, Status::Eof);
        self.unsettle(id);
        None
    }

    pub(super) fn pause(&mut self, id: ConnId, on: bool) {
        let Some(conn) = self.conn(id) else { return };
        let was_paused = conn.flags.set(Flags::PAUSED, on);
        let is_held = conn.flags.has(Flags::HELD);
        let begun = conn.intake.as_mut().filter(|_| was_paused && !on && !is_held);
        if !on && is_held && !conn.flags.set(Flags::RESUMED, true) {
            // What it holds comes first; reading goes on after that.
            if self.resumed.try_reserve(1).is_err() {
                return self.doom(id, Status::Memory);
            }
            self.resumed.push_back(id);
        } else if let Some(intake) = begun {
            // The pause does not count.
            intake.since_ms = sys::now_ms();
            self.message_began(id);
        }
        self.unsettle(id);
    }
}

impl Roster {
    /// Takes a connection that goes on after a pause off the list; its messages are not held any more.
    pub(super) fn next_resumed(&mut self) -> Option<ConnId> {
        let id = self.resumed.pop_front()?;
        let conn = self.conn(id)?;
        conn.flags.set(Flags::RESUMED, false);
        if conn.flags.has(Flags::PAUSED) {
            return None;
        }
        conn.flags.set(Flags::HELD, false);
        if let Some(intake) = &mut conn.intake {
            // The pause does not count.
            intake.since_ms = sys::now_ms();
        }
        Some(id)
    }
}

/// What a partial message is counted with while it is out of its connection: given back if a bug ends the delivery.
pub(super) struct Charge(pub(super) u64);

impl Charge {
    /// It is counted elsewhere from here on.
    pub(super) fn take(mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.0 > 0 {
            roster::with(|roster| {
                roster.lease.give(&roster.server.budget, self.0);
                roster.me.counters.bytes_partial.subtract(self.0);
            });
        }
    }
}

/// How the delivery of messages has ended.
pub(super) struct DeliveryEnd<'a> {
    pub(super) partial: Partial,
    /// What was not looked at, because the connection was paused or closed.
    pub(super) rest: &'a [u8],
    /// What the partial message was counted with before.
    pub(super) charged: u64,
    /// A message was delivered.
    pub(super) delivered: bool,
    pub(super) refused: Option<Refused>,
    /// The box to keep it in, if there was one.
    pub(super) before: Option<Box<Intake>>,
    /// The box has come from the connection.
    pub(super) is_begun: bool,
}
