//! Calls: what this node asks of services, wherever they are offered.
//!
//! A question carries a reply subject of ours, `CLUSTER.reply.INCARNATION.NUMBER`, so that more than the answer can come
//! there: that nobody has heard it; and, when a node takes longer, a note of who has it (`….NUMBER.taken`). From
//! then on that node is asked whether it is there, so that its death is noticed long before the time is up.

mod watch;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::watch::Watch;
use super::engine::{Echo, Link, Mark, Message, ReplyTo};
use super::{Cluster, Done, Hold, subject};
use crate::status::{Error, Result, Status};
use crate::sys;

/// How to call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallOptions {
    /// 0: the default.
    pub(crate) timeout_ms: u32,
    /// To be done twice does no harm.
    pub(crate) is_idempotent: bool,
}

/// Gets what came of a call, and what counts it as being under way.
type End = Box<dyn FnOnce(Result<Vec<u8>>, Hold) + Send>;

/// What has become of calls, of both sides.
#[derive(Debug, Default)]
pub(super) struct CallCounts {
    /// Calls of this node's that were begun.
    pub(super) made: AtomicU64,
    /// That a service has answered.
    pub(super) answered: AtomicU64,
    /// Of which a service has said that it failed.
    pub(super) failed: AtomicU64,
    /// Sent a second time, because the first was lost.
    pub(super) retried: AtomicU64,
    /// Of which nobody knows what became.
    pub(super) unknown: AtomicU64,
    /// Calls, of either side, that were under way when the server stopped.
    pub(super) cut: AtomicU64,
    /// Calls that services of this node have taken.
    pub(super) served: AtomicU64,
    /// And that they have refused.
    pub(super) busy: AtomicU64,
}

impl CallCounts {
    /// All of them.
    pub(super) fn named(&self) -> [(&'static str, u64); 8] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("made", read(&self.made)),
            ("answered", read(&self.answered)),
            ("failed", read(&self.failed)),
            ("retried", read(&self.retried)),
            ("unknown", read(&self.unknown)),
            ("cut", read(&self.cut)),
            ("served", read(&self.served)),
            ("busy", read(&self.busy)),
        ]
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The calls of a node that are under way.
pub(super) struct Calls {
    /// Of the subjects for answers.
    prefix: String,
    state: Mutex<State>,
    /// Bytes of questions that are kept to be asked again.
    kept_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, Call>,
    /// The nodes that have calls of ours, by incarnation.
    takers: HashMap<u64, Watch>,
    number_last: u64,
    /// Nothing is to be done before.
    due_ms: u64,
    is_ticking: bool,
    is_closed: bool,
}

struct Call {
    service: Box<str>,
    /// To be asked again; idempotent calls only.
    kept: Option<Kept>,
    deadline_ms: u64,
    is_retried: bool,
    /// The second time is still to come.
    is_unsent: bool,
    /// Until when those who are not there the second time may come back; 0: it was not asked yet.
    again_until_ms: u64,
    /// Who has it, as far as we know.
    taker: Option<u64>,
    end: End,
    in_hand: Hold,
}

/// What is kept to be sent again, and counted.
pub(super) struct Kept {
    pub(super) payload: Arc<[u8]>,
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How long a call has that says nothing else.
const TIMEOUT_MS: u32 = 5_000;
/// So long after a loss of the link others come back, too.
const AGAIN_MS: u32 = 2_000;
/// How exactly times are kept.
pub(super) const TICK_MS: u32 = 20;
/// Bytes that are kept at once.
const KEPT_BYTES_MAX: usize = 64 << 20;

impl Calls {
    pub(super) fn new(cluster: &str, incarnation: u64) -> Self {
        let prefix = format!("{}{incarnation:016x}.", reply_prefix(cluster));
        Self { prefix, state: Mutex::default(), kept_bytes: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply_to(&self, number: u64) -> ReplyTo {
        ReplyTo(format!("{}{number}", self.prefix).into())
    }

    pub(super) fn keep(&self, payload: &[u8]) -> Result<Kept> {
        let within = |bytes: usize| bytes.checked_add(payload.len()).filter(|bytes| *bytes <= KEPT_BYTES_MAX);
        if self.kept_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            return Err(Error::new(Status::Again, "too much is kept to be sent again"));
        }
        // Counted from here on, whatever becomes of the copy.
        let mut kept = Kept { payload: Arc::from([]), bytes: payload.len(), total: Arc::clone(&self.kept_bytes) };
        kept.payload = copy(payload)?.into();
        Ok(kept)
    }

    fn remove(&self, number: u64) -> Option<Call> {
        self.lock().waiting.remove(&number)
    }
}

impl State {
    /// Whether there is room for one more.
    fn reserve(&mut self) -> Result<()> {
        if self.is_closed {
            return Err(Status::Stopped.into());
        }
        Ok(self.waiting.try_reserve(1)?)
    }

    /// Gives a call a number. Says whether somebody has to begin to look at the clock. On an error the call comes back: it is
    /// to be dropped with nothing locked.
    fn insert(&mut self, call: Call) -> Result<(u64, bool), (Error, Box<Call>)> {
        if let Err(error) = self.reserve() {
            return Err((error, Box::new(call)));
        }
        self.number_last += 1;
        self.due_ms = if self.waiting.is_empty() { call.deadline_ms } else { self.due_ms.min(call.deadline_ms) };
        self.waiting.insert(self.number_last, call);
        Ok((self.number_last, !std::mem::replace(&mut self.is_ticking, true)))
    }
}

/// The subjects for answers of all nodes begin so.
pub(super) fn reply_prefix(cluster: &str) -> String {
    format!("{}reply.", subject_prefix(cluster))
}

/// And all subjects of a cluster so. The one inside the process has no name.
fn subject_prefix(cluster: &str) -> String {
    if cluster.is_empty() { "local.".to_owned() } else { format!("{cluster}.") }
}

impl Cluster {
    /// Where a service is offered.
    pub(super) fn service_subject(&self, service: &str) -> String {
        format!("{}service.{service}", subject_prefix(&self.name))
    }

    /// From here on answers are heard, and other nodes' questions whether this one is there.
    pub(super) fn hear_answers(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let answers = move |message: &Message<'_>| {
            if let Some(cluster) = weak.upgrade() {
                cluster.heard(message);
            }
        };
        self.engine.subscribe(&format!("{}>", self.calls.prefix), None, Echo::Yes, Arc::new(answers))?;
        Ok(())
    }

    /// Refuses what the cluster's servers would not carry.
    pub(super) fn check_payload(&self, length: usize) -> Result<()> {
        match self.engine.payload_bytes_max() {
            Some(most) if length > most => {
                Err(Error::new(Status::TooLong, format!("{length} bytes are more than the cluster's {most}")))
            }
            _ => Ok(()),
        }
    }

    /// Calls a service; what comes of it is told to the program, on a worker.
    pub(crate) fn call_back(
        self: &Arc<Self>,
        service: &str,
        payload: &[u8],
        options: CallOptions,
        callback: Box<dyn FnOnce(Result<Vec<u8>>) + Send>,
    ) -> Result<()> {
        let cluster = Arc::clone(self);
        let end = move |result, in_hand| {
            let told = move || {
                callback(result);
                drop(in_hand);
            };
            let lane = cluster.lane_next();
            if let Err((error, task)) = cluster.host.run(lane, Box::new(told)) {
                log::warn!("a call is told to the program on another thread: {error}");
                task();
            }
        };
        self.call(service, payload, options, Box::new(end))
    }

    /// Calls a service; what comes of it is told to whoever waits for it.
    pub(crate) fn call_for(
        self: &Arc<Self>,
        service: &str,
        payload: &[u8],
        options: CallOptions,
        done: Done<Vec<u8>>,
    ) -> Result<()> {
        self.call(service, payload, options, Box::new(move |result, _in_hand| done(result)))
    }

    fn call(self: &Arc<Self>, service: &str, payload: &[u8], options: CallOptions, end: End) -> Result<()> {
        subject::check_name("service", service)?;
        let _inside = self.enter()?;
        self.check_payload(payload.len())?;
        let timeout_ms = if options.timeout_ms == 0 { TIMEOUT_MS } else { options.timeout_ms };
        let call = Call {
            service: service.into(),
            kept: if options.is_idempotent { Some(self.calls.keep(payload)?) } else { None },
            deadline_ms: sys::deadline_ms(timeout_ms),
            is_retried: false,
            is_unsent: false,
            again_until_ms: 0,
            taker: None,
            end,
            in_hand: self.begin()?,
        };
        let inserted = self.calls.lock().insert(call);
        let (number, is_first) = inserted.map_err(|(error, _)| error)?;
        let begun = self.look_at_calls(is_first);
        let asked =
            begun.and_then(|()| self.engine.ask(&self.service_subject(service), payload, &self.calls.reply_to(number)));
        if let Err(error) = asked {
            // Unless it has been ended meanwhile, by the same loss of the link.
            return if self.calls.remove(number).is_some() { Err(error) } else { Ok(()) };
        }
        count(&self.counts.made);
        Ok(())
    }

    /// Begins to look at the clock.
    fn look_at_calls(self: &Arc<Self>, is_first: bool) -> Result<()> {
        if !is_first {
            return Ok(());
        }
        let weak = Arc::downgrade(self);
        let tick = move || weak.upgrade().is_some_and(|cluster| cluster.tick_calls());
        self.engine.every(TICK_MS, Box::new(tick)).inspect_err(|_| self.calls.lock().is_ticking = false)
    }

    /// Something has come to a subject for answers.
    fn heard(self: &Arc<Self>, message: &Message<'_>) {
        let Some(rest) = message.subject.strip_prefix(&self.calls.prefix) else { return };
        if let Some(number) = rest.strip_suffix(".taken").and_then(|number| number.parse().ok()) {
            return self.taken(number, message.payload);
        }
        let Ok(number) = rest.parse() else { return };
        let Some(call) = self.calls.remove(number) else { return };
        let result = match message.mark {
            // Those who offer it may only be later than we are in coming back; nobody has had it this time.
            Mark::Unheard if call.is_retried && sys::now_ms() < call.again_until_ms => return self.keep_unsent(call),
            Mark::Unheard if call.is_retried => Err(unknown("the second time nobody was there")),
            Mark::Unheard => Err(Error::new(Status::NoService, format!("nobody offers {}", call.service))),
            Mark::Failure(failure) => Err(failure.error()),
            Mark::None => copy(message.payload),
        };
        self.end_call(call, result);
    }

    /// To be asked again with the next tick.
    fn keep_unsent(self: &Arc<Self>, mut call: Call) {
        call.is_unsent = true;
        let inserted = {
            let mut state = self.calls.lock();
            let inserted = state.insert(call);
            state.due_ms = 0;
            inserted
        };
        let kept = match inserted {
            Ok((number, is_first)) => self.look_at_calls(is_first).map_err(|error| (error, self.calls.remove(number))),
            Err((error, call)) => Err((error, Some(*call))),
        };
        if let Err((error, Some(call))) = kept {
            self.end_call(call, Err(unknown(format!("it was to be sent again: {error}"))));
        }
    }

    /// Tells the caller. Nothing is locked.
    fn end_call(&self, call: Call, result: Result<Vec<u8>>) {
        match &result {
            Ok(_) => count(&self.counts.answered),
            Err(error) if error.status == Status::Failed => count(&self.counts.failed),
            Err(error) if error.status == Status::UnknownOutcome => count(&self.counts.unknown),
            Err(_) => {}
        }
        (call.end)(result, call.in_hand);
    }

    /// Looks at the clock; says whether that is still needed.
    fn tick_calls(self: &Arc<Self>) -> bool {
        let now_ms = sys::now_ms();
        let is_up = self.engine.link() == Link::Up;
        let (late, unsent, suspects) = {
            let mut state = self.calls.lock();
            if state.waiting.is_empty() {
                state.is_ticking = false;
                state.takers.clear();
                return false;
            }
            if now_ms < state.due_ms {
                return true;
            }
            let late: Vec<_> = state.waiting.extract_if(|_, call| call.deadline_ms <= now_ms).collect();
            let unsent: Vec<u64> = match is_up {
                true => state.waiting.iter().filter(|(_, call)| call.is_unsent).map(|(number, _)| *number).collect(),
                false => Vec::new(),
            };
            let suspects = state.suspects(now_ms);
            state.due_ms = state.due_next_ms(now_ms);
            (late, unsent, suspects)
        };
        for (_, call) in late {
            self.end_call(call, Err(unknown("no answer in time")));
        }
        unsent.into_iter().for_each(|number| self.ask_again(number));
        suspects.into_iter().for_each(|incarnation| self.ping(incarnation));
        true
    }

    /// Asks the second time.
    fn ask_again(&self, number: u64) {
        let (subject, payload, is_first) = {
            let mut state = self.calls.lock();
            let Some(call) = state.waiting.get_mut(&number) else { return };
            let Some(kept) = &call.kept else { return };
            call.is_unsent = false;
            let is_first = call.again_until_ms == 0;
            if is_first {
                call.again_until_ms = sys::deadline_ms(AGAIN_MS);
            }
            (self.service_subject(&call.service), Arc::clone(&kept.payload), is_first)
        };
        match self.engine.ask(&subject, &payload, &self.calls.reply_to(number)) {
            // As long as nobody hears it, that is one second time.
            Ok(()) if is_first => count(&self.counts.retried),
            Ok(()) => {}
            Err(error) if matches!(error.status, Status::Disconnected | Status::Again) => {
                if let Some(call) = self.calls.lock().waiting.get_mut(&number) {
                    call.is_unsent = true;
                    if is_first {
                        call.again_until_ms = 0;
                    }
                }
            }
            Err(error) => {
                if let Some(call) = self.calls.remove(number) {
                    self.end_call(call, Err(unknown(format!("it was to be sent again: {error}"))));
                }
            }
        }
    }

    /// The answers to some calls will not come any more. Those that may be are sent again, once.
    fn give_up(&self, is_lost: impl Fn(&Call) -> bool, why: &'static str) {
        let mut over = Vec::new();
        {
            let mut state = self.calls.lock();
            let lost: Vec<_> = state.waiting.extract_if(|_, call| is_lost(call)).collect();
            for (_, mut call) in lost {
                if call.kept.is_none() || call.is_retried {
                    over.push(call);
                    continue;
                }
                // Under a new number, so that nothing that comes for the first is taken for the second.
                (call.is_retried, call.is_unsent, call.taker) = (true, true, None);
                state.number_last += 1;
                let number = state.number_last;
                state.waiting.insert(number, call);
                state.due_ms = 0;
            }
        }
        for call in over {
            self.end_call(call, Err(unknown(why)));
        }
    }

    /// What was sent, or was to come, over the link that is lost.
    pub(super) fn link_lost(&self) {
        self.give_up(|call| !call.is_unsent, "the link to the cluster was lost meanwhile");
    }

    /// The server stops. Says whether anything was cut off.
    pub(super) fn close_calls(&self) -> bool {
        let cut = {
            let mut state = self.calls.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        let is_any = !cut.is_empty();
        for call in cut.into_values() {
            count(&self.counts.cut);
            self.end_call(call, Err(Error::new(Status::Stopped, "the server stopped before the answer came")));
        }
        is_any
    }
}

/// Bytes that another node has sent.
pub(super) fn copy(payload: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    sys::reserve(&mut copy, payload.len())?;
    copy.extend_from_slice(payload);
    Ok(copy)
}

fn unknown(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Status::UnknownOutcome, why)
}
