//! The part of a worker that calls inside callbacks reach: its connections and what is queued for them.
//!
//! While a worker runs, its roster lies in a thread-local, and everybody borrows it for a moment, the worker
//! itself included. The one rule: nothing of the program's is called while the roster is borrowed, neither a
//! callback nor a function that frees (so outboxes and finalizers are handed out, and dropped outside).
//!
//! Its other sides have files of their own: `receiving`, `sending`, `flushing`, `streak`, `closing`, `deadlines`, `timers`, `topics`,
//! `connect`, `peers`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, TryReserveError, VecDeque};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::at_once::AtHand;
use super::connect::Connector;
use super::host::Later;
use super::membership::Topics;
use super::peers::PeerKey;
use super::shared::{ServerShared, WorkerShared};
use super::streak::Streak;
use super::timers::Timers;
use crate::conn::budget::Lease;
use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::slot::SlotCache;
use crate::conn::{self, Flags, Intake, Phase};
use crate::status::{Result, Status};
use crate::sys::{self, Finalizer, HostUser};
use crate::timer::Wheel;

thread_local! {
    static IS_WORKER_THREAD: Cell<bool> = const { Cell::new(false) };

    /// Never dropped here (a worker takes its roster back), so that the thread keeps no list of what to drop, and each
    /// access is one step shorter.
    static ROSTER: RefCell<ManuallyDrop<Option<Box<Roster>>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

/// Runs `body` with the roster of the worker that runs on this thread, if one does. Should the rule be broken after
/// all, it is not there: calls go through the mailbox then.
#[inline]
pub(super) fn with<R>(body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    in_streak(|roster| {
        roster.streak.end();
        body(roster)
    })
}

/// As [`with`], for a send that may be one more of a streak: see [`Streak`].
#[inline]
pub(super) fn in_streak<R>(body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    ROSTER.with(|roster| roster.try_borrow_mut().ok()?.as_deref_mut().map(body))
}

/// Whether a worker runs on this thread: then the caller is inside one of its callbacks.
pub(super) fn is_here() -> bool {
    ROSTER.with(|roster| roster.try_borrow().map_or(true, |roster| roster.is_some()))
}

/// Whether this thread is a worker's own, and not the program's.
pub(super) fn is_worker_thread() -> bool {
    IS_WORKER_THREAD.get()
}

/// From here on it is.
pub(super) fn become_worker_thread() {
    IS_WORKER_THREAD.set(true);
}

/// Puts a roster in place; gives back the one before (of another server, whose callback this is inside of).
pub(super) fn enter(roster: Option<Box<Roster>>) -> Option<Box<Roster>> {
    ROSTER.with(|place| ManuallyDrop::into_inner(place.replace(ManuallyDrop::new(roster))))
}

/// What a timer of the wheel is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The connection's deadline: by its phase idle, message and write; connect; drain or linger.
    Conn(ConnId),
    /// A timer of the program's, by its place.
    Timer(u32),
    /// The listener has rested.
    Listener(usize),
    /// Send again to those whose peers had no room and cannot tell when they have.
    Delayed,
    /// Look whether there is room for those who were refused because of the limit for all connections.
    Starved,
    /// A task of the cluster's, by its place.
    Task(u32),
}

/// A connection, with what only the server knows of it.
pub(super) type Conn = conn::Conn<Extra>;

/// What few connections have.
#[derive(Debug)]
pub(super) struct Extra {
    /// Gives the program's user data back.
    pub(super) finalizer: Finalizer,
    /// Since when the peer has taken nothing of what waits for it; 0: nothing waits.
    pub(super) blocked_ms: u64,
    /// What the system had, and the peer had not taken, then.
    pub(super) unsent: usize,
    /// The first of its memberships in topics, of its timers.
    pub(super) first_member: u32,
    pub(super) first_timer: u32,
    /// How it is opened, if this side does that.
    pub(super) connector: Option<Box<Connector>>,
    /// Where its datagrams come from, if it shares a socket with others.
    pub(super) peer: Option<Box<PeerKey>>,
}

/// The end of a list of places.
pub(super) const NOBODY: u32 = u32::MAX;

impl Default for Extra {
    fn default() -> Self {
        Self {
            finalizer: Finalizer::NONE,
            blocked_ms: 0,
            unsent: 0,
            first_member: NOBODY,
            first_timer: NOBODY,
            connector: None,
            peer: None,
        }
    }
}

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
    /// Those of them that wait for their turn, because so many have something to send.
    pub(super) backlog: VecDeque<ConnId>,
    /// Connections that want something else from the driver than what it does.
    pub(super) unsettled: Vec<ConnId>,
    /// Connections that go on after a pause and have messages to deliver before they read again.
    pub(super) resumed: VecDeque<ConnId>,
    /// Connections that wait for room in the limit for all of them.
    pub(super) starved: VecDeque<ConnId>,
    /// A timer will look after the starved.
    pub(super) starved_timer: bool,
    /// Connections that send again in a moment.
    pub(super) delayed: Vec<ConnId>,
    /// Connections that are not vacant.
    pub(super) count: usize,
    pub(super) conns: Chunks<Conn>,
    pub(super) slots: SlotCache,
    /// Boxed as they are in a connection: they move between the two.
    #[allow(clippy::vec_box)]
    pub(super) spares: Vec<Box<Outbox>>,
    /// Those with large buffers.
    #[allow(clippy::vec_box)]
    pub(super) large_spares: Vec<Box<Outbox>>,
    #[allow(clippy::vec_box)] // as above
    pub(super) spare_intakes: Vec<Box<Intake>>,
    pub(super) lease: Lease,
    pub(super) streak: Streak,
    pub(super) at_hand: AtHand,
    /// The worker has ended: there are no more timers and subscriptions.
    pub(super) is_over: bool,
    pub(super) timers: Timers,
    pub(super) later: Later,
    pub(super) topics: Topics,
    /// Which connection has sent datagrams from there.
    pub(super) peers: HashMap<PeerKey, ConnId>,
    /// Attempts to connect that the driver has, and for whom.
    pub(super) attempts: HashMap<u64, ConnId>,
    pub(super) attempt_last: u64,
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
            backlog: VecDeque::new(),
            unsettled: Vec::new(),
            resumed: VecDeque::new(),
            starved: VecDeque::new(),
            starved_timer: false,
            delayed: Vec::new(),
            count: 0,
            conns: Chunks::new(),
            slots: SlotCache::default(),
            spares: Vec::new(),
            large_spares: Vec::new(),
            spare_intakes: Vec::new(),
            lease: Lease::default(),
            streak: Streak::default(),
            at_hand: AtHand::new(),
            is_over: false,
            timers: Timers::default(),
            later: Later::default(),
            topics: Topics::default(),
            peers: HashMap::new(),
            attempts: HashMap::new(),
            attempt_last: 0,
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
    #[inline]
    pub(super) fn knows(&mut self, id: ConnId) -> bool {
        id.worker() == self.me.number && self.conn(id).is_some()
    }

    #[inline]
    pub(super) fn user(&self, id: ConnId) -> HostUser {
        self.slots.slot(id.index()).user()
    }

    /// What few connections have, of one that has it.
    #[inline]
    pub(super) fn extra(&mut self, id: ConnId) -> Option<&mut Extra> {
        self.conn(id)?.extra.as_deref_mut()
    }

    /// The same, made for a connection that does not have it yet.
    pub(super) fn extra_mut(&mut self, id: ConnId) -> Result<&mut Extra> {
        let conn = self.conn(id).ok_or(Status::Stale)?;
        if conn.extra.is_none() {
            conn.extra = Some(sys::boxed(Extra::default())?);
        }
        conn.extra.as_deref_mut().ok_or_else(|| Status::Stale.into())
    }

    // ---- Opening

    /// Makes room for a connection. It is open, but neither announced nor known to the driver.
    pub(super) fn insert(&mut self, id: ConnId) -> Result<()> {
        // Each of these lists holds a connection at most once: from here on neither has to grow.
        let all = self.count + 1;
        make_room(&mut self.dirty, all)?;
        make_room(&mut self.unsettled, all)?;
        self.slots.know(&self.me.slots, id.index())?;
        let slot = self.slots.slot(id.index());
        let mut conn = Conn::open(id.generation(), slot.framing(), sys::now_ms());
        conn.flags.set(Flags::DATAGRAM, slot.is_datagram());
        *self.conns.grow_to(id.index())? = conn;
        self.count += 1;
        Ok(())
    }

    /// The driver has it and the program will hear of it.
    pub(super) fn announce(&mut self, id: ConnId) -> Result<()> {
        self.start_idle(id)?;
        if let Some(conn) = self.conn(id) {
            conn.flags.set(Flags::READING, true);
            if !conn.flags.set(Flags::ANNOUNCED, true) {
                self.me.counters.opened.add(1);
            }
        }
        Ok(())
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

    /// Replaces the user data; the finalizer of what was there before comes back, or the new one with the reason why
    /// not.
    pub(super) fn set_user(&mut self, id: ConnId, user: HostUser, finalizer: Finalizer) -> UserSet {
        let extra = match self.extra_mut(id) {
            Ok(extra) => extra,
            Err(error) => return Err((error, finalizer)),
        };
        let before = std::mem::replace(&mut extra.finalizer, finalizer);
        self.me.orders.add(1);
        self.slots.slot(id.index()).set_user(user);
        Ok(before)
    }

    // ---- The worker's own business

    /// Puts the connection on the list of those that the driver has to hear of.
    pub(super) fn unsettle(&mut self, id: ConnId) {
        self.me.orders.add(1);
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
        // Or its successor in the same place, which could not tell whose bytes they were.
        let Some(conn) = self.conns.get(id.index()) else { return };
        if conn.phase == Phase::Draining || conn.flags.has(Flags::ENDING) {
            let id = ConnId::new(self.me.number, id.index(), conn.generation);
            self.unsettle(id);
        }
    }

    /// How long to wait for something to happen, before a deadline comes or there is work left.
    pub(super) fn timeout_ms(&self) -> Option<u64> {
        let has_output = !self.dirty.is_empty() || !self.backlog.is_empty();
        let has_work = has_output || !self.unsettled.is_empty() || !self.resumed.is_empty();
        if has_work || self.me.mailbox.has_mail() {
            return Some(0);
        }
        // When that time has passed, and all connections with it, and the cluster is cut off, its end is all that is waited
        // for: it wakes us.
        let is_cut = || self.server.cluster().is_none_or(|cluster| cluster.is_over());
        let is_awaited = |at_ms: &u64| *at_ms > sys::now_ms() || self.count > 0 || !is_cut();
        let stop_ms = self.server.stop_at_ms().filter(is_awaited);
        let next_ms = [self.wheel.next_ms(), stop_ms].into_iter().flatten().min()?;
        Some(next_ms.saturating_sub(sys::now_ms()))
    }

    /// Gives back what the worker holds of the limit for all connections.
    pub(super) fn settle_lease(&mut self) {
        self.lease.settle(&self.server.budget);
    }
}

/// Room in a list for so many. It grows into new memory, without a copy of the part that holds nothing: what a list has never
/// used costs nothing, and growing takes no longer for a million.
fn make_room(list: &mut Vec<ConnId>, all: usize) -> std::result::Result<(), TryReserveError> {
    if list.capacity() < all {
        let mut larger = Vec::new();
        larger.try_reserve_exact(all.next_power_of_two())?;
        larger.append(list);
        *list = larger;
    }
    Ok(())
}

/// What comes of [`Roster::set_user`].
pub(super) type UserSet = std::result::Result<Finalizer, (crate::status::Error, Finalizer)>;
