//! Calls that this node has taken, each until its one answer.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CODE_FAILED, DEADLINES_MIN, HELD_BYTES_MAX, Offer};
use crate::cluster::calls::{self, TICK_MS};
use crate::cluster::engine::{Echo, Failure, Link, ReplyTo};
use crate::cluster::handles::Handles;
use crate::cluster::{Cluster, Hold};
use crate::status::{Error, Result, Status};
use crate::sys;

/// A call that is not answered yet.
pub(super) struct Incoming {
    offer: Arc<Offer>,
    /// None: nobody waits for an answer.
    reply: Option<ReplyTo>,
    since_ns: u64,
    /// It is one of those in hand.
    is_counted: AtomicBool,
    _in_hand: Hold,
}

/// What is to be done when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// The caller is to know who has it.
    Note,
    /// It has taken too long.
    Limit,
}

/// An answer that waits for the link.
pub(super) struct Held {
    incoming: Arc<Incoming>,
    payload: Box<[u8]>,
    failure: Option<Box<str>>,
    until_ms: u64,
}

static INCOMING: Handles<Incoming> = Handles::new();

/// A call that takes longer is noted to its caller.
const NOTE_MS: u32 = 50;
/// Longest text of a failure.
const TEXT_BYTES_MAX: usize = 1_024;

impl Drop for Incoming {
    fn drop(&mut self) {
        self.make_room();
    }
}

/// Whether a call is still to be answered.
pub(super) fn is_open(number: u64) -> bool {
    INCOMING.has(number)
}

/// Answers a call, or says how it failed. `Stale`: it is answered already.
pub(crate) fn answer(number: u64, answer: std::result::Result<&[u8], &str>) -> Result<()> {
    let incoming = INCOMING.find(number)?;
    let _inside = incoming.offer.cluster.enter()?;
    match answer {
        Ok(payload) => incoming.offer.cluster.check_payload(payload.len())?,
        Err(text) if text.len() > TEXT_BYTES_MAX => {
            let text = format!("the text has {} bytes: at most {TEXT_BYTES_MAX}", text.len());
            return Err(Error::new(Status::TooLong, text));
        }
        Err(_) => {}
    }
    drop(incoming);
    // Of two that answer at once only one gets it.
    let incoming = INCOMING.remove(number)?;
    incoming.offer.identity.count(incoming.since_ns, answer.err());
    incoming.make_room();
    incoming.send(answer)
}

impl Incoming {
    /// It is no longer one of those in hand. Before its answer is on its way: whoever has that may call again at once.
    fn make_room(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.offer.in_hand.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes a call that is counted. None: the server stops, and the caller knows.
    pub(super) fn begin(offer: &Arc<Offer>, reply: Option<ReplyTo>) -> Option<u64> {
        let cluster = &offer.cluster;
        let mut made = 0;
        let incoming = INCOMING.insert(|number| {
            made = number;
            let since_ns = sys::now_ns();
            let is_counted = AtomicBool::new(true);
            Incoming { offer: Arc::clone(offer), reply, since_ns, is_counted, _in_hand: cluster.hold_on() }
        });
        match cluster.look_at(sys::deadline_ms(NOTE_MS), made, Step::Note) {
            Ok(()) => Some(made),
            Err(error) => {
                let _ = INCOMING.remove(made);
                let _ = incoming.send(Err(&error.to_string()));
                None
            }
        }
    }

    fn respond(&self, payload: &[u8], failure: Option<&str>) -> Result<()> {
        let Some(reply) = &self.reply else { return Ok(()) };
        let failure = failure.map(|text| Failure { code: CODE_FAILED, text });
        self.offer.cluster.engine.respond(reply, payload, failure)
    }

    /// Sends the answer, or keeps it until the link is back.
    fn send(self: Arc<Self>, answer: std::result::Result<&[u8], &str>) -> Result<()> {
        let payload = answer.unwrap_or_default();
        match self.respond(payload, answer.err()) {
            Err(error) if matches!(error.status, Status::Disconnected | Status::Again) => {
                let cluster = Arc::clone(&self.offer.cluster);
                let until_ms = sys::deadline_ms(self.offer.answer_ms);
                let payload = calls::copy(payload)?.into_boxed_slice();
                cluster.hold_answer(Held { incoming: self, payload, failure: answer.err().map(Box::from), until_ms })
            }
            answered => answered,
        }
    }

    /// Tells a caller of our kind who has its call.
    fn note(&self) {
        let cluster = &self.offer.cluster;
        let Some(reply) = self.reply.as_ref().filter(|_| !cluster.is_local()) else { return };
        if !reply.0.starts_with(&calls::reply_prefix(&cluster.name)) {
            return;
        }
        let incarnation = format!("{:016x}", cluster.members.incarnation);
        if let Err(error) = cluster.engine.publish(&format!("{}.taken", reply.0), incarnation.as_bytes(), Echo::Yes) {
            log::debug!("a caller does not know who has its call: {error}");
        }
    }
}

impl Cluster {
    /// Has a call looked at when its time comes.
    fn look_at(self: &Arc<Self>, at_ms: u64, number: u64, step: Step) -> Result<()> {
        let is_ticking = {
            let mut state = self.services.lock();
            if state.is_closed {
                return Err(Error::new(Status::Stopped, "the server stops"));
            }
            if state.deadlines.len() >= state.deadlines_max.max(DEADLINES_MIN) {
                state.deadlines.retain(|Reverse((_, number, _))| INCOMING.has(*number));
                state.deadlines_max = 2 * state.deadlines.len();
            }
            state.deadlines.try_reserve(1).map_err(|_| super::no_room("a call"))?;
            state.deadlines.push(Reverse((at_ms, number, step)));
            std::mem::replace(&mut state.is_ticking, true)
        };
        if is_ticking { Ok(()) } else { self.look_at_services() }
    }

    fn look_at_services(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let tick = move || weak.upgrade().is_some_and(|cluster| cluster.tick_services());
        self.engine.every(TICK_MS, Box::new(tick)).inspect_err(|_| self.services.lock().is_ticking = false)
    }

    fn hold_answer(self: &Arc<Self>, held: Held) -> Result<()> {
        let mut held = Some(held);
        let is_ticking = {
            let mut state = self.services.lock();
            if state.is_closed {
                return Err(Status::Stopped.into());
            }
            let bytes = state.held_bytes + held.as_ref().map_or(0, |held| held.payload.len());
            if bytes > HELD_BYTES_MAX {
                return Err(Error::new(Status::Again, "too many answers wait for the cluster"));
            }
            state.held.try_reserve(1)?;
            state.held.extend(held.take());
            state.held_bytes = bytes;
            std::mem::replace(&mut state.is_ticking, true)
        };
        if is_ticking { Ok(()) } else { self.look_at_services() }
    }

    /// Looks at the clock; says whether that is still needed.
    fn tick_services(self: &Arc<Self>) -> bool {
        let now_ms = sys::now_ms();
        let (mut due, mut held) = (Vec::new(), Vec::new());
        {
            let mut state = self.services.lock();
            while let Some(Reverse((at_ms, number, step))) = state.deadlines.peek().copied()
                && at_ms <= now_ms
            {
                state.deadlines.pop();
                due.push((number, step));
            }
            if self.engine.link() == Link::Up {
                held = std::mem::take(&mut state.held);
            } else {
                // Their callers have given up. Dropped with nothing locked.
                held.extend(state.held.extract_if(.., |held| held.until_ms <= now_ms));
            }
            let bytes: usize = held.iter().map(|held: &Held| held.payload.len()).sum();
            state.held_bytes -= bytes;
            if due.is_empty() && held.is_empty() && state.deadlines.is_empty() && state.held.is_empty() {
                state.is_ticking = false;
                return false;
            }
        }
        for (number, step) in due {
            self.look(number, step);
        }
        for held in held {
            self.send_held(held, now_ms);
        }
        true
    }

    fn look(self: &Arc<Self>, number: u64, step: Step) {
        let Ok(incoming) = INCOMING.find(number) else { return };
        match step {
            Step::Note => {
                incoming.note();
                let limit_ms = sys::deadline_ms(incoming.offer.answer_ms);
                if self.look_at(limit_ms, number, Step::Limit).is_err() {
                    let _ = answer(number, Err("the server stops"));
                }
            }
            Step::Limit => {
                drop(incoming);
                let _ = answer(number, Err("the service did not answer in its time"));
            }
        }
    }

    fn send_held(self: &Arc<Self>, held: Held, now_ms: u64) {
        if held.until_ms <= now_ms {
            return log::debug!("an answer could not be sent in time");
        }
        match held.incoming.respond(&held.payload, held.failure.as_deref()) {
            Err(error) if matches!(error.status, Status::Disconnected | Status::Again) => {
                if let Err(error) = self.hold_answer(held) {
                    log::debug!("an answer could not be sent: {error}");
                }
            }
            Err(error) => log::debug!("an answer could not be sent: {error}"),
            Ok(()) => {}
        }
    }
}
