//! Buckets on JetStream. A bucket is a stream as other NATS clients know buckets: `KV_CLUSTER_BUCKET`, its keys under
//! `$KV.CLUSTER_BUCKET.`, so that they can read and write it, too.
//!
//! Reads ask the stream's leader, which has all that was acknowledged. What is stored the leader publishes again, to whoever
//! hears it at once, under `CLUSTER.kvw.BUCKET.`: that is how watches hear of changes. Its header tells the key's revision
//! before, so that a gap shows. `open` makes buckets.

mod open;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use super::bus::RawSink;
use super::jet::{Kind, Refusal};
use super::{Echo, Nats, Shared, error};
use crate::cluster::bucket::{
    Bucket, BucketOptions, Buckets, ChangeSink, Changes, Condition, Entry, Listing, Operation, Write,
};
use crate::cluster::engine::{Done, SubscriptionKey};
use crate::cluster::subject;
use crate::status::{Error, Result, Status};

/// Changes that are given at once.
const CHANGES_MAX: usize = 64;
/// How long it is asked whether a bucket is there that no change reaches.
const LOOK: Duration = Duration::from_millis(200);
/// JetStream's numbers.
const NO_MESSAGE: u64 = 10_037;
const NO_STREAM: u64 = 10_059;
const WRONG_SEQUENCE: u64 = 10_071;
const TTL_DISABLED: u64 = 10_166;

/// A bucket.
struct NatsBucket {
    shared: Arc<Shared>,
    names: Names,
    history: u64,
    /// Keys may have a time to live of their own.
    has_ttl: bool,
    /// Any server of the stream may be read from.
    is_direct: bool,
}

/// How a bucket is called.
#[derive(Clone)]
struct Names {
    bucket: String,
    stream: String,
    /// Before the keys.
    keys: String,
    /// Before the keys of what is published again.
    feed: String,
}

impl Names {
    fn new(cluster: &str, bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            stream: format!("KV_{cluster}_{bucket}"),
            keys: format!("$KV.{cluster}_{bucket}."),
            feed: format!("{cluster}.kvw.{bucket}."),
        }
    }

    fn subject(&self, key: &[u8]) -> String {
        format!("{}{}", self.keys, subject::encode(key))
    }
}

/// A filter for keys that begin so, as far as subjects can say it: by whole tokens.
fn filter(before: &str, prefix: &[u8]) -> String {
    // A dot at the end may be a separator or not: that depends on what follows.
    let end = prefix.iter().rposition(|byte| *byte != b'.').map_or(0, |at| at + 1);
    let text = subject::encode(&prefix[..end]);
    let tokens = text.rfind('.').map_or("", |at| &text[..=at]);
    format!("{before}{tokens}>")
}

/// The key that is written so; None: somebody else has his own way with names.
fn key_of(text: &str) -> Option<Arc<[u8]>> {
    let key = subject::decode(text)?;
    (!key.is_empty() && subject::encode(&key) == text).then(|| key.into())
}

// ---- Opening

impl Buckets for Nats {
    fn open_bucket(&self, name: &str, options: &BucketOptions, done: Done<Arc<dyn Bucket>>) -> Result<()> {
        if options.path.is_some() {
            return Err(Error::new(Status::Invalid, "path: the cluster's servers keep its buckets, not a file"));
        }
        let (shared, options) = (Arc::clone(&self.shared), options.clone());
        let names = Names::new(&self.shared.cluster, name);
        let work = async move {
            let bucket: Arc<dyn Bucket> = Arc::new(open::open(shared, names, &options).await?);
            Ok(bucket)
        };
        self.shared.work(done, work)
    }
}

// ---- Reading

fn entry_of(key: Arc<[u8]>, revision: u64, headers: &HeaderMap, value: &[u8]) -> Entry {
    let is_gone = headers.get("KV-Operation").is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
        || headers.get("Nats-Marker-Reason").is_some();
    let operation = if is_gone { Operation::Delete } else { Operation::Put };
    Entry { key, value: value.into(), revision, operation }
}

impl Names {
    /// None: it is no key of ours.
    fn entry(&self, message: &StreamMessage) -> Option<Entry> {
        let key = key_of(message.subject.strip_prefix(self.keys.as_str())?)?;
        Some(entry_of(key, message.sequence, &message.headers, &message.payload))
    }
}

/// A message as the leader has it; None: there is none.
async fn read(shared: &Shared, stream: &str, body: Value, deadline: Instant) -> Result<Option<StreamMessage>> {
    match shared.api("STREAM.MSG.GET", stream, &body, deadline).await? {
        Ok(mut answer) => {
            let message: RawMessage = serde_json::from_value(answer["message"].take())
                .map_err(|error| Error::new(Status::Failed, format!("not a message: {error}")))?;
            let message = StreamMessage::try_from(message);
            message.map(Some).map_err(|error| Error::new(Status::Failed, format!("not a message: {error}")))
        }
        Err(refusal) if refusal.number == NO_MESSAGE => Ok(None),
        Err(refusal) => Err(refusal.error(stream)),
    }
}

/// The last that was done to a key, by the leader.
async fn last(shared: &Shared, names: &Names, key: &[u8], deadline: Instant) -> Result<Option<Entry>> {
    let body = json!({ "last_by_subj": names.subject(key) });
    let message = read(shared, &names.stream, body, deadline).await?;
    Ok(message.map(|message| entry_of(key.into(), message.sequence, &message.headers, &message.payload)))
}

/// The last that was done to a key, as any server of the stream knows it.
async fn last_direct(shared: &Shared, names: &Names, key: &[u8], deadline: Instant) -> Result<Option<Entry>> {
    let subject = format!("$JS.API.DIRECT.GET.{}.{}", names.stream, names.subject(key));
    let message = shared.consult(&subject, None, Bytes::new(), Kind::Question, deadline).await?;
    let empty = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&empty);
    match number(headers, "Nats-Sequence") {
        Some(revision) => Ok(Some(entry_of(key.into(), revision, headers, &message.payload))),
        None if message.status == Some(StatusCode::NOT_FOUND) => Ok(None),
        None => Err(Error::new(Status::Failed, format!("{subject}: not a message: {:?}", message.status))),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}

/// The keys that there may be, deleted ones too.
async fn list(shared: &Shared, names: &Names, prefix: &[u8]) -> Result<Listing> {
    let deadline = shared.deadline();
    // The last revision first: what is done from here on is above it.
    let info = shared.api("STREAM.INFO", &names.stream, &json!({}), deadline).await?;
    let info = info.map_err(|refusal| refusal.error(&names.bucket))?;
    let revision = info["state"]["last_seq"].as_u64().unwrap_or(0);
    let mut keys = Vec::new();
    let mut offset = 0;
    loop {
        let body = json!({ "subjects_filter": filter(&names.keys, prefix), "offset": offset });
        let page = shared.api("STREAM.INFO", &names.stream, &body, deadline).await?;
        let page = page.map_err(|refusal| refusal.error(&names.bucket))?;
        let Some(subjects) = page["state"]["subjects"].as_object() else { break };
        let texts = subjects.keys().filter_map(|subject| subject.strip_prefix(names.keys.as_str()));
        keys.extend(texts.filter_map(key_of).filter(|key| key.starts_with(prefix)));
        offset += subjects.len() as u64;
        if subjects.is_empty() || offset >= page["total"].as_u64().unwrap_or(0) {
            break;
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(Listing { keys, revision })
}

async fn changes(shared: &Shared, names: &Names, prefix: &[u8], after: u64) -> Result<Changes> {
    let deadline = shared.deadline();
    let filter = filter(&names.keys, prefix);
    let mut up_to = after;
    let mut entries = Vec::new();
    while entries.len() < CHANGES_MAX {
        let body = json!({ "seq": up_to.saturating_add(1), "next_by_subj": filter });
        match read(shared, &names.stream, body, deadline).await {
            Ok(Some(message)) if message.sequence > up_to => {
                up_to = message.sequence;
                entries.extend(names.entry(&message).filter(|entry| entry.key.starts_with(prefix)));
            }
            Ok(Some(message)) => {
                let text = format!("{}: message {} behind {up_to}", names.stream, message.sequence);
                return Err(Error::new(Status::Failed, text));
            }
            Ok(None) => break,
            // What there is by now is good, also if it is only that others have nothing to do with it.
            Err(_) if up_to > after => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Changes { entries, up_to })
}

// ---- Writing

impl NatsBucket {
    fn headers(&self, write: &Write) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        if write.value.is_none() {
            headers.insert("KV-Operation", "DEL");
        }
        write.check_ttl(self.history)?;
        if write.ttl_ms > 0 {
            if !self.has_ttl {
                return Err(Error::new(
                    Status::Unsupported,
                    "a key's own ttl_ms needs NATS 2.11, and a bucket made there",
                ));
            }
            // Whole seconds are what NATS has.
            headers.insert("Nats-TTL", format!("{}s", write.ttl_ms.div_ceil(1_000)));
        }
        Ok(headers)
    }
}

/// Changes a key, if its last message has this sequence (0: there is none; None: whatever it has).
async fn publish(
    shared: &Shared,
    subject: &str,
    headers: &HeaderMap,
    value: &Bytes,
    expected: Option<u64>,
    deadline: Instant,
) -> Result<Result<u64, Refusal>> {
    let mut headers = headers.clone();
    if let Some(expected) = expected {
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    }
    let answer = shared.ask_json(subject, Some(headers), value.clone(), Kind::Change, deadline).await?;
    match answer {
        Ok(answer) => match answer["seq"].as_u64().filter(|revision| *revision > 0) {
            Some(revision) => Ok(Ok(revision)),
            None => Err(Error::new(Status::UnknownOutcome, format!("{subject}: this is no acknowledgement: {answer}"))),
        },
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Whether a bucket was deleted; without an answer it has no leader just now.
async fn check_is_there(shared: &Shared, names: &Names, deadline: Instant) -> Result<()> {
    let look = deadline.min(Instant::now() + LOOK);
    match shared.api("STREAM.INFO", &names.stream, &json!({}), look).await {
        Ok(Err(refusal)) if refusal.number == NO_STREAM => Err(refusal.error(&names.bucket)),
        _ => Ok(()),
    }
}

async fn write(shared: Arc<Shared>, names: Names, headers: HeaderMap, write: Write) -> Result<u64> {
    let deadline = shared.deadline();
    let subject = names.subject(&write.key);
    let value = Bytes::copy_from_slice(write.value.as_deref().unwrap_or_default());
    let mut expected = match write.condition {
        Condition::None => None,
        Condition::Absent => Some(0),
        Condition::At(revision) => Some(revision),
    };
    loop {
        let refusal = match publish(&shared, &subject, &headers, &value, expected, deadline).await {
            Ok(Ok(revision)) => return Ok(revision),
            Ok(Err(refusal)) => refusal,
            Err(error) if error.status == Status::NoService => {
                check_is_there(&shared, &names, deadline).await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        match (refusal.number, write.condition) {
            (WRONG_SEQUENCE, Condition::Absent) => {
                // A key that was deleted is still known; it may be made again in that one's place.
                expected = match last(&shared, &names, &write.key, deadline).await? {
                    Some(entry) if entry.operation == Operation::Put => return Err(Status::KeyExists.into()),
                    Some(entry) => Some(entry.revision),
                    None => Some(0),
                };
            }
            (WRONG_SEQUENCE, _) => return Err(error::of_revision(&refusal.text, expected.unwrap_or(0))),
            (TTL_DISABLED, _) => return Err(Error::new(Status::Unsupported, refusal.text)),
            _ => return Err(refusal.error(&names.bucket)),
        }
    }
}

impl Bucket for NatsBucket {
    fn get(&self, key: &Arc<[u8]>, is_fresh: bool, done: Done<Entry>) -> Result<()> {
        let (shared, names, key) = (Arc::clone(&self.shared), self.names.clone(), Arc::clone(key));
        let is_direct = self.is_direct && !is_fresh;
        let work = async move {
            let deadline = shared.deadline();
            let found = match is_direct {
                true => last_direct(&shared, &names, &key, deadline).await?,
                false => last(&shared, &names, &key, deadline).await?,
            };
            found.filter(|entry| entry.operation == Operation::Put).ok_or_else(|| Status::NoKey.into())
        };
        self.shared.work(done, work)
    }

    fn write(&self, change: Write, done: Done<u64>) -> Result<()> {
        let headers = self.headers(&change)?;
        self.shared.work(done, write(Arc::clone(&self.shared), self.names.clone(), headers, change))
    }

    fn list(&self, prefix: &[u8], done: Done<Listing>) -> Result<()> {
        let (shared, names, prefix) = (Arc::clone(&self.shared), self.names.clone(), prefix.to_vec());
        self.shared.work(done, async move { list(&shared, &names, &prefix).await })
    }

    fn changes(&self, prefix: &[u8], after: u64, done: Done<Changes>) -> Result<()> {
        let (shared, names, prefix) = (Arc::clone(&self.shared), self.names.clone(), prefix.to_vec());
        self.shared.work(done, async move { changes(&shared, &names, &prefix, after).await })
    }

    fn hear(&self, prefix: &[u8], sink: ChangeSink) -> Result<SubscriptionKey> {
        let feed = self.names.feed.clone();
        let filter = filter(&feed, prefix);
        let prefix: Box<[u8]> = prefix.into();
        let hear: RawSink = Arc::new(move |message: Message| {
            let key = message.subject.strip_prefix(feed.as_str()).and_then(key_of);
            let Some((key, headers)) = key.filter(|key| key.starts_with(&prefix)).zip(message.headers.as_ref()) else {
                return;
            };
            if let Some(revision) = number(headers, "Nats-Sequence") {
                let before = number(headers, "Nats-Last-Sequence").unwrap_or(0);
                sink(entry_of(key, revision, headers, &message.payload), before);
            }
        });
        self.shared.hear(&filter, None, Echo::Yes, hear)
    }

    fn unhear(&self, key: SubscriptionKey) {
        self.shared.unhear(key);
    }

    fn value_bytes_max(&self) -> Option<usize> {
        self.shared.payload_bytes_max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_are_by_whole_tokens() {
        for (prefix, expected) in [
            ("", "p.>"),
            ("a", "p.>"),
            ("a.", "p.>"),
            ("a.b", "p.a.>"),
            ("a.b.", "p.a.>"),
            ("a..b", "p.>"),
            ("..", "p.>"),
        ] {
            assert_eq!(filter("p.", prefix.as_bytes()), expected, "{prefix}");
        }
    }

    #[test]
    fn names_of_others_are_theirs() {
        assert_eq!(key_of("a.b").as_deref(), Some(&b"a.b"[..]));
        assert_eq!(key_of("a=20b").as_deref(), Some(&b"a b"[..]));
        for text in ["=41", "a=2", "a=zz", ""] {
            assert_eq!(key_of(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_filter_passes_all_that_begins_so(key in "[a.=*]{1,8}", at in 0..9_usize) {
            let prefix = &key.as_bytes()[..at.min(key.len())];
            let filter = filter("p.", prefix);
            let before = filter.strip_suffix('>').unwrap();
            let subject = format!("p.{}", subject::encode(key.as_bytes()));
            prop_assert!(subject.starts_with(before) && subject.len() > before.len(), "{} {}", subject, filter);
        }
    }
}
