//! Several servers that act as one: what a server has of its cluster, from start to stop.
//!
//! - [`options`]: what it is asked to be; `subject`: names as NATS writes them.
//! - `engine`: the contract of what carries the cluster, and `bucket` of what it keeps; `local`: inside the process; `nats`:
//!   between machines.
//! - `topics`, `kv` and `watch`: what programs have, on any engine.
//!
//! A server without `.cluster` has one as well: the local one, with a single member, where all the same calls work.
//! What the program gave is called on the workers only, through [`Host::run`].

pub(crate) mod bucket;
mod engine;
pub(crate) mod handles;
pub(crate) mod kv;
mod local;
#[cfg(feature = "cluster")]
mod nats;
pub mod options;
mod subject;
mod topics;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::engine::Done;
use self::engine::{Engine, Link};
use self::options::{ClusterOptions, ClusterUrl};
pub(crate) use self::topics::Interest;
use crate::status::{Error, Result, Status};

/// Something to be done on a worker: a call of the program's. One that is dropped instead must see to what it owes.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// What a cluster asks of the server that is its member here.
pub(crate) trait Host: Send + Sync {
    /// Runs a task on a worker; those of one lane on the same worker, in order. On an error (the server has stopped, or
    /// there is no memory) the task comes back.
    fn run(&self, lane: u64, task: Task) -> Result<(), (Error, Task)>;

    /// Runs a task on a worker in a while.
    fn after(&self, delay_ms: u32, task: Task) -> Result<()>;

    /// Another node has published: to everybody of this node in the topic, as far as there is room.
    fn deliver(&self, topic: &Arc<str>, payload: &[u8]);

    /// Lets the workers look whether the server can end.
    fn wake(&self);

    /// The program's `on_cluster_state`. Called on a worker.
    fn on_cluster_state(&self, state: State, reason: Status);
}

/// How a server stands to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has none: what it shares stays in the process.
    Local,
    /// It was never joined since the start.
    Joining,
    /// Joined.
    Joined,
    /// Lost; to be joined again.
    Disconnected,
    /// Joined again after a loss.
    Rejoined,
    /// The server stops, and has left.
    Left,
}

impl State {
    /// Whether the cluster can be reached.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Local | Self::Joined | Self::Rejoined)
    }
}

/// In which the cluster's own tasks run.
const LANE_CLUSTER: u64 = 0;

/// What a server has of its cluster.
pub(crate) struct Cluster {
    /// "" for the local one.
    name: String,
    node: String,
    engine: Box<dyn Engine>,
    host: Arc<dyn Host>,
    /// And why.
    state: Mutex<(State, Status)>,
    topics: topics::Topics,
    kv: kv::KvState,
    /// Calls and jobs that were begun and are not ended: a server that stops waits for them.
    in_hand: AtomicUsize,
    is_leaving: AtomicBool,
    has_left: AtomicBool,
}

impl Cluster {
    fn new(name: String, node: String, engine: Box<dyn Engine>, host: Arc<dyn Host>, state: State) -> Arc<Self> {
        Arc::new(Self {
            name,
            node,
            engine,
            host,
            state: Mutex::new((state, Status::Ok)),
            topics: topics::Topics::default(),
            kv: kv::KvState::default(),
            in_hand: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
        })
    }

    /// The cluster of a server that has none.
    pub(crate) fn local(host: Arc<dyn Host>) -> Arc<Self> {
        let engine = Box::new(local::Local::new(Arc::clone(&host)));
        Self::new(String::new(), "local".to_owned(), engine, host, State::Local)
    }

    /// Joins a cluster; with `join_ms` it waits for that.
    #[cfg(feature = "cluster")]
    pub(crate) fn join(options: ClusterOptions, host: Arc<dyn Host>) -> Result<Arc<Self>> {
        let url = ClusterUrl::parse(&options.url)?;
        let node = match &options.node {
            Some(node) => subject::check_name("node", node)?.to_owned(),
            None => default_node(),
        };
        let engine = nats::Nats::open(&url, &node, &options)?;
        let events = engine.events();
        let cluster = Self::new(url.name, node, Box::new(engine), host, State::Joining);
        // The engine never keeps its owner.
        let weak = Arc::downgrade(&cluster);
        events.listen(Box::new(move |link, reason| {
            if let Some(cluster) = weak.upgrade() {
                cluster.link_changed(link, reason);
            }
        }));
        if options.join_ms > 0 {
            events.wait_until_up(options.join_ms)?;
        }
        Ok(cluster)
    }

    /// This build knows no clusters.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn join(options: ClusterOptions, _host: Arc<dyn Host>) -> Result<Arc<Self>> {
        ClusterUrl::parse(&options.url)?;
        Err(Error::new(Status::Unsupported, "this libahoy is built without clusters"))
    }

    fn lock(&self) -> MutexGuard<'_, (State, Status)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are no other nodes, and never will be.
    fn is_local(&self) -> bool {
        self.name.is_empty()
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        self.lock().0
    }

    /// The engine's link is up or down. Called in the order in which that happens.
    fn link_changed(self: &Arc<Self>, link: Link, reason: Status) {
        let state = {
            let mut now = self.lock();
            let state = match (link, now.0) {
                (_, State::Left) => return,
                (Link::Up, State::Joining) => State::Joined,
                (Link::Up, State::Joined) => return,
                (Link::Up, _) => State::Rejoined,
                (Link::Joining, _) => State::Joining,
                (Link::Down, _) => State::Disconnected,
            };
            if *now == (state, reason) {
                return;
            }
            *now = (state, reason);
            state
        };
        log::info!("cluster {}: {state:?}", self.name);
        if state.is_up() {
            self.doubt_watches();
        }
        let host = Arc::clone(&self.host);
        if self.host.run(LANE_CLUSTER, Box::new(move || host.on_cluster_state(state, reason))).is_err() {
            log::debug!("the server has ended before it was told of its cluster");
        }
    }

    /// Begins a call, which the server waits for when it stops.
    fn begin(self: &Arc<Self>) -> Result<Hand> {
        let hand = Hand(Arc::clone(self));
        let before = self.in_hand.fetch_add(1, Ordering::AcqRel);
        if self.is_leaving.load(Ordering::Acquire) {
            return Err(Status::Stopped.into());
        }
        if before >= IN_HAND_MAX {
            return Err(Error::new(Status::Again, format!("{IN_HAND_MAX} calls are under way")));
        }
        Ok(hand)
    }

    // ---- The end

    /// The server stops: nothing new is begun; what is in hand may end.
    pub(crate) fn leave(self: &Arc<Self>) {
        if !self.is_leaving.swap(true, Ordering::AcqRel) {
            self.leave_if_idle();
        }
    }

    /// What is still in hand is given up.
    pub(crate) fn cut(self: &Arc<Self>) {
        self.is_leaving.store(true, Ordering::Release);
        self.let_go(0);
    }

    /// Whether nothing of the program's is called for the cluster any more.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    fn leave_if_idle(self: &Arc<Self>) {
        if self.is_leaving.load(Ordering::Acquire) && self.in_hand.load(Ordering::Acquire) == 0 {
            self.let_go(FLUSH_MS);
        }
    }

    fn let_go(self: &Arc<Self>, flush_ms: u32) {
        {
            let mut state = self.lock();
            if state.0 != State::Local {
                *state = (State::Left, Status::Ok);
            }
        }
        let cluster = Arc::clone(self);
        let gone = move || {
            cluster.close_kvs();
            cluster.has_left.store(true, Ordering::Release);
            cluster.host.wake();
        };
        self.engine.stop(flush_ms, Box::new(gone));
    }
}

/// Calls under way at once; more are refused.
const IN_HAND_MAX: usize = 65_536;

/// A call that is under way, until it is dropped.
struct Hand(Arc<Cluster>);

impl Drop for Hand {
    fn drop(&mut self) {
        if self.0.in_hand.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.leave_if_idle();
        }
    }
}

/// How long the engine has to send what waits to be sent when it is let go.
const FLUSH_MS: u32 = 1_000;

/// Host, process and a random number: two nodes of one host differ, and so do two lives of one process id.
#[cfg(feature = "cluster")]
fn default_node() -> String {
    use std::hash::{BuildHasher, RandomState};
    let plain = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let host: String = crate::sys::host_name().chars().map(plain).take(32).collect();
    let process = std::process::id();
    format!("{host}-{process}-{:08x}", RandomState::new().hash_one(process) >> 32)
}
