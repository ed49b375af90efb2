//! What the workers of a server share, and what other threads see of a worker.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::mailbox::Mailbox;
use super::{Handler, ServerId};
use crate::cluster::Cluster;
use crate::conn::budget::Budget;
use crate::conn::ids::Ids;
use crate::conn::slot::SlotTable;
use crate::driver::Waker;
use crate::framing::{Framing, Order};
use crate::metrics::{Counter, Counters};
use crate::options::{Greet, Limits, Options};
use crate::status::{Error, Result, Status};
use crate::sys::{self, HostUser};

/// What a server is, for its workers.
pub(crate) struct ServerShared {
    pub(crate) id: ServerId,
    pub(crate) handler: Box<dyn Handler>,
    pub(crate) limits: Limits,
    pub(crate) conduct: Conduct,
    pub(crate) greeting: Box<[u8]>,
    /// What a connection's user data is until the program sets it.
    pub(crate) user: UserCell,
    pub(crate) budget: Arc<Budget>,
    pub(crate) framings: Framings,
    /// Messages published, and messages of other threads refused: counted by whoever does it.
    pub(crate) published: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Messages of other nodes for which there was no room.
    pub(crate) dropped: AtomicU64,
    /// Connections of all workers, held against `connections_max`.
    connections: AtomicUsize,
    /// When what is left is cut off; `RUNNING` while nobody has stopped the server.
    stop_at_ms: AtomicU64,
    /// Workers that have not ended, and one more until the program's `on_free` has returned.
    workers_left: AtomicUsize,
    /// Readable, for good, when the last worker has ended.
    pub(crate) ended: Waker,
    /// Set before the first worker runs.
    cluster: OnceLock<Arc<Cluster>>,
    /// Joins and subscriptions that are in a mailbox.
    arrivals: AtomicUsize,
}

/// Somebody is on the way into a topic, until this is dropped.
pub(crate) struct Arrival(Arc<ServerShared>);

impl Arrival {
    pub(super) fn new(server: &Arc<ServerShared>) -> Self {
        server.arrivals.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(server))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.arrivals.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The server's user data: a word that only the program looks into.
pub(crate) type UserCell = std::sync::atomic::AtomicPtr<std::ffi::c_void>;

/// What a server does by itself with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    pub(crate) greet: Greet,
    /// The program takes messages; otherwise connections are greeted and closed.
    pub(crate) converses: bool,
    /// The program wants to know of a peer that ended its side, and closes by itself.
    pub(crate) half_open: bool,
    /// The program wants to know of a stop, and closes by itself.
    pub(crate) drains: bool,
    /// The program is told of connections, and may ask for their peers.
    pub(crate) meets_peers: bool,
}

/// The framings of a server, by number. Numbers are given out and never taken back, so that a connection can carry
/// one byte instead of a framing, and any thread can frame what it sends without a lock.
pub(crate) struct Framings([OnceLock<Framing>; FRAMINGS_MAX]);

/// Different framings that one server can have.
const FRAMINGS_MAX: usize = 64;
/// The number of the server's own framing.
pub(crate) const FRAMING_OWN: u8 = 0;
/// The number of what keeps datagrams apart in an outbox: it never reaches the network.
pub(crate) const FRAMING_DATAGRAM: u8 = 1;

impl Framings {
    fn new(own: Framing) -> Result<Self> {
        let framings = Self([const { OnceLock::new() }; FRAMINGS_MAX]);
        framings.number(own)?;
        // Its place may not be found by `number`: a stream's framing of the same kind may get a number of its own.
        let _ = framings.0[usize::from(FRAMING_DATAGRAM)].set(Framing::length(4, Order::Big)?);
        Ok(framings)
    }

    /// The number of a framing, a new one if it has none yet.
    #[allow(clippy::cast_possible_truncation)] // FRAMINGS_MAX fits
    pub(crate) fn number(&self, framing: Framing) -> Result<u8> {
        for (number, place) in self.0.iter().enumerate() {
            if number == usize::from(FRAMING_DATAGRAM) {
                continue;
            }
            if *place.get_or_init(|| framing.clone()) == framing {
                return Ok(number as u8);
            }
        }
        Err(Error::new(Status::Again, format!("a server can have {FRAMINGS_MAX} different framings")))
    }

    /// The framing with this number.
    #[inline(always)]
    pub(crate) fn get(&self, number: u8) -> &Framing {
        static NONE: Framing = Framing::Raw;
        self.0.get(usize::from(number)).and_then(OnceLock::get).unwrap_or(&NONE)
    }
}

const RUNNING: u64 = u64::MAX;

impl ServerShared {
    pub(super) fn new(
        id: ServerId,
        handler: Box<dyn Handler>,
        options: Options,
        limits: Limits,
        workers: usize,
        ended: Waker,
    ) -> Result<Self> {
        let Options { greet, converses, half_open, drains, meets_peers, .. } = options;
        Ok(Self {
            id,
            handler,
            conduct: Conduct { greet, converses, half_open, drains, meets_peers },
            greeting: options.greeting,
            user: UserCell::new(options.user),
            budget: Arc::new(Budget::new(limits.queue_total_bytes_max, workers)),
            framings: Framings::new(options.framing)?,
            limits,
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            stop_at_ms: AtomicU64::new(RUNNING),
            workers_left: AtomicUsize::new(workers + 1),
            ended,
            cluster: OnceLock::new(),
            arrivals: AtomicUsize::new(0),
        })
    }

    /// Whether nobody of this node is in a topic. Who has asked to join before counts as in it: arrivals are looked at first,
    /// so that who is no longer among them is seen in the topic.
    pub(super) fn is_nobody_in(&self, topic: &str) -> bool {
        self.arrivals.load(Ordering::Acquire) == 0 && self.cluster().is_some_and(|cluster| !cluster.has_interest(topic))
    }

    /// What it belongs to; None while the server is being started.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
    }

    pub(super) fn set_cluster(&self, cluster: Arc<Cluster>) {
        // It is set once.
        let _ = self.cluster.set(cluster);
    }

    pub(crate) fn user(&self) -> HostUser {
        self.user.load(Ordering::Relaxed)
    }

    /// Counts one connection more, unless that would be too many.
    pub(crate) fn admit(&self) -> bool {
        let most = self.limits.connections_max as usize;
        let more = |now: usize| (now < most).then_some(now + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one connection less.
    pub(crate) fn dismiss(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the time when what is left is cut off; a later call can only bring it forward.
    pub(super) fn stop(&self, drain_ms: u32) {
        self.stop_at_ms.fetch_min(sys::now_ms() + u64::from(drain_ms), Ordering::AcqRel);
    }

    /// The time when what is left is cut off; None while the server runs.
    #[inline]
    pub(crate) fn stop_at_ms(&self) -> Option<u64> {
        Some(self.stop_at_ms.load(Ordering::Acquire)).filter(|at_ms| *at_ms != RUNNING)
    }

    /// Whether every worker has ended and `on_free` has run.
    pub(super) fn has_ended(&self) -> bool {
        self.workers_left.load(Ordering::Acquire) == 0
    }

    /// One worker has ended. The last one gives the program its user data back.
    pub(crate) fn worker_ended(&self) {
        if self.workers_left.fetch_sub(1, Ordering::AcqRel) == 2 {
            log::info!("server {:x} has stopped", self.id.raw());
            self.handler.on_free();
            self.workers_left.store(0, Ordering::Release);
            self.ended.wake();
        }
    }
}

/// What other threads see of a worker.
pub(crate) struct WorkerShared {
    pub(crate) number: u32,
    pub(crate) server: Arc<ServerShared>,
    pub(crate) slots: SlotTable,
    pub(crate) timer_ids: Ids,
    pub(crate) subscription_ids: Ids,
    pub(crate) mailbox: Mailbox,
    /// Grows with each order that the worker gets for one of its connections.
    pub(crate) orders: Counter,
    pub(crate) counters: Counters,
}

/// The workers of a server.
#[derive(Clone, Default)]
pub(crate) struct Team(Arc<[Arc<WorkerShared>]>);

impl From<Arc<[Arc<WorkerShared>]>> for Team {
    fn from(workers: Arc<[Arc<WorkerShared>]>) -> Self {
        Self(workers)
    }
}

impl Team {
    pub(crate) fn new(workers: impl Iterator<Item = Arc<WorkerShared>>) -> Self {
        Self(workers.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<WorkerShared>> {
        self.0.iter()
    }

    /// Does not keep the workers.
    pub(super) fn downgrade(&self) -> Weak<[Arc<WorkerShared>]> {
        Arc::downgrade(&self.0)
    }

    /// Somebody for what is no connection: the one with the fewest of those that have not ended.
    pub(crate) fn anyone(&self) -> Option<&Arc<WorkerShared>> {
        self.0.iter().filter(|worker| !worker.mailbox.is_closed()).min_by_key(|worker| worker.slots.taken())
    }

    /// Who is to take a new connection on: `me`, unless somebody has at least two fewer. So a connection is only
    /// handed over where that makes things more even.
    pub(crate) fn lightest<'a>(&'a self, me: &'a Arc<WorkerShared>) -> &'a Arc<WorkerShared> {
        let lightest = self.0.iter().min_by_key(|worker| worker.slots.taken()).unwrap_or(me);
        if lightest.slots.taken() + 2 <= me.slots.taken() { lightest } else { me }
    }
}
