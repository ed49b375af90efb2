//! The keys of one bucket: what they hold, when they go, and how they have changed. No locks, no clock, no file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::cluster::bucket::{BucketOptions, Changes, Condition, Entry, Listing, Operation, Write};
use crate::status::{Error, Result, Status};

/// Keys whose deletion is remembered, for a watch that has fallen behind, and for who makes one anew from there.
const GRAVES_MAX: usize = 65_536;
/// Changes that are given at once.
const CHANGES_MAX: usize = 256;

/// What a bucket is, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) history: u32,
    pub(super) ttl_ms: u64,
    pub(super) bytes_max: u64,
}

impl Settings {
    /// Of a new bucket.
    pub(super) fn new(options: &BucketOptions) -> Self {
        Self { history: options.history.max(1), ttl_ms: options.ttl_ms, bytes_max: options.bytes_max }
    }

    /// Whether a bucket that is there already is what it is asked to be; 0 asks for nothing.
    pub(super) fn check(&self, name: &str, options: &BucketOptions) -> Result<()> {
        let asked =
            [("history", u64::from(options.history)), ("ttl_ms", options.ttl_ms), ("bytes_max", options.bytes_max)];
        let is = [u64::from(self.history), self.ttl_ms, self.bytes_max];
        match asked.into_iter().zip(is).find(|((_, asked), is)| *asked != 0 && asked != is) {
            None => Ok(()),
            Some(((what, asked), is)) => Err(Error::new(
                Status::Invalid,
                format!("bucket {name} is there already: its {what} is {is}, not {asked}"),
            )),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Table {
    settings: Settings,
    entries: BTreeMap<Arc<[u8]>, Stored>,
    by_revision: BTreeMap<u64, (Arc<[u8]>, Operation)>,
    /// Keys that are gone, with the revisions of their deletions.
    gone: HashMap<Arc<[u8]>, u64>,
    /// These revisions, the first to be forgotten first.
    graves: BTreeSet<u64>,
    /// When keys go.
    due: BTreeSet<(u64, Arc<[u8]>)>,
    bytes: u64,
    last: u64,
}

/// What a key holds.
#[derive(Clone)]
struct Stored {
    value: Arc<[u8]>,
    revision: u64,
    /// 0: never.
    due_ms: u64,
}

/// A change that may be done.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) entry: Entry,
    /// The key's revision before; 0: there was none.
    pub(super) before: u64,
    /// When it goes; 0: never.
    pub(super) due_ms: u64,
}

impl Table {
    pub(super) fn new(settings: Settings, last: u64) -> Self {
        Self {
            settings,
            entries: BTreeMap::new(),
            by_revision: BTreeMap::new(),
            gone: HashMap::new(),
            graves: BTreeSet::new(),
            due: BTreeSet::new(),
            bytes: 0,
            last,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn live(&self, key: &[u8], now_ms: u64) -> Option<&Stored> {
        self.entries.get(key).filter(|stored| stored.due_ms == 0 || stored.due_ms > now_ms)
    }

    pub(super) fn get(&self, key: &Arc<[u8]>, now_ms: u64) -> Result<Entry> {
        let stored = self.live(key, now_ms).ok_or(Status::NoKey)?;
        Ok(stored.entry(key))
    }

    /// What a write comes to, if it may be done.
    pub(super) fn plan(&self, write: &Write, now_ms: u64) -> Result<Change> {
        write.check_ttl(u64::from(self.settings.history))?;
        let live = self.live(&write.key, now_ms).map(|stored| stored.revision);
        match (write.condition, live.or_else(|| self.gone.get(&write.key).copied())) {
            (Condition::Absent, _) if live.is_some() => return Err(Status::KeyExists.into()),
            (Condition::At(_), None) => return Err(Error::new(Status::Revision, "there is no such key")),
            (Condition::At(revision), Some(is)) if is != revision => {
                return Err(Error::new(Status::Revision, format!("it has revision {is}, not {revision}")));
            }
            _ => {}
        }
        let stored = self.entries.get(&write.key);
        let value = write.value.clone().unwrap_or_else(|| Arc::from([]));
        let operation = if write.value.is_some() { Operation::Put } else { Operation::Delete };
        let ttl_ms = [write.ttl_ms, self.settings.ttl_ms].into_iter().filter(|ttl| *ttl > 0).min();
        if operation == Operation::Put && self.settings.bytes_max > 0 {
            let goes = stored.map_or(0, |stored| size(&write.key, &stored.value));
            if self.bytes - goes + size(&write.key, &value) > self.settings.bytes_max {
                let text = format!("the bucket is full: {} bytes", self.settings.bytes_max);
                return Err(Error::new(Status::Again, text));
            }
        }
        Ok(Change {
            entry: Entry { key: Arc::clone(&write.key), value, revision: self.last + 1, operation },
            before: stored.map_or(0, |stored| stored.revision),
            due_ms: ttl_ms.filter(|_| operation == Operation::Put).map_or(0, |ttl| now_ms.saturating_add(ttl)),
        })
    }

    /// Does it.
    pub(super) fn apply(&mut self, change: &Change) {
        let Entry { key, value, revision, operation } = &change.entry;
        if let Some(before) = self.entries.remove(key) {
            self.bytes -= size(key, &before.value);
            self.by_revision.remove(&before.revision);
            if before.due_ms > 0 {
                self.due.remove(&(before.due_ms, Arc::clone(key)));
            }
        }
        if let Some(grave) = self.gone.remove(key) {
            self.graves.remove(&grave);
            self.by_revision.remove(&grave);
        }
        self.last = self.last.max(*revision);
        self.by_revision.insert(*revision, (Arc::clone(key), *operation));
        match operation {
            Operation::Put => {
                self.bytes += size(key, value);
                if change.due_ms > 0 {
                    self.due.insert((change.due_ms, Arc::clone(key)));
                }
                let stored = Stored { value: Arc::clone(value), revision: *revision, due_ms: change.due_ms };
                self.entries.insert(Arc::clone(key), stored);
            }
            Operation::Delete => {
                self.gone.insert(Arc::clone(key), *revision);
                self.graves.insert(*revision);
                if self.graves.len() > GRAVES_MAX
                    && let Some(forgotten) = self.graves.pop_first()
                    && let Some((key, _)) = self.by_revision.remove(&forgotten)
                {
                    self.gone.remove(&key);
                }
            }
        }
    }

    /// When the first key goes.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The deletion of a key whose time has come.
    pub(super) fn plan_expiry(&self, now_ms: u64) -> Option<Change> {
        let (due_ms, key) = self.due.first()?;
        if *due_ms > now_ms {
            return None;
        }
        let before = self.entries.get(key).map_or(0, |stored| stored.revision);
        let entry =
            Entry { key: Arc::clone(key), value: Arc::from([]), revision: self.last + 1, operation: Operation::Delete };
        Some(Change { entry, before, due_ms: 0 })
    }

    pub(super) fn list(&self, prefix: &[u8], now_ms: u64) -> Listing {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let keys = self.entries.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(prefix));
        let keys = keys.filter(|(_, stored)| stored.due_ms == 0 || stored.due_ms > now_ms);
        Listing { keys: keys.map(|(key, _)| Arc::clone(key)).collect(), revision: self.last }
    }

    pub(super) fn changes(&self, prefix: &[u8], after: u64) -> Changes {
        let later = self.by_revision.range((Bound::Excluded(after), Bound::Unbounded));
        let some = later.filter(|(_, (key, _))| key.starts_with(prefix)).take(CHANGES_MAX);
        let entry = |(revision, (key, operation)): (&u64, &(Arc<[u8]>, Operation))| match operation {
            Operation::Put => self.entries.get(key).map(|stored| stored.entry(key)),
            Operation::Delete => {
                let key = Arc::clone(key);
                Some(Entry { key, value: Arc::from([]), revision: *revision, operation: Operation::Delete })
            }
        };
        let entries: Vec<_> = some.filter_map(entry).collect();
        let is_all = entries.len() < CHANGES_MAX;
        let up_to = if is_all { self.last } else { entries.last().map_or(after, |entry| entry.revision) };
        Changes { entries, up_to }
    }
}

impl Stored {
    fn entry(&self, key: &Arc<[u8]>) -> Entry {
        let (key, value) = (Arc::clone(key), Arc::clone(&self.value));
        Entry { key, value, revision: self.revision, operation: Operation::Put }
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(key: u8, value: Option<&[u8]>, condition: Condition, ttl_ms: u64) -> Write {
        Write { key: Arc::from([key]), value: value.map(Arc::from), condition, ttl_ms }
    }

    fn table(ttl_ms: u64, bytes_max: u64) -> Table {
        Table::new(Settings { history: 1, ttl_ms, bytes_max }, 0)
    }

    fn change(table: &mut Table, write: &Write, now_ms: u64) -> Result<u64, Status> {
        let change = table.plan(write, now_ms).map_err(|error| error.status)?;
        table.apply(&change);
        Ok(change.entry.revision)
    }

    #[test]
    fn a_key_that_is_due_is_gone_before_it_is_buried() {
        let mut table = table(100, 0);
        assert_eq!(change(&mut table, &write(1, Some(b"a"), Condition::None, 30), 0), Ok(1));
        assert_eq!(change(&mut table, &write(2, Some(b"b"), Condition::None, 500), 0), Ok(2));
        assert_eq!(table.next_due_ms(), Some(30));
        assert!(table.get(&Arc::from([1]), 29).is_ok());
        assert!(table.get(&Arc::from([1]), 30).is_err());
        assert_eq!(table.list(b"", 30).keys, [Arc::from([2])]);
        let buried = table.plan_expiry(30).unwrap();
        table.apply(&buried);
        assert_eq!((buried.entry.operation, buried.entry.revision, buried.before), (Operation::Delete, 3, 1));
        // The bucket's own time is the longest.
        assert_eq!(table.next_due_ms(), Some(100));
        assert!(table.plan_expiry(99).is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_goes_makes_room() {
        let mut table = table(0, 8);
        assert_eq!(change(&mut table, &write(1, Some(b"1234567"), Condition::None, 0), 0), Ok(1));
        assert_eq!(change(&mut table, &write(2, Some(b""), Condition::None, 0), 0), Err(Status::Again));
        assert_eq!(change(&mut table, &write(1, Some(b"123"), Condition::None, 0), 0), Ok(2));
        assert_eq!(change(&mut table, &write(2, Some(b"123"), Condition::None, 0), 0), Ok(3));
        assert_eq!(change(&mut table, &write(1, None, Condition::None, 0), 0), Ok(4));
        assert_eq!(change(&mut table, &write(2, Some(b"1234567"), Condition::None, 0), 0), Ok(5));
    }

    #[test]
    fn a_key_has_no_time_of_its_own_beside_a_history() {
        let mut table = Table::new(Settings { history: 2, ttl_ms: 0, bytes_max: 0 }, 0);
        assert_eq!(change(&mut table, &write(1, Some(b"a"), Condition::None, 30), 0), Err(Status::Unsupported));
        assert_eq!(change(&mut table, &write(1, Some(b"a"), Condition::None, 0), 0), Ok(1));
    }

    #[test]
    fn deletions_are_forgotten_in_the_end() {
        let mut table = table(0, 0);
        for number in 0..GRAVES_MAX + 10 {
            let key = Arc::from(number.to_be_bytes());
            let deletion = Write { key, value: None, condition: Condition::None, ttl_ms: 0 };
            change(&mut table, &deletion, 0).unwrap();
        }
        assert_eq!(
            (table.by_revision.len(), table.gone.len(), table.graves.len()),
            (GRAVES_MAX, GRAVES_MAX, GRAVES_MAX)
        );
        assert_eq!(table.changes(b"", 0).entries.len(), CHANGES_MAX);
        // One key has one, the last.
        for _ in 0..3 {
            change(&mut table, &write(1, None, Condition::None, 0), 0).unwrap();
        }
        assert_eq!(
            (table.by_revision.len(), table.gone.len(), table.graves.len()),
            (GRAVES_MAX, GRAVES_MAX, GRAVES_MAX)
        );
    }

    proptest! {
        /// Any sequence of writes against a map; and who follows the changes has the same in the end.
        #[test]
        fn as_a_map_would(writes in prop::collection::vec((0..4_u8, any::<bool>(), 0..3_u8, 0..60_u64), 0..60)) {
            let (mut table, mut model, mut last) = (table(0, 0), HashMap::<u8, u64>::new(), 0);
            let (mut seen, mut follower, mut gone) = (0, HashMap::<u8, u64>::new(), HashMap::<u8, u64>::new());
            for (key, deletes, kind, guess) in writes {
                let condition = match kind {
                    0 => Condition::None,
                    1 => Condition::Absent,
                    _ => {
                        let is = model.get(&key).or_else(|| gone.get(&key)).copied();
                        Condition::At(is.filter(|_| guess % 2 == 0).unwrap_or(guess + 1))
                    }
                };
                let is = model.get(&key).copied();
                let expected = match condition {
                    Condition::Absent if is.is_some() => Err(Status::KeyExists),
                    Condition::At(at) if Some(at) != is.or_else(|| gone.get(&key).copied()) => Err(Status::Revision),
                    _ => Ok(last + 1),
                };
                let value = (!deletes).then_some(&b"x"[..]);
                prop_assert_eq!(change(&mut table, &write(key, value, condition, 0), 0), expected);
                if expected.is_ok() {
                    last += 1;
                    let (into, from) = if deletes { (&mut gone, &mut model) } else { (&mut model, &mut gone) };
                    from.remove(&key);
                    into.insert(key, last);
                }
                if guess % 5 == 0 {
                    for entry in table.changes(b"", seen).entries {
                        prop_assert!(entry.revision > seen);
                        seen = entry.revision;
                        match entry.operation {
                            Operation::Put => { follower.insert(entry.key[0], entry.revision); }
                            Operation::Delete => { follower.remove(&entry.key[0]); }
                        }
                    }
                    prop_assert_eq!(&follower, &model);
                }
            }
            prop_assert_eq!(table.list(b"", 0).keys.len(), model.len());
            prop_assert_eq!(table.last, last);
        }
    }
}
