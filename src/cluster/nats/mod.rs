//! The engine on NATS, through `async-nats`, on one thread of its own: no worker ever waits for it.
//!
//! There are two connections to the servers. On the one ([`Echo::No`]) a node does not hear what it says itself: topics, which
//! it has delivered to its own by then. The other is for all that may well be answered by this very node.
//!
//! - `link`: connecting, again and again, and what the connections tell; `bus`: messages; `pack`: the memory in which they go;
//!   `jet`: what JetStream is asked; `kv`: buckets; `queues`: jobs; `error`: what NATS says in our words.

mod bus;
mod error;
mod jet;
mod kv;
mod link;
pub(super) mod outside;
mod pack;
mod queues;

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Request};
use futures_util::future::join;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::engine::{Answer, Done, Echo, Engine, EngineCounts, Failure, Hear, Link, ReplyTo, Sink, SubscriptionKey};
use super::options::ClusterOptions;
use super::queues::Queues;
use crate::fault::{self, Call};
use crate::log::Inside;
use crate::net::ClusterUrl;
use crate::status::{Error, Result, Status};
use crate::sys;

pub(crate) use self::link::Events;

/// The engine, as its owner sees it.
pub(crate) struct Nats {
    shared: Arc<Shared>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Ends it; taken when that has begun.
    end: Option<oneshot::Sender<End>>,
}

/// How the thread is to end.
struct End {
    /// For what waits to be sent.
    timeout: Duration,
    gone: Box<dyn FnOnce() + Send>,
}

/// What its tasks and the threads of the program share.
struct Shared {
    runtime: Handle,
    /// The cluster's name.
    cluster: String,
    /// By [`Echo`]; None: not connected since the start, or since the server has shut us out.
    clients: [RwLock<Option<Connected>>; 2],
    events: Events,
    bus: bus::Bus,
    pack: pack::Pack,
    queues: queues::State,
    /// The host at which others reach this one, if the program says it.
    advertise: Option<String>,
    /// Requests under way.
    requests: Arc<Semaphore>,
    timeout: Duration,
    slow_consumer_drops: AtomicU64,
}

/// One connection, from the first time that it is up until the server shuts it out for good.
#[derive(Clone)]
struct Connected {
    client: Client,
    /// No two have the same; not 0.
    number: u64,
}

/// Requests under way at once; more are refused.
const REQUESTS_MAX: usize = 65_536;
/// How long a thread has to start its runtime.
const CALL_MS: u32 = 5_000;

impl Nats {
    /// Starts the thread, which connects and stays connected.
    pub(super) fn open(url: &ClusterUrl, node: &str, options: &ClusterOptions) -> Result<Self> {
        let timeout_ms = if options.timeout_ms == 0 { CALL_MS } else { options.timeout_ms };
        let connect = link::Connect::new(url, node, options)?;
        let (cluster, advertise) = (url.name.clone(), options.advertise.clone());
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let body = move || {
            let _inside = Inside::enter();
            let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(Error::system("open a runtime", &error)))),
            };
            let shared = Arc::new(Shared {
                runtime: runtime.handle().clone(),
                cluster,
                clients: [RwLock::new(None), RwLock::new(None)],
                events: Events::default(),
                bus: bus::Bus::default(),
                pack: pack::Pack::default(),
                queues: queues::State::default(),
                advertise,
                requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
                timeout: Duration::from_millis(u64::from(timeout_ms)),
                slow_consumer_drops: AtomicU64::new(0),
            });
            if ready.send(Ok(Arc::clone(&shared))).is_err() {
                return;
            }
            let beating = Arc::clone(&shared);
            runtime.spawn(async move {
                let mut beat = tokio::time::interval(Duration::from_secs(1));
                loop {
                    beat.tick().await;
                    beating.bus.beat();
                }
            });
            let connect = Arc::new(connect);
            for echo in [Echo::No, Echo::Yes] {
                runtime.spawn(link::stay_connected(Arc::clone(&shared), Arc::clone(&connect), echo));
            }
            let end = runtime.block_on(async {
                let end: Option<End> = ended.await.ok();
                if let Some(end) = end.as_ref().filter(|end| !end.timeout.is_zero()) {
                    shared.flush(end.timeout).await;
                }
                end
            });
            // Tasks are dropped where they stand, with what they owe; a name that is being looked up is not waited for.
            runtime.shutdown_background();
            shared.bus.clear();
            if let Some(end) = end {
                (end.gone)();
            }
        };
        // All signals are blocked: a broken pipe here would end the host otherwise.
        let spawned = fault::check(Call::Spawn).and_then(|()| {
            sys::with_signals_blocked(|| std::thread::Builder::new().name("ahoy-cluster".to_owned()).spawn(body))
        });
        let handle =
            spawned.map_err(|error| Error { status: Status::Thread, ..Error::system("start a thread", &error) })?;
        let shared = is_ready.recv().unwrap_or_else(|_| Err(Status::Thread.into()))?;
        Ok(Self { shared, thread: Mutex::new(Some(Thread { handle, end: Some(end) })) })
    }

    /// Where it tells how the link is.
    pub(super) fn events(&self) -> Events {
        self.shared.events.clone()
    }
}

impl Shared {
    fn client(&self, echo: Echo) -> RwLockReadGuard<'_, Option<Connected>> {
        self.clients[echo as usize].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_connected(&self, echo: Echo, connected: Option<Connected>) {
        *self.clients[echo as usize].write().unwrap_or_else(PoisonError::into_inner) = connected;
    }

    /// A client of its own for a task; `Disconnected` while the link is down.
    fn connected(&self, echo: Echo) -> Result<Client> {
        if !self.events.is_up() {
            return Err(self.events.disconnected());
        }
        let client = self.client(echo).as_ref().map(|connected| connected.client.clone());
        client.ok_or_else(|| self.events.disconnected())
    }

    fn payload_bytes_max(&self) -> Option<usize> {
        self.client(Echo::Yes).as_ref().map(|connected| connected.client.max_payload()).filter(|max| *max > 0)
    }

    /// This host as the server sees it.
    fn host_seen(&self) -> Option<String> {
        let seen = self.client(Echo::Yes).as_ref().map(|connected| connected.client.server_info().client_ip);
        seen.filter(|host| host.parse::<IpAddr>().is_ok())
    }

    fn unhear(&self, key: SubscriptionKey) {
        self.bus.remove(key);
    }

    /// Sends what waits to be sent. A question that nobody hears is answered by the server itself, when it has had all
    /// that was sent before; the client's own flush returns also when the socket was full.
    async fn flush(&self, timeout: Duration) {
        let subject = format!("{}.flush", self.cluster);
        let flush = async |echo| {
            // The one may be up while the other is down.
            let client = self.client(echo).as_ref().map(|connected| connected.client.clone());
            let client = client.filter(|client| client.connection_state() == State::Connected);
            if let Some(client) = client {
                let _ = bus::send_within(&client, &subject, Request::new(), timeout).await;
            }
        };
        join(flush(Echo::No), flush(Echo::Yes)).await;
    }
}

/// The link was lost just now.
fn disconnected() -> Error {
    Error::new(Status::Disconnected, "the link to the cluster is lost")
}

impl Engine for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn link(&self) -> Link {
        self.shared.events.link()
    }

    fn own_host(&self) -> Option<String> {
        self.shared.advertise.clone().or_else(|| self.shared.host_seen())
    }

    fn payload_bytes_max(&self) -> Option<usize> {
        self.shared.payload_bytes_max()
    }

    fn publish(&self, subject: &str, payload: &[u8], echo: Echo) -> Result<()> {
        self.shared.publish(subject, payload, echo)
    }

    fn subscribe(&self, subject: &str, group: Option<&str>, echo: Echo, sink: Sink) -> Result<SubscriptionKey> {
        self.shared.subscribe(subject, group, echo, sink)
    }

    fn unsubscribe(&self, key: SubscriptionKey) {
        self.shared.unhear(key);
    }

    fn retire(&self, key: SubscriptionKey, ended: Box<dyn FnOnce() + Send>) {
        self.shared.bus.retire(key, ended);
    }

    fn request(&self, subject: &str, payload: &[u8], timeout_ms: u32, done: Done<Answer>) -> Result<()> {
        self.shared.request(subject, payload, timeout_ms, done)
    }

    fn ask_all(&self, subject: &str, payload: &[u8], timeout_ms: u32, hear: Hear, done: Done<()>) -> Result<()> {
        self.shared.ask_all(subject, payload, timeout_ms, hear, done)
    }

    fn ask(&self, subject: &str, payload: &[u8], reply: &ReplyTo) -> Result<()> {
        self.shared.ask(subject, payload, reply)
    }

    fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) -> Result<()> {
        self.shared.respond(to, payload, failure)
    }

    fn every(&self, interval_ms: u32, mut tick: Box<dyn FnMut() -> bool + Send>) -> Result<()> {
        let mut interval = {
            // An interval can be made in the runtime only.
            let _entered = self.shared.runtime.enter();
            tokio::time::interval(Duration::from_millis(u64::from(interval_ms)))
        };
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.shared.runtime.spawn(async move {
            loop {
                interval.tick().await;
                // A bug costs one tick: a node that no longer said that it is there would be taken for dead.
                if matches!(catch_unwind(AssertUnwindSafe(&mut tick)), Ok(false)) {
                    return;
                }
            }
        });
        Ok(())
    }

    fn counts(&self) -> EngineCounts {
        EngineCounts {
            reconnects: self.shared.events.reconnects(),
            slow_consumer_drops: self.shared.slow_consumer_drops.load(Ordering::Relaxed),
            at_risk: self.shared.bus.at_risk(),
        }
    }

    fn queues(&self) -> &dyn Queues {
        self
    }

    fn stop(&self, timeout_ms: u32, gone: Box<dyn FnOnce() + Send>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = thread.as_mut().and_then(|thread| thread.end.take()) {
            let _ = end.send(End { timeout: Duration::from_millis(u64::from(timeout_ms)), gone });
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Thread { handle, end }) = thread else { return };
        if sys::forked() {
            // The thread, and what it holds, are the parent's.
            std::mem::forget((handle, end));
        } else if handle.thread().id() != std::thread::current().id() {
            drop(end);
            let _ = handle.join();
        }
    }
}
