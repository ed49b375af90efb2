//! Long answers that go out at once. A program mostly answers the connection of which it is just told; if nothing is queued
//! for that one, what the system takes of the answer need not be copied first.

use std::os::fd::RawFd;

use super::roster::{Conn, Roster};
use super::sending::{LARGE_BYTES, outbox_of};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Cost;
use crate::conn::{Flags, Phase};
use crate::driver;
use crate::framing::Frame;
use crate::probes;
use crate::status::{Result, Status};

/// Shorter ones are gathered until the turn ends, for that costs less than what it spares to send them at once.
pub(super) const AT_ONCE_BYTES_MIN: usize = 8 << 10;

/// Long answers that are queued after one that was the first of several, or of which the system did not take all: such mostly
/// come in a row, and together they cost one system call.
const UNTRIED_AFTER_MISS: u32 = 64;

/// The connection from which something came last, with its socket.
///
/// The socket is that connection's, and open, for as long as the connection is in [`Phase::Open`]: the phase changes before a
/// driver is told to close a socket, and one that is opened again, with another socket, is forgotten here first
/// ([`AtHand::forget`]). Otherwise bytes would go to whoever has the descriptor by then.
#[derive(Debug)]
pub(super) struct AtHand {
    conn: ConnId,
    socket: Option<RawFd>,
    /// It was answered, the program may have more to say, and that can be gathered.
    is_answered: bool,
    untried: u32,
}

impl AtHand {
    pub(super) fn new() -> Self {
        Self { conn: ConnId::from_raw(0), socket: None, is_answered: false, untried: 0 }
    }

    /// Something came from a connection.
    #[inline]
    pub(super) fn set(&mut self, conn: ConnId, socket: Option<RawFd>) {
        (self.conn, self.socket, self.is_answered) = (conn, socket, false);
    }

    pub(super) fn forget(&mut self) {
        self.socket = None;
    }

    /// Whether this message may go ahead.
    pub(super) fn may_send(&mut self, id: ConnId, conn: &Conn) -> bool {
        let is_idle = conn.phase == Phase::Open && conn.outbox.is_none() && !conn.flags.has(Flags::IN_FLIGHT);
        if self.conn != id || self.socket.is_none() || !is_idle || conn.flags.has(Flags::DATAGRAM) {
            return false;
        }
        if self.is_answered {
            self.untried = UNTRIED_AFTER_MISS;
            return false;
        }
        self.is_answered = self.untried == 0;
        self.untried = self.untried.saturating_sub(1);
        self.is_answered
    }

    /// Sends what the system takes of a message; says how many bytes that were. An error is found again, and told, when
    /// what is queued is sent.
    fn send(&self, frame: &Frame<'_>, parts: &[&[u8]]) -> usize {
        let slices = [frame.prefix()].into_iter().chain(parts.iter().copied()).chain([frame.suffix()]);
        let sent = |socket| driver::send_slices(socket, slices.filter(|slice| !slice.is_empty()));
        self.socket.map_or(0, |socket| sent(socket).map_or(0, |(sent, _)| sent))
    }
}

impl Roster {
    /// Sends a message that counts `cost`, which is taken from the budget, and queues what the system does not take. There is
    /// room for all of it first: a message goes whole or not at all.
    #[inline(never)]
    pub(super) fn send_at_once(&mut self, id: ConnId, parts: &[&[u8]], cost: Cost) -> Result<()> {
        let Self { conns, server, slots, spares, large_spares, lease, me, at_hand, .. } = self;
        let conn = conns.get_mut(id.index()).ok_or(Status::Stale)?;
        let length = parts.iter().map(|part| part.len()).sum();
        let frame = server.framings.get(conn.framing).frame(length)?;
        let outbox = outbox_of(conn, if cost.conn > LARGE_BYTES { large_spares } else { spares });
        let pushed = outbox.reserve(cost.conn).and_then(|()| {
            let sent = at_hand.send(&frame, parts);
            me.counters.bytes_out.add(sent as u64);
            if sent < cost.conn {
                at_hand.untried = UNTRIED_AFTER_MISS;
                outbox.push(&frame, parts, length)?;
                outbox.advance(sent);
            }
            Ok(())
        });
        let queued = outbox.bytes();
        lease.give(&server.budget, (cost.total - queued) as u64);
        me.counters.bytes_queued.add(queued as u64);
        slots.slot(id.index()).set_queued(queued);
        if queued > 0 {
            self.mark_dirty(id);
        } else if let Some(outbox) = conn.outbox.take() {
            self.keep(outbox);
        }
        pushed?;
        self.me.counters.messages_out.add(1);
        probes::message_out(id.raw(), length);
        Ok(())
    }
}
