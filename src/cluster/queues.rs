//! Work queues: jobs that are kept until somebody has done them.
//!
//! The contract of what keeps them is [`Queues`], beside the engine's. Built on it, once for all engines, are here pushing and
//! counting, and in `work` what takes jobs and how each of them ends; `job` is one that is in hand.

mod job;
mod work;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use self::job::{drop_job, end_job, progress};
pub(crate) use self::work::{WorkOptions, stop_work};
use super::engine::Done;
use super::{Cluster, Hold, subject};
use crate::status::{Error, Result, Status};

/// Keeps jobs. As with an engine, nothing waits, and each `Done` is called exactly once, unless an error is returned.
pub(crate) trait Queues: Send + Sync {
    /// Keeps a job; done when that is certain. It is tried again and again for so long; without an answer by then it is
    /// `UnknownOutcome`, and `Disconnected` if it certainly was not kept.
    fn push(&self, push: Push, timeout_ms: u32, done: Done<()>) -> Result<()>;

    /// Takes jobs, as many as the source is asked for. They come to the sink on any thread, which must not wait.
    fn work(&self, queue: &QueueName, terms: Terms, sink: JobSink) -> Result<Arc<dyn Source>>;

    /// Counts the jobs of a queue; one that there is not has none.
    fn depth(&self, queue: &QueueName, timeout_ms: u32, done: Done<Depth>) -> Result<()>;
}

/// What a queue is called where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QueueName {
    /// Where NATS clients push to.
    pub(crate) subject: String,
    pub(crate) stream: String,
}

/// A job that is to be kept.
pub(crate) struct Push {
    pub(crate) queue: QueueName,
    pub(crate) payload: Arc<[u8]>,
    /// A second job with the same one within [`DUPLICATES_MS`] is the first one. None: a burial may come twice, and any
    /// other push gets one of its own.
    pub(crate) id: Option<String>,
    /// For those who read the queue by other means.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// It only moves from one queue to another.
    pub(crate) is_burial: bool,
}

/// How long a job's id is remembered.
pub(crate) const DUPLICATES_MS: u64 = 120_000;

/// How jobs are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Without progress for so long a job is given to somebody else.
    pub(crate) ack_ms: u32,
    /// Copies that the cluster keeps; 0: as it sees fit.
    pub(crate) replicas: u32,
}

/// What there is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// All of it.
    pub(crate) jobs: u64,
    /// Taken, and neither done nor given back.
    pub(crate) in_hand: u64,
}

/// Gets jobs.
pub(crate) type JobSink = Arc<dyn Fn(Taken) + Send + Sync>;

/// A job that was taken. If it is dropped, it is redelivered when its time is over.
pub(crate) struct Taken {
    pub(crate) payload: Arc<[u8]>,
    /// How often it was taken, this time included.
    pub(crate) tries: u32,
    /// Its number in the queue.
    pub(crate) number: u64,
    pub(crate) ticket: Box<dyn Ticket>,
}

/// Where jobs come from.
pub(crate) trait Source: Send + Sync {
    /// So many more may come.
    fn want(&self, more: usize);

    /// None may come any more; what is on its way is given back.
    fn close(&self);
}

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is done, or buried, and is kept no longer.
    Gone,
    /// Somebody is to try again, in so many milliseconds.
    Retry(u32),
}

/// Says what becomes of a job.
pub(crate) trait Ticket: Send {
    /// It needs more time.
    fn progress(&self);

    /// It ends; `settled` is called, or dropped, when that is certain, or has come to nothing.
    fn end(self: Box<Self>, end: End, settled: Box<dyn FnOnce() + Send>);

    /// Somebody else gets it, at once. This is sent before it returns, as far as it can be.
    fn give_back(self: Box<Self>);
}

/// What a server has done with jobs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pushed: AtomicU64,
    pub(crate) taken: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead: AtomicU64,
    /// Pushes whose outcome is not known.
    pub(crate) unknown: AtomicU64,
    /// Jobs in hand when the time to drain was over.
    pub(crate) cut: AtomicU64,
}

impl Counts {
    /// By name, for the metrics.
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("pushed", &self.pushed),
            ("taken", &self.taken),
            ("done", &self.done),
            ("retried", &self.retried),
            ("dead", &self.dead),
            ("unknown", &self.unknown),
            ("cut", &self.cut),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a cluster knows of its queues.
#[derive(Default)]
pub(super) struct State {
    works: Mutex<Vec<Arc<work::Work>>>,
    counts: Counts,
    /// On which worker the next call runs.
    lane: AtomicU64,
    pushes: AtomicUsize,
    pushed_bytes: AtomicUsize,
}

impl State {
    fn works(&self) -> MutexGuard<'_, Vec<Arc<work::Work>>> {
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_lane(&self) -> u64 {
        self.lane.fetch_add(1, Ordering::Relaxed)
    }
}

/// Pushes under way at once, and their bytes.
const PUSHES_MAX: usize = 65_536;
const PUSHED_BYTES_MAX: usize = 64 << 20;
/// Longest id of a job.
const ID_BYTES_MAX: usize = 255;

/// A push under way, as it counts in the bounds.
struct Underway {
    _hold: Hold,
    cluster: Arc<Cluster>,
    bytes: usize,
}

impl Underway {
    fn begin(cluster: &Arc<Cluster>, bytes: usize) -> Result<Self> {
        if bytes > PUSHED_BYTES_MAX {
            return Err(Error::new(Status::TooLong, format!("a job of {bytes} bytes: at most {PUSHED_BYTES_MAX}")));
        }
        let (hold, queues) = (cluster.hold()?, &cluster.queues);
        let begun = Self { _hold: hold, cluster: Arc::clone(cluster), bytes };
        let pushes = queues.pushes.fetch_add(1, Ordering::Relaxed);
        let pushed_bytes = queues.pushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        if pushes >= PUSHES_MAX || pushed_bytes + bytes > PUSHED_BYTES_MAX {
            return Err(Error::new(Status::Again, format!("{pushes} jobs are being pushed, {pushed_bytes} bytes")));
        }
        Ok(begun)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.cluster.queues.pushes.fetch_sub(1, Ordering::Relaxed);
        self.cluster.queues.pushed_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Cluster {
    fn queue_name(&self, queue: &str) -> QueueName {
        let cluster = if self.is_local() { "local" } else { &self.name };
        QueueName { subject: format!("{cluster}.queue.{queue}"), stream: format!("Q_{cluster}_{queue}") }
    }

    /// Pushes a job; `done` is called when it is kept, on a thread of the engine's or on this one.
    pub(crate) fn queue_push(
        self: &Arc<Self>,
        queue: &str,
        payload: &[u8],
        id: Option<&str>,
        done: Done<()>,
    ) -> Result<()> {
        let _inside = self.enter()?;
        subject::check_name("queue", queue)?;
        if let Some(id) = id
            && (id.is_empty() || id.len() > ID_BYTES_MAX || id.bytes().any(|byte| byte.is_ascii_control()))
        {
            let text = format!("the id of a job is 1 to {ID_BYTES_MAX} bytes without control characters");
            return Err(Error::new(Status::Invalid, text));
        }
        if let Some(max) = self.engine.payload_bytes_max()
            && payload.len() > max
        {
            return Err(Error::new(Status::TooLong, format!("a job of {} bytes: at most {max}", payload.len())));
        }
        let underway = Underway::begin(self, payload.len())?;
        let queue = self.queue_name(queue);
        let push =
            Push { queue, payload: copy(payload)?, id: id.map(str::to_owned), headers: Vec::new(), is_burial: false };
        let counting = move |result: Result<()>| {
            let counts = &underway.cluster.queues.counts;
            match &result {
                Ok(()) => count(&counts.pushed),
                Err(error) if error.status == Status::UnknownOutcome => count(&counts.unknown),
                Err(_) => {}
            }
            done(result);
            // The server is held until the program's call is at least on its way to a worker.
            drop(underway);
        };
        self.engine.queues().push(push, self.timeout_ms, Box::new(counting))
    }

    /// Counts the jobs of a queue that wait, that are in hand, and the dead ones.
    pub(crate) fn queue_counts(self: &Arc<Self>, queue: &str, done: Done<[u64; 3]>) -> Result<()> {
        let _inside = self.enter()?;
        subject::check_name("queue", queue)?;
        let hold = self.hold()?;
        let dead = self.queue_name(&self.dead_queue(queue));
        let cluster = Arc::clone(self);
        let counted = move |result: Result<Depth>| {
            let live = match result {
                Ok(live) => live,
                Err(error) => return done(Err(error)),
            };
            // An error may come back instead of through the function.
            let done = Arc::new(Mutex::new(Some(done)));
            let last = Arc::clone(&done);
            let both = move |dead: Result<Depth>| {
                let done = take(&last);
                let counts = |dead: Depth| [live.jobs.saturating_sub(live.in_hand), live.in_hand, dead.jobs];
                if let Some(done) = done {
                    done(dead.map(counts));
                }
                drop(hold);
            };
            if let Err(error) = cluster.engine.queues().depth(&dead, cluster.timeout_ms, Box::new(both))
                && let Some(done) = take(&done)
            {
                done(Err(error));
            }
        };
        self.engine.queues().depth(&self.queue_name(queue), self.timeout_ms, Box::new(counted))
    }

    /// Where the dead jobs of a queue go, as far as this server knows.
    fn dead_queue(&self, queue: &str) -> String {
        let works = self.queues.works();
        let own = works.iter().find(|work| work.is_of(queue)).map(|work| work.dead_queue().to_owned());
        own.unwrap_or_else(|| work::dead_queue_of(queue))
    }

    /// What this server has done with jobs.
    pub(crate) fn queue_counters(&self) -> &Counts {
        &self.queues.counts
    }

    /// Of a call that belongs to nothing else: they take turns.
    pub(crate) fn next_lane(&self) -> u64 {
        self.queues.next_lane()
    }

    /// No job is taken any more; those in hand may end.
    pub(super) fn queues_leave(&self) {
        let works = std::mem::take(&mut *self.queues.works());
        for work in works {
            work.stop();
        }
    }

    /// What is still in hand is given back. Says whether there was something.
    pub(super) fn queues_cut(&self) -> bool {
        self.queues_leave();
        let jobs = job::take_all_of(self);
        let cut = jobs.len() as u64;
        jobs.into_iter().for_each(|job| job.give_back());
        self.queues.counts.cut.fetch_add(cut, Ordering::Relaxed);
        cut > 0
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A copy of the program's bytes.
fn copy(payload: &[u8]) -> Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(payload.len())?;
    bytes.extend_from_slice(payload);
    Ok(bytes.into())
}
