//! Messages: publishing, subscriptions that outlive a connection, requests and answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::task::AbortHandle;

use super::{Connected, Echo, Shared, disconnected, error};
use crate::cluster::engine::{Answer, Done, Link, Message, ReplyTo, Sink, SubscriptionKey};
use crate::status::{Error, Result, Status};

/// The headers with which NATS services say that they have failed.
const FAILURE: &str = "Nats-Service-Error";
const FAILURE_CODE: &str = "Nats-Service-Error-Code";

/// Hears messages as NATS has them.
pub(super) type Hear = Arc<dyn Fn(async_nats::Message) + Send + Sync>;

/// The subscriptions that there are, whatever becomes of the connections.
#[derive(Default)]
pub(super) struct Bus {
    subscriptions: Mutex<HashMap<SubscriptionKey, Subscription>>,
    key_last: AtomicU64,
    risk: Risk,
}

struct Subscription {
    subject: String,
    group: Option<String>,
    echo: Echo,
    hear: Hear,
    /// The number of the connection on which it is heard.
    connection: u64,
    /// The task that hears it there.
    task: Option<AbortHandle>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, HashMap<SubscriptionKey, Subscription>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remove(&self, key: SubscriptionKey) {
        // Dropped with nothing locked: what the sink holds may call us.
        let removed = self.lock().remove(&key);
        drop(removed);
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    pub(super) fn count_risk(&self) {
        self.risk.count();
    }

    pub(super) fn at_risk(&self) -> u64 {
        self.risk.messages.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub(super) fn publish(&self, subject: &str, payload: &[u8], echo: Echo) -> Result<()> {
        if self.events.link() != Link::Up {
            return Err(disconnected());
        }
        let client = self.client(echo);
        let Connected { client, .. } = client.as_ref().ok_or_else(disconnected)?;
        self.bus.risk.taken();
        let sent = client.publish(subject.to_owned(), Bytes::copy_from_slice(payload)).now_or_never();
        sent.map_or_else(|| Err(too_much()), |sent| sent.map_err(|failed| error::of_publish(failed.kind(), subject)))
    }

    pub(super) fn subscribe(
        self: &Arc<Self>,
        subject: &str,
        group: Option<&str>,
        echo: Echo,
        sink: Sink,
    ) -> Result<SubscriptionKey> {
        let hear = move |message: async_nats::Message| {
            let reply = message.reply.map(|reply| ReplyTo(reply.as_str().into()));
            sink(&Message { subject: &message.subject, payload: &message.payload, reply });
        };
        self.hear(subject, group, echo, Arc::new(hear))
    }

    pub(super) fn hear(
        self: &Arc<Self>,
        subject: &str,
        group: Option<&str>,
        echo: Echo,
        hear: Hear,
    ) -> Result<SubscriptionKey> {
        let key = SubscriptionKey(self.bus.key_last.fetch_add(1, Ordering::Relaxed) + 1);
        let (subject, group) = (subject.to_owned(), group.map(str::to_owned));
        let subscription = Subscription { subject, group, echo, hear, connection: 0, task: None };
        self.bus.lock().insert(key, subscription);
        // A connection that comes about now finds it in the list.
        let connected = self.client(echo).clone();
        if let Some(connected) = connected {
            let shared = Arc::clone(self);
            self.runtime.spawn(async move { shared.listen(key, &connected).await });
        }
        Ok(key)
    }

    /// On a new connection, everything that there is.
    pub(super) async fn resubscribe(self: &Arc<Self>, echo: Echo, connected: &Connected) {
        let mut keys: Vec<_> = {
            let subscriptions = self.bus.lock();
            subscriptions.iter().filter(|(_, at)| at.echo == echo).map(|(key, _)| *key).collect()
        };
        keys.sort_unstable_by_key(|key| key.0);
        for key in keys {
            self.listen(key, connected).await;
        }
    }

    /// Subscribes on a connection, if there still is such a subscription and it is not there already.
    async fn listen(self: &Arc<Self>, key: SubscriptionKey, connected: &Connected) {
        let wanted = self.bus.lock().get_mut(&key).and_then(|at| {
            let before = std::mem::replace(&mut at.connection, connected.number);
            (before != connected.number).then(|| (at.subject.clone(), at.group.clone()))
        });
        let Some((subject, group)) = wanted else { return };
        let subscriber = match group {
            Some(group) => connected.client.queue_subscribe(subject, group).await,
            None => connected.client.subscribe(subject).await,
        };
        let Ok(subscriber) = subscriber else { return };
        let mut subscriptions = self.bus.lock();
        let Some(subscription) = subscriptions.get_mut(&key) else { return };
        let task = self.runtime.spawn(pass_on(subscriber, Arc::clone(&subscription.hear)));
        if let Some(before) = subscription.task.replace(task.abort_handle()) {
            before.abort();
        }
    }

    pub(super) fn request(
        self: &Arc<Self>,
        subject: &str,
        payload: &[u8],
        timeout_ms: u32,
        done: Done<Answer>,
    ) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let permit = self.requests.try_acquire().map_err(|_| too_much())?;
        permit.forget();
        let timeout = if timeout_ms == 0 { self.timeout } else { Duration::from_millis(u64::from(timeout_ms)) };
        let payload = Bytes::copy_from_slice(payload);
        let (subject, shared) = (subject.to_owned(), Arc::clone(self));
        let owed = Owed(Some(done));
        self.runtime.spawn(async move {
            let request = async_nats::Request::new().payload(payload).timeout(Some(timeout));
            let answer = client.send_request(subject.clone(), request).await;
            shared.requests.add_permits(1);
            owed.pay(answer.map_err(|failed| error::of_request(failed.kind(), &subject)).map(answer_of));
        });
        Ok(())
    }

    pub(super) fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<&str>) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let (subject, payload) = (to.0.to_string(), Bytes::copy_from_slice(payload));
        let sent = match failure {
            None => client.publish(subject, payload).now_or_never(),
            Some(failure) => {
                let mut headers = HeaderMap::new();
                headers.insert(FAILURE, failure.replace(['\r', '\n'], " "));
                headers.insert(FAILURE_CODE, "500");
                client.publish_with_headers(subject, headers, payload).now_or_never()
            }
        };
        sent.map_or_else(
            || Err(too_much()),
            |sent| sent.map_err(|failed| error::of_publish(failed.kind(), "an answer")),
        )
    }
}

fn too_much() -> Error {
    Error::new(Status::Again, "too much waits to be sent to the cluster")
}

async fn pass_on(mut subscriber: Subscriber, hear: Hear) {
    while let Some(message) = subscriber.next().await {
        // A bug costs one message, not the connection.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hear(message)));
    }
}

fn answer_of(message: async_nats::Message) -> Answer {
    let failure =
        message.headers.as_ref().and_then(|headers| headers.get(FAILURE)).map(|text| text.as_str().to_owned());
    Answer { payload: message.payload.to_vec(), failure }
}

/// What is called also when the runtime ends first.
pub(super) struct Owed<T>(pub(super) Option<Done<T>>);

impl<T> Owed<T> {
    pub(super) fn pay(mut self, result: Result<T>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl<T> Drop for Owed<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(Status::Stopped.into()));
        }
    }
}

/// Counts messages that were taken within a second before the link was lost: NATS does not say what has become of them.
#[derive(Default)]
struct Risk {
    window: Mutex<Option<(Instant, u64, u64)>>,
    messages: AtomicU64,
}

impl Risk {
    fn taken(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match window.as_mut() {
            Some((since, current, _)) if now.duration_since(*since) < Duration::from_secs(1) => *current += 1,
            Some((since, current, before)) => (*since, *before, *current) = (now, *current, 1),
            None => *window = Some((now, 1, 0)),
        }
    }

    fn count(&self) {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((since, current, before)) = window {
            let recent = if since.elapsed() < Duration::from_secs(2) { current + before } else { 0 };
            self.messages.fetch_add(recent, Ordering::Relaxed);
        }
    }
}
