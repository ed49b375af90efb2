//! The roster's side of a flush: who has something to send, and whose turn it is.

use std::collections::VecDeque;

use super::roster::Roster;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::{Flags, Phase};

impl Roster {
    /// Puts a connection that has something to send on the list, once.
    #[inline]
    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()).filter(|conn| conn.outbox.is_some()) else { return };
        if !conn.flags.set(Flags::DIRTY, true) {
            self.dirty.push(id);
        }
    }

    /// Whether a connection that is closing has something to send.
    pub(super) fn has_closing_dirty(&self) -> bool {
        let is_closing = |id: &ConnId| self.conns.get(id.index()).is_some_and(|conn| conn.phase == Phase::Draining);
        self.dirty.iter().chain(&self.backlog).any(is_closing)
    }

    /// Those whose outboxes are handed to the driver in this turn, into a list that is empty; the list that was filled
    /// meanwhile is emptied. Where more than `most` have something to send (something was published to all of very many),
    /// they take turns, so that those who come with less in the next turns do not wait for all of them.
    pub(super) fn next_batch(&mut self, batch: &mut Vec<ConnId>, most: usize) {
        if self.backlog.is_empty() && self.backlog.capacity() > 0 {
            // The last of those who waited had their turn before.
            self.backlog = VecDeque::new();
        }
        if self.dirty.len() > most && self.backlog.try_reserve(self.dirty.len()).is_ok() {
            self.backlog.extend(self.dirty.drain(..));
        }
        std::mem::swap(&mut self.dirty, batch);
        // There is room: that list has room for all connections, and each is in one of the two, once.
        batch.extend(self.backlog.drain(..most.min(self.backlog.len())));
    }

    /// Takes what is queued for the driver to send.
    pub(super) fn take_outbox(&mut self, id: ConnId) -> Option<Box<Outbox>> {
        let conn = self.conn(id)?;
        conn.flags.set(Flags::DIRTY, false);
        if conn.flags.has(Flags::IN_FLIGHT) || !matches!(conn.phase, Phase::Open | Phase::Draining) {
            return None;
        }
        let outbox = conn.outbox.take()?;
        if outbox.is_empty() {
            // A message could not be kept. What waits for all to be out need not wait any more.
            self.keep(outbox);
            self.unsettle(id);
            return None;
        }
        conn.flags.set(Flags::IN_FLIGHT, true);
        Some(outbox)
    }
}
