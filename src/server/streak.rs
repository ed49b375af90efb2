//! The roster's side of consecutive sends to one connection, which is how a batch of messages is answered: what one
//! of them has found out holds for the next, so that a small message costs little more than its copy.

use super::roster::{Conn, Roster};
use super::sending::DATAGRAM_BYTES_MAX;
use crate::conn::handle::ConnId;
use crate::framing::{Framing, Order, Width};
use crate::options::Limits;
use crate::probes;

/// What holds for the connection that was sent to last, until anybody else borrows the roster: whatever could change
/// it has to do that first.
#[derive(Default)]
pub(super) struct Streak {
    /// The number of the connection, which takes sends.
    conn: u64,
    /// In front of each message is its length, in four bytes; or nothing.
    has_length: bool,
    /// Longest message; 0, so that none is sent: there is no streak.
    length_max: usize,
    /// Fewer bytes than that may be queued for it without a word to anybody.
    queued_end: usize,
}

impl Streak {
    /// For a connection that has just taken a message. None begins where messages need more than a length in front.
    pub(super) fn begin(id: ConnId, framing: &Framing, limits: &Limits, is_datagram: bool) -> Self {
        let has_length = match framing {
            Framing::Raw => false,
            Framing::Length { width: Width::Four, order: Order::Big } => true,
            _ => return Self::default(),
        };
        // Neither a refusal nor a mark that is reached is for here.
        let queued_end = limits.queue_bytes_max.min(limits.queue_high_bytes) as usize;
        let most = if is_datagram { DATAGRAM_BYTES_MAX } else { usize::MAX };
        Self { conn: id.raw(), has_length, length_max: (limits.message_bytes_max as usize).min(most), queued_end }
    }

    /// One store, because everybody who borrows the roster makes it.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.length_max = 0;
    }
}

impl Roster {
    /// Queues a copy of one more message of a streak. False: it is none, or there is more to it, and nothing was done.
    #[inline(always)]
    pub(super) fn send_again(&mut self, id: ConnId, message: &[u8]) -> bool {
        let Self { streak, conns, slots, lease, server, me, .. } = self;
        if streak.conn != id.raw() || message.is_empty() || message.len() > streak.length_max {
            return false;
        }
        let slot = slots.slot(id.index());
        let cost = message.len() + if streak.has_length { 4 } else { 0 };
        let queued = slot.queued() + cost;
        // What other threads have posted comes first.
        if queued >= streak.queued_end || slot.inflight() > 0 {
            return false;
        }
        let outbox = conns.get_mut(id.index()).and_then(|Conn { outbox, .. }| outbox.as_mut());
        let Some(outbox) = outbox.filter(|outbox| outbox.has_room(cost)) else { return false };
        if !lease.take(&server.budget, cost as u64) {
            return false;
        }
        outbox.push_into_room(message, streak.has_length);
        slot.set_queued(queued);
        me.counters.bytes_queued.add(cost as u64);
        me.counters.messages_out.add(1);
        probes::message_out(id.raw(), message.len());
        true
    }
}
