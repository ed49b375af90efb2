//! Messages: publishing, subscriptions that outlive a connection, requests and answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Request, StatusCode, SubscribeError, Subscriber};
use bytes::Bytes;
use futures_util::future::{self, Either};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
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
    /// Held by the one subscription that is being drained: see [`hear`].
    draining: Arc<tokio::sync::Mutex<()>>,
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
    /// A place among the requests that may be under way; until it is dropped.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        permit.map_err(|_| Error::new(Status::Again, "too many calls wait for the cluster"))
    }

    pub(super) fn publish(&self, subject: &str, payload: &[u8], echo: Echo) -> Result<()> {
        if !self.events.is_up() {
            return Err(self.events.disconnected());
        }
        let client = self.client(echo);
        let Connected { client, .. } = client.as_ref().ok_or_else(|| self.events.disconnected())?;
        self.bus.risk.taken();
        let (wire, payload) = self.pack.message(subject, payload);
        let sent = at_once(client.publish(wire, payload));
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
            let task = self.runtime.spawn(hear(
                subscriber,
                Arc::clone(&subscription.hear),
                is_retired,
                Arc::clone(&self.bus.draining),
            ));
            subscription.task.replace(Hearing { task: Some(task.abort_handle()), retire: Some(retire) })
        };
        drop(before);
    }

    pub(super) fn ask(&self, subject: &str, payload: &[u8], reply: &ReplyTo) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let payload = Bytes::copy_from_slice(payload);
        let sent = at_once(client.publish_with_reply(subject.to_owned(), reply.0.to_string(), payload));
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
        let permit = self.permit()?;
        let timeout = if timeout_ms == 0 { self.timeout } else { Duration::from_millis(u64::from(timeout_ms)) };
        let payload = Bytes::copy_from_slice(payload);
        let (subject, owed) = (subject.to_owned(), Owed(Some(done)));
        self.runtime.spawn(async move {
            let request = Request::new().payload(payload).inbox(client.new_inbox());
            let answer = send_within(&client, &subject, request, timeout).await;
            drop(permit);
            owed.pay(
                answer
                    .map_err(|kind| error::of_request(kind, &subject))
                    .map(|answer| Answer { payload: answer.payload.to_vec() }),
            );
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
        let permit = self.permit()?;
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        let (subject, payload) = (subject.to_owned(), Bytes::copy_from_slice(payload));
        let owed = Owed(Some(done));
        self.runtime.spawn(async move {
            let gathered = tokio::time::timeout(timeout, gather(&client, subject, payload, hear)).await;
            drop(permit);
            // What has not come by now is missing.
            owed.pay(gathered.unwrap_or(Ok(())));
        });
        Ok(())
    }

    pub(super) fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) -> Result<()> {
        let client = self.connected(Echo::Yes)?;
        let (subject, payload) = (to.0.to_string(), Bytes::copy_from_slice(payload));
        let sent = match failure {
            None => at_once(client.publish(subject, payload)),
            Some(failure) => {
                let mut headers = HeaderMap::new();
                headers.insert(FAILURE, failure.text.replace(['\r', '\n'], " "));
                headers.insert(FAILURE_CODE, failure.code.to_string());
                at_once(client.publish_with_headers(subject, headers, payload))
            }
        };
        sent.map_or_else(
            || Err(too_much()),
            |sent| sent.map_err(|failed| error::of_publish(failed.kind(), "an answer")),
        )
    }
}

/// Sends a request and gets the answer, all in so much time: the request's own would begin only when the connection takes it.
///
/// A request without an inbox of its own, whose answer never comes, stays in the client's memory for good.
pub(super) async fn send_within(
    client: &Client,
    subject: &str,
    request: Request,
    time: Duration,
) -> Result<async_nats::Message, RequestErrorKind> {
    let sent = client.send_request(subject.to_owned(), request.timeout(Some(time)));
    match tokio::time::timeout(time, sent).await {
        Ok(answer) => answer.map_err(|failed| failed.kind()),
        Err(_) => Err(RequestErrorKind::TimedOut),
    }
}

/// What the send comes to if it need not wait. Without tokio's budget, which makes a task wait after some hundred sends
/// though there is room: here a full channel is the only reason not to be taken.
pub(super) fn at_once<F: Future>(send: F) -> Option<F::Output> {
    tokio::task::unconstrained(send).now_or_never()
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
///
/// The client forgets a drained subscription the next time that it looks at its connection or at what is asked of it, and throws away what
/// comes for it after that; it does not wait until the server has heard of the end (async-nats 0.51). So nothing else is asked of it
/// meanwhile that can wait: drains are made one after the other.
async fn hear(
    mut subscriber: Subscriber,
    sink: RawSink,
    mut is_retired: oneshot::Receiver<Ended>,
    draining: Arc<tokio::sync::Mutex<()>>,
) {
    let mut ended = None;
    loop {
        let next = match ended {
            Some(_) => subscriber.next().await,
            None => match future::select(subscriber.next(), &mut is_retired).await {
                Either::Left((next, _)) => next,
                Either::Right((Ok(retired), _)) => {
                    ended = Some((retired, Arc::clone(&draining).lock_owned().await));
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
    if let Some((ended, turn)) = ended {
        drop(turn);
        ended();
    }
}

pub(super) fn mark_of(message: &async_nats::Message) -> Mark<'_> {
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
