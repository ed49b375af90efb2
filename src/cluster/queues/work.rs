//! Taking jobs: each comes to the program on a worker, and no more of them than it wants to have in hand.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::job::{self, Job};
use super::{Cluster, Source, Taken, Terms, count};
use crate::cluster::handles::Handles;
use crate::cluster::subject;
use crate::status::{Error, Result, Status};
use crate::sys::Finalizer;

/// Calls the program's function with a job: its handle, its bytes, and which try it is.
pub(crate) type JobCall = dyn Fn(u64, &[u8], u32) + Send + Sync;

/// What the program asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkOptions {
    pub(crate) in_hand_max: u32,
    pub(crate) ack_ms: u32,
    pub(crate) tries_max: u32,
    pub(crate) dead_queue: Option<String>,
    pub(crate) replicas: u32,
}

/// Most jobs in hand.
const IN_HAND_MAX: u32 = 65_536;
const ACK_MS: u32 = 30_000;
const TRIES_MAX: u32 = 5;
/// As many copies as NATS keeps.
const REPLICAS_MAX: u32 = 5;

/// Where dead jobs go if nobody says otherwise.
pub(super) fn dead_queue_of(queue: &str) -> String {
    format!("{queue}-dead")
}

/// A function of the program's that does jobs.
pub(crate) struct Work {
    number: u64,
    cluster: Weak<Cluster>,
    queue: String,
    dead_queue: String,
    tries_max: u32,
    call: Box<JobCall>,
    state: Mutex<State>,
    source: OnceLock<Arc<dyn Source>>,
}

struct State {
    finalizer: Option<Finalizer>,
    /// Calls that are under way, on the way to a worker included.
    calls: usize,
    is_stopped: bool,
}

static WORKS: Handles<Work> = Handles::new();

/// Ends it: no further job is taken.
pub(crate) fn stop_work(number: u64) -> Result<()> {
    let work = WORKS.find(number)?;
    if let Some(cluster) = work.cluster.upgrade() {
        cluster.queues.works().retain(|other| other.number != number);
    }
    if work.stop() { Ok(()) } else { Err(Status::Stale.into()) }
}

impl Cluster {
    /// Takes jobs of a queue from here on. `announce` gets the handle before the first call. On an error the finalizer
    /// is not called.
    pub(crate) fn queue_work(
        self: &Arc<Self>,
        queue: &str,
        options: WorkOptions,
        call: Box<JobCall>,
        finalizer: Finalizer,
        announce: impl FnOnce(u64),
    ) -> Result<()> {
        let checked = check(queue, options).and_then(|options| Ok((options, self.hold()?)));
        let (options, _hold) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                finalizer.disarm();
                return Err(error);
            }
        };
        let work = WORKS.insert(|number| Work {
            number,
            cluster: Arc::downgrade(self),
            queue: queue.to_owned(),
            dead_queue: options.dead_queue.unwrap_or_else(|| dead_queue_of(queue)),
            tries_max: options.tries_max,
            call,
            state: Mutex::new(State { finalizer: Some(finalizer), calls: 0, is_stopped: false }),
            source: OnceLock::new(),
        });
        let taking = Arc::clone(&work);
        let terms = Terms { ack_ms: options.ack_ms, replicas: options.replicas };
        let sink = Arc::new(move |taken| taking.take(taken));
        let source = match self.engine.queues().work(&self.queue_name(queue), terms, sink) {
            Ok(source) => source,
            Err(error) => {
                let _ = WORKS.remove(work.number);
                if let Some(finalizer) = work.lock().finalizer.take() {
                    finalizer.disarm();
                }
                return Err(error);
            }
        };
        let _ = work.source.set(Arc::clone(&source));
        self.queues.works().push(Arc::clone(&work));
        announce(work.number);
        source.want(options.in_hand_max as usize);
        if self.is_leaving() {
            work.stop();
        }
        Ok(())
    }
}

fn check(queue: &str, options: WorkOptions) -> Result<WorkOptions> {
    subject::check_name("queue", queue)?;
    let dead_queue = options.dead_queue.unwrap_or_else(|| dead_queue_of(queue));
    subject::check_name("queue of dead jobs", &dead_queue)?;
    if dead_queue == queue {
        return Err(Error::new(Status::Invalid, "the dead jobs of a queue go to another one"));
    }
    let within = |what: &str, value: u32, max: u32| match value <= max {
        true => Ok(value),
        false => Err(Error::new(Status::Invalid, format!("{what} is {value}: at most {max}"))),
    };
    let or = |value: u32, otherwise: u32| if value == 0 { otherwise } else { value };
    Ok(WorkOptions {
        in_hand_max: within("in_hand_max", options.in_hand_max.max(1), IN_HAND_MAX)?,
        ack_ms: or(options.ack_ms, ACK_MS),
        tries_max: or(options.tries_max, TRIES_MAX),
        dead_queue: Some(dead_queue),
        replicas: within("replicas", options.replicas, REPLICAS_MAX)?,
    })
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_of(&self, queue: &str) -> bool {
        self.queue == queue
    }

    pub(super) fn belongs_to(&self, cluster: &Cluster) -> bool {
        std::ptr::eq(self.cluster.as_ptr(), cluster)
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    pub(super) fn dead_queue(&self) -> &str {
        &self.dead_queue
    }

    pub(super) fn tries_max(&self) -> u32 {
        self.tries_max
    }

    /// One job less is in hand.
    pub(super) fn want_another(&self) {
        if let Some(source) = self.source.get()
            && !self.lock().is_stopped
        {
            source.want(1);
        }
    }

    /// Takes no further job. False: it did not before.
    pub(super) fn stop(&self) -> bool {
        let finalizer = {
            let mut state = self.lock();
            if state.is_stopped {
                return false;
            }
            state.is_stopped = true;
            if state.calls == 0 { state.finalizer.take() } else { None }
        };
        let _ = WORKS.remove(self.number);
        if let Some(source) = self.source.get() {
            source.close();
        }
        // On a worker: the program may have something locked that its function takes.
        if let (Some(finalizer), Some(cluster)) = (finalizer, self.cluster.upgrade()) {
            drop(cluster.host.run(cluster.queues.next_lane(), Box::new(move || drop(finalizer))));
        }
        true
    }

    /// A call is to be made, unless nothing is taken any more.
    fn begin_call(&self) -> bool {
        let mut state = self.lock();
        state.calls += usize::from(!state.is_stopped);
        !state.is_stopped
    }

    /// The call was made, or will not be.
    fn end_call(&self) {
        let finalizer = {
            let mut state = self.lock();
            state.calls -= 1;
            if state.calls == 0 && state.is_stopped { state.finalizer.take() } else { None }
        };
        drop(finalizer);
    }

    /// A job has come.
    fn take(self: &Arc<Self>, taken: Taken) {
        let Some(cluster) = self.cluster.upgrade() else { return taken.ticket.give_back() };
        // Those in hand are bounded by in_hand_max, not with the calls: a refusal would be a try, and one place less.
        let hold = cluster.hold_on();
        if cluster.is_leaving() || !self.begin_call() {
            // Or it would come straight back, and each time is a try.
            if let Some(source) = self.source.get() {
                source.close();
            }
            return taken.ticket.give_back();
        }
        if taken.tries > self.tries_max {
            self.end_call();
            let reason = format!("given up after {} tries", self.tries_max);
            job::bury(&cluster, self, taken, &reason, hold);
            return self.want_another();
        }
        count(&cluster.queues.counts.taken);
        let job = job::keep(self, taken, hold);
        let call = Call { work: Arc::clone(self), job, was_made: false };
        let lane = cluster.queues.next_lane();
        if let Err((error, task)) = cluster.host.run(lane, Box::new(move || call.make())) {
            log::debug!("{}: a job is given back: {error}", self.queue);
            // It sees to the job.
            drop(task);
        }
    }
}

/// A call of the program's function, on its way to a worker.
struct Call {
    work: Arc<Work>,
    job: Arc<Job>,
    was_made: bool,
}

impl Call {
    fn make(mut self) {
        // It may have been taken away meanwhile.
        if self.job.is_in_hand() {
            self.was_made = true;
            (self.work.call)(self.job.number(), self.job.payload(), self.job.tries());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.was_made {
            self.job.retry_soon();
        }
        self.work.end_call();
    }
}
