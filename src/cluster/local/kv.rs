//! Buckets inside the process: in memory, or in a file (`file`). Both are read from memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::table::{Change, Settings, Table};
use crate::cluster::bucket::{Bucket, BucketOptions, ChangeSink, Changes, Entry, Listing, Write};
use crate::cluster::engine::{Done, SubscriptionKey};
use crate::cluster::{Host, Task};
use crate::status::{Error, Result, Status};
use crate::sys;

/// As the servers of a cluster have it by default, so that a program finds the same limit in both.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest time that a timer is set for; then it is looked again.
const TIMER_MS_MAX: u64 = 3_600_000;

/// The buckets of one server.
pub(super) struct Store {
    host: Arc<dyn Host>,
    memory: Mutex<HashMap<String, Arc<LocalBucket>>>,
    #[cfg(feature = "store")]
    files: super::file::Files,
}

impl Store {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            memory: Mutex::default(),
            #[cfg(feature = "store")]
            files: super::file::Files::default(),
        }
    }

    pub(super) fn open(&self, name: &str, options: &BucketOptions, done: Done<Arc<dyn Bucket>>) -> Result<()> {
        if options.replicas > 1 {
            return Err(Error::new(Status::Replicas, "the server has no cluster: there is one copy"));
        }
        if options.path.is_some() {
            return self.open_file(name, options, done);
        }
        let bucket = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            match memory.get(name) {
                Some(bucket) => {
                    bucket.table().settings().check(name, options)?;
                    Arc::clone(bucket)
                }
                None => {
                    let table = Table::new(Settings::new(options), 0);
                    let bucket = LocalBucket::new(table, Arc::clone(&self.host), Keeper::Memory);
                    memory.insert(name.to_owned(), Arc::clone(&bucket));
                    bucket
                }
            }
        };
        done(Ok(bucket));
        Ok(())
    }

    #[cfg(feature = "store")]
    fn open_file(&self, name: &str, options: &BucketOptions, done: Done<Arc<dyn Bucket>>) -> Result<()> {
        self.files.open(&self.host, name, options, done)
    }

    #[cfg(not(feature = "store"))]
    fn open_file(&self, _name: &str, _options: &BucketOptions, _done: Done<Arc<dyn Bucket>>) -> Result<()> {
        Err(Error::new(Status::Unsupported, "this libahoy is built without buckets in files"))
    }

    /// Calls `gone` when everything that was begun is done, and the files are closed.
    pub(super) fn stop(&self, gone: Task) {
        #[cfg(feature = "store")]
        self.files.stop(gone);
        #[cfg(not(feature = "store"))]
        gone();
    }
}

/// A bucket.
pub(super) struct LocalBucket {
    me: Weak<Self>,
    host: Arc<dyn Host>,
    table: Mutex<Table>,
    ears: Mutex<Vec<Ear>>,
    ear_last: AtomicU64,
    /// When timers are due, the first of them last: one is only set that is due before all others.
    timers: Mutex<Vec<u64>>,
    keeper: Keeper,
}

struct Ear {
    key: SubscriptionKey,
    prefix: Box<[u8]>,
    sink: ChangeSink,
}

/// Who does its changes.
pub(super) enum Keeper {
    /// The calling thread.
    Memory,
    /// The file's thread.
    #[cfg(feature = "store")]
    File(Arc<super::file::File>, Box<str>),
}

impl LocalBucket {
    pub(super) fn new(table: Table, host: Arc<dyn Host>, keeper: Keeper) -> Arc<Self> {
        let bucket = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            host,
            table: Mutex::new(table),
            ears: Mutex::default(),
            ear_last: AtomicU64::new(0),
            timers: Mutex::default(),
            keeper,
        });
        bucket.set_timer();
        bucket
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Ear>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that are done for good: from here on everybody sees them.
    #[cfg(feature = "store")]
    pub(super) fn show(&self, change: &Change) {
        self.table().apply(change);
        self.tell(change);
        self.set_timer();
    }

    fn tell(&self, change: &Change) {
        let sinks: Vec<_> = {
            let ears = self.ears();
            let hears = ears.iter().filter(|ear| change.entry.key.starts_with(&ear.prefix));
            hears.map(|ear| Arc::clone(&ear.sink)).collect()
        };
        sinks.iter().for_each(|sink| sink(change.entry.clone(), change.before));
    }

    fn timers(&self) -> MutexGuard<'_, Vec<u64>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a timer for the first key that goes, unless one is due by then.
    fn set_timer(&self) {
        let Some(due_ms) = self.table().next_due_ms() else { return };
        let now_ms = sys::now_ms();
        let at_ms = due_ms.clamp(now_ms, now_ms + TIMER_MS_MAX);
        {
            let mut timers = self.timers();
            if timers.last().is_some_and(|first_ms| *first_ms <= at_ms) {
                return;
            }
            timers.push(at_ms);
        }
        let me = self.me.clone();
        let expire = move || {
            if let Some(bucket) = me.upgrade() {
                bucket.timers().retain(|set_ms| *set_ms != at_ms);
                bucket.expire();
            }
        };
        // Reads see to the time themselves: without a timer only watches are not told.
        let delay_ms = u32::try_from(at_ms - now_ms).unwrap_or(u32::MAX);
        if let Err(error) = self.host.after(delay_ms, Box::new(expire)) {
            self.timers().retain(|set_ms| *set_ms != at_ms);
            log::debug!("keys are not buried in time: {error}");
        }
    }

    /// Buries the keys whose time has come.
    fn expire(&self) {
        match &self.keeper {
            Keeper::Memory => loop {
                let change = {
                    let mut table = self.table();
                    let Some(change) = table.plan_expiry(sys::now_ms()) else { break };
                    table.apply(&change);
                    change
                };
                self.tell(&change);
            },
            // What it has done is shown, and then the next timer is set. If nothing is due (a key was written anew), it has
            // nothing to show.
            #[cfg(feature = "store")]
            Keeper::File(file, name) => {
                if self.table().next_due_ms().is_some_and(|due_ms| due_ms <= sys::now_ms()) {
                    return file.expire(name);
                }
            }
        }
        self.set_timer();
    }
}

impl Bucket for LocalBucket {
    fn get(&self, key: &Arc<[u8]>, _is_fresh: bool, done: Done<Entry>) -> Result<()> {
        let entry = self.table().get(key, sys::now_ms());
        done(entry);
        Ok(())
    }

    fn write(&self, write: Write, done: Done<u64>) -> Result<()> {
        match &self.keeper {
            Keeper::Memory => {
                let planned = {
                    let mut table = self.table();
                    table.plan(&write, sys::now_ms()).inspect(|change| table.apply(change))
                };
                if let Ok(change) = &planned {
                    self.tell(change);
                    self.set_timer();
                }
                done(planned.map(|change| change.entry.revision));
                Ok(())
            }
            #[cfg(feature = "store")]
            Keeper::File(file, name) => file.write(name, write, done),
        }
    }

    fn list(&self, prefix: &[u8], done: Done<Listing>) -> Result<()> {
        let listing = self.table().list(prefix, sys::now_ms());
        done(Ok(listing));
        Ok(())
    }

    fn changes(&self, prefix: &[u8], after: u64, done: Done<Changes>) -> Result<()> {
        let changes = self.table().changes(prefix, after);
        done(Ok(changes));
        Ok(())
    }

    fn hear(&self, prefix: &[u8], sink: ChangeSink) -> Result<SubscriptionKey> {
        let key = SubscriptionKey(self.ear_last.fetch_add(1, Ordering::Relaxed) + 1);
        self.ears().push(Ear { key, prefix: prefix.into(), sink });
        Ok(key)
    }

    fn unhear(&self, key: SubscriptionKey) {
        let mut ears = self.ears();
        let at = ears.iter().position(|ear| ear.key == key);
        let removed = at.map(|at| ears.remove(at));
        drop(ears);
        drop(removed);
    }

    fn value_bytes_max(&self) -> Option<usize> {
        Some(VALUE_BYTES_MAX)
    }
}
