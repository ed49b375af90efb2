//! Buckets in a file, one thread for each file: it does the changes, many in one transaction, and says that they are done when
//! the disk has them. A process that is killed loses nothing that it was told is done.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, DatabaseError, ReadableTable, TableDefinition};

use super::kv::{Keeper, LocalBucket};
use super::table::{Change, Settings, Table};
use crate::cluster::bucket::{Bucket, BucketOptions, Entry, Operation, Write};
use crate::cluster::engine::Done;
use crate::cluster::{Host, Task};
use crate::fault::{self, Call};
use crate::log::Inside;
use crate::status::{Error, Result, Status};
use crate::sys;

/// Bucket and key.
type At<'a> = (&'a str, &'a [u8]);
/// Revision, due time (milliseconds since 1970; 0: never) and value.
type Row<'a> = (u64, u64, &'a [u8]);

const ENTRIES: TableDefinition<'_, At<'_>, Row<'_>> = TableDefinition::new("entries");
/// Of the same types, which halves the store's code: bucket and no key, to its last revision, 0 and its settings.
const BUCKETS: TableDefinition<'_, At<'_>, Row<'_>> = TableDefinition::new("buckets");

/// History, time to live and limit of bytes, as a file has them.
const SETTINGS_BYTES: usize = 4 + 8 + 8;

fn to_bytes(settings: &Settings) -> [u8; SETTINGS_BYTES] {
    let mut bytes = [0; SETTINGS_BYTES];
    bytes[..4].copy_from_slice(&settings.history.to_le_bytes());
    bytes[4..12].copy_from_slice(&settings.ttl_ms.to_le_bytes());
    bytes[12..].copy_from_slice(&settings.bytes_max.to_le_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Result<Settings, redb::Error> {
    let read = || {
        let (history, rest) = bytes.split_first_chunk()?;
        let (ttl_ms, rest) = rest.split_first_chunk()?;
        let (ttl_ms, bytes_max) = (u64::from_le_bytes(*ttl_ms), u64::from_le_bytes(rest.try_into().ok()?));
        Some(Settings { history: u32::from_le_bytes(*history), ttl_ms, bytes_max })
    };
    read().ok_or_else(|| redb::Error::Corrupted("a bucket's settings".to_owned()))
}

/// Changes in one transaction.
const CHANGES_MAX: usize = 1_024;

/// The files of one server.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<PathBuf, Opened>>);

struct Opened {
    file: Weak<File>,
    thread: JoinHandle<()>,
}

/// An open file; it is closed when the last bucket in it is.
pub(super) struct File(Sender<Wish>);

enum Wish {
    Open {
        name: Box<str>,
        options: BucketOptions,
        file: Arc<File>,
        done: Done<Arc<dyn Bucket>>,
    },
    Write {
        name: Box<str>,
        write: Write,
        done: Done<u64>,
    },
    Expire {
        name: Box<str>,
    },
    /// Close the file. Dropped when that is done.
    Stop(#[allow(dead_code)] Arc<Gone>),
}

/// Called when the last file is closed.
struct Gone(Mutex<Option<Task>>);

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(gone) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            gone();
        }
    }
}

impl Files {
    pub(super) fn open(
        &self,
        host: &Arc<dyn Host>,
        name: &str,
        options: &BucketOptions,
        done: Done<Arc<dyn Bucket>>,
    ) -> Result<()> {
        let path = whole(Path::new(options.path.as_deref().unwrap_or_default()))?;
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match files.get(&path).and_then(|opened| opened.file.upgrade()) {
            Some(file) => file,
            None => {
                let (wishes, granted) = mpsc::channel();
                let file = Arc::new(File(wishes));
                let before = files.remove(&path).map(|opened| opened.thread);
                let (host, at) = (Arc::clone(host), path.clone());
                let body = move || {
                    let _inside = Inside::enter();
                    // The thread that had the file before is about to close it.
                    before.map(JoinHandle::join);
                    keep(&at, &host, &granted);
                };
                let thread = fault::check(Call::Spawn).and_then(|()| {
                    sys::with_signals_blocked(|| std::thread::Builder::new().name("ahoy-store".to_owned()).spawn(body))
                });
                let thread = thread
                    .map_err(|error| Error { status: Status::Thread, ..Error::system("start a thread", &error) })?;
                files.insert(path, Opened { file: Arc::downgrade(&file), thread });
                file
            }
        };
        drop(files);
        let wish = Wish::Open { name: name.into(), options: options.clone(), file: Arc::clone(&file), done };
        file.0.send(wish).map_err(|_| Status::Stopped.into())
    }

    pub(super) fn stop(&self, gone: Task) {
        let gone = Arc::new(Gone(Mutex::new(Some(gone))));
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = files.values().filter_map(|opened| opened.file.upgrade()).collect();
        drop(files);
        for file in open {
            let _ = file.0.send(Wish::Stop(Arc::clone(&gone)));
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let files = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in files.into_values().map(|opened| opened.thread) {
            if sys::forked() {
                // The thread is the parent's.
                std::mem::forget(thread);
            } else if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// The same file has one path; the folder has to be there.
fn whole(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::new(Status::Invalid, "path names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize();
    let folder = folder.map_err(|error| Error::system(format_args!("open {}", path.display()), &error))?;
    let whole = folder.join(name);
    // A link leads to what is meant.
    Ok(whole.canonicalize().unwrap_or(whole))
}

impl File {
    pub(super) fn write(&self, name: &str, write: Write, done: Done<u64>) -> Result<()> {
        let wish = Wish::Write { name: name.into(), write, done };
        self.0.send(wish).map_err(|_| Status::Stopped.into())
    }

    pub(super) fn expire(&self, name: &str) {
        let _ = self.0.send(Wish::Expire { name: name.into() });
    }
}

/// A bucket, as the thread has it.
struct Kept {
    /// With the changes that the disk does not have yet.
    table: Table,
    bucket: Weak<LocalBucket>,
}

/// What the thread has.
struct Desk<'a> {
    host: &'a Arc<dyn Host>,
    /// Or why it cannot be had.
    database: Result<Database>,
    kept: HashMap<Box<str>, Kept>,
}

/// The thread: until nobody has the file any more.
fn keep(path: &Path, host: &Arc<dyn Host>, wishes: &Receiver<Wish>) {
    let mut desk = Desk { host, database: open(path), kept: HashMap::new() };
    let mut next = None;
    while let Some(wish) = next.take().or_else(|| wishes.recv().ok()) {
        match wish {
            Wish::Open { name, options, file, done } => {
                let bucket = desk.open_bucket(&name, &options, &file);
                drop(file);
                done(bucket);
            }
            Wish::Stop(gone) => {
                desk.give_up(Status::Stopped.into());
                drop(gone);
            }
            change => {
                let mut changes = vec![change];
                while next.is_none() && changes.len() < CHANGES_MAX {
                    match wishes.try_recv() {
                        Ok(change @ (Wish::Write { .. } | Wish::Expire { .. })) => changes.push(change),
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                desk.change(changes);
            }
        }
    }
}

fn open(path: &Path) -> Result<Database> {
    let open = Database::builder().set_cache_size(CACHE_BYTES).create(path);
    open.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::new(Status::Busy, format!("{} is in use", path.display())),
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.raw_os_error().is_some() => {
            Error::system(format_args!("open {}", path.display()), &error)
        }
        error => Error::new(Status::Invalid, format!("{} is no file of buckets: {error}", path.display())),
    })
}

/// All keys are in memory anyway.
const CACHE_BYTES: usize = 4 << 20;

impl Desk<'_> {
    /// Of a store in which something has panicked the end may panic, too.
    fn give_up(&mut self, error: Error) {
        let old = std::mem::replace(&mut self.database, Err(error));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(old)));
    }

    fn database(&self) -> Result<&Database> {
        self.database.as_ref().map_err(Error::again)
    }

    fn open_bucket(&mut self, name: &str, options: &BucketOptions, file: &Arc<File>) -> Result<Arc<dyn Bucket>> {
        let database = self.database()?;
        if !self.kept.contains_key(name) {
            let table = caught(|| load(database, name, options))?;
            self.kept.insert(name.into(), Kept { table, bucket: Weak::new() });
        }
        let kept = self.kept.get_mut(name).ok_or(Status::Memory)?;
        kept.table.settings().check(name, options)?;
        if let Some(bucket) = kept.bucket.upgrade() {
            return Ok(bucket);
        }
        let keeper = Keeper::File(Arc::clone(file), name.into());
        let bucket = LocalBucket::new(kept.table.clone(), Arc::clone(self.host), keeper);
        kept.bucket = Arc::downgrade(&bucket);
        Ok(bucket)
    }

    /// Does changes, all in one transaction; then everybody sees them, and those who asked are told.
    fn change(&mut self, wishes: Vec<Wish>) {
        let now_ms = sys::now_ms();
        let mut changes: Vec<(Box<str>, Change)> = Vec::new();
        let mut answers: Vec<(Done<u64>, Result<u64>)> = Vec::new();
        let is_open = self.database().map(drop);
        for wish in wishes {
            match wish {
                Wish::Write { name, write, done } => {
                    let kept = self.kept.get_mut(&name).ok_or_else(|| Error::from(Status::Stopped));
                    let open = is_open.as_ref().map_err(Error::again);
                    let planned = open
                        .and(kept)
                        .and_then(|kept| kept.table.plan(&write, now_ms).inspect(|change| kept.table.apply(change)));
                    answers.push((done, planned.as_ref().map(|change| change.entry.revision).map_err(Error::again)));
                    changes.extend(planned.ok().map(|change| (name, change)));
                }
                Wish::Expire { name } if is_open.is_ok() => {
                    let Some(kept) = self.kept.get_mut(&name) else { continue };
                    while let Some(change) = kept.table.plan_expiry(now_ms) {
                        kept.table.apply(&change);
                        changes.push((name.clone(), change));
                    }
                }
                _ => {}
            }
        }
        let stored = match (&self.database, changes.is_empty()) {
            (Ok(database), false) => caught(|| store(database, &changes)),
            _ => Ok(()),
        };
        match stored {
            Ok(()) => {
                for (name, change) in &changes {
                    if let Some(bucket) = self.kept.get(name).and_then(|kept| kept.bucket.upgrade()) {
                        bucket.show(change);
                    }
                }
                answers.into_iter().for_each(|(done, result)| done(result));
            }
            Err(error) => {
                // What the disk has of it will be known when the file is opened again.
                log::error!("a file of buckets is given up: {error}");
                let unknown = || Error::new(Status::UnknownOutcome, error.detail.clone());
                answers.into_iter().for_each(|(done, result)| done(result.and_then(|_| Err(unknown()))));
                self.give_up(error);
            }
        }
    }
}

/// Does something with the file. Of one that is damaged the store may make a panic: that is an error like others.
fn caught<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| failed(&error)),
        Err(_) => Err(Error::new(Status::Panic, "a file of buckets: it is damaged")),
    }
}

fn failed(error: &redb::Error) -> Error {
    match error {
        redb::Error::Io(error) if error.raw_os_error().is_some() => Error::system("write a file of buckets", error),
        error => Error::new(Status::System, format!("a file of buckets: {error}")),
    }
}

/// Reads a bucket, or begins it.
fn load(database: &Database, name: &str, options: &BucketOptions) -> Result<Table, redb::Error> {
    let transaction = database.begin_write()?;
    let table = {
        let mut buckets = transaction.open_table(BUCKETS)?;
        let known = match buckets.get((name, &[][..]))? {
            Some(row) => Some((row.value().0, from_bytes(row.value().2)?)),
            None => None,
        };
        let (last, settings) = match known {
            Some(known) => known,
            None => {
                let settings = Settings::new(options);
                buckets.insert((name, &[][..]), (0, 0, &to_bytes(&settings)[..]))?;
                (0, settings)
            }
        };
        let mut table = Table::new(settings, last);
        let entries = transaction.open_table(ENTRIES)?;
        let (now_ms, wall_ms) = (sys::now_ms(), wall_ms());
        for row in entries.range((name, &[][..])..)? {
            let (key, row) = row?;
            let ((bucket, key), (revision, due_ms, value)) = (key.value(), row.value());
            if bucket != name {
                break;
            }
            // What was due meanwhile is due at once.
            let left_ms = due_ms.saturating_sub(wall_ms);
            let due_ms = if due_ms == 0 { 0 } else { now_ms.saturating_add(left_ms).max(1) };
            let entry = Entry { key: key.into(), value: value.into(), revision, operation: Operation::Put };
            table.apply(&Change { entry, before: 0, due_ms });
        }
        table
    };
    transaction.commit()?;
    Ok(table)
}

fn store(database: &Database, changes: &[(Box<str>, Change)]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut buckets = transaction.open_table(BUCKETS)?;
        let (now_ms, wall_ms) = (sys::now_ms(), wall_ms());
        for (name, change) in changes {
            let at = (&**name, &*change.entry.key);
            let due_ms =
                if change.due_ms == 0 { 0 } else { wall_ms.saturating_add(change.due_ms.saturating_sub(now_ms)) };
            match change.entry.operation {
                Operation::Put => drop(entries.insert(at, (change.entry.revision, due_ms, &*change.entry.value))?),
                Operation::Delete => drop(entries.remove(at)?),
            }
        }
        // The last of each bucket's is what stays.
        let last: HashMap<_, _> = changes.iter().map(|(name, change)| (&**name, change.entry.revision)).collect();
        for (name, revision) in last {
            let at = (name, &[][..]);
            let settings = buckets.get(at)?.map(|row| row.value().2.to_vec());
            if let Some(settings) = settings {
                buckets.insert(at, (revision, 0, &*settings))?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Milliseconds since 1970: what a time means also to the next process.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
