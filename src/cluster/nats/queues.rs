//! Jobs in JetStream: a stream for each queue, with one consumer that all nodes pull from.
//!
//! - `stream`: that the two are there; `pull`: taking jobs, and how each ends.

mod pull;
mod stream;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use bytes::Bytes;

use super::bus::Owed;
use super::jet::Refusal;
use super::{Echo, Nats, Shared};
use crate::cluster::engine::Done;
use crate::cluster::queues::{DUPLICATES_MS, Depth, JobSink, Push, QueueName, Queues, Source, Terms};
use crate::status::{Error, Result, Status};

/// How long one answer of JetStream's is waited for; then it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// The rest between two tries, at first and at most.
const REST: Duration = Duration::from_millis(50);
const REST_MAX: Duration = Duration::from_millis(500);
/// JetStream answers nobody for so long: there is none.
const STORE_MISSED: Duration = Duration::from_secs(1);
/// For how long a job may be pushed again of which it is not known whether it is kept.
const REMEMBERED: Duration = Duration::from_millis(DUPLICATES_MS).saturating_sub(ANSWER);
/// Pushes under way at once.
const PUSHES_MAX: usize = 65_536;

/// What the engine knows of queues.
pub(super) struct State {
    /// With the number of the connection that it is for.
    context: Mutex<Option<(u64, Context)>>,
    known: Mutex<HashMap<String, Known>>,
    /// For ids of our own.
    random: RandomState,
    number_last: AtomicU64,
}

/// A stream of a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// It was there when we looked.
    is_there: bool,
    /// What the program has asked for.
    replicas: u32,
}

impl Default for State {
    fn default() -> Self {
        let (context, known) = (Mutex::default(), Mutex::default());
        Self { context, known, random: RandomState::new(), number_last: AtomicU64::new(0) }
    }
}

/// Why something did not come about.
#[derive(Debug)]
enum Trouble {
    /// Nor will it at another try.
    Final(Error),
    /// It certainly has not happened, and may at another try.
    NotYet(Error),
    /// It may have happened.
    Unknown(Error),
}

impl State {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id that no other job has.
    fn id(&self) -> String {
        let number = self.number_last.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}{number:x}", self.random.hash_one(0))
    }
}

impl Shared {
    /// JetStream, on the connection that there is.
    fn jetstream(&self) -> Result<Context> {
        let connected = {
            // Up, or nothing.
            self.connected(Echo::Yes)?;
            self.client(Echo::Yes).clone().ok_or_else(|| self.events.disconnected())?
        };
        let mut context = self.queues.context.lock().unwrap_or_else(PoisonError::into_inner);
        match context.as_ref() {
            Some((number, context)) if *number == connected.number => Ok(context.clone()),
            _ => {
                let new =
                    ContextBuilder::new().timeout(ANSWER).max_ack_inflight(2 * PUSHES_MAX).build(connected.client);
                *context = Some((connected.number, new.clone()));
                Ok(new)
            }
        }
    }

    /// Pushes until there is an answer, or no time is left.
    async fn push(&self, push: &Push, mut until: Instant) -> Result<()> {
        let began = Instant::now();
        // A burial that says none has no room for one.
        let id = push.id.clone().or_else(|| (!push.is_burial).then(|| self.queues.id()));
        let payload = Bytes::from_owner(Arc::clone(&push.payload));
        let (mut is_unknown, mut rest) = (false, REST);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let tried = tokio::time::timeout(left, self.push_once(push, id.as_deref(), payload.clone())).await;
            let error = match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Trouble::Final(error))) => return Err(error),
                Ok(Err(Trouble::NotYet(error))) => error,
                Ok(Err(Trouble::Unknown(error))) => {
                    is_unknown = true;
                    error
                }
                Err(_) => {
                    is_unknown = true;
                    Error::new(Status::Timeout, "no answer in time")
                }
            };
            if error.status == Status::NoStore && !is_unknown && began.elapsed() >= STORE_MISSED {
                return Err(error);
            }
            // A second try is the same job only as long as its id is remembered.
            if is_unknown {
                until = until.min(began + REMEMBERED);
            }
            if Instant::now() + rest >= until {
                let text = format!("{}: {error}", push.queue.subject);
                let status = match error.status {
                    _ if is_unknown => Status::UnknownOutcome,
                    Status::Failed | Status::Again => error.status,
                    _ => Status::Disconnected,
                };
                return Err(Error::new(status, text));
            }
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(REST_MAX);
        }
    }

    async fn push_once(&self, push: &Push, id: Option<&str>, payload: Bytes) -> Result<(), Trouble> {
        let jetstream = self.jetstream().map_err(Trouble::NotYet)?;
        self.open_stream(&jetstream, &push.queue).await?;
        let mut message = jetstream::message::PublishMessage::build().payload(payload);
        if let Some(id) = id {
            message = message.message_id(id);
        }
        for (name, value) in &push.headers {
            message = message.header(*name, value.as_str());
        }
        let failed = |error: PublishError| self.push_failed(&push.queue, &error);
        jetstream.send_publish(push.queue.subject.clone(), message).await.map_err(failed)?.await.map_err(failed)?;
        Ok(())
    }

    fn push_failed(&self, queue: &QueueName, error: &PublishError) -> Trouble {
        let text = format!("{}: {error}", queue.subject);
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Trouble::Final(Error::new(Status::TooLong, text)),
            // Nobody has heard it: there is no leader, or no stream any more.
            PublishErrorKind::StreamNotFound => {
                self.forget_stream(queue);
                Trouble::NotYet(Error::new(Status::Disconnected, text))
            }
            PublishErrorKind::MaxAckPending => Trouble::NotYet(Error::new(Status::Again, text)),
            // The stream refuses it; in an election, only for now.
            PublishErrorKind::Other if is_unreadable(error) => Trouble::Unknown(Error::new(Status::Timeout, text)),
            PublishErrorKind::Other => match refusal(error).map(|refusal| refusal.error("").status) {
                Some(Status::Again) => Trouble::NotYet(Error::new(Status::Again, text)),
                Some(Status::UnknownOutcome) => Trouble::Unknown(Error::new(Status::Timeout, text)),
                _ => Trouble::NotYet(Error::new(Status::Failed, text)),
            },
            _ => Trouble::Unknown(Error::new(Status::Timeout, text)),
        }
    }
}

/// Whether there was an answer, but none that says anything.
fn is_unreadable(error: &PublishError) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<serde_json::Error>())
}

/// What JetStream itself has said.
fn refusal(error: &PublishError) -> Option<Refusal> {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    source.map(Refusal::from)
}

impl Queues for Nats {
    fn push(&self, push: Push, timeout_ms: u32, done: Done<()>) -> Result<()> {
        self.shared.connected(Echo::Yes)?;
        let (shared, owed) = (Arc::clone(&self.shared), Owed(Some(done)));
        let until = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
        self.shared.runtime.spawn(async move {
            let pushed = shared.push(&push, until).await;
            owed.pay(pushed);
        });
        Ok(())
    }

    fn work(&self, queue: &QueueName, terms: Terms, sink: JobSink) -> Result<Arc<dyn Source>> {
        {
            let mut known = self.shared.queues.known();
            let known = known.entry(queue.stream.clone()).or_default();
            if terms.replicas > known.replicas {
                // What is there may have less.
                *known = Known { is_there: false, replicas: terms.replicas };
            }
        }
        Ok(pull::start(&self.shared, queue.clone(), terms, sink))
    }

    fn depth(&self, queue: &QueueName, timeout_ms: u32, done: Done<Depth>) -> Result<()> {
        self.shared.connected(Echo::Yes)?;
        let (shared, queue, owed) = (Arc::clone(&self.shared), queue.clone(), Owed(Some(done)));
        self.shared.runtime.spawn(async move {
            let timeout = Duration::from_millis(u64::from(timeout_ms));
            let depth = tokio::time::timeout(timeout, shared.depth(&queue)).await;
            owed.pay(depth.unwrap_or_else(|_| Err(Error::new(Status::Timeout, "no answer in time"))));
        });
        Ok(())
    }
}
