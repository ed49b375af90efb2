//! The contract of an engine: what carries messages between the nodes of a cluster, and keeps what they share.
//!
//! Two are behind it: `local`, inside the process, and `nats`. Whatever can be built on these calls (members, services,
//! addresses, presence) is built once, above them, and knows neither.
//!
//! Nothing here waits. What takes time ends in a [`Done`], which is called exactly once, on a thread of the engine's or on
//! the caller's, with nothing locked; it must not wait either. A `Done` that is dropped without a call was not
//! accepted: the error has been returned.

use std::sync::{Arc, Weak};

use super::Cluster;
use super::bucket::Buckets;
use super::queues::Queues;
use crate::status::{Error, Result, Status};

/// Gets what came of it.
pub(crate) type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// A message between nodes.
pub(crate) struct Message<'a> {
    /// Where it was sent to.
    pub(crate) subject: &'a str,
    pub(crate) payload: &'a [u8],
    /// Somebody waits for an answer.
    pub(crate) reply: Option<ReplyTo>,
    pub(crate) mark: Mark<'a>,
}

/// What a message says beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark<'a> {
    None,
    /// It answers a question: the service has failed.
    Failure(Failure<'a>),
    /// It answers a question of [`Engine::ask`]: nobody has heard it.
    Unheard,
}

/// How a service has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure<'a> {
    /// As in HTTP.
    pub(crate) code: u16,
    pub(crate) text: &'a str,
}

/// The code of who has too much in hand to take a call.
pub(crate) const CODE_BUSY: u16 = 429;

impl Failure<'_> {
    /// What the caller is told.
    pub(crate) fn error(&self) -> Error {
        let status = if self.code == CODE_BUSY { Status::Again } else { Status::Failed };
        Error::new(status, self.text.to_owned())
    }
}

/// Hears messages, in their order, on a thread of the engine's. It must not wait.
pub(crate) type Sink = Arc<dyn Fn(&Message<'_>) + Send + Sync>;

/// Hears one answer of many; says whether there are enough.
pub(crate) type Hear = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReplyTo(pub(crate) Box<str>);

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Vec<u8>,
}

/// One subscription, of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SubscriptionKey(pub(crate) u64);

/// Whether what a node sends reaches its own subscriptions as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    No,
    Yes,
}

/// How the engine is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not yet, since the start.
    Joining,
    Up,
    /// It was, and is to be again.
    Down,
}

/// What an engine counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineCounts {
    /// Times that the link came back.
    pub(crate) reconnects: u64,
    /// Times that messages were dropped because this node was slow to take them.
    pub(crate) slow_consumer_drops: u64,
    /// Messages that were taken shortly before the link was lost: some of them may be lost.
    pub(crate) at_risk: u64,
}

/// Carries messages between nodes.
pub(crate) trait Engine: Buckets + Send + Sync {
    /// What programs know it by.
    fn name(&self) -> &'static str;

    fn link(&self) -> Link;

    /// The host at which other machines reach this one; None: not known yet, or there are no others.
    fn own_host(&self) -> Option<String> {
        None
    }

    /// Longest payload; None: not known yet.
    fn payload_bytes_max(&self) -> Option<usize>;

    /// Sends a message, at most once: `Disconnected` while the link is down, `Again` when too much waits to be sent.
    fn publish(&self, subject: &str, payload: &[u8], echo: Echo) -> Result<()>;

    /// Hears what is sent to a subject, whose last token may be `>` and others `*`. With a group one of the group hears
    /// each message. `echo` is that of those who publish there. It outlives a loss of the link.
    fn subscribe(&self, subject: &str, group: Option<&str>, echo: Echo, sink: Sink) -> Result<SubscriptionKey>;

    /// Ends it. Messages that are on their way may still be heard.
    fn unsubscribe(&self, key: SubscriptionKey);

    /// Ends it, too; but what is on its way is still heard, and then `ended` is called, or dropped if the link is lost first.
    fn retire(&self, key: SubscriptionKey, ended: Box<dyn FnOnce() + Send>);

    /// Sends a request and gets the first answer: `NoService` at once when nobody hears it, `Timeout`, `Disconnected`.
    fn request(&self, subject: &str, payload: &[u8], timeout_ms: u32, done: Done<Answer>) -> Result<()>;

    /// Asks everybody who hears a subject: hands over one answer after the other until there are enough, or the time is
    /// over, or nobody hears it. That is no error.
    fn ask_all(&self, subject: &str, payload: &[u8], timeout_ms: u32, hear: Hear, done: Done<()>) -> Result<()>;

    /// Sends a message whose answers go to a subject that this node hears (with [`Echo::Yes`]). When nobody hears it, a message
    /// comes there that says so. Otherwise as `publish`.
    fn ask(&self, subject: &str, payload: &[u8], reply: &ReplyTo) -> Result<()>;

    /// Answers a request or a question that was heard by a subscription with [`Echo::Yes`]. Where an answer goes may be known
    /// only to the server that has brought the question, so it takes the same way back.
    fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) -> Result<()>;

    /// Calls back in a while, on a thread of the engine's; again and again until it answers false.
    fn every(&self, interval_ms: u32, tick: Box<dyn FnMut() -> bool + Send>) -> Result<()>;

    fn counts(&self) -> EngineCounts;

    /// What keeps its jobs.
    fn queues(&self) -> &dyn Queues;

    /// Sends what waits to be sent, at most for so long, and lets go of everything; then calls `gone`. From there on no sink
    /// and no tick is called; every `Done` has been. Only the first call does anything.
    fn stop(&self, timeout_ms: u32, gone: Box<dyn FnOnce() + Send>);
}

/// A sink that does not keep the cluster.
pub(super) fn with(weak: &Weak<Cluster>, call: impl Fn(&Arc<Cluster>, &Message<'_>) + Send + Sync + 'static) -> Sink {
    let weak = Weak::clone(weak);
    Arc::new(move |message| {
        if let Some(cluster) = weak.upgrade() {
            call(&cluster, message);
        }
    })
}
