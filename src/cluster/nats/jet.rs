//! What JetStream is asked, and how often: a server that leads a stream may die, and another takes its place in some seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::{HeaderMap, Message, Request, jetstream};
use bytes::Bytes;
use serde_json::Value;

use super::bus::{Owed, send_within};
use super::{Echo, Shared};
use crate::cluster::engine::Done;
use crate::status::{Error, Result, Status};

/// How long one try of a question may take that can be asked again.
const TRY: Duration = Duration::from_millis(1_000);
/// Between two tries.
const REST: Duration = Duration::from_millis(50);
/// JetStream may not be there yet when a server has just started.
const NO_STORE: Duration = Duration::from_millis(1_000);

/// Whether something may be asked twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes.
    Question,
    /// Only if it was not heard the first time.
    Change,
}

/// What JetStream answers when it does not do what it is asked.
#[derive(Debug)]
pub(super) struct Refusal {
    /// As in HTTP.
    pub(super) code: u64,
    /// JetStream's own number.
    pub(super) number: u64,
    pub(super) text: String,
}

impl From<&jetstream::Error> for Refusal {
    fn from(error: &jetstream::Error) -> Self {
        Self { code: error.code() as u64, number: error.error_code().0, text: error.to_string() }
    }
}

impl Refusal {
    fn of(answer: &Value) -> Option<Self> {
        let error = answer.get("error")?;
        let number = |name| error.get(name).and_then(Value::as_u64).unwrap_or(0);
        let text = error.get("description").and_then(Value::as_str).unwrap_or("refused").to_owned();
        Some(Self { code: number("code"), number: number("err_code"), text })
    }

    /// Whether it may be taken in a while: the stream has no leader just now, or another change of the same key is under way,
    /// and what comes of that is not known yet.
    fn is_for_now(&self) -> bool {
        // Some of those that stay are 503 as well: no JetStream, no room.
        matches!(self.number, 10_164 | 10_167)
            || self.code == 503 && !matches!(self.number, 10_023 | 10_039 | 10_076 | 10_077)
    }

    /// As an error, where nothing special is to be said.
    pub(super) fn error(&self, what: &str) -> Error {
        let status = match self.number {
            // No JetStream, on this server or for this account.
            10_039 | 10_076 => Status::NoStore,
            // No such stream: it was deleted.
            10_059 => Status::NoStore,
            // Too few servers.
            10_005 | 10_074 => Status::Replicas,
            // Full.
            10_023 | 10_028 | 10_047 => Status::Again,
            // The stream's own bounds are asked before the change is decided; a disk that fails is found out behind that.
            10_077 if self.text.starts_with("maximum") => Status::Again,
            10_077 => Status::UnknownOutcome,
            10_054 => Status::TooLong,
            // Streams with other settings, or with the same subjects.
            10_058 | 10_065 => Status::Invalid,
            _ => Status::Failed,
        };
        Error::new(status, format!("{what}: {} ({})", self.text, self.number))
    }
}

impl Shared {
    /// Runs something that ends in `done`; `Disconnected` at once while the link is down.
    pub(super) fn work<T: Send + 'static>(
        self: &Arc<Self>,
        done: Done<T>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<()> {
        self.connected(Echo::Yes)?;
        let (permit, owed) = (self.permit()?, Owed(Some(done)));
        self.runtime.spawn(async move {
            let result = work.await;
            drop(permit);
            owed.pay(result);
        });
        Ok(())
    }

    /// When a call that begins now has to be answered.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a request until somebody has heard it, and gets the answer. A change that nobody hears for so long that there may
    /// be no stream for it is `NoService`.
    pub(super) async fn consult(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Message> {
        let (begun, mut tries) = (Instant::now(), 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let client = self.connected(Echo::Yes);
            if left.is_zero() {
                let status = if client.is_err() { Status::Disconnected } else { Status::Timeout };
                return Err(Error::new(status, format!("{subject}: no server has taken it in time")));
            }
            let timeout = if kind == Kind::Question { left.min(TRY) } else { left };
            if let Ok(client) = client {
                let mut request = Request::new().payload(payload.clone());
                if let Some(headers) = &headers {
                    request = request.headers(headers.clone());
                }
                if tries > 0 {
                    request = request.inbox(client.new_inbox());
                }
                tries += 1;
                match send_within(&client, subject, request, timeout).await {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => match failed {
                        // Nobody has heard it.
                        RequestErrorKind::NoResponders => {
                            if subject.starts_with("$JS.API.STREAM.INFO.") && begun.elapsed() > NO_STORE {
                                return Err(Error::new(Status::NoStore, "no server of the cluster has JetStream"));
                            }
                            if kind == Kind::Change && begun.elapsed() > NO_STORE {
                                return Err(Error::new(Status::NoService, format!("{subject}: nobody hears it")));
                            }
                        }
                        RequestErrorKind::TimedOut | RequestErrorKind::Other if kind == Kind::Change => {
                            return Err(Error::new(Status::UnknownOutcome, format!("{subject}: the answer is lost")));
                        }
                        RequestErrorKind::TimedOut | RequestErrorKind::Other => {}
                        kind => return Err(super::error::of_request(kind, subject)),
                    },
                }
            }
            tokio::time::sleep(REST.min(left)).await;
        }
    }

    /// Asks for something as JSON, until it is done or refused for good.
    pub(super) async fn api(
        &self,
        what: &str,
        stream: &str,
        body: &Value,
        deadline: Instant,
    ) -> Result<Result<Value, Refusal>> {
        let subject = format!("$JS.API.{what}.{stream}");
        let payload = Bytes::from(body.to_string());
        self.ask_json(&subject, None, payload, Kind::Question, deadline).await
    }

    /// As [`Shared::consult`], for answers in JSON; what JetStream cannot do for now is tried again.
    pub(super) async fn ask_json(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        kind: Kind,
        deadline: Instant,
    ) -> Result<Result<Value, Refusal>> {
        loop {
            let answer = self.consult(subject, headers.clone(), payload.clone(), kind, deadline).await?;
            let value = serde_json::from_slice::<Value>(&answer.payload).ok().filter(Value::is_object);
            let value = value.ok_or_else(|| {
                // Whoever says so may have done it all the same.
                let status = if kind == Kind::Change { Status::UnknownOutcome } else { Status::Failed };
                Error::new(status, format!("{subject}: this is no answer of JetStream's"))
            })?;
            match Refusal::of(&value) {
                None => return Ok(Ok(value)),
                // It was not taken.
                Some(refusal) if refusal.is_for_now() => {
                    if Instant::now() + REST >= deadline {
                        return Err(Error::new(Status::Timeout, format!("{subject}: {}", refusal.text)));
                    }
                    tokio::time::sleep(REST).await;
                }
                Some(refusal) => return Ok(Err(refusal)),
            }
        }
    }
}
