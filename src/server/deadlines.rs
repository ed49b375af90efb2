//! The roster's side of time: a connection has one timer in the wheel, whatever it waits for. Traffic does not touch
//! the wheel: when the timer expires, what is due is looked at, and it moves to what is due next.

use super::roster::{Conn, Due, Roster};
use crate::conn::handle::ConnId;
use crate::conn::{ACTIVE_REACH_MS, Flags, Phase};
use crate::options::{Limits, NEVER_MS};
use crate::status::{Result, Status};
use crate::sys;

/// How long a peer that has sent what nobody read may take to end its side.
const LINGER_MS: u64 = 1_000;

/// Notes that bytes came or went. Only where idle connections are closed: then the time has to be that of the
/// moment, because a callback of this turn may have taken longer than a connection may be idle.
#[inline]
pub(super) fn touch(conn: &mut Conn, limits: &Limits) {
    if limits.idle_ms > 0 || conn.flags.has(Flags::DATAGRAM) {
        conn.touch(sys::now_ms());
    }
}

impl Roster {
    /// How long the connection may be idle; 0: for ever.
    #[inline]
    fn idle_ms(&mut self, id: ConnId) -> u64 {
        let limits = self.server.limits;
        let is_datagram = self.conn(id).is_some_and(|conn| conn.flags.has(Flags::DATAGRAM));
        u64::from(if is_datagram { limits.datagram_idle_ms } else { limits.idle_ms }).min(ACTIVE_REACH_MS)
    }

    /// A connection is open: from here on it may not be silent for too long.
    pub(super) fn start_idle(&mut self, id: ConnId) -> Result<()> {
        let idle_ms = self.idle_ms(id);
        self.set_deadline(id, (idle_ms > 0).then_some(idle_ms))
    }

    /// Replaces the connection's deadline. None: it has none.
    pub(super) fn set_deadline(&mut self, id: ConnId, after_ms: Option<u64>) -> Result<()> {
        if let Some(before) = self.conn(id).and_then(|conn| conn.timer.take()) {
            self.wheel.cancel(before);
        }
        let Some(after_ms) = after_ms else { return Ok(()) };
        // Not the time of the turn: a callback of this turn may have taken long.
        let key = self.wheel.start(sys::now_ms() + after_ms, Due::Conn(id))?;
        if let Some(conn) = self.conn(id) {
            conn.timer = Some(key);
        }
        Ok(())
    }

    /// Sees to it that the connection is looked at in `after_ms`, or before.
    fn need_deadline(&mut self, id: ConnId, after_ms: u64) {
        let until_ms = sys::now_ms() + after_ms;
        let timer = self.conn(id).and_then(|conn| conn.timer);
        if timer.and_then(|timer| self.wheel.deadline_ms(timer)).is_some_and(|deadline_ms| deadline_ms <= until_ms) {
            return;
        }
        if self.set_deadline(id, Some(after_ms)).is_err() {
            self.doom(id, Status::Memory);
        }
    }

    /// A message has begun and is not complete.
    pub(super) fn message_began(&mut self, id: ConnId) {
        let message_ms = self.server.limits.message_ms;
        if message_ms != NEVER_MS {
            self.need_deadline(id, u64::from(message_ms));
        }
    }

    /// The system takes no more of what is queued; it may have taken some just now.
    pub(super) fn blocked(&mut self, id: ConnId, unsent: usize) {
        let write_ms = self.server.limits.write_ms;
        if write_ms == NEVER_MS || self.conn(id).is_none_or(|conn| conn.phase != Phase::Open) {
            return;
        }
        let is_datagram = self.conn(id).is_some_and(|conn| conn.flags.has(Flags::DATAGRAM));
        match self.extra_mut(id) {
            // It is told each time that it is tried in vain: the time runs from the first on.
            Ok(extra) if is_datagram && extra.blocked_ms > 0 => {
                extra.unsent = unsent;
                return;
            }
            Ok(extra) => (extra.blocked_ms, extra.unsent) = (sys::now_ms(), unsent),
            Err(error) => return self.doom(id, error.status),
        }
        self.need_deadline(id, u64::from(write_ms));
    }

    pub(super) fn linger(&mut self, id: ConnId) {
        let linger_ms = LINGER_MS.min(u64::from(self.server.limits.drain_ms));
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Lingering;
        }
        if self.set_deadline(id, Some(linger_ms)).is_err() {
            self.doom(id, Status::Memory);
        }
    }

    /// Whether it is time to look what a peer has taken of what waits for it.
    pub(super) fn is_stuck(&mut self, id: ConnId) -> bool {
        let write_ms = u64::from(self.server.limits.write_ms);
        let now_ms = self.now_ms;
        self.extra(id).is_some_and(|extra| extra.blocked_ms > 0 && extra.blocked_ms + write_ms <= now_ms)
    }

    /// If the peer has taken something, it has its time again.
    pub(super) fn has_unsent(&mut self, id: ConnId, unsent: usize) {
        let now_ms = self.now_ms;
        if let Some(extra) = self.extra(id)
            && unsent < extra.unsent
        {
            (extra.blocked_ms, extra.unsent) = (now_ms, unsent);
        }
    }

    /// The connection's timer has expired. (That of a connecting one is the connector's.)
    pub(super) fn deadline(&mut self, id: ConnId) {
        let now_ms = self.now_ms;
        let Some(conn) = self.conn(id) else { return };
        conn.timer = None;
        if conn.phase != Phase::Open {
            return self.doom(id, Status::Timeout);
        }
        let Some(due_ms) = self.next_due_ms(id) else { return };
        // What came in this turn may be later than the turn.
        if due_ms <= now_ms || self.set_deadline(id, Some(due_ms.saturating_sub(sys::now_ms()))).is_err() {
            self.doom(id, Status::Timeout);
        }
    }

    /// When an open connection will have kept somebody waiting for too long; None: nobody waits.
    fn next_due_ms(&mut self, id: ConnId) -> Option<u64> {
        let idle_ms = self.idle_ms(id);
        let (message_ms, write_ms) = (self.server.limits.message_ms, self.server.limits.write_ms);
        let conn = self.conn(id)?;
        let idle = (idle_ms > 0).then(|| conn.active_ms(sys::now_ms()) + idle_ms);
        // While the program has paused the connection, the peer is not to blame.
        let is_held = conn.flags.has(Flags::HELD) || conn.flags.has(Flags::PAUSED);
        let message = conn.intake.as_ref().filter(|_| !is_held && message_ms != NEVER_MS);
        let message = message.map(|intake| intake.since_ms + u64::from(message_ms));
        let blocked_ms = conn.extra.as_ref().map_or(0, |extra| extra.blocked_ms);
        let write = (blocked_ms > 0 && write_ms != NEVER_MS).then(|| blocked_ms + u64::from(write_ms));
        [idle, message, write].into_iter().flatten().min()
    }
}
