//! The contract of what an engine keeps for a cluster: buckets of keys. The calls of programs, and watches that miss nothing,
//! are built above it once, in `kv` and `watch`.
//!
//! As in `engine` nothing waits, and what takes time ends in a [`Done`], which may be called before the call has returned.

use std::sync::Arc;

use super::engine::{Done, SubscriptionKey};
use crate::status::{Error, Result, Status};

/// What a bucket is asked to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketOptions {
    /// Servers that keep it; 0: as many as is good.
    pub(crate) replicas: u32,
    /// Revisions kept of each key; 0: one.
    pub(crate) history: u32,
    /// Everything goes after so long; 0: never.
    pub(crate) ttl_ms: u64,
    /// Keys and values, in all; 0: no limit.
    pub(crate) bytes_max: u64,
    /// For those who may read an older value than the last.
    pub(crate) stale_ok: bool,
    /// The file that keeps it; None: memory.
    pub(crate) path: Option<String>,
}

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Delete,
}

/// A key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Arc<[u8]>,
    pub(crate) value: Arc<[u8]>,
    pub(crate) revision: u64,
    pub(crate) operation: Operation,
}

/// What has to be so for a write to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// There is no such key.
    Absent,
    /// The key has this revision.
    At(u64),
}

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: Arc<[u8]>,
    /// None: delete it.
    pub(crate) value: Option<Arc<[u8]>>,
    pub(crate) condition: Condition,
    /// It goes after so long; 0: with the bucket.
    pub(crate) ttl_ms: u64,
}

impl Write {
    /// A key has a time of its own only where one revision of it is kept. With more of them NATS takes away what is due and
    /// nothing else, so that the value before would be back; and it makes the time as long as it keeps deletions.
    pub(crate) fn check_ttl(&self, history: u64) -> Result<()> {
        if self.ttl_ms == 0 || history == 1 {
            return Ok(());
        }
        Err(Error::new(Status::Unsupported, "a key's own ttl_ms needs a bucket whose history is 1"))
    }
}

/// Keys that there are, some of which may be gone by now.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) keys: Vec<Arc<[u8]>>,
    /// All that was done up to this revision is in the list.
    pub(crate) revision: u64,
}

/// The next of the changes that there were.
#[derive(Debug)]
pub(crate) struct Changes {
    /// In their order.
    pub(crate) entries: Vec<Entry>,
    /// There is no other up to this revision.
    pub(crate) up_to: u64,
}

/// Hears each change of a bucket, with the revision that its key had before; some may be missed, or come late. It must
/// not wait.
pub(crate) type ChangeSink = Arc<dyn Fn(Entry, u64) + Send + Sync>;

/// Keeps buckets.
pub(crate) trait Buckets {
    /// Opens a bucket, or makes it.
    fn open_bucket(&self, name: &str, options: &BucketOptions, done: Done<Arc<dyn Bucket>>) -> Result<()>;
}

/// Keys with values. Revisions only ever grow, over all keys.
pub(crate) trait Bucket: Send + Sync {
    /// The value of a key, which may be an older one unless it `is_fresh`; `NoKey`.
    fn get(&self, key: &Arc<[u8]>, is_fresh: bool, done: Done<Entry>) -> Result<()>;

    /// Changes a key; gives its new revision. `KeyExists`, `Revision`; `UnknownOutcome` when the answer is lost.
    fn write(&self, write: Write, done: Done<u64>) -> Result<()>;

    /// The keys that begin so.
    fn list(&self, prefix: &[u8], done: Done<Listing>) -> Result<()>;

    /// Of what has changed after a revision and begins so, the first few changes, deletions too. None are left if
    /// that leads no further.
    fn changes(&self, prefix: &[u8], after: u64, done: Done<Changes>) -> Result<()>;

    /// Hears changes of keys that begin so, from now on.
    fn hear(&self, prefix: &[u8], sink: ChangeSink) -> Result<SubscriptionKey>;

    /// Ends that; a few may still be heard.
    fn unhear(&self, key: SubscriptionKey);

    /// Longest value; None: not known yet.
    fn value_bytes_max(&self) -> Option<usize>;
}
