//! The roster's side of closing: how a connection comes to its end, and what is left of it there.

use super::roster::{Extra, Roster};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::slot::{CLOSING, END_POSTED};
use crate::conn::{Flags, Intake, Phase};
use crate::status::{Result, Status};
use crate::sys::HostUser;

/// What is left of a connection when it is over.
pub(super) struct Farewell {
    pub(super) reason: Status,
    pub(super) user: HostUser,
    /// The program knows the connection and is owed an `on_close`.
    pub(super) is_owed: bool,
    /// To be dropped with nothing borrowed.
    pub(super) _outboxes: [Option<Box<Outbox>>; 2],
}

impl Roster {
    /// Begins to close: what is queued goes out first, within the server's `drain_ms`; or, when the server stops,
    /// within the time that all its connections have.
    pub(super) fn close(&mut self, id: ConnId, reason: Status) {
        self.forget_to_reconnect(id, reason);
        let Some(conn) = self.conn(id).filter(|conn| conn.phase.takes_sends()) else { return };
        if conn.phase == Phase::Connecting {
            return self.close_connecting(id, reason);
        }
        conn.phase = Phase::Draining;
        conn.set_reason(reason);
        self.me.counters.closing.add(1);
        self.slots.slot(id.index()).raise(id, CLOSING);
        let drain_ms = (reason != Status::Stopped).then_some(self.server.limits.drain_ms);
        if self.set_deadline(id, drain_ms.map(u64::from)).is_err() {
            // No memory for a deadline: no time either.
            self.doom(id, Status::Memory);
        }
        self.unsettle(id);
    }

    /// Closes at the next chance, whatever is queued.
    pub(super) fn doom(&mut self, id: ConnId, reason: Status) {
        if self.conn(id).is_none_or(|conn| conn.phase >= Phase::Doomed) {
            return;
        }
        let queued = self.slots.slot(id.index()).queued();
        let Some(conn) = self.conn(id) else { return };
        // A close that had everything out keeps its good reason.
        if conn.phase.takes_sends() || (conn.phase == Phase::Draining && queued > 0 && conn.reason() != Status::Stopped)
        {
            conn.set_reason(reason);
        }
        let before = std::mem::replace(&mut conn.phase, Phase::Doomed);
        if before == Phase::Connecting {
            self.me.counters.connecting.subtract(1);
        }
        if before.takes_sends() {
            self.me.counters.closing.add(1);
        }
        self.slots.slot(id.index()).raise(id, CLOSING);
        self.unsettle(id);
    }

    /// Closes at the next chance, with a reset, so that the peer knows that something is missing.
    pub(super) fn abort(&mut self, id: ConnId, reason: Status) {
        self.forget_to_reconnect(id, reason);
        let Some(conn) = self.conn(id).filter(|conn| conn.phase < Phase::Doomed) else { return };
        conn.flags.set(Flags::RESET, true);
        self.doom(id, reason);
    }

    /// The program has closed the connection, maybe while it was being lost: it is not opened again.
    fn forget_to_reconnect(&mut self, id: ConnId, reason: Status) {
        if reason == Status::Ok
            && let Some(connector) = self.extra(id).and_then(|extra| extra.connector.as_mut())
        {
            connector.reconnect = false;
        }
    }

    /// Ends our side when all is out.
    pub(super) fn end(&mut self, id: ConnId) -> Result<()> {
        let Some(conn) = self.conn(id) else { return Err(Status::Stale.into()) };
        let is_closing = conn.phase == Phase::Connecting && conn.flags.has(Flags::ENDING);
        if !conn.phase.takes_sends() || is_closing {
            return Err(Status::Closed.into());
        }
        if conn.flags.has(Flags::DATAGRAM) {
            return Err(Status::Unsupported.into());
        }
        conn.flags.set(Flags::ENDING, true);
        self.slots.slot(id.index()).raise(id, END_POSTED);
        self.unsettle(id);
        Ok(())
    }

    /// The connection is over: takes it apart. The handle stays good for questions until [`Roster::release`].
    pub(super) fn bury(&mut self, id: ConnId, from_driver: Option<Box<Outbox>>) -> Option<Farewell> {
        let reason = self.conn(id)?.reason();
        let outboxes = self.take_apart(id, from_driver);
        let conn = self.conn(id)?;
        conn.phase = Phase::Closed;
        let is_owed = conn.flags.set(Flags::ANNOUNCED, false);
        let peer = conn.extra.as_mut().and_then(|extra| extra.peer.take());
        if let Some(peer) = peer {
            self.peers.remove(&peer);
        }
        self.leave_all(id);
        if self.has_inflight(id) {
            // What is still in the mailbox will find it gone.
            self.count_cut_conn(id);
        }
        Some(Farewell { reason, user: self.user(id), is_owed, _outboxes: outboxes })
    }

    /// Drops what the connection has of the conversation that is over: deadlines, partial messages and, counted,
    /// what was not sent. The outboxes are to be dropped with nothing borrowed.
    pub(super) fn take_apart(&mut self, id: ConnId, from_driver: Option<Box<Outbox>>) -> [Option<Box<Outbox>>; 2] {
        self.slots.slot(id.index()).raise(id, CLOSING);
        let Some(conn) = self.conn(id) else { return [from_driver, None] };
        let timer = conn.timer.take();
        let intake = conn.intake.take();
        let outboxes = [from_driver, conn.outbox.take()];
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
        if let Some(intake) = intake {
            self.discharge(&intake);
        }
        for outbox in outboxes.iter().flatten() {
            self.cut(id, outbox);
        }
        outboxes
    }

    fn discharge(&mut self, intake: &Intake) {
        let bytes = intake.partial.bytes() as u64;
        self.lease.give(&self.server.budget, bytes);
        self.me.counters.bytes_partial.subtract(bytes);
    }

    /// An outbox will never be sent.
    pub(super) fn cut(&mut self, id: ConnId, outbox: &Outbox) {
        self.unqueue(id, outbox.bytes(), outbox.cost());
        let is_datagram = self.conn(id).is_some_and(|conn| conn.flags.has(Flags::DATAGRAM));
        self.count_cut(id, if is_datagram { outbox.datagram_bytes() } else { outbox.bytes() });
    }

    /// Counts bytes that were accepted and will never be sent, and the connection, once.
    pub(super) fn count_cut(&mut self, id: ConnId, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.me.counters.bytes_cut.add(bytes as u64);
        self.count_cut_conn(id);
    }

    /// A connection that is gone has been counted when it went: see [`Roster::bury`].
    fn count_cut_conn(&mut self, id: ConnId) {
        if self.conn(id).is_some_and(|conn| !conn.flags.set(Flags::CUT, true)) {
            self.me.counters.connections_cut.add(1);
        }
    }

    /// Takes the place back: the handle is stale from here on. What gives the user data back is to be dropped with
    /// nothing borrowed.
    pub(super) fn release(&mut self, id: ConnId) -> Option<Box<Extra>> {
        let conn = self.conn(id)?;
        conn.phase = Phase::Vacant;
        let extra = conn.extra.take();
        self.count -= 1;
        self.me.counters.closing.subtract(1);
        self.me.slots.release(id);
        self.server.dismiss();
        extra
    }

    /// All is out, and nothing is left unread: it can be closed.
    pub(super) fn finished(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Doomed;
        }
    }
}
