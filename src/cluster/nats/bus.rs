//! Messages: publishing, subscriptions that outlive a connection, requests and answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, HeaderMap, StatusCode, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Connected, Echo, Shared, disconnected, error};
use crate::cluster::engine::{Answer, Done, Failure, Hear, Mark, Message, ReplyTo, Sink, SubscriptionKey};
use crate::status::{Error, Result, Status};

/// The headers with which NATS services say that they have failed.
const FAILURE: &str = "Nats-Service-Error";
const FAILURE_CODE: &str = "Nats-Service-Error-Code";

/// Hears messages as NATS has them.
pub(super) type RawSink = Arc<dyn Fn(async_nats::Message) + Send + Sync>;

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
    hear: RawSink,
    /// The number of the connection on which it is heard.
    connection: u64,
    /// The task that hears it there.
    task: Option<Hearing>,
}

/// Ends the task when it is dropped.
struct Hearing {
    task: Option<AbortHandle>,
    /// Lets it end by itself.
    retire: Option<oneshot::Sender<Ended>>,
}

type Ended = Box<dyn FnOnce() + Send>;

impl Drop for Hearing {
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

    pub(super) fn retire(&self, key: SubscriptionKey, ended: Ended) {
        let removed = self.lock().remove(&key);
        let retire = removed.and_then(|mut subscription| {
            let hearing = subscription.task.as_mut()?;
            hearing.task = None;
            hearing.retire.take()
        });
        match retire {
            // It has ended already, if it does not take this.
            Some(retire) => drop(retire.send(ended)),
            None => ended(),
        }
    }

    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    /// To be called each second.
    pub(super) fn beat(&self) {
        self.risk.beat();
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
        if !self.events.is_up() {
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
            let reply = message.reply.as_ref().map(|reply| ReplyTo(reply.as_str().into()));
            let mark = mark_of(&message);
            sink(&Message { subject: &message.subject, payload: &message.payload, reply, mark });
        };
        self.hear(subject, group, echo, Arc::new(hear))
    }

    pub(super) fn hear(
        self: &Arc<Self>,
        subject: &str,
        group: Option<&str>,
        echo: Echo,
        hear: RawSink,
    ) -> Result<SubscriptionKey> {
        let key = SubscriptionKey(self.bus.key_last.fetch_add(1, Ordering::Relaxed) + 1);
        let (subject, group) = (subject.to_owned(), group.map(str::to_owned));
        let subscription = Subscription { subject, group, echo, hear, connection: 0, task: None };
        self.bus.lock().insert(key, subscription);
        // A connection that comes about now finds it in the list.
        let connected = self.client(echo).clone();
        if let Some(connected) = connected {
            let shared = Arc::clone(self);
            // Tried at once: what the caller sends next is to come behind it.
            let mut listening = Box::pin(async move { shared.listen(key, &connected).await });
            if (&mut listening).now_or_never().is_none() {
                self.runtime.spawn(listening);
            }
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
        let subscriber: Result<Subscriber, SubscribeError> = match group {
            Some(group) => connected.client.queue_subscribe(subject, group).await,
            None => connected.client.subscribe(subject).await,
        };
        let Ok(subscriber) = subscriber else { return };
        let before = {
            let mut subscriptions = self.bus.lock();
            let Some(subscription) = subscriptions.get_mut(&key) else { return };
            let (retire, is_retired) = oneshot::channel();
            let task = self.runtime.spawn(hear(subscriber, Arc::clone(&subscription.hear), is_retired));
            subscription.task.replace(Hearing { task: Some(task.abort_handle()), retire: Some(retire) })
        };
        drop(before);
    }

    pub(super) fn ask(&self, subject: &str, payload: &[u8], reply: &ReplyTo) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let payload = Bytes::copy_from_slice(payload);
        let sent = client.publish_with_reply(subject.to_owned(), reply.0.to_string(), payload).now_or_never();
        sent.map_or_else(|| Err(too_much()), |sent| sent.map_err(|failed| error::of_publish(failed.kind(), subject)))
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

    pub(super) fn ask_all(
        self: &Arc<Self>,
        subject: &str,
        payload: &[u8],
        timeout_ms: u32,
        hear: Hear,
        done: Done<()>,
    ) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        self.requests.try_acquire().map_err(|_| too_much())?.forget();
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        let (subject, payload) = (subject.to_owned(), Bytes::copy_from_slice(payload));
        let (shared, owed) = (Arc::clone(self), Owed(Some(done)));
        self.runtime.spawn(async move {
            let gathered = tokio::time::timeout(timeout, gather(&client, subject, payload, hear)).await;
            shared.requests.add_permits(1);
            // What has not come by now is missing.
            owed.pay(gathered.unwrap_or(Ok(())));
        });
        Ok(())
    }

    pub(super) fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let (subject, payload) = (to.0.to_string(), Bytes::copy_from_slice(payload));
        let sent = match failure {
            None => client.publish(subject, payload).now_or_never(),
            Some(failure) => {
                let mut headers = HeaderMap::new();
                headers.insert(FAILURE, failure.text.replace(['\r', '\n'], " "));
                headers.insert(FAILURE_CODE, failure.code.to_string());
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

async fn gather(client: &Client, subject: String, payload: Bytes, hear: Hear) -> Result<()> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| disconnected())?;
    let sent = client.publish_with_reply(subject.clone(), inbox, payload).await;
    sent.map_err(|failed| error::of_publish(failed.kind(), &subject))?;
    while let Some(answer) = answers.next().await {
        if answer.status == Some(StatusCode::NO_RESPONDERS) || hear(&answer.payload) {
            break;
        }
    }
    Ok(())
}

/// Hears until it is told to end by itself, and then what is still on its way.
async fn hear(mut subscriber: Subscriber, sink: RawSink, mut is_retired: oneshot::Receiver<Ended>) {
    let mut ended = None;
    loop {
        let next = match ended {
            Some(_) => subscriber.next().await,
            None => match future::select(subscriber.next(), &mut is_retired).await {
                Either::Left((next, _)) => next,
                Either::Right((Ok(retired), _)) => {
                    ended = Some(retired);
                    match subscriber.drain().await {
                        Ok(()) => continue,
                        Err(_) => None,
                    }
                }
                Either::Right((Err(_), _)) => return,
            },
        };
        let Some(message) = next else { break };
        // A bug costs one message, not the connection.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(message)));
    }
    // Before it is said that this is over.
    drop(sink);
    if let Some(ended) = ended {
        ended();
    }
}

fn mark_of(message: &async_nats::Message) -> Mark<'_> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Mark::Unheard;
    }
    let Some(headers) = &message.headers else { return Mark::None };
    let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    let code = header(FAILURE_CODE);
    match header(FAILURE).or(code) {
        None => Mark::None,
        Some(text) => Mark::Failure(Failure { code: code.and_then(|code| code.parse().ok()).unwrap_or(500), text }),
    }
}

pub(super) fn answer_of(message: async_nats::Message) -> Answer {
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

/// Counts messages that were taken in the second or two before the link was lost: NATS does not say what has become of them.
#[derive(Default)]
struct Risk {
    taken: AtomicU64,
    /// What was taken by the last beat of the clock, and by the one before it.
    settled: Mutex<[u64; 2]>,
    messages: AtomicU64,
}

impl Risk {
    #[inline]
    fn taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// A second has passed.
    fn beat(&self) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        *settled = [settled[1], self.taken.load(Ordering::Relaxed)];
    }

    fn count(&self) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken.load(Ordering::Relaxed);
        self.messages.fetch_add(taken - settled[0], Ordering::Relaxed);
        *settled = [taken; 2];
    }
}
