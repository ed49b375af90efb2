//! The roster's side of sending: what is queued, what it counts, and who waits for room.

use super::roster::{AfterSent, Due, Roster};
use super::shared::ServerShared;
use crate::conn::handle::ConnId;
use crate::conn::outbox::{LENT_OVERHEAD_BYTES, Outbox};
use crate::conn::slot::WAIT_POSTED;
use crate::conn::{Flags, Phase};
use crate::status::{Error, Result, Status};
use crate::sys::{self, LentBytes};

/// How often those are looked after who wait for room in the limit for all connections.
const STARVED_MS: u64 = 10;
/// Spare outboxes, with their buffers, that a worker keeps.
const SPARES_MAX: usize = 64;

impl Roster {
    // ---- Sending

    /// Queues a copy.
    #[inline]
    pub(super) fn send(&mut self, id: ConnId, bytes: &[u8]) -> Result<()> {
        self.admit(id, bytes.len(), bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let pushed = self.outbox(id).push(bytes);
        self.pushed(id, bytes.len(), bytes.len(), pushed.map_err(Error::from))
    }

    /// Queues lent bytes; takes them out of `lent` when it does.
    pub(super) fn send_lent(&mut self, id: ConnId, lent: &mut Option<LentBytes>) -> Result<()> {
        let length = lent.as_ref().map_or(0, |lent| lent.as_slice().len());
        self.admit(id, length, length + LENT_OVERHEAD_BYTES)?;
        let pushed = self.outbox(id).push_lent(lent);
        self.pushed(id, length, length + LENT_OVERHEAD_BYTES, pushed.map_err(Error::from))
    }

    /// Queues bytes that another thread has counted already (`cost` in the slot and in the budget).
    pub(super) fn send_counted(&mut self, id: ConnId, bytes: &[u8], lent: &mut Option<LentBytes>, cost: usize) {
        self.lease.adopt(cost as u64);
        let length = lent.as_ref().map_or(bytes.len(), |lent| lent.as_slice().len());
        self.me.counters.bytes_queued.add(length as u64);
        let slot = self.slots.slot(id.index());
        slot.set_queued(slot.queued() + cost);
        let outbox = self.outbox(id);
        let pushed = if lent.is_some() { outbox.push_lent(lent) } else { outbox.push(bytes) };
        if self.pushed(id, length, cost, pushed.map_err(Error::from)).is_err() {
            // It was accepted: what cannot be kept breaks the promise of order, so the connection is over.
            self.count_cut(id, length);
            self.doom(id, Status::Memory);
        }
    }

    /// Whether bytes of other threads for it are in the mailbox.
    #[inline]
    pub(super) fn has_inflight(&self, id: ConnId) -> bool {
        self.slots.slot(id.index()).inflight() > 0
    }

    /// Counts what is to be queued against every limit, or refuses it.
    #[inline]
    fn admit(&mut self, id: ConnId, length: usize, cost: usize) -> Result<()> {
        let Some(conn) = self.conn(id) else { return Err(Status::Stale.into()) };
        if conn.phase != Phase::Open {
            return Err(Status::Closed.into());
        }
        too_long(&self.server, length, cost)?;
        let slot = self.slots.slot(id.index());
        let queued = slot.queued();
        let inflight = slot.inflight();
        if queued + inflight + cost > self.server.limits.queue_bytes_max as usize {
            self.wait(id);
            return Err(Error::new(Status::Again, QUEUE_FULL));
        }
        if !self.lease.take(&self.server.budget, cost as u64) {
            self.wait(id);
            return Err(Error::new(Status::Again, TOTAL_FULL));
        }
        slot.set_queued(queued + cost);
        self.me.counters.bytes_queued.add(length as u64);
        Ok(())
    }

    /// Takes what was counted and is not queued any more out of the counts.
    pub(super) fn unqueue(&mut self, id: ConnId, length: usize, cost: usize) {
        let slot = self.slots.slot(id.index());
        slot.set_queued(slot.queued() - cost);
        self.lease.give(&self.server.budget, cost as u64);
        self.me.counters.bytes_queued.subtract(length as u64);
    }

    fn outbox(&mut self, id: ConnId) -> &mut Outbox {
        let spares = &mut self.spares;
        let conn = self.conns.get_mut(id.index()).expect("the caller has found it");
        conn.outbox.get_or_insert_with(|| spares.pop().unwrap_or_default())
    }

    /// Goes on after bytes were put into the outbox, or could not be.
    fn pushed(&mut self, id: ConnId, length: usize, cost: usize, pushed: Result<()>) -> Result<()> {
        if pushed.is_err() {
            self.unqueue(id, length, cost);
        }
        self.mark_dirty(id);
        pushed
    }

    /// Puts a connection that has something to send on the list, once.
    #[inline]
    fn mark_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()).filter(|conn| conn.outbox.is_some()) else { return };
        if !conn.flags.set(Flags::DIRTY, true) {
            self.dirty.push(id);
        }
    }

    /// Takes what is queued for the driver to send.
    pub(super) fn take_outbox(&mut self, id: ConnId) -> Option<Box<Outbox>> {
        let conn = self.conn(id)?;
        conn.flags.set(Flags::DIRTY, false);
        if conn.flags.has(Flags::IN_FLIGHT) || conn.phase > Phase::Draining {
            return None;
        }
        let outbox = conn.outbox.take()?;
        if outbox.is_empty() {
            self.keep(outbox);
            return None;
        }
        conn.flags.set(Flags::IN_FLIGHT, true);
        Some(outbox)
    }

    /// The driver has handed `sent` bytes of an outbox to the system, which freed `freed` in the limits.
    pub(super) fn sent(&mut self, id: ConnId, mut outbox: Box<Outbox>, sent: usize, freed: usize) -> AfterSent {
        let mut after = AfterSent::default();
        self.touch(id);
        self.me.counters.bytes_out.add(sent as u64);
        self.unqueue(id, sent, freed);
        let Some(conn) = self.conns.get_mut(id.index()) else { return after };
        conn.flags.set(Flags::IN_FLIGHT, false);
        // What was queued meanwhile goes behind what is left.
        let later = conn.outbox.take();
        if outbox.is_empty() {
            let is_out = later.is_none() && conn.phase == Phase::Draining;
            conn.outbox = later;
            self.keep(outbox);
            if is_out {
                self.unsettle(id);
            }
        } else {
            match later.map(|mut later| (outbox.append(&mut later), later)) {
                None => {}
                Some((Ok(()), later)) => self.keep(later),
                Some((Err(_), later)) => {
                    self.cut(id, &later);
                    self.doom(id, Status::Memory);
                    after.discarded = Some(later);
                }
            }
            self.conns.get_mut(id.index()).expect("found above").outbox = Some(outbox);
        }
        self.mark_dirty(id);
        after.is_writable = self.is_writable(id);
        after
    }

    /// Keeps an empty outbox for the next connection that sends.
    fn keep(&mut self, outbox: Box<Outbox>) {
        if self.spares.len() < SPARES_MAX {
            self.spares.push(outbox);
        }
    }

    // ---- Waiting for room

    /// A send was refused: `on_writable` is owed.
    pub(super) fn wait(&mut self, id: ConnId) {
        let Some(conn) = self.conn(id) else { return };
        conn.flags.set(Flags::WAITING, true);
        if self.slots.slot(id.index()).queued() == 0 {
            self.starve(id);
        }
    }

    /// Nothing of its own is queued, so no send of its own will tell when there is room.
    fn starve(&mut self, id: ConnId) {
        if self.conn(id).is_none_or(|conn| conn.flags.set(Flags::STARVED, true)) {
            return;
        }
        self.starved.push_back(id);
        self.watch_starved();
    }

    fn watch_starved(&mut self) {
        if !self.starved_timer && !self.starved.is_empty() {
            // Without memory for the timer the next one who waits starts it.
            self.starved_timer = self.wheel.start(sys::now_ms() + STARVED_MS, Due::Starved).is_ok();
        }
    }

    /// Those who wait for room in the limit for all connections: how many there are to be asked for with
    /// [`Roster::next_starved`].
    pub(super) fn look_after_starved(&mut self) -> usize {
        self.starved_timer = false;
        self.starved.len()
    }

    /// Takes the first of the starved off the list; it goes back to the end if it still has no room. True: it has.
    pub(super) fn next_starved(&mut self) -> Option<(ConnId, bool)> {
        let id = self.starved.pop_front()?;
        if let Some(conn) = self.conn(id) {
            conn.flags.set(Flags::STARVED, false);
        }
        let is_writable = self.is_writable(id);
        self.watch_starved();
        Some((id, is_writable))
    }

    /// Whether a connection waits and has room now; then it no longer waits.
    #[inline]
    fn is_writable(&mut self, id: ConnId) -> bool {
        self.conn(id).is_some_and(|conn| conn.flags.has(Flags::WAITING)) && self.has_room(id)
    }

    fn has_room(&mut self, id: ConnId) -> bool {
        let half = self.server.limits.queue_bytes_max as usize / 2;
        let has_room = self.server.budget.has_room();
        let slot = self.slots.slot(id.index());
        let queued = slot.queued();
        let is_low = queued + slot.inflight() <= half;
        let Some(conn) = self.conn(id).filter(|conn| conn.phase == Phase::Open) else { return false };
        if is_low && has_room {
            conn.flags.set(Flags::WAITING, false);
            return true;
        }
        if queued == 0 {
            self.starve(id);
        }
        false
    }

    /// Another thread's send was refused.
    pub(super) fn wait_posted(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conn(id) else { return false };
        conn.flags.set(Flags::WAITING, true);
        self.slots.slot(id.index()).lower(id, WAIT_POSTED);
        self.unsettle(id);
        self.is_writable(id)
    }
}

pub(super) const QUEUE_FULL: &str = "queue_bytes_max is reached";
pub(super) const TOTAL_FULL: &str = "queue_total_bytes_max is reached";

/// Refuses what would never fit.
#[inline]
pub(super) fn too_long(server: &ServerShared, length: usize, cost: usize) -> Result<()> {
    let limits = &server.limits;
    if length <= limits.message_bytes_max as usize && cost <= limits.queue_bytes_max as usize {
        return Ok(());
    }
    let text = format!("{length} bytes are more than message_bytes_max or queue_bytes_max allow");
    Err(Error::new(Status::TooLong, text))
}
