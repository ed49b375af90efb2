//! Taking jobs. One request for as many as are wanted is open at a time; the server says once a second that it is, so that one
//! which was lost (its leader has died, the link was down) is seen by the silence, and made again. Nothing is asked about the
//! consumer then: that would take longer than the job.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, Request, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::sync::Notify;

use super::stream::CONSUMER;
use super::{Echo, Shared, Trouble};
use crate::cluster::nats::bus::{at_once, send_within};
use crate::cluster::queues::{End, JobSink, QueueName, Source, Taken, Terms, Ticket};

/// How long the server keeps a request open.
const OPEN: Duration = Duration::from_secs(10);
/// How often it says that it does; and how long a silence is too long.
const HEARTBEAT: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_millis(2_500);
/// The rest after something that the server could not do.
const REST: Duration = Duration::from_millis(100);
const REST_LONG: Duration = Duration::from_millis(500);
/// After so many requests in a row that nobody took, or that nobody said a word to, the consumer may be gone. An old server does
/// not tell, and of a new one the word may have been lost. The silence of an election is shorter than that, mostly.
const REFUSALS_MAX: u32 = 20;
const SILENCES_MAX: u32 = 3;
/// How long an end is said again and again until the server confirms it; and how long one confirmation may take.
const SETTLE: Duration = Duration::from_secs(10);
const CONFIRM: Duration = Duration::from_secs(1);

struct NatsSource {
    wanted: AtomicUsize,
    is_closed: AtomicBool,
    changed: Notify,
}

/// Why a loop of requests has ended.
#[derive(PartialEq, Eq)]
enum Ended {
    Closed,
    /// The consumer is to be looked for.
    Gone,
}

pub(super) fn start(shared: &Arc<Shared>, queue: QueueName, terms: Terms, sink: JobSink) -> Arc<dyn Source> {
    let source =
        Arc::new(NatsSource { wanted: AtomicUsize::new(0), is_closed: AtomicBool::new(false), changed: Notify::new() });
    let puller = Puller { shared: Arc::clone(shared), source: Arc::clone(&source), queue, sink };
    shared.runtime.spawn(async move { puller.run(terms).await });
    source
}

impl Source for NatsSource {
    fn want(&self, more: usize) {
        self.wanted.fetch_add(more, Ordering::SeqCst);
        self.changed.notify_one();
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }
}

impl NatsSource {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// How many jobs are wanted, once there are any; None: it is closed.
    async fn wanted(&self) -> Option<usize> {
        loop {
            if self.is_closed() {
                return None;
            }
            match self.wanted.load(Ordering::SeqCst) {
                0 => self.changed.notified().await,
                wanted => return Some(wanted),
            }
        }
    }

    async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }

    async fn rest(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.closed()).await;
    }

    /// One of those that are wanted has come.
    fn take_one(&self) -> bool {
        let less = |wanted: usize| wanted.checked_sub(1);
        !self.is_closed() && self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

struct Puller {
    shared: Arc<Shared>,
    source: Arc<NatsSource>,
    queue: QueueName,
    sink: JobSink,
}

impl Puller {
    async fn run(self, terms: Terms) {
        let mut is_told = false;
        while !self.source.is_closed() {
            let Ok(jetstream) = self.shared.jetstream() else {
                self.source.rest(REST).await;
                continue;
            };
            if let Err(trouble) = self.shared.open_consumer(&jetstream, &self.queue, terms).await {
                let (Trouble::Final(error) | Trouble::NotYet(error) | Trouble::Unknown(error)) = trouble;
                if !std::mem::replace(&mut is_told, true) {
                    log::warn!("no jobs of {} at present: {error}", self.queue.subject);
                }
                self.source.rest(REST_LONG).await;
                continue;
            }
            is_told = false;
            let Ok(client) = self.shared.connected(Echo::Yes) else { continue };
            let inbox = client.new_inbox();
            let subscribed = tokio::time::timeout(CONFIRM, client.subscribe(format!("{inbox}.*"))).await;
            let Ok(Ok(mut subscriber)) = subscribed else { continue };
            let ended = self.pull(&client, &jetstream, &inbox, &mut subscriber).await;
            // What is on its way by now is given back.
            let _ = tokio::time::timeout(CONFIRM, subscriber.drain()).await;
            while let Ok(Some(message)) = tokio::time::timeout(CONFIRM, subscriber.next()).await {
                if message.status.is_none() {
                    give_back(&client, &message);
                }
            }
            if ended == Ended::Gone {
                self.shared.forget_stream(&self.queue);
            }
        }
    }

    /// Requests jobs, again and again.
    async fn pull(&self, client: &Client, context: &Context, inbox: &str, subscriber: &mut Subscriber) -> Ended {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{CONSUMER}", self.queue.stream);
        let (mut number, mut refusals, mut silences) = (0u64, 0, 0);
        while let Some(wanted) = self.source.wanted().await {
            number += 1;
            let reply = format!("{inbox}.{number}");
            let (open, heartbeat) = (OPEN.as_nanos(), HEARTBEAT.as_nanos());
            let request = format!(r#"{{"batch":{wanted},"expires":{open},"idle_heartbeat":{heartbeat}}}"#);
            let sent = client.publish_with_reply(subject.clone(), reply.clone(), Bytes::from(request));
            if tokio::time::timeout(SILENCE, sent).await.is_err() {
                continue;
            }
            match self.receive(client, context, &reply, wanted, subscriber).await {
                Received::Enough => (refusals, silences) = (0, 0),
                Received::Silence => silences += 1,
                Received::Refused => {
                    refusals += 1;
                    self.source.rest(REST).await;
                }
                Received::Over => return Ended::Gone,
            }
            if refusals >= REFUSALS_MAX || silences >= SILENCES_MAX {
                return Ended::Gone;
            }
        }
        Ended::Closed
    }

    /// Takes what one request brings.
    async fn receive(
        &self,
        client: &Client,
        context: &Context,
        reply: &str,
        wanted: usize,
        subscriber: &mut Subscriber,
    ) -> Received {
        let mut left = wanted;
        while left > 0 {
            let next = pin!(tokio::time::timeout(SILENCE, subscriber.next()));
            let closed = pin!(self.source.closed());
            let message = match select(next, closed).await {
                Either::Left((Ok(Some(message)), _)) => message,
                Either::Left((Ok(None), _)) => return Received::Over,
                Either::Left((Err(_), _)) => return Received::Silence,
                // Nothing more is wanted.
                Either::Right(_) => return Received::Enough,
            };
            match message.status {
                None => {
                    if self.source.take_one() {
                        left -= 1;
                        self.deliver(context, message);
                    } else {
                        // A late answer to a request that had been given up.
                        give_back(client, &message);
                    }
                }
                Some(_) if message.subject.as_str() != reply => {}
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::TIMEOUT) => return Received::Enough,
                Some(_) => return Received::Refused,
            }
        }
        Received::Enough
    }

    fn deliver(&self, context: &Context, message: Message) {
        let message = jetstream::Message { message, context: context.clone() };
        let info = message.info().ok().map(|info| (info.delivered, info.stream_sequence));
        let reply = message.reply.as_ref().map(|reply| reply.to_string());
        let Some(((tries, number), reply)) = info.zip(reply) else {
            // It was no job.
            return self.source.want(1);
        };
        let ticket = Box::new(NatsTicket { shared: Arc::clone(&self.shared), reply });
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        let taken = Taken { payload: Arc::from(&message.payload[..]), tries, number, ticket };
        // A bug costs one job, which is redelivered.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.sink)(taken)));
    }
}

/// How a request has ended.
enum Received {
    /// It has brought all it could.
    Enough,
    /// The server could not do it.
    Refused,
    /// The server has not said for too long that it is at it.
    Silence,
    /// The connection is over for good.
    Over,
}

fn give_back(client: &Client, message: &Message) {
    if let Some(reply) = &message.reply {
        let _ = at_once(client.publish(reply.clone(), Bytes::from_static(b"-NAK")));
    }
}

struct NatsTicket {
    shared: Arc<Shared>,
    /// Where JetStream hears of the job.
    reply: String,
}

impl NatsTicket {
    fn say(&self, what: &'static [u8]) {
        if let Ok(client) = self.shared.connected(Echo::Yes) {
            let _ = at_once(client.publish(self.reply.clone(), Bytes::from_static(what)));
        }
    }
}

impl Ticket for NatsTicket {
    fn progress(&self) {
        self.say(b"+WPI");
    }

    fn end(self: Box<Self>, end: End, settled: Box<dyn FnOnce() + Send>) {
        let what = match end {
            End::Gone => Bytes::from_static(b"+ACK"),
            End::Retry(0) => Bytes::from_static(b"-NAK"),
            End::Retry(delay_ms) => format!(r#"-NAK {{"delay":{}}}"#, u64::from(delay_ms) * 1_000_000).into(),
        };
        let runtime = self.shared.runtime.clone();
        runtime.spawn(async move {
            let until = Instant::now() + SETTLE;
            while !confirmed(&self.shared, &self.reply, what.clone()).await {
                if Instant::now() >= until {
                    log::warn!("the end of a job was not confirmed: it may come again");
                    break;
                }
                tokio::time::sleep(REST).await;
            }
            settled();
        });
    }

    fn give_back(self: Box<Self>) {
        self.say(b"-NAK");
    }
}

async fn confirmed(shared: &Shared, reply: &str, what: Bytes) -> bool {
    let Ok(client) = shared.connected(Echo::Yes) else { return false };
    let request = Request::new().payload(what).inbox(client.new_inbox());
    send_within(&client, reply, request, CONFIRM).await.is_ok()
}
