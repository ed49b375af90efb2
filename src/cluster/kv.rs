//! Buckets as programs have them: handles, checks, counts, and the calls that wait for an engine.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, BucketOptions, Condition, Entry, Listing, Operation, Write};
use super::handles::Handles;
use super::watch::{self, WATCHES};
use super::{Cluster, Done, Hold, subject};
use crate::metrics::KvCounts;
use crate::status::{Error, Result, Status};

/// All open buckets of the process.
pub(crate) static KVS: Handles<Kv> = Handles::new();

/// Longest key.
const KEY_BYTES_MAX: usize = 255;
/// So much of a key is in an error.
const KEY_CHARS_SHOWN: usize = 64;
/// Most revisions of a key that a bucket keeps.
const HISTORY_MAX: u32 = 64;
/// The shortest time to live of a bucket: NATS allows no shorter one.
const TTL_MS_MIN: u64 = 100;
/// Keys that are read at once.
pub(crate) const READS_MAX: usize = 32;

/// An open bucket.
pub(crate) struct Kv {
    number: u64,
    /// The server, as programs name it.
    pub(crate) server: u64,
    pub(super) cluster: Arc<Cluster>,
    pub(super) bucket: Arc<dyn Bucket>,
    stale_ok: bool,
    watches: Mutex<BTreeSet<u64>>,
}

/// What a cluster has of its buckets.
#[derive(Default)]
pub(super) struct KvState {
    open: Mutex<BTreeSet<u64>>,
    is_closed: AtomicBool,
    /// The watches look again and again whether they have missed something.
    pub(super) is_ticking: AtomicBool,
    pub(super) counts: Counts,
}

#[derive(Default)]
pub(super) struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    conflicts: AtomicU64,
    unknown: AtomicU64,
    pub(super) gaps: AtomicU64,
}

fn lock(numbers: &Mutex<BTreeSet<u64>>) -> MutexGuard<'_, BTreeSet<u64>> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Opens a bucket for a program.
    pub(crate) fn open_kv(
        self: &Arc<Self>,
        server: u64,
        name: &str,
        options: &BucketOptions,
        done: Done<Arc<Kv>>,
    ) -> Result<()> {
        subject::check_name("bucket", name)?;
        if options.history > HISTORY_MAX {
            return Err(Error::new(Status::Invalid, format!("history is at most {HISTORY_MAX}")));
        }
        if options.replicas > 5 {
            return Err(Error::new(Status::Invalid, "replicas is at most 5"));
        }
        if (1..TTL_MS_MIN).contains(&options.ttl_ms) {
            return Err(Error::new(Status::Invalid, format!("ttl_ms of a bucket is at least {TTL_MS_MIN}")));
        }
        let hand = self.hold()?;
        let (cluster, stale_ok) = (Arc::clone(self), options.stale_ok);
        let opened = move |bucket: Result<Arc<dyn Bucket>>| {
            let kv = bucket.and_then(|bucket| cluster.insert_kv(server, bucket, stale_ok));
            done(kv);
            drop(hand);
        };
        self.engine.open_bucket(name, options, Box::new(opened))
    }

    fn insert_kv(self: &Arc<Self>, server: u64, bucket: Arc<dyn Bucket>, stale_ok: bool) -> Result<Arc<Kv>> {
        let cluster = Arc::clone(self);
        let kv = KVS.insert(|number| Kv { number, server, cluster, bucket, stale_ok, watches: Mutex::default() });
        lock(&self.kv.open).insert(kv.number);
        if self.kv.is_closed.load(Ordering::Acquire) {
            kv.close();
            return Err(Status::Stopped.into());
        }
        Ok(kv)
    }

    /// The server ends: all handles become stale, and watches end.
    pub(super) fn close_kvs(&self) {
        self.kv.is_closed.store(true, Ordering::Release);
        let open = std::mem::take(&mut *lock(&self.kv.open));
        for kv in open.into_iter().filter_map(|number| KVS.find(number).ok()) {
            kv.close();
        }
    }

    /// Messages may have been missed: every watch looks.
    pub(super) fn doubt_watches(&self) {
        let open: Vec<_> = lock(&self.kv.open).iter().copied().collect();
        for kv in open.into_iter().filter_map(|number| KVS.find(number).ok()) {
            let watches: Vec<_> = lock(&kv.watches).iter().copied().collect();
            watches.into_iter().filter_map(|number| WATCHES.find(number).ok()).for_each(|watch| watch.doubt());
        }
    }

    /// What was done with buckets so far.
    pub(crate) fn kv_counts(&self) -> KvCounts {
        let counts = &self.kv.counts;
        let [reads, writes, conflicts, unknown, gaps] =
            [&counts.reads, &counts.writes, &counts.conflicts, &counts.unknown, &counts.gaps]
                .map(|count| count.load(Ordering::Relaxed));
        KvCounts { reads, writes, conflicts, unknown, gaps }
    }
}

/// Holds a key to its length.
fn check_key(key: &[u8]) -> Result<Arc<[u8]>> {
    match key.len() {
        0 => Err(Error::new(Status::Invalid, "a key is not empty")),
        1..=KEY_BYTES_MAX => Ok(key.into()),
        length => Err(Error::new(Status::TooLong, format!("a key of {length} bytes: at most {KEY_BYTES_MAX}"))),
    }
}

/// What an engine says of a key, with the key: it comes to people.
fn about(key: &[u8], error: Error) -> Error {
    if !matches!(error.status, Status::NoKey | Status::KeyExists | Status::Revision) {
        return error;
    }
    let text = String::from_utf8_lossy(key);
    let mut shown: String = text.chars().take(KEY_CHARS_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Error::new(error.status, format!("key {shown:?}: {error}"))
}

/// Holds the beginning of keys to the length of keys.
pub(super) fn check_prefix(prefix: &[u8]) -> Result<Arc<[u8]>> {
    if prefix.is_empty() { Ok(Arc::from([])) } else { check_key(prefix) }
}

impl Kv {
    /// Its handle.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The handle becomes stale; its watches end. What is under way ends as if it were open.
    pub(crate) fn close(&self) {
        let _ = KVS.remove(self.number);
        lock(&self.cluster.kv.open).remove(&self.number);
        let watches = std::mem::take(&mut *lock(&self.watches));
        for number in watches {
            let _ = watch::end(number);
        }
    }

    /// A watch of this handle has begun. False: the handle is closed.
    pub(super) fn insert_watch(&self, number: u64) -> bool {
        lock(&self.watches).insert(number);
        KVS.find(self.number).is_ok()
    }

    pub(super) fn remove_watch(&self, number: u64) {
        lock(&self.watches).remove(&number);
    }

    /// Calls the program on a worker when it is done; calls for one handle never overlap.
    pub(crate) fn on_worker<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(Result<T>) + Send + 'static,
    ) -> Result<Done<T>> {
        let (kv, hand) = (Arc::clone(self), self.cluster.hold()?);
        Ok(Box::new(move |result| {
            let task = move || {
                call(result);
                drop(hand);
            };
            kv.run(Box::new(task));
        }))
    }

    /// Runs something on this handle's worker. Without workers or memory it is run here: it is owed.
    pub(super) fn run(&self, task: super::Task) {
        if let Err((error, task)) = self.cluster.host.run(self.number, task) {
            log::debug!("a bucket's call is made off its worker: {error}");
            task();
        }
    }

    /// The same on any worker, in a while.
    pub(super) fn after(&self, delay_ms: u32, task: super::Task) -> Result<()> {
        self.cluster.host.after(delay_ms, task)
    }

    /// The call counts as under way until its end.
    pub(crate) fn in_hand<T: 'static>(&self, done: Done<T>) -> Result<Done<T>> {
        let hand: Hold = self.cluster.hold()?;
        Ok(Box::new(move |result| {
            done(result);
            drop(hand);
        }))
    }

    /// Reads a key.
    pub(crate) fn get(&self, key: &[u8], done: Done<Entry>) -> Result<()> {
        let _inside = self.cluster.enter()?;
        let key = check_key(key)?;
        self.count(|counts| &counts.reads);
        let asked = Arc::clone(&key);
        let done = move |result: Result<Entry>| done(result.map_err(|error| about(&asked, error)));
        self.bucket.get(&key, !self.stale_ok, Box::new(done))
    }

    /// Changes a key; None: deletes it. Gives the entry without its value.
    pub(crate) fn write(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        condition: Condition,
        ttl_ms: u64,
        done: Done<Entry>,
    ) -> Result<()> {
        let _inside = self.cluster.enter()?;
        let key = check_key(key)?;
        if condition == Condition::At(0) {
            return Err(Error::new(Status::Invalid, "revision is 0: no key has it"));
        }
        let bytes_max = self.bucket.value_bytes_max();
        if let (Some(value), Some(max)) = (value, bytes_max)
            && value.len() > max
        {
            return Err(Error::new(Status::TooLong, format!("a value of {} bytes: at most {max}", value.len())));
        }
        let value = value.map(copied).transpose()?;
        let operation = if value.is_some() { Operation::Put } else { Operation::Delete };
        let cluster = Arc::clone(&self.cluster);
        let written = Arc::clone(&key);
        let done = move |result: Result<u64>| {
            let counts = &cluster.kv.counts;
            let count = match &result {
                Ok(_) => Some(&counts.writes),
                Err(error) => match error.status {
                    Status::KeyExists | Status::Revision => Some(&counts.conflicts),
                    Status::UnknownOutcome => Some(&counts.unknown),
                    _ => None,
                },
            };
            if let Some(count) = count {
                count.fetch_add(1, Ordering::Relaxed);
            }
            done(match result {
                Ok(revision) => Ok(Entry { key: written, value: Arc::from([]), revision, operation }),
                Err(error) => Err(about(&written, error)),
            });
        };
        self.bucket.write(Write { key, value, condition, ttl_ms }, Box::new(done))
    }

    /// The keys that begin so; some may be gone by now.
    pub(crate) fn list(&self, prefix: &[u8], done: Done<Listing>) -> Result<()> {
        self.bucket.list(&check_prefix(prefix)?, done)
    }

    /// Reads up to [`READS_MAX`] keys; those that are gone are left out.
    pub(crate) fn get_many(&self, keys: &[Arc<[u8]>], done: Done<Vec<Entry>>) {
        struct Collect {
            left: usize,
            result: Result<Vec<Entry>>,
            done: Option<Done<Vec<Entry>>>,
        }
        // One more, so that it does not end before all have begun.
        let collect = Collect { left: keys.len() + 1, result: Ok(Vec::new()), done: Some(done) };
        let collect = Arc::new(Mutex::new(collect));
        let one = |collect: &Mutex<Collect>, result: Option<Result<Entry>>| {
            let mut collect = collect.lock().unwrap_or_else(PoisonError::into_inner);
            match (result, &mut collect.result) {
                (Some(Ok(entry)), Ok(entries)) => entries.push(entry),
                (Some(Err(error)), Ok(_)) if error.status != Status::NoKey => collect.result = Err(error),
                _ => {}
            }
            collect.left -= 1;
            let done = if collect.left == 0 { collect.done.take() } else { None };
            let result = std::mem::replace(&mut collect.result, Ok(Vec::new()));
            match done {
                Some(done) => {
                    drop(collect);
                    done(result);
                }
                None => collect.result = result,
            }
        };
        for key in keys {
            self.count(|counts| &counts.reads);
            let shared = Arc::clone(&collect);
            if let Err(error) = self.bucket.get(key, true, Box::new(move |result| one(&shared, Some(result)))) {
                one(&collect, Some(Err(error)));
            }
        }
        one(&collect, None);
    }

    /// Hands the program each key that begins so, on the worker, and then the end.
    pub(crate) fn each_key(self: &Arc<Self>, prefix: &[u8], call: KeyCall) -> Result<()> {
        let _inside = self.cluster.enter()?;
        let hand = self.cluster.hold()?;
        let kv = Arc::clone(self);
        self.list(
            prefix,
            Box::new(move |listing| match listing {
                Ok(listing) => Keys { kv, keys: listing.keys, at: 0, call, _hand: hand }.read_on(),
                Err(error) => kv.clone().run(Box::new(move || {
                    let _ = call(Err(error));
                    drop(hand);
                })),
            }),
        )
    }

    fn count(&self, which: impl FnOnce(&Counts) -> &AtomicU64) {
        which(&self.cluster.kv.counts).fetch_add(1, Ordering::Relaxed);
    }
}

/// Hears each key, then None or an error. False: for want of memory it was told an error instead, which is the end.
pub(crate) type KeyCall = Box<dyn Fn(Result<Option<&Entry>>) -> bool + Send>;

/// Keys on their way to the program, some at a time.
struct Keys {
    kv: Arc<Kv>,
    keys: Vec<Arc<[u8]>>,
    at: usize,
    call: KeyCall,
    _hand: Hold,
}

impl Keys {
    fn read_on(mut self) {
        let kv = Arc::clone(&self.kv);
        let end = (self.at + READS_MAX).min(self.keys.len());
        let some = self.keys[self.at..end].to_vec();
        self.at = end;
        // The next are read when the program has had these.
        let done = move |entries: Result<Vec<Entry>>| self.kv.clone().run(Box::new(move || self.hand_out(entries)));
        kv.get_many(&some, Box::new(done));
    }

    fn hand_out(self, entries: Result<Vec<Entry>>) {
        let is_told = match entries {
            Ok(entries) => entries.iter().all(|entry| (self.call)(Ok(Some(entry)))),
            Err(error) => {
                let _ = (self.call)(Err(error));
                false
            }
        };
        match is_told {
            false => {}
            true if self.at == self.keys.len() => drop((self.call)(Ok(None))),
            true => self.read_on(),
        }
    }
}

/// Bytes of the program's, copied where there is memory for it.
fn copied(bytes: &[u8]) -> Result<Arc<[u8]>> {
    let mut copy = Vec::new();
    crate::sys::reserve(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_a_key_names_it() {
        let text = |key: &[u8], status: Status| about(key, status.into()).to_string();
        assert_eq!(text(b"a", Status::NoKey), "key \"a\": There is no such key.");
        assert_eq!(text(b"a\"\n\0", Status::KeyExists), "key \"a\\\"\\n\\0\": The key is there already.");
        assert_eq!(text(b"\xff", Status::NoKey), "key \"\u{fffd}\": There is no such key.");
        assert_eq!(text(&[b'x'; 255], Status::NoKey), format!("key \"{}…\": There is no such key.", "x".repeat(64)));
        assert_eq!(
            about(b"a", Error::new(Status::Revision, "it has revision 5, not 3")).detail,
            "key \"a\": it has revision 5, not 3"
        );
        assert_eq!(about(b"a", Error::new(Status::Timeout, "late")).detail, "late");
    }
}
