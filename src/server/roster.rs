//! The part of a worker that calls inside callbacks reach: its connections and what is queued for them.
//!
//! While a worker runs, its roster lies in a thread-local, and everybody borrows it for a moment, the worker
//! itself included. The one rule: nothing of the program's is called while the roster is borrowed, neither a
//! callback nor a function that frees (so outboxes and finalizers are handed out, and dropped outside).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::Lease;
use super::shared::{ServerShared, WorkerShared};
use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::slot::{CLOSING, SlotCache};
use crate::conn::{Conn, Flags, Phase};
use crate::status::{Result, Status};
use crate::sys::{self, Finalizer, HostUser};
use crate::timer::Wheel;

thread_local! {
    static ROSTER: RefCell<Option<Box<Roster>>> = const { RefCell::new(None) };
}

/// Runs `body` with the roster of the worker that runs on this thread, if one does. Should the rule be broken after
/// all, it is not there: calls go through the mailbox then.
#[inline]
pub(super) fn with<R>(body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    let borrow = |roster: &RefCell<Option<Box<Roster>>>| roster.try_borrow_mut().ok()?.as_deref_mut().map(body);
    ROSTER.try_with(borrow).ok().flatten()
}

/// Whether a worker runs on this thread: then the caller is inside one of its callbacks.
pub(super) fn is_here() -> bool {
    ROSTER.try_with(|roster| roster.try_borrow().is_ok_and(|roster| roster.is_none())).is_ok_and(|is_free| !is_free)
}

/// Puts a roster in place; gives back the one before (of another server, whose callback this is inside of).
pub(super) fn enter(roster: Option<Box<Roster>>) -> Option<Box<Roster>> {
    ROSTER.with(|place| place.replace(roster))
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The connection's deadline: idle, drain or linger, by its phase.
    Conn(ConnId),
    /// The listener has rested.
    Listener(usize),
    /// Look whether there is room for those who were refused because of the limit for all connections.
    Starved,
}

/// How long a peer that has sent what nobody read may take to end its side.
const LINGER_MS: u64 = 1_000;
/// A worker's connections, and what is queued for them.
pub(crate) struct Roster {
    pub(super) me: Arc<WorkerShared>,
    pub(super) server: Arc<ServerShared>,
    /// When the turn's wait was over. What is due by then is due; bytes that come while a callback of this turn
    /// takes long will be seen in the next turn, and a connection is not called idle before that.
    pub(super) now_ms: u64,
    pub(super) wheel: Wheel<Due>,
    /// Connections with something to send.
    pub(super) dirty: Vec<ConnId>,
    /// Connections that want something else from the driver than what it does.
    pub(super) unsettled: Vec<ConnId>,
    /// Connections that wait for room in the limit for all of them.
    pub(super) starved: VecDeque<ConnId>,
    /// A timer will look after the starved.
    pub(super) starved_timer: bool,
    /// Connections that are not vacant.
    pub(super) count: usize,
    pub(super) conns: Chunks<Conn>,
    pub(super) slots: SlotCache,
    /// Boxed as they are in a connection: they move between the two.
    #[allow(clippy::vec_box)]
    pub(super) spares: Vec<Box<Outbox>>,
    pub(super) lease: Lease,
}

/// What is left of a connection when it is over.
pub(super) struct Farewell {
    pub(super) reason: Status,
    pub(super) user: HostUser,
    /// The program knows the connection and is owed an `on_close`.
    pub(super) is_owed: bool,
    /// To be dropped with nothing borrowed.
    pub(super) outboxes: [Option<Box<Outbox>>; 2],
}

/// What comes of an outbox that the driver has given back.
#[derive(Default)]
pub(super) struct AfterSent {
    /// It is time for `on_writable`.
    pub(super) is_writable: bool,
    /// There was no memory to keep this. To be dropped with nothing borrowed.
    pub(super) discarded: Option<Box<Outbox>>,
}

impl Roster {
    pub(super) fn new(me: Arc<WorkerShared>, server: Arc<ServerShared>) -> Self {
        let now_ms = sys::now_ms();
        Self {
            me,
            server,
            now_ms,
            wheel: Wheel::new(now_ms),
            dirty: Vec::new(),
            unsettled: Vec::new(),
            starved: VecDeque::new(),
            starved_timer: false,
            count: 0,
            conns: Chunks::new(),
            slots: SlotCache::default(),
            spares: Vec::new(),
            lease: Lease::default(),
        }
    }

    /// The connection, unless the handle is stale.
    #[inline]
    pub(super) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.conns.get_mut(id.index())?;
        (conn.generation == id.generation() && conn.phase != Phase::Vacant).then_some(conn)
    }

    /// Whether the connection lives here. (A handle that was given out for a connection that is still in the
    /// mailbox does not, yet.)
    pub(super) fn knows(&mut self, id: ConnId) -> bool {
        id.worker() == self.me.number && self.conn(id).is_some()
    }

    pub(super) fn user(&self, id: ConnId) -> HostUser {
        self.slots.slot(id.index()).user()
    }

    // ---- Opening and closing

    /// Makes room for a connection. It is open, but neither announced nor known to the driver.
    pub(super) fn insert(&mut self, id: ConnId) -> Result<()> {
        // Each list holds a connection at most once: from here on none of them has to grow.
        let all = self.count + 1;
        self.dirty.try_reserve(all.saturating_sub(self.dirty.len()))?;
        self.unsettled.try_reserve(all.saturating_sub(self.unsettled.len()))?;
        self.starved.try_reserve(all.saturating_sub(self.starved.len()))?;
        self.slots.know(&self.me.slots, id.index())?;
        let (generation, active_ms) = (id.generation(), sys::now_ms());
        *self.conns.grow_to(id.index())? = Conn { generation, phase: Phase::Open, active_ms, ..Conn::default() };
        self.count += 1;
        Ok(())
    }

    /// The driver has it and the program will hear of it.
    pub(super) fn announce(&mut self, id: ConnId) -> Result<()> {
        let idle_ms = self.server.limits.idle_ms;
        if idle_ms > 0 {
            self.set_deadline(id, Some(u64::from(idle_ms)))?;
        }
        if let Some(conn) = self.conn(id)
            && !conn.flags.set(Flags::ANNOUNCED, true)
        {
            conn.flags.set(Flags::READING, true);
            self.me.counters.opened.add(1);
        }
        Ok(())
    }

    /// Begins to close: what is queued goes out first, within the server's `drain_ms`; or, when the server stops,
    /// within the time that all its connections have.
    pub(super) fn close(&mut self, id: ConnId, reason: Status) {
        let Some(conn) = self.conn(id).filter(|conn| conn.phase == Phase::Open) else { return };
        conn.phase = Phase::Draining;
        conn.reason = reason;
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
        if conn.phase == Phase::Open || (conn.phase == Phase::Draining && queued > 0 && conn.reason != Status::Stopped)
        {
            conn.reason = reason;
        }
        conn.phase = Phase::Doomed;
        self.slots.slot(id.index()).raise(id, CLOSING);
        self.unsettle(id);
    }

    /// Gives an order for every connection.
    pub(super) fn each(&mut self, mut order: impl FnMut(&mut Self, ConnId)) {
        for index in 0..self.conns.len() {
            if let Some(conn) = self.conns.get(index).filter(|conn| conn.phase != Phase::Vacant) {
                let id = ConnId::new(self.me.number, index, conn.generation);
                order(self, id);
            }
        }
    }

    /// The connection is over: takes it apart. The handle stays good for questions until [`Roster::release`].
    pub(super) fn bury(&mut self, id: ConnId, from_driver: Option<Box<Outbox>>) -> Option<Farewell> {
        self.conn(id)?.phase = Phase::Closed;
        let user = self.user(id);
        let conn = self.conn(id)?;
        let reason = conn.reason;
        let is_owed = conn.flags.set(Flags::ANNOUNCED, false);
        let timer = conn.timer.take();
        let outboxes = [from_driver, conn.outbox.take()];
        self.slots.slot(id.index()).raise(id, CLOSING);
        if let Some(timer) = timer {
            self.wheel.cancel(timer);
        }
        for outbox in outboxes.iter().flatten() {
            self.cut(id, outbox);
        }
        if self.has_inflight(id) {
            // What is still in the mailbox will find it gone.
            self.count_cut_conn(id);
        }
        Some(Farewell { reason, user, is_owed, outboxes })
    }

    /// An outbox will never be sent.
    pub(super) fn cut(&mut self, id: ConnId, outbox: &Outbox) {
        self.unqueue(id, outbox.bytes(), outbox.cost());
        self.count_cut(id, outbox.bytes());
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
    pub(super) fn release(&mut self, id: ConnId) -> Finalizer {
        let Some(conn) = self.conn(id) else { return Finalizer::NONE };
        conn.phase = Phase::Vacant;
        let finalizer = std::mem::replace(&mut conn.finalizer, Finalizer::NONE);
        self.count -= 1;
        self.me.slots.release(id);
        self.server.dismiss();
        finalizer
    }

    // ---- Time

    /// Notes that bytes came or went. Only where idle connections are closed: then the time has to be that of the
    /// moment, because a callback of this turn may have taken longer than a connection may be idle.
    #[inline]
    pub(super) fn touch(&mut self, id: ConnId) {
        if self.server.limits.idle_ms > 0 {
            let now_ms = sys::now_ms();
            if let Some(conn) = self.conn(id) {
                conn.active_ms = now_ms;
            }
        }
    }

    /// Replaces the connection's deadline. None: it has none.
    fn set_deadline(&mut self, id: ConnId, after_ms: Option<u64>) -> Result<()> {
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

    /// All is out, and nothing is left unread: it can be closed.
    pub(super) fn finished(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Doomed;
        }
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

    /// The connection's deadline has come.
    pub(super) fn deadline(&mut self, id: ConnId) {
        let idle_ms = u64::from(self.server.limits.idle_ms);
        let now_ms = self.now_ms;
        let Some(conn) = self.conn(id) else { return };
        conn.timer = None;
        // What came in this turn may be later than the turn.
        let quiet_ms = now_ms.saturating_sub(conn.active_ms);
        if conn.phase == Phase::Open && quiet_ms < idle_ms {
            // Traffic does not touch the wheel; the deadline moves when it comes.
            if self.set_deadline(id, Some(idle_ms - quiet_ms)).is_ok() {
                return;
            }
        }
        self.doom(id, Status::Timeout);
    }

    // ---- Receiving

    /// Bytes came. Some: they are a message for the program.
    #[inline]
    pub(super) fn received(&mut self, id: ConnId, length: usize) -> Option<HostUser> {
        self.me.counters.bytes_in.add(length as u64);
        self.touch(id);
        let conn = self.conn(id)?;
        if conn.phase != Phase::Open {
            return None;
        }
        self.me.counters.messages_in.add(1);
        Some(self.user(id))
    }

    /// The peer has ended its side. Some: the program wants to know.
    pub(super) fn ended(&mut self, id: ConnId) -> Option<HostUser> {
        let half_open = self.server.conduct.half_open;
        let conn = self.conn(id)?;
        conn.flags.set(Flags::ENDED, true);
        conn.flags.set(Flags::READING, false);
        if conn.phase == Phase::Open && half_open {
            return Some(self.user(id));
        }
        self.close(id, Status::Eof);
        self.unsettle(id);
        None
    }

    pub(super) fn pause(&mut self, id: ConnId, on: bool) {
        if let Some(conn) = self.conn(id) {
            conn.flags.set(Flags::PAUSED, on);
            self.unsettle(id);
        }
    }

    /// Replaces the user data; the finalizer of what was there before comes back. (The new one, if the connection is
    /// gone.)
    pub(super) fn set_user(&mut self, id: ConnId, user: HostUser, finalizer: Finalizer) -> Finalizer {
        let Some(conn) = self.conn(id) else { return finalizer };
        let before = std::mem::replace(&mut conn.finalizer, finalizer);
        self.slots.slot(id.index()).set_user(user);
        before
    }

    // ---- The worker's own business

    /// Puts the connection on the list of those that the driver has to hear of.
    pub(super) fn unsettle(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id)
            && !conn.flags.set(Flags::UNSETTLED, true)
        {
            self.unsettled.push(id);
        }
    }

    /// Another thread's bytes are out of the mailbox; a closing connection has waited for them.
    pub(super) fn landed(&mut self, id: ConnId, cost: usize) {
        match self.slots.get(id.index()) {
            Some(slot) => slot.land(cost),
            None => self.me.slots.land(id, cost),
        }
        if self.conn(id).is_some_and(|conn| conn.phase == Phase::Draining) {
            self.unsettle(id);
        }
    }

    /// How long to wait for something to happen, before a deadline comes or there is work left.
    pub(super) fn timeout_ms(&self) -> Option<u64> {
        if !self.dirty.is_empty() || !self.unsettled.is_empty() || self.me.mailbox.has_mail() {
            return Some(0);
        }
        let stop_ms = self.server.stop_at_ms();
        let next_ms = [self.wheel.next_ms(), stop_ms].into_iter().flatten().min()?;
        Some(next_ms.saturating_sub(sys::now_ms()))
    }

    /// Gives back what the worker holds of the limit for all connections.
    pub(super) fn settle_lease(&mut self) {
        self.lease.settle(&self.server.budget);
    }
}
