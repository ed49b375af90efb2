//! Watches: what a bucket holds, and then each change, with nothing missed in the end.
//!
//! An engine's changes are heard at once, but some may be lost: when a server dies, when the link does, when the program is
//! slow. So a watch knows a *floor*, a revision up to which it has seen everything, and of what it heard above it the
//! revision of each key. Whenever something may be missing it *walks*: it reads, in their order, the changes above the floor,
//! and takes those that it does not know. A change that is heard twice, or late, is known by its revision.
//!
//! What waits for the program is one entry for each key, the latest. When too many wait, changes are let go, and the watch
//! walks when there is room again.

mod telling;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bucket::{Changes, Entry, Listing};
use super::engine::SubscriptionKey;
use super::handles::Handles;
use super::kv::{self, Kv, READS_MAX};
use crate::status::{Error, Result, Status};
use crate::sys::Finalizer;

/// All watches of the process.
pub(crate) static WATCHES: Handles<Watch> = Handles::new();

/// Calls the program: with an entry, or with None when it has seen what there was. False: there was no memory to do so.
pub(crate) type WatchCall = Box<dyn Fn(Option<&Entry>) -> bool + Send + Sync>;

/// Keys that may wait for the program, and bytes.
const PENDING_MAX: usize = 4_096;
const PENDING_BYTES_MAX: usize = 16 << 20;
/// How often a watch looks whether it has missed something.
const TICK_MS: u32 = 2_000;

/// A watch.
pub(crate) struct Watch {
    number: u64,
    kv: Arc<Kv>,
    prefix: Arc<[u8]>,
    call: WatchCall,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Which keys are there?
    List,
    /// What are their values?
    Read,
    Live,
}

struct State {
    phase: Phase,
    /// Everything up to here is known.
    floor: u64,
    /// Revisions of keys above the floor.
    newer: HashMap<Arc<[u8]>, u64>,
    /// At the beginning: keys still to be read.
    keys: Vec<Arc<[u8]>>,
    /// The floor when they have been.
    listed: u64,
    pending: HashMap<Arc<[u8]>, Entry>,
    /// In which order the program gets them; None: it has seen what there was.
    order: VecDeque<Option<Arc<[u8]>>>,
    pending_bytes: usize,
    /// Changes were let go.
    is_behind: bool,
    /// It is to walk.
    walks: bool,
    /// The engine was asked for something.
    is_asking: bool,
    /// The engine did not answer: asked again when there is hope.
    is_resting: bool,
    is_pumping: bool,
    pumps_again: bool,
    /// A task that calls the program is on its way, or runs.
    is_posted: bool,
    is_over: bool,
    subscription: Option<SubscriptionKey>,
    finalizer: Option<Finalizer>,
}

enum Step {
    List,
    Read(Vec<Arc<[u8]>>),
    Walk(u64),
}

/// Begins a watch; `announce` gets its handle before the program is called. On an error the finalizer is disarmed.
pub(crate) fn begin(
    kv: &Arc<Kv>,
    prefix: &[u8],
    call: WatchCall,
    finalizer: Finalizer,
    announce: impl FnOnce(u64),
) -> Result<()> {
    let (prefix, _inside, hand) =
        match kv::check_prefix(prefix).and_then(|prefix| Ok((prefix, kv.cluster.enter()?, kv.cluster.hold()?))) {
            Ok(begun) => begun,
            Err(error) => {
                finalizer.disarm();
                return Err(error);
            }
        };
    let watch = WATCHES.insert(|number| {
        let state = Mutex::new(State::new(finalizer));
        Watch { number, kv: Arc::clone(kv), prefix, call, state }
    });
    announce(watch.number);
    let weak = Arc::downgrade(&watch);
    let sink = move |entry, before| {
        if let Some(watch) = weak.upgrade() {
            watch.hear(entry, before);
        }
    };
    // From `hear` on the program may be called, so that nothing behind it may fail.
    let is_open = kv.insert_watch(watch.number);
    let begun = if is_open { watch.keep_ticking() } else { Err(Status::Stale.into()) };
    match begun.and_then(|()| kv.bucket.hear(&watch.prefix, Arc::new(sink))) {
        Ok(key) => watch.subscribed(key),
        Err(error) => {
            let finalizer = watch.lock().finalizer.take();
            let _ = end(watch.number);
            match finalizer {
                Some(finalizer) => finalizer.disarm(),
                // It had begun, and the handle was closed meanwhile: on_free says so.
                None => return Ok(()),
            }
            return Err(error);
        }
    }
    drop(hand);
    watch.pump();
    Ok(())
}

/// Ends a watch. Inside of its own callback, or of another on its worker, it is not called again.
pub(crate) fn end(number: u64) -> Result<()> {
    let watch = WATCHES.remove(number)?;
    watch.kv.remove_watch(number);
    let (subscription, finalizer) = {
        let mut state = watch.lock();
        state.is_over = true;
        let finalizer = if state.is_posted { None } else { state.finalizer.take() };
        (state.subscription.take(), finalizer)
    };
    if let Some(key) = subscription {
        watch.kv.bucket.unhear(key);
    }
    if let Some(finalizer) = finalizer {
        watch.kv.run(Box::new(move || drop(finalizer)));
    }
    Ok(())
}

impl State {
    fn new(finalizer: Finalizer) -> Self {
        Self {
            phase: Phase::List,
            floor: 0,
            newer: HashMap::new(),
            keys: Vec::new(),
            listed: 0,
            pending: HashMap::new(),
            order: VecDeque::new(),
            pending_bytes: 0,
            is_behind: false,
            walks: false,
            is_asking: false,
            is_resting: false,
            is_pumping: false,
            pumps_again: false,
            is_posted: false,
            is_over: false,
            subscription: None,
            finalizer: Some(finalizer),
        }
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX || self.pending_bytes >= PENDING_BYTES_MAX
    }

    /// The newest revision of a key that is known.
    fn known(&self, key: &[u8]) -> u64 {
        self.newer.get(key).copied().unwrap_or(self.floor)
    }

    /// Takes a change on, if it is news; says whether it is.
    fn take(&mut self, entry: Entry) -> bool {
        if entry.revision <= self.known(&entry.key) {
            return false;
        }
        self.newer.insert(Arc::clone(&entry.key), entry.revision);
        self.pending_bytes += entry.key.len() + entry.value.len();
        let key = Arc::clone(&entry.key);
        match self.pending.insert(Arc::clone(&key), entry) {
            Some(before) => self.pending_bytes -= before.key.len() + before.value.len(),
            None => self.order.push_back(Some(key)),
        }
        true
    }

    /// Everything up to a revision is known.
    fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        let floor = self.floor;
        self.newer.retain(|_, revision| *revision > floor);
    }

    /// What the engine is to be asked next.
    fn next_step(&mut self) -> Option<Step> {
        if self.is_over || self.is_asking || self.is_resting || self.is_full() {
            return None;
        }
        let step = match self.phase {
            Phase::List => Step::List,
            Phase::Read => Step::Read(self.keys.split_off(self.keys.len().saturating_sub(READS_MAX))),
            Phase::Live if self.walks => {
                self.walks = false;
                Step::Walk(self.floor)
            }
            Phase::Live => return None,
        };
        self.is_asking = true;
        Some(step)
    }

    /// What it could not be given it gets next, unless there is something newer.
    fn put_back(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry else { return self.order.push_front(None) };
        if !self.pending.contains_key(&entry.key) {
            self.pending_bytes += entry.key.len() + entry.value.len();
            self.order.push_front(Some(Arc::clone(&entry.key)));
            self.pending.insert(Arc::clone(&entry.key), entry);
        }
    }

    /// What the program gets next.
    fn pop(&mut self) -> Option<Option<Entry>> {
        let key = self.order.pop_front()?;
        let entry = key.and_then(|key| self.pending.remove(&key));
        if let Some(entry) = &entry {
            self.pending_bytes -= entry.key.len() + entry.value.len();
        }
        Some(entry)
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It hears; unless it was ended meanwhile.
    fn subscribed(&self, key: SubscriptionKey) {
        let mut state = self.lock();
        if state.is_over {
            drop(state);
            self.kv.bucket.unhear(key);
        } else {
            state.subscription = Some(key);
        }
    }

    /// Between machines messages are lost: it looks again and again whether it has missed one.
    fn keep_ticking(&self) -> Result<()> {
        let cluster = &self.kv.cluster;
        if cluster.is_local() || cluster.kv.is_ticking.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let weak = Arc::downgrade(cluster);
        let tick = move || {
            weak.upgrade().is_some_and(|cluster| {
                cluster.doubt_watches();
                true
            })
        };
        cluster.engine.every(TICK_MS, Box::new(tick))
    }

    /// Something may have been missed.
    pub(super) fn doubt(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.walks = true;
            state.is_resting = false;
        }
        self.post();
        self.pump();
    }

    /// A change, as it happens; or as it was a while ago.
    fn hear(self: &Arc<Self>, entry: Entry, before: u64) {
        {
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            if state.is_full() && !state.pending.contains_key(&entry.key) {
                state.is_behind = true;
                return;
            }
            if state.phase == Phase::Live && before > state.known(&entry.key) {
                state.walks = true;
            }
            if !state.take(entry) {
                return;
            }
            // What is known of single keys is forgotten with the next walk: it must not grow with all keys there ever were.
            state.walks |= state.phase == Phase::Live && state.newer.len() > PENDING_MAX;
        }
        self.post();
        self.pump();
    }

    /// Asks the engine for what is to be asked. An answer may come before the question's call has returned.
    fn pump(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            state.pumps_again = true;
            if std::mem::replace(&mut state.is_pumping, true) {
                return;
            }
        }
        loop {
            let step = {
                let mut state = self.lock();
                let again = std::mem::take(&mut state.pumps_again);
                let step = state.next_step();
                if step.is_none() && !again {
                    state.is_pumping = false;
                    return;
                }
                step
            };
            match step {
                Some(Step::List) => self.ask(|watch, done| watch.kv.bucket.list(&watch.prefix, done), Self::listed),
                Some(Step::Read(keys)) => {
                    let again = keys.clone();
                    self.ask(
                        |watch, done| {
                            watch.kv.get_many(&keys, done);
                            Ok(())
                        },
                        move |watch, entries| watch.read(entries, again),
                    );
                }
                Some(Step::Walk(floor)) => {
                    self.ask(|watch, done| watch.kv.bucket.changes(&watch.prefix, floor, done), Self::walked);
                }
                None => {}
            }
        }
    }

    fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Self, super::Done<T>) -> Result<()>,
        answered: impl FnOnce(&Arc<Self>, Result<T>) + Send + 'static,
    ) {
        let watch = Arc::clone(self);
        let asked = question(
            self,
            Box::new(move |result| {
                watch.lock().is_asking = false;
                answered(&watch, result);
                watch.post();
                watch.pump();
            }),
        );
        if let Err(error) = asked {
            let mut state = self.lock();
            state.is_asking = false;
            state.rest(&error);
        }
    }

    fn listed(self: &Arc<Self>, listing: Result<Listing>) {
        let mut state = self.lock();
        match listing {
            Ok(listing) => {
                state.phase = Phase::Read;
                state.keys = listing.keys;
                // The first of them come first.
                state.keys.reverse();
                state.listed = listing.revision;
            }
            Err(error) => state.rest(&error),
        }
    }

    fn read(self: &Arc<Self>, entries: Result<Vec<Entry>>, keys: Vec<Arc<[u8]>>) {
        let mut state = self.lock();
        match entries {
            Ok(entries) => {
                for entry in entries {
                    state.take(entry);
                }
            }
            Err(error) => {
                state.keys.extend(keys);
                state.rest(&error);
            }
        }
        if state.keys.is_empty() {
            let listed = state.listed;
            state.raise(listed);
            state.phase = Phase::Live;
            state.order.push_back(None);
            state.walks = true;
        }
    }

    fn walked(self: &Arc<Self>, changes: Result<Changes>) {
        let mut state = self.lock();
        match changes {
            Ok(Changes { entries, up_to }) => {
                if up_to <= state.floor {
                    return;
                }
                let news = entries.into_iter().filter(|entry| state.take(entry.clone())).count();
                state.raise(up_to);
                state.walks = true;
                if news > 0 {
                    self.kv.cluster.kv.counts.gaps.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                state.walks = true;
                state.rest(&error);
            }
        }
    }
}

impl State {
    /// Until it is in doubt the next time.
    fn rest(&mut self, error: &Error) {
        log::debug!("a watch waits: {error}");
        self.is_resting = true;
    }
}
