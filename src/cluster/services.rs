//! Services: what this node offers, and the calls that it has to answer.
//!
//! Each node that offers a service hears it in one queue group, so that NATS gives a call to one of them. A call that is taken
//! is an [`Incoming`] until it is answered: by the program, on any thread; or for it, when the time is up or the server stops.

mod discovery;
mod incoming;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::discovery::Identity;
pub(crate) use self::incoming::answer;
use self::incoming::{Held, Incoming, Step};
use super::engine::{CODE_BUSY, Echo, Failure, Mark, Message, SubscriptionKey};
use super::handles::Handles;
use super::{Cluster, Host, calls, subject};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostUser, HostWord};

/// Calls the program's function with the handle of a call and what was asked.
pub(crate) type ServiceCall = dyn Fn(u64, &[u8], HostUser) + Send + Sync;

/// How to offer a service. Zero and nothing are the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceOptions {
    /// Calls that are not answered yet.
    pub(crate) in_hand_max: u32,
    /// How long one may take.
    pub(crate) answer_ms: u32,
    pub(crate) version: Option<String>,
    pub(crate) description: String,
}

/// It has taken it, and failed.
const CODE_FAILED: u16 = 500;

const IN_HAND_MAX: u32 = 1_024;
const ANSWER_MS: u32 = 60_000;
/// Calls that are looked at, before those that are answered are swept out.
const DEADLINES_MIN: usize = 1_024;
/// Bytes of answers that wait for the link.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of calls of one service that wait for a worker.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The group in which NATS' own services are.
const GROUP: &str = "q";

/// What the program gave with a service. Its function that frees runs on a worker when this is dropped.
struct Program {
    call: Box<ServiceCall>,
    user: HostWord,
    finalizer: Mutex<Option<Finalizer>>,
    host: Arc<dyn Host>,
    lane: u64,
}

impl Program {
    fn take_finalizer(&self) -> Option<Finalizer> {
        self.finalizer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(finalizer) = self.take_finalizer() else { return };
        // Comes back only when no worker is left: then it is dropped here.
        let _ = self.host.run(self.lane, Box::new(move || drop(finalizer)));
    }
}

/// A service that this node offers.
pub(crate) struct Offer {
    number: u64,
    cluster: Arc<Cluster>,
    in_hand_max: u32,
    answer_ms: u32,
    in_hand: AtomicU32,
    waiting_bytes: AtomicUsize,
    identity: Identity,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Default)]
struct Subscriptions {
    calls: Option<SubscriptionKey>,
    /// To questions about the service.
    questions: Vec<SubscriptionKey>,
}

static OFFERS: Handles<Offer> = Handles::new();

/// The services of a node, and the calls that it has in hand.
#[derive(Default)]
pub(super) struct Services {
    state: Mutex<State>,
    lane_last: AtomicU64,
}

#[derive(Default)]
struct State {
    offers: BTreeMap<u64, Arc<Offer>>,
    /// When each call in hand is to be looked at next; those that are answered stay until then.
    deadlines: BinaryHeap<Reverse<(u64, u64, Step)>>,
    /// With so many of them those that are answered are swept out.
    deadlines_max: usize,
    /// Answers that wait for the link, and their bytes.
    held: Vec<Held>,
    held_bytes: usize,
    is_ticking: bool,
    is_closed: bool,
}

impl Services {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a service: no further call is taken.
pub(crate) fn end(number: u64) -> Result<()> {
    let offer = OFFERS.remove(number)?;
    let _inside = offer.cluster.enter()?;
    let removed = offer.cluster.services.lock().offers.remove(&number);
    drop(removed);
    offer.retire();
    Ok(())
}

impl Offer {
    /// Hears no more; what is on its way is still taken, and a drain waits for it. Questions are heard until then: to end
    /// that at the same time could cost a call that is on its way (`nats::bus::hear`).
    fn retire(&self) {
        let (calls, questions) = self.take_subscriptions();
        let in_hand = self.cluster.hold_on();
        let ended = move || questions.into_iter().for_each(|key| in_hand.cluster().engine.unsubscribe(key));
        match calls {
            Some(key) => self.cluster.engine.retire(key, Box::new(ended)),
            None => ended(),
        }
    }

    fn take_subscriptions(&self) -> (Option<SubscriptionKey>, Vec<SubscriptionKey>) {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        (subscriptions.calls.take(), std::mem::take(&mut subscriptions.questions))
    }

    /// Counts a call that is taken, unless there are too many.
    fn admit(&self, length: usize) -> bool {
        let one_more = |count: u32| (count < self.in_hand_max).then_some(count + 1);
        if self.in_hand.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return false;
        }
        let longer = |bytes: usize| bytes.checked_add(length).filter(|bytes| *bytes <= WAITING_BYTES_MAX);
        let is_room = self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, longer).is_ok();
        if !is_room {
            self.in_hand.fetch_sub(1, Ordering::Relaxed);
        }
        is_room
    }

    /// A call has come. Nothing is locked; the thread is the engine's, or, inside the process, the caller's.
    fn take(self: &Arc<Self>, program: &Arc<Program>, message: &Message<'_>) {
        if message.mark != Mark::None {
            return;
        }
        let length = message.payload.len();
        if !self.admit(length) {
            return self.refuse(message);
        }
        let waiting = Waiting { offer: Arc::clone(self), length };
        let Ok(payload) = calls::copy(message.payload) else {
            self.in_hand.fetch_sub(1, Ordering::Relaxed);
            return self.refuse(message);
        };
        calls::count(&self.cluster.counts.served);
        let Some(number) = Incoming::begin(self, message.reply.clone()) else { return };
        let program = Arc::clone(program);
        let task = move || {
            drop(waiting);
            // It may have been answered for the program meanwhile.
            if incoming::is_open(number) {
                (program.call)(number, &payload, program.user.get());
            }
        };
        if let Err((error, task)) = self.cluster.host.run(self.cluster.lane_next(), Box::new(task)) {
            let _ = answer(number, Err(&format!("no worker takes it: {error}")));
            drop(task);
        }
    }

    /// There is no room for a call.
    fn refuse(&self, message: &Message<'_>) {
        calls::count(&self.cluster.counts.busy);
        let Some(reply) = &message.reply else { return };
        let text = format!("{} has {} calls in hand", self.cluster.node, self.in_hand.load(Ordering::Relaxed));
        let failure = Failure { code: CODE_BUSY, text: &text };
        if let Err(error) = self.cluster.engine.respond(reply, b"", Some(failure)) {
            log::debug!("a call was refused, and the caller does not know: {error}");
        }
    }
}

/// Bytes of a call that waits for a worker.
struct Waiting {
    offer: Arc<Offer>,
    length: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.offer.waiting_bytes.fetch_sub(self.length, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Any lane: each time another.
    pub(super) fn lane_next(&self) -> u64 {
        self.services.lane_last.fetch_add(1, Ordering::Relaxed)
    }

    /// Offers a service. `announce` gets its handle before the first call can come. On an error nothing of the program's is
    /// called.
    pub(crate) fn offer(
        self: &Arc<Self>,
        name: &str,
        options: ServiceOptions,
        call: Box<ServiceCall>,
        user: HostUser,
        finalizer: Finalizer,
        announce: impl FnOnce(u64),
    ) -> Result<()> {
        // Held until it is offered, so that the end of the server does not come in between.
        let prepared = self
            .enter()
            .and_then(|inside| Ok((inside, self.begin()?)))
            .and_then(|entered| Ok((entered, self.prepare(name, options)?)));
        let (_entered, offer) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                finalizer.disarm();
                return Err(error);
            }
        };
        let program = Arc::new(Program {
            call,
            user: HostWord::new(user),
            finalizer: Mutex::new(Some(finalizer)),
            host: Arc::clone(&self.host),
            lane: self.lane_next(),
        });
        announce(offer.number);
        // From the subscription to calls on the program may be called, so that nothing behind it may fail.
        if let Err(error) = self.list(&offer).and_then(|()| self.listen(&offer, &program)) {
            let removed = self.services.lock().offers.remove(&offer.number);
            drop(removed);
            if let Some(finalizer) = program.take_finalizer() {
                finalizer.disarm();
            }
            let _ = OFFERS.remove(offer.number);
            offer.silence();
            return Err(error);
        }
        // Somebody may have ended it meanwhile, and not have found what it hears by.
        if self.is_leaving() || !OFFERS.has(offer.number) {
            offer.retire();
        }
        Ok(())
    }

    fn list(&self, offer: &Arc<Offer>) -> Result<()> {
        let mut state = self.services.lock();
        if state.is_closed {
            return Err(Status::Stopped.into());
        }
        state.offers.insert(offer.number, Arc::clone(offer));
        Ok(())
    }

    /// Checks everything, and gives it a handle.
    fn prepare(self: &Arc<Self>, name: &str, options: ServiceOptions) -> Result<Arc<Offer>> {
        let name = subject::check_name("service", name)?;
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let version = options.version.unwrap_or_else(|| "0.0.0".to_owned());
        discovery::check_version(&version)?;
        let service = self.service_subject(name);
        Ok(OFFERS.insert(|number| Offer {
            number,
            in_hand_max: or(options.in_hand_max, IN_HAND_MAX),
            answer_ms: or(options.answer_ms, ANSWER_MS),
            in_hand: AtomicU32::new(0),
            waiting_bytes: AtomicUsize::new(0),
            identity: Identity::new(self, number, name, service, version, options.description),
            subscriptions: Mutex::default(),
            cluster: Arc::clone(self),
        }))
    }

    fn listen(&self, offer: &Arc<Offer>, program: &Arc<Program>) -> Result<()> {
        let lock = || offer.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in offer.identity.question_subjects().into_iter().filter(|_| !self.is_local()) {
            let asked = Arc::clone(offer);
            let questions = move |message: &Message<'_>| asked.tell_about(message);
            let key = self.engine.subscribe(&subject, None, Echo::Yes, Arc::new(questions))?;
            lock().questions.push(key);
        }
        let (taker, program) = (Arc::clone(offer), Arc::clone(program));
        let calls = move |message: &Message<'_>| taker.take(&program, message);
        let key = self.engine.subscribe(offer.identity.subject(), Some(GROUP), Echo::Yes, Arc::new(calls))?;
        lock().calls = Some(key);
        Ok(())
    }

    /// The server stops: no further call is taken.
    pub(super) fn retire_services(&self) {
        let offers = std::mem::take(&mut self.services.lock().offers);
        for (number, offer) in offers {
            let _ = OFFERS.remove(number);
            offer.retire();
        }
    }

    /// The server has stopped: what is in hand is answered for the program. Says whether there was any.
    pub(super) fn close_services(self: &Arc<Self>) -> bool {
        let (offers, deadlines, held) = {
            let mut state = self.services.lock();
            state.is_closed = true;
            let offers = std::mem::take(&mut state.offers);
            (offers, std::mem::take(&mut state.deadlines), std::mem::take(&mut state.held))
        };
        for (number, offer) in offers {
            let _ = OFFERS.remove(number);
            offer.silence();
        }
        let mut is_any = false;
        for Reverse((_, number, _)) in deadlines {
            if incoming::answer(number, Err("the server stops")).is_ok() {
                calls::count(&self.counts.cut);
                is_any = true;
            }
        }
        held.iter().for_each(|_| calls::count(&self.counts.cut));
        drop(held);
        is_any
    }
}

impl Offer {
    /// Hears nothing any more, at once.
    fn silence(&self) {
        let (calls, questions) = self.take_subscriptions();
        calls.into_iter().chain(questions).for_each(|key| self.cluster.engine.unsubscribe(key));
    }
}

fn no_room(what: &str) -> Error {
    Error::new(Status::Memory, format!("no memory for {what}"))
}
