//! That a queue's stream and consumer are there.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy};
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy};
use async_nats::jetstream::{self, Context, ErrorCode};

use super::{Shared, Trouble};
use crate::cluster::queues::{DUPLICATES_MS, Depth, QueueName, Terms};
use crate::status::{Error, Result, Status};

/// The one consumer of each queue.
pub(super) const CONSUMER: &str = "work";
/// Copies of a queue, where there are servers for so many.
const REPLICAS: usize = 3;

impl Shared {
    /// Makes sure that there is such a stream.
    pub(super) async fn open_stream(&self, jetstream: &Context, queue: &QueueName) -> Result<(), Trouble> {
        let known = self.queues.known().get(&queue.stream).copied().unwrap_or_default();
        if known.is_there {
            return Ok(());
        }
        let asked = known.replicas as usize;
        let tried = create(jetstream, queue, if asked > 0 { asked } else { REPLICAS }).await;
        let opened = match tried {
            // It is there already, with other particulars.
            Err(error) if code(&error) == Some(ErrorCode::STREAM_NAME_EXIST) => raise(jetstream, queue, asked).await,
            Err(error) if asked == 0 && lacks_servers(&error) => match create(jetstream, queue, 1).await {
                Err(error) if code(&error) == Some(ErrorCode::STREAM_NAME_EXIST) => Ok(()),
                other => other,
            },
            other => other,
        };
        opened.map_err(|error| trouble(queue, &error))?;
        self.queues.known().entry(queue.stream.clone()).or_default().is_there = true;
        Ok(())
    }

    /// It is to be looked for again.
    pub(super) fn forget_stream(&self, queue: &QueueName) {
        if let Some(known) = self.queues.known().get_mut(&queue.stream) {
            known.is_there = false;
        }
    }

    /// Makes sure that there is a consumer.
    pub(super) async fn open_consumer(
        &self,
        jetstream: &Context,
        queue: &QueueName,
        terms: Terms,
    ) -> Result<(), Trouble> {
        self.open_stream(jetstream, queue).await?;
        let config = consumer::pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_millis(u64::from(terms.ack_ms)),
            // We count tries ourselves: the server would only stop to deliver. What nodes have in hand bounds what is
            // pending.
            max_deliver: -1,
            max_ack_pending: -1,
            ..consumer::pull::Config::default()
        };
        match jetstream.create_consumer_on_stream(config, &queue.stream).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.forget_stream(queue);
                Err(Trouble::NotYet(Error::new(Status::Disconnected, format!("{}: {error}", queue.stream))))
            }
        }
    }

    /// Counts what is in a queue. Nothing is there if there is no stream.
    pub(super) async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let jetstream = self.jetstream()?;
        let stream = match jetstream.get_stream(&queue.stream).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    return Ok(Depth::default());
                }
                GetStreamErrorKind::JetStream(error) if has_no_store(&error) => {
                    return Err(Error::new(Status::NoStore, format!("{}: {error}", queue.stream)));
                }
                _ => {
                    let text = format!("{}: {error}", queue.stream);
                    // Asked for the account, a server without JetStream is the only one that nobody answers for.
                    let has_store = jetstream.query_account().await.is_ok();
                    return Err(Error::new(if has_store { Status::Timeout } else { Status::NoStore }, text));
                }
            },
        };
        let jobs = stream.cached_info().state.messages;
        let in_hand = match stream.consumer_info(CONSUMER).await {
            Ok(info) => info.num_ack_pending as u64,
            // Nobody has ever worked on it.
            Err(_) => 0,
        };
        Ok(Depth { jobs, in_hand: in_hand.min(jobs) })
    }
}

async fn create(jetstream: &Context, queue: &QueueName, replicas: usize) -> Result<(), CreateStreamError> {
    jetstream.create_stream(config(queue, replicas)).await.map(drop)
}

fn config(queue: &QueueName, replicas: usize) -> Config {
    Config {
        name: queue.stream.clone(),
        subjects: vec![queue.subject.clone()],
        retention: RetentionPolicy::WorkQueue,
        // Whoever bounds it wants jobs to be refused, not forgotten.
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        duplicate_window: Duration::from_millis(DUPLICATES_MS),
        ..Config::default()
    }
}

/// The program has asked for so many replicas of a stream that there is.
async fn raise(jetstream: &Context, queue: &QueueName, replicas: usize) -> Result<(), CreateStreamError> {
    if replicas == 0 {
        return Ok(());
    }
    let now = jetstream.get_stream(&queue.stream).await.map(|stream| stream.cached_info().config.clone());
    match now {
        Ok(now) if now.num_replicas < replicas => {
            jetstream.update_stream(Config { num_replicas: replicas, ..now }).await.map(drop)
        }
        Ok(_) => Ok(()),
        Err(_) => Err(CreateStreamError::new(CreateStreamErrorKind::TimedOut)),
    }
}

fn code(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

/// Whether there are not as many servers; one that is only down at present counts as being there.
fn lacks_servers(error: &CreateStreamError) -> bool {
    let is_down = error.to_string().contains("offline");
    match code(error) {
        Some(ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED) => true,
        Some(ErrorCode::CLUSTER_NO_PEERS | ErrorCode::INSUFFICIENT_RESOURCES) => !is_down,
        _ => false,
    }
}

fn has_no_store(error: &jetstream::Error) -> bool {
    matches!(error.error_code(), ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)
}

fn trouble(queue: &QueueName, error: &CreateStreamError) -> Trouble {
    let text = format!("{}: {error}", queue.stream);
    match error.kind() {
        _ if lacks_servers(error) => Trouble::Final(Error::new(Status::Replicas, text)),
        CreateStreamErrorKind::JetStream(error) if has_no_store(&error) => {
            Trouble::Final(Error::new(Status::NoStore, text))
        }
        // A server that has just begun does not answer either: it is asked again for a while.
        CreateStreamErrorKind::JetStreamUnavailable => Trouble::NotYet(Error::new(Status::NoStore, text)),
        CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
            Trouble::Final(Error::new(Status::Failed, text))
        }
        _ => Trouble::NotYet(Error::new(Status::Disconnected, text)),
    }
}
