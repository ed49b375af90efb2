//! The roster's side of sending: what is queued, what it counts, and who waits for room.

use std::sync::Arc;

use super::at_once::AT_ONCE_BYTES_MIN;
use super::deadlines::touch;
use super::mailbox::Tally;
use super::roster::{Conn, Due, Roster};
use super::shared::FRAMING_OWN;
use super::streak::Streak;
use crate::conn::handle::ConnId;
use crate::conn::outbox::{Cost, Outbox};
use crate::conn::payload::{Payload, Share};
use crate::conn::slot::WAIT_POSTED;
use crate::conn::{Flags, Phase};
use crate::driver::Sent;
use crate::framing::Frame;
use crate::options::{Limits, Overflow};
use crate::probes;
use crate::status::{Error, Result, Status};
use crate::sys::{self, LentBytes};

/// How often those are looked after who wait for room in the limit for all connections.
const STARVED_MS: u64 = 10;
/// A message longer than this begins with a large outbox.
pub(super) const LARGE_BYTES: usize = 16 << 10;
/// How long a peer on a Unix datagram socket gets to make room.
const DELAY_MS: u64 = 5;
/// Spare outboxes, with their buffers, that a worker keeps.
const SPARES_MAX: usize = 64;
/// Of those with large buffers: a quarter of a MiB or so for each worker.
const LARGE_SPARES_MAX: usize = 16;
/// Longest datagram: what IPv4 has room for.
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What comes of an outbox that the driver has given back.
#[derive(Default)]
pub(super) struct AfterSent {
    /// It is time for `on_writable`.
    pub(super) is_writable: bool,
    /// There was no memory to keep this. To be dropped with nothing borrowed.
    pub(super) discarded: Option<Box<Outbox>>,
}

/// What a message is made of.
pub(super) enum Body<'a> {
    /// To be copied, with a frame around it.
    Parts(&'a [&'a [u8]]),
    /// A copy that another thread has made, with a frame around it.
    Framed(Vec<u8>),
    /// To be taken over, with a frame around it. Stays where it is if that fails.
    Lent(&'a mut Option<LentBytes>),
    /// Shared with other connections, its frame included.
    Share(Share),
}

impl Body<'_> {
    /// Its length without a frame.
    #[inline(always)]
    pub(super) fn length(&self) -> usize {
        match self {
            // The program may have made the lengths up.
            Self::Parts(parts) => parts.iter().fold(0, |sum, part| sum.saturating_add(part.len())),
            Self::Framed(bytes) => bytes.len(),
            Self::Lent(lent) => lent.as_ref().map_or(0, |lent| lent.as_slice().len()),
            Self::Share(share) => share.as_slice().len(),
        }
    }

    /// What it counts, with `overhead` bytes of a frame.
    #[inline(always)]
    pub(super) fn cost(&self, overhead: usize) -> Cost {
        let bytes = self.length().saturating_add(overhead);
        match self {
            Self::Parts(_) | Self::Framed(_) => Cost::copied(bytes),
            Self::Lent(_) => Cost::lent(bytes),
            Self::Share(_) => Cost::shared(bytes),
        }
    }

    #[inline(always)]
    fn push(self, outbox: &mut Outbox, frame: &Frame<'_>) -> Result<()> {
        let length = self.length();
        let pushed = match self {
            Self::Parts(parts) => outbox.push(frame, parts, length),
            Self::Framed(bytes) => outbox.push_owned(bytes),
            Self::Lent(lent) => outbox.push_lent(frame, lent),
            Self::Share(share) => outbox.push_share(share),
        };
        pushed.map_err(Error::from)
    }
}

impl Roster {
    // ---- Sending

    /// Queues a message, or says why not and sees to it that `on_writable` comes. None: the connection is not here, or
    /// bytes of other threads for it are in the mailbox and come first.
    ///
    /// Inlined, so that what a message is made of is known where the code is made: this is the hot path.
    #[inline(always)]
    pub(super) fn send(&mut self, id: ConnId, body: Body<'_>) -> Option<Result<()>> {
        let sent = self.queue(id, body, true);
        if let Some(Err(error)) = &sent
            && matches!(error.status, Status::Again | Status::Overflow)
        {
            self.me.counters.messages_refused.add(1);
        }
        sent
    }

    /// `heeds_mailbox`: what is in the mailbox comes first. (Otherwise this is out of the mailbox itself, and what is still in
    /// there comes later.)
    #[inline(always)]
    fn queue(&mut self, id: ConnId, body: Body<'_>, heeds_mailbox: bool) -> Option<Result<()>> {
        let Self { conns, server, slots, lease, me, spares, large_spares, dirty, streak, at_hand, .. } = self;
        let is_here = id.worker() == me.number;
        let known = |conn: &&mut Conn| is_here && conn.generation == id.generation() && conn.phase != Phase::Vacant;
        let conn = conns.get_mut(id.index()).filter(known)?;
        let slot = slots.slot(id.index());
        let inflight = slot.inflight();
        if heeds_mailbox && inflight > 0 {
            return None;
        }
        if !conn.phase.takes_sends() || conn.flags.has(Flags::ENDING) {
            return Some(Err(Status::Closed.into()));
        }
        let length = body.length();
        let framing = server.framings.get(conn.framing);
        let frame = match &body {
            Body::Parts(_) | Body::Lent(_) => match framing.frame(length) {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error)),
            },
            Body::Framed(_) | Body::Share(_) => Frame::default(),
        };
        let cost = body.cost(frame.overhead());
        let is_datagram = conn.flags.has(Flags::DATAGRAM);
        if let Err(error) = too_long(&server.limits, length, cost.conn, is_datagram) {
            return Some(Err(error));
        }
        if cost.conn == 0 && matches!(body, Body::Parts(_)) {
            return Some(Ok(()));
        }
        let queued = slot.queued() + cost.conn;
        if queued + inflight > server.limits.queue_bytes_max as usize {
            return Some(Err(self.refuse(id, QUEUE_FULL)));
        }
        if !lease.take(&server.budget, cost.total as u64) {
            return Some(Err(self.refuse(id, TOTAL_FULL)));
        }
        if length >= AT_ONCE_BYTES_MIN
            && !server.limits.is_high(queued)
            && let Body::Parts(parts) = &body
            && at_hand.may_send(id, conn)
        {
            return Some(self.send_at_once(id, parts, cost));
        }
        if !conn.flags.set(Flags::DIRTY, true) {
            dirty.push(id);
        }
        if server.limits.is_high(queued) {
            conn.flags.set(Flags::WAITING, true);
        }
        let outbox = outbox_of(conn, if cost.conn > LARGE_BYTES { large_spares } else { spares });
        let before = outbox.bytes();
        if let Err(error) = body.push(outbox, &frame) {
            lease.give(&server.budget, cost.total as u64);
            return Some(Err(error));
        }
        if before > 0 {
            *streak = Streak::begin(id, framing, &server.limits, is_datagram);
        }
        slot.set_queued(queued);
        me.counters.bytes_queued.add((outbox.bytes() - before) as u64);
        me.counters.messages_out.add(1);
        probes::message_out(id.raw(), length);
        Some(Ok(()))
    }

    /// There is no room.
    #[cold]
    fn refuse(&mut self, id: ConnId, why: &'static str) -> Error {
        if why == QUEUE_FULL && self.server.limits.overflow == Overflow::Close {
            self.abort(id, Status::Overflow);
            return Error::new(Status::Overflow, why);
        }
        self.wait(id);
        Error::new(Status::Again, why)
    }

    /// Queues a share in a published message, as [`Roster::send`]. Its bytes are counted already, once for everybody.
    pub(super) fn send_payload(
        &mut self,
        id: ConnId,
        payload: &Arc<Payload>,
        heeds_mailbox: bool,
    ) -> Option<Result<()>> {
        let framing = self.conn(id).map_or(FRAMING_OWN, |conn| conn.framing);
        if framing == FRAMING_OWN {
            return self.queue(id, Body::Share(Share::new(payload, true)), heeds_mailbox);
        }
        if self.server.framings.get(framing).is_raw() {
            return self.queue(id, Body::Share(Share::new(payload, false)), heeds_mailbox);
        }
        // Another frame than that of the payload has to be copied around the message.
        self.queue(id, Body::Parts(&[payload.message()]), heeds_mailbox)
    }

    /// Queues what another thread has counted already, in the slot and in the budget.
    pub(super) fn send_counted(&mut self, id: ConnId, body: Body<'_>, tally: Tally) {
        let cost = tally.cost;
        self.lease.adopt(cost.total as u64);
        let slot = self.slots.slot(id.index());
        let queued = slot.queued() + cost.conn;
        slot.set_queued(queued);
        let length = body.length();
        let Self { conns, server, spares, .. } = self;
        let Some(conn) = conns.get_mut(id.index()) else { return };
        let framing = server.framings.get(conn.framing);
        let outbox = outbox_of(conn, spares);
        let before = outbox.bytes();
        let frame = if matches!(body, Body::Lent(_)) { framing.frame(length) } else { Ok(Frame::default()) };
        let pushed = frame.and_then(|frame| body.push(outbox, &frame));
        let bytes = outbox.bytes() - before;
        if server.limits.is_high(queued) {
            conn.flags.set(Flags::WAITING, true);
        }
        self.me.counters.bytes_queued.add(bytes as u64);
        self.me.counters.messages_out.add(1);
        probes::message_out(id.raw(), length);
        self.mark_dirty(id);
        if pushed.is_err() {
            // It was accepted: what cannot be kept breaks the promise of order, so the connection is over.
            self.unqueue(id, bytes, cost);
            self.count_cut(id, tally.bytes);
            self.doom(id, Status::Memory);
        }
    }

    /// Bytes queued. From `queue_high_bytes` on, `on_writable` is owed to a program that asks.
    pub(super) fn queued(&mut self, id: ConnId) -> usize {
        let slot = self.slots.slot(id.index());
        let queued = slot.queued() + slot.inflight();
        if queued >= self.server.limits.queue_high_bytes as usize {
            self.wait(id);
        }
        queued
    }

    /// Whether bytes of other threads for it are in the mailbox.
    #[inline]
    pub(super) fn has_inflight(&self, id: ConnId) -> bool {
        self.slots.slot(id.index()).inflight() > 0
    }

    /// Takes what was counted and is not queued any more out of the counts.
    #[inline]
    pub(super) fn unqueue(&mut self, id: ConnId, length: usize, cost: Cost) {
        let slot = self.slots.slot(id.index());
        slot.set_queued(slot.queued() - cost.conn);
        self.lease.give(&self.server.budget, cost.total as u64);
        self.me.counters.bytes_queued.subtract(length as u64);
    }

    /// The driver has handed `sent` bytes of an outbox to the system, which freed `freed` in the limits.
    pub(super) fn sent(&mut self, id: ConnId, mut outbox: Box<Outbox>, sent: Sent, freed: Cost) -> AfterSent {
        let mut after = AfterSent::default();
        self.me.counters.bytes_out.add(sent.out as u64);
        self.me.counters.datagrams_dropped.add(u64::from(sent.lost));
        self.unqueue(id, sent.taken, freed);
        let Some(conn) = self.conns.get_mut(id.index()) else { return after };
        touch(conn, &self.server.limits);
        conn.flags.set(Flags::IN_FLIGHT, false);
        // What was queued meanwhile goes behind what is left.
        let later = conn.outbox.take();
        if sent.taken > 0
            && let Some(extra) = conn.extra.as_mut().filter(|extra| extra.blocked_ms > 0)
        {
            // The peer takes: it has its time again.
            (extra.blocked_ms, extra.unsent) = (self.now_ms, usize::MAX);
        }
        if outbox.is_empty() {
            let is_out = later.is_none() && (conn.phase == Phase::Draining || conn.flags.has(Flags::ENDING));
            conn.outbox = later;
            if let Some(extra) = &mut conn.extra {
                extra.blocked_ms = 0;
            }
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
        if sent.later {
            self.delay(id);
        } else {
            self.mark_dirty(id);
        }
        after.is_writable = self.is_writable(id);
        after
    }

    /// Sends again in a moment.
    fn delay(&mut self, id: ConnId) {
        if self.delayed.try_reserve(1).is_err() {
            return self.mark_dirty(id);
        }
        self.delayed.push(id);
        if self.delayed.len() == 1 && self.wheel.start(sys::now_ms() + DELAY_MS, Due::Delayed).is_err() {
            self.look_after_delayed();
        }
    }

    /// The moment is over.
    pub(super) fn look_after_delayed(&mut self) {
        for id in std::mem::take(&mut self.delayed) {
            if self.conn(id).is_some() {
                self.mark_dirty(id);
            }
        }
    }

    /// Keeps an empty outbox for the next connection that sends.
    pub(super) fn keep(&mut self, mut outbox: Box<Outbox>) {
        outbox.renew();
        if outbox.is_large() {
            if self.large_spares.len() < LARGE_SPARES_MAX {
                self.large_spares.push(outbox);
            }
            return;
        }
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
        if self.starved.try_reserve(1).is_err() {
            return self.doom(id, Status::Memory);
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
        let low = self.server.limits.queue_low_bytes as usize;
        let has_room = self.server.budget.has_room();
        let slot = self.slots.slot(id.index());
        let queued = slot.queued();
        let is_low = queued + slot.inflight() <= low;
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

/// The outbox that a message goes to. While the driver has one, what is queued behind it may stay for long.
#[inline(always)]
#[allow(clippy::vec_box)] // they move between the list and a connection
pub(super) fn outbox_of<'a>(conn: &'a mut Conn, spares: &mut Vec<Box<Outbox>>) -> &'a mut Outbox {
    let is_blocked = conn.flags.has(Flags::IN_FLIGHT);
    conn.outbox.get_or_insert_with(|| new_outbox(is_blocked, spares))
}

#[inline(never)]
#[allow(clippy::vec_box)] // as above
fn new_outbox(is_blocked: bool, spares: &mut Vec<Box<Outbox>>) -> Box<Outbox> {
    if is_blocked { Box::new(Outbox::tight()) } else { spares.pop().unwrap_or_default() }
}

/// Refuses what would never fit.
#[inline]
pub(super) fn too_long(limits: &Limits, length: usize, cost: usize, is_datagram: bool) -> Result<()> {
    let most = if is_datagram { DATAGRAM_BYTES_MAX } else { usize::MAX };
    if length <= limits.message_bytes_max as usize && cost <= limits.queue_bytes_max as usize && length <= most {
        return Ok(());
    }
    let text = format!("{length} bytes are more than message_bytes_max, queue_bytes_max or a datagram allow");
    Err(Error::new(Status::TooLong, text))
}
