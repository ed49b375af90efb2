//! Several servers that act as one: what a server has of its cluster, from start to stop.
//!
//! - [`options`]: what it is asked to be; `subject`: names as NATS writes them.
//! - `engine`: the contract of what carries the cluster, and `bucket` of what it keeps; `local`: inside the process; `nats`:
//!   between machines.
//! - `topics`, `members`, `presence`, `addresses`, `calls` and `services`, `kv` and `watch`, `queues`: what is built on it, on
//!   any engine. `hold`: calls under way.
//!
//! A server without `.cluster` has one as well: the local one, with a single member, where all the same calls work.
//! What the program gave is called on the workers only, through [`Host::run`].
// Without the feature there is one node, and what is for many has nobody to serve.
#![cfg_attr(not(feature = "cluster"), allow(dead_code, unused_imports))]

mod addresses;
pub(crate) mod bucket;
pub(crate) mod calls;
mod engine;
mod find;
pub(crate) mod handles;
mod hold;
pub(crate) mod kv;
mod local;
mod members;
#[cfg(feature = "cluster")]
mod nats;
mod observe;
pub mod options;
mod presence;
pub(crate) mod queues;
pub(crate) mod services;
mod subject;
mod topics;
pub(crate) mod watch;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockAddr;

pub(crate) use self::addresses::Address;
pub(crate) use self::engine::Done;
use self::engine::{Engine, Link};
pub(crate) use self::hold::Hold;
pub(crate) use self::members::Vitals;
pub use self::members::{Member, Presence};
use self::options::ClusterOptions;
pub(crate) use self::presence::Count;
pub(crate) use self::topics::Interest;
#[cfg(feature = "cluster")]
use crate::net::check_reached_at;
use crate::net::{ClusterTarget, ClusterUrl};
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
    fn deliver(&self, topic: &str, payload: &[u8]);

    /// Lets the workers look whether the server can end.
    fn wake(&self);

    /// Sends a message to a connection of the server: `Stale` for any other.
    fn send(&self, conn: u64, message: &[u8]) -> Result<()>;

    /// How the server is.
    fn vitals(&self) -> Vitals;

    /// The program's `on_cluster_state`. Called on a worker.
    fn on_cluster_state(&self, state: State, why: Option<&Error>);

    /// The program's `on_member`. Called on a worker.
    fn on_member(&self, member: &Member);
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
    options: Arc<ClusterOptions>,
    standing: Mutex<Standing>,
    topics: topics::Topics,
    members: members::Members,
    queues: queues::State,
    kv: kv::KvState,
    calls: calls::Calls,
    services: services::Services,
    counts: calls::CallCounts,
    /// How long a call waits for its answer.
    timeout_ms: u32,
    /// Calls and jobs that were begun and are not ended: a server that stops waits for them.
    in_hand: AtomicUsize,
    /// Of these, those that the program has begun.
    begun_here: AtomicUsize,
    is_leaving: AtomicBool,
    is_cut: AtomicBool,
    /// The engine is let go: nothing can be begun.
    is_over: AtomicBool,
    has_left: AtomicBool,
    /// Threads of the program that are in a call which may lead to calls of the program's.
    inside: AtomicUsize,
}

/// A thread is in such a call, until this is dropped. The workers do not end meanwhile.
pub(crate) struct Inside(Arc<Cluster>);

impl Drop for Inside {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.has_left.load(Ordering::SeqCst) {
            self.0.host.wake();
        }
    }
}

/// How it stands, and why it is not joined.
struct Standing {
    state: State,
    why: Option<Error>,
    link: Link,
    link_why: Option<Error>,
    was_joined: bool,
}

/// How long a call waits for its answer, if the program does not say.
const CALL_MS: u32 = 5_000;

impl Cluster {
    fn new(
        name: String,
        node: String,
        engine: Box<dyn Engine>,
        host: Arc<dyn Host>,
        members: members::Members,
        options: ClusterOptions,
    ) -> Arc<Self> {
        let state = if name.is_empty() { State::Local } else { State::Joining };
        Arc::new(Self {
            calls: calls::Calls::new(&name, members.incarnation),
            services: services::Services::default(),
            counts: calls::CallCounts::default(),
            name,
            node,
            engine,
            host,
            standing: Mutex::new(Standing { state, why: None, link: Link::Joining, link_why: None, was_joined: false }),
            topics: topics::Topics::default(),
            members,
            queues: queues::State::default(),
            kv: kv::KvState::default(),
            timeout_ms: if options.timeout_ms == 0 { CALL_MS } else { options.timeout_ms },
            options: Arc::new(options),
            in_hand: AtomicUsize::new(0),
            begun_here: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
        })
    }

    /// The cluster of a server that has none.
    pub(crate) fn local(addresses: &[String], host: Arc<dyn Host>) -> Arc<Self> {
        let engine = Box::new(local::Local::new(Arc::clone(&host)));
        let members = members::Members::new(addresses, String::new(), true);
        let cluster = Self::new(String::new(), "local".to_owned(), engine, host, members, ClusterOptions::default());
        if let Err(error) = cluster.hear_answers() {
            log::error!("calls will have no answers: {error}");
        }
        cluster
    }

    /// Joins a cluster; with `join_ms` it waits for that.
    #[cfg(feature = "cluster")]
    pub(crate) fn join(mut options: ClusterOptions, addresses: &[String], host: Arc<dyn Host>) -> Result<Arc<Self>> {
        let until = Instant::now() + Duration::from_millis(u64::from(options.join_ms));
        let url = ClusterUrl::parse(&options.url)?;
        options.add_login(&url);
        let node = match &options.node {
            Some(node) => subject::check_name("node", node)?.to_owned(),
            None => default_node(),
        };
        if let Some(host) = &options.advertise {
            check_reached_at(host)?;
        }
        let engine = nats::Nats::open(&url, &node, &options)?;
        let events = engine.events();
        let members = members::Members::new(addresses, options.meta.clone(), false);
        let join_ms = options.join_ms;
        let cluster = Self::new(url.name, node, Box::new(engine), host, members, options);
        cluster.begin_members()?;
        cluster.begin_presence()?;
        cluster.begin_addresses()?;
        cluster.begin_finding()?;
        cluster.hear_answers()?;
        // The engine never keeps its owner.
        let weak = Arc::downgrade(&cluster);
        events.listen(Box::new(move |link, why| {
            if let Some(cluster) = weak.upgrade() {
                cluster.link_changed(link, why);
            }
        }));
        if join_ms > 0 {
            events.wait_until_up(join_ms)?;
            cluster.members.wait_until_claimed(&cluster.node, until)?;
        }
        Ok(cluster)
    }

    /// This build knows no clusters.
    #[cfg(not(feature = "cluster"))]
    pub(crate) fn join(options: ClusterOptions, _addresses: &[String], _host: Arc<dyn Host>) -> Result<Arc<Self>> {
        ClusterUrl::parse(&options.url)?;
        Err(Error::new(Status::Unsupported, "this libahoy is built without clusters"))
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are no other nodes, and never will be.
    fn is_local(&self) -> bool {
        self.name.is_empty()
    }

    /// What it was joined with.
    pub(crate) fn options(&self) -> &Arc<ClusterOptions> {
        &self.options
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// The engine's link is up or down. Called in the order in which that happens.
    #[cfg(feature = "cluster")]
    fn link_changed(self: &Arc<Self>, link: Link, why: Option<Error>) {
        {
            let mut standing = self.lock();
            (standing.link, standing.link_why) = (link, why);
        }
        match link {
            Link::Up => {
                if let Some(host) = self.engine.own_host() {
                    self.members.reached_at(&host);
                }
                self.doubt_watches();
            }
            Link::Down => self.link_lost(),
            Link::Joining => {}
        }
        self.restate();
        self.members_link(link);
    }

    /// Tells the program how it stands, if that has changed: joined is who has a link, and its name.
    fn restate(self: &Arc<Self>) {
        let (state, why) = {
            let mut standing = self.lock();
            let (is_held, is_taken) = self.members.standing();
            let link_why = standing.link_why.as_ref().map(Error::again);
            let (state, why) = match (standing.link, standing.state) {
                (_, State::Local | State::Left) => return,
                (Link::Down, _) if standing.was_joined => (State::Disconnected, link_why),
                (Link::Joining | Link::Down, _) => (State::Joining, link_why),
                (Link::Up, _) if is_taken => (State::Joining, Some(members::name_taken(&self.node))),
                (Link::Up, _) if !is_held => (State::Joining, None),
                (Link::Up, state @ (State::Joined | State::Rejoined)) => (state, None),
                (Link::Up, _) if standing.was_joined => (State::Rejoined, None),
                (Link::Up, _) => (State::Joined, None),
            };
            let status = |why: &Option<Error>| why.as_ref().map(|why| why.status);
            if (state, status(&why)) == (standing.state, status(&standing.why)) {
                return;
            }
            (standing.state, standing.why) = (state, why.as_ref().map(Error::again));
            standing.was_joined |= state.is_up();
            (state, why)
        };
        log::info!("cluster {}: {state:?}", self.name);
        let host = Arc::clone(&self.host);
        if self.host.run(LANE_CLUSTER, Box::new(move || host.on_cluster_state(state, why.as_ref()))).is_err() {
            log::debug!("the server has ended before it was told of its cluster");
        }
    }

    // ---- The end

    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }

    /// The server stops: no new job is taken; what is in hand may end.
    pub(crate) fn leave(self: &Arc<Self>) {
        if !self.is_leaving.swap(true, Ordering::SeqCst) {
            let hold = self.hold_on();
            self.queues_leave();
            self.retire_services();
            drop(hold);
        }
    }

    /// What is still in hand is given up. Every worker calls this: only the first of them knows when all is given back.
    pub(crate) fn cut(self: &Arc<Self>) {
        if self.is_cut.swap(true, Ordering::SeqCst) {
            return;
        }
        self.is_leaving.store(true, Ordering::SeqCst);
        // Others are to get the jobs at once: that has to be sent.
        let has_sent = self.queues_cut();
        self.let_go(if has_sent { FLUSH_MS } else { CUT_MS });
    }

    /// Whether nothing of the program's is called for the cluster any more.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::SeqCst) && self.inside.load(Ordering::SeqCst) == 0
    }

    /// Whether the engine is let go: what is left is only to come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// To be held by calls of the program's, from any thread.
    fn enter(self: &Arc<Self>) -> Result<Inside> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let inside = Inside(Arc::clone(self));
        if self.has_left.load(Ordering::SeqCst) { Err(Status::Stopped.into()) } else { Ok(inside) }
    }

    fn leave_if_idle(self: &Arc<Self>) {
        if self.is_leaving() && self.in_hand.load(Ordering::SeqCst) == 0 {
            self.let_go(FLUSH_MS);
        }
    }

    fn let_go(self: &Arc<Self>, flush_ms: u32) {
        if self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        {
            let mut standing = self.lock();
            if standing.state != State::Local {
                (standing.state, standing.why) = (State::Left, None);
            }
        }
        self.say_goodbye();
        // Callers are told of what is cut off.
        let is_cut = self.close_services() | self.close_calls();
        let flush_ms = if is_cut { flush_ms.max(FLUSH_CUT_MS) } else { flush_ms };
        let cluster = Arc::clone(self);
        let gone = move || {
            cluster.close_kvs();
            cluster.has_left.store(true, Ordering::SeqCst);
            cluster.host.wake();
        };
        self.engine.stop(flush_ms, Box::new(gone));
    }
}

/// The addresses behind the URL of a cluster, for somebody who joins his own with these options. Waits for the cluster's
/// servers.
pub(crate) fn look_up(target: &ClusterTarget, options: &ClusterOptions) -> Result<Vec<SockAddr>> {
    #[cfg(feature = "cluster")]
    return nats::outside::look_up(target, options);
    #[cfg(not(feature = "cluster"))]
    {
        let _ = options;
        Err(no_clusters(target))
    }
}

/// Calls a service behind the URL of a cluster, and waits for the answer.
pub(crate) fn call_from_outside(target: &ClusterTarget, question: &[u8], until_ms: u64) -> Result<Vec<u8>> {
    #[cfg(feature = "cluster")]
    return nats::outside::call(target, question, until_ms);
    #[cfg(not(feature = "cluster"))]
    {
        let _ = (question, until_ms);
        Err(no_clusters(target))
    }
}

#[cfg(not(feature = "cluster"))]
fn no_clusters(target: &ClusterTarget) -> Error {
    Error::new(Status::Unsupported, format!("{target}: this libahoy is built without clusters"))
}

/// How long the engine has to send what waits to be sent when it is let go.
const FLUSH_MS: u32 = 1_000;
/// And when something is cut off: nothing but the news of that is waited for.
const FLUSH_CUT_MS: u32 = 100;

/// The same when what is in hand is given up: a goodbye is worth that much.
const CUT_MS: u32 = 100;

/// Host, process and a random number: two nodes of one host differ, and so do two lives of one process id.
#[cfg(feature = "cluster")]
fn default_node() -> String {
    let plain = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let host: String = crate::sys::host_name().chars().map(plain).take(32).collect();
    let process = std::process::id();
    format!("{host}-{process}-{:08x}", RandomState::new().hash_one(process) >> 32)
}
