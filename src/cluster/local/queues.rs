//! Jobs in memory, as NATS keeps them: remembered by their ids for a while, taken, and redelivered when their time is over. Sinks
//! are called with nothing locked.

mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::queue::{Entry, Queue};
use crate::cluster::Host;
use crate::cluster::engine::Done;
use crate::cluster::queues::{Depth, End, JobSink, Push, QueueName, Queues, Source, Taken, Terms, Ticket};
use crate::status::{Error, Result, Status};
use crate::sys;

/// All queues of a server.
pub(super) struct LocalQueues {
    state: Mutex<State>,
    host: Arc<dyn Host>,
    me: Weak<Self>,
}

#[derive(Default)]
struct State {
    queues: HashMap<Arc<str>, Queue>,
    /// Of all jobs.
    bytes: usize,
    work_last: u64,
    is_closed: bool,
}

/// Bytes of all jobs that are kept.
const BYTES_MAX: usize = 256 << 20;
/// What a job takes beside its payload.
const JOB_BYTES: usize = 256;

fn bytes_of(payload: &[u8]) -> usize {
    payload.len() + JOB_BYTES
}

impl LocalQueues {
    pub(super) fn new(host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { state: Mutex::default(), host, me: Weak::clone(me) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a job, unless it is there already.
    fn keep(&self, name: &Arc<str>, push: Push) -> Result<()> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Status::Stopped.into());
        }
        let now_ms = sys::now_ms();
        let bytes = bytes_of(&push.payload);
        let total = state.bytes + bytes;
        let queue = state.queues.entry(Arc::clone(name)).or_default();
        queue.forget_ids(now_ms);
        if push.id.as_ref().is_some_and(|id| queue.knows(id)) {
            return Ok(());
        }
        // A burial only moves them: refused, a full store could never be emptied.
        if total > BYTES_MAX && !push.is_burial {
            return Err(Error::new(Status::Again, format!("the jobs that wait have {BYTES_MAX} bytes")));
        }
        queue.keep(push.payload, push.id, now_ms)?;
        state.bytes = total;
        Ok(())
    }

    /// Gives out what can be given out, and sets the timer for what comes next. Whom it calls may lead back to here, which
    /// then is left to who is at it already: otherwise the stack would be as deep as the queue is long.
    fn pump(&self, name: &Arc<str>) {
        if !self.lock().queues.get_mut(name).is_some_and(Queue::begin_pump) {
            return;
        }
        loop {
            let now_ms = sys::now_ms();
            let next = {
                let mut state = self.lock();
                let Some(queue) = state.queues.get_mut(name) else { return };
                queue.return_due(now_ms);
                let next = queue.give_out(now_ms);
                if next.is_none() && queue.end_pump() {
                    break;
                }
                next
            };
            let Some((sink, entry)) = next else { continue };
            let ticket = LocalTicket { queues: Weak::clone(&self.me), queue: Arc::clone(name), entry: entry.clone() };
            let Entry { number, payload, tries } = entry;
            sink(Taken { payload, tries, number, ticket: Box::new(ticket) });
        }
        self.set_timer(name);
    }

    fn set_timer(&self, name: &Arc<str>) {
        let now_ms = sys::now_ms();
        let Some(at_ms) = self.lock().queues.get_mut(name).and_then(Queue::next_timer) else { return };
        let (queues, queue_name) = (Weak::clone(&self.me), Arc::clone(name));
        let delay_ms = u32::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX);
        let tick = move || {
            if let Some(queues) = queues.upgrade() {
                queues.timer_is_over(&queue_name, at_ms);
                queues.pump(&queue_name);
            }
        };
        if let Err(error) = self.host.after(delay_ms, Box::new(tick)) {
            log::debug!("jobs are redelivered only when the next one is pushed or ends: {error}");
            self.timer_is_over(name, at_ms);
        }
    }

    fn timer_is_over(&self, name: &Arc<str>, at_ms: u64) {
        if let Some(queue) = self.lock().queues.get_mut(name) {
            queue.timer_is_over(at_ms);
        }
    }

    /// Nothing is kept any more.
    pub(super) fn close(&self) {
        let (queues, lost) = {
            let mut state = self.lock();
            state.is_closed = true;
            let lost: usize = state.queues.values().map(Queue::len).sum();
            (std::mem::take(&mut state.queues), lost)
        };
        if lost > 0 {
            log::warn!("{lost} jobs were in memory only, and are lost");
        }
        drop(queues);
    }
}

impl Queues for Arc<LocalQueues> {
    fn push(&self, push: Push, _timeout_ms: u32, done: Done<()>) -> Result<()> {
        let name: Arc<str> = push.queue.stream.as_str().into();
        self.keep(&name, push)?;
        self.pump(&name);
        done(Ok(()));
        Ok(())
    }

    fn work(&self, queue: &QueueName, terms: Terms, sink: JobSink) -> Result<Arc<dyn Source>> {
        let name: Arc<str> = queue.stream.as_str().into();
        let mut state = self.lock();
        if state.is_closed {
            return Err(Status::Stopped.into());
        }
        state.work_last += 1;
        let work = state.work_last;
        state.queues.entry(Arc::clone(&name)).or_default().add_work(work, terms, sink);
        drop(state);
        Ok(Arc::new(LocalSource { queues: Arc::downgrade(self), queue: name, work }))
    }

    fn depth(&self, queue: &QueueName, _timeout_ms: u32, done: Done<Depth>) -> Result<()> {
        let depth = self.lock().queues.get(queue.stream.as_str()).map_or(Depth::default(), Queue::depth);
        done(Ok(depth));
        Ok(())
    }
}

struct LocalSource {
    queues: Weak<LocalQueues>,
    queue: Arc<str>,
    work: u64,
}

impl Source for LocalSource {
    fn want(&self, more: usize) {
        let Some(queues) = self.queues.upgrade() else { return };
        if let Some(queue) = queues.lock().queues.get_mut(&self.queue) {
            queue.want(self.work, more);
        }
        queues.pump(&self.queue);
    }

    fn close(&self) {
        let Some(queues) = self.queues.upgrade() else { return };
        let removed = queues.lock().queues.get_mut(&self.queue).and_then(|queue| queue.remove_work(self.work));
        drop(removed);
    }
}

struct LocalTicket {
    queues: Weak<LocalQueues>,
    queue: Arc<str>,
    entry: Entry,
}

impl LocalTicket {
    fn settle(&self, settle: impl FnOnce(&mut Queue, u64) -> bool) {
        let Some(queues) = self.queues.upgrade() else { return };
        let mut state = queues.lock();
        let Some(queue) = state.queues.get_mut(&self.queue) else { return };
        if settle(queue, sys::now_ms()) {
            state.bytes = state.bytes.saturating_sub(bytes_of(&self.entry.payload));
        }
        drop(state);
        queues.pump(&self.queue);
    }
}

impl Ticket for LocalTicket {
    fn progress(&self) {
        // Nothing can be given out because of that.
        let Some(queues) = self.queues.upgrade() else { return };
        if let Some(queue) = queues.lock().queues.get_mut(&self.queue) {
            queue.progress(&self.entry, sys::now_ms());
        }
    }

    fn end(self: Box<Self>, end: End, settled: Box<dyn FnOnce() + Send>) {
        self.settle(|queue, now_ms| match end {
            End::Gone => queue.end(&self.entry),
            // A part of this millisecond is over.
            End::Retry(delay_ms) => {
                queue.put_back(&self.entry, now_ms + u64::from(delay_ms) + u64::from(delay_ms > 0));
                false
            }
        });
        settled();
    }

    fn give_back(self: Box<Self>) {
        self.end(End::Retry(0), Box::new(|| {}));
    }
}
