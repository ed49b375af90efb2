//! The program's timers. Each belongs to one worker, on which it runs, and maybe to one of its connections, with which
//! it ends.

use std::sync::Arc;

use super::context::Context;
use super::mailbox::Command;
use super::roster::{self, Due, NOBODY, Roster};
use super::shared::WorkerShared;
use super::{ServerId, registry};
use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer, HostCall, HostUser};
use crate::timer::TimerKey;

/// Handles that a worker takes at a time.
const STOCK: usize = 32;

/// Names a timer in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId(ConnId);

impl TimerId {
    /// A handle as it came from outside: it may be stale or made up.
    pub fn from_raw(raw: u64) -> Self {
        Self(ConnId::from_raw(raw))
    }

    /// The handle's number, for the program.
    pub fn raw(self) -> u64 {
        self.0.raw()
    }
}

/// Calls the program's function.
pub type TimerCall = fn(HostCall, TimerId, Option<ConnId>, HostUser);

/// What a timer is asked to do.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Milliseconds until the first call.
    pub after_ms: u32,
    /// Milliseconds between later calls; 0: there is one.
    pub every_ms: u32,
    /// How to call `function`.
    pub call: TimerCall,
    /// The program's function.
    pub function: HostCall,
    /// Its argument.
    pub user: HostUser,
}

/// A timer on its way to its worker, and there.
pub(crate) struct Timer {
    id: TimerId,
    deadline_ms: u64,
    every_ms: u32,
    call: TimerCall,
    function: HostCall,
    user: super::mailbox::UserWord,
    finalizer: Finalizer,
    conn: Option<ConnId>,
    /// In the wheel; None while it runs.
    key: Option<TimerKey>,
    state: State,
    /// Its neighbours among the timers of its connection.
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    /// While it was running: it is over when its callback returns.
    Cancelled,
}

/// The timers of one worker, by the index of their handles.
pub(crate) struct Timers {
    /// A million of them do not move when there is one more.
    places: Chunks<Option<Timer>>,
    /// Handles taken and not yet given out.
    stock: Vec<ConnId>,
    /// At the end of the server: places from here on are empty.
    emptied: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Self { places: Chunks::new(), stock: Vec::with_capacity(STOCK), emptied: u32::MAX }
    }
}

/// Starts a timer of a server: on this worker, inside its callbacks, otherwise on any. `announce` gets the handle
/// before the timer can run. On an error the finalizer is not called.
pub fn start(id: ServerId, spec: Spec, finalizer: Finalizer, announce: impl FnOnce(TimerId)) -> Result<()> {
    let mut finalizer = Some(finalizer);
    let here = |roster: &mut Roster| (roster.server.id == id).then(|| roster.start_timer(None, &spec, &mut finalizer));
    let result = match roster::with(here).flatten() {
        Some(started) => started.map(announce),
        None => start_elsewhere(|| any_worker(id), None, &spec, &mut finalizer, announce),
    };
    disarmed(finalizer, result)
}

/// Starts a timer of a connection, on its worker.
pub fn start_for_conn(id: ConnId, spec: Spec, finalizer: Finalizer, announce: impl FnOnce(TimerId)) -> Result<()> {
    let mut finalizer = Some(finalizer);
    // A connection that is still in the mailbox is not known here yet: its timer goes behind it.
    let here = |roster: &mut Roster| roster.knows(id).then(|| roster.start_timer(Some(id), &spec, &mut finalizer));
    let result = match roster::with(here).flatten() {
        Some(started) => started.map(announce),
        None => {
            let worker = || registry::find_worker(id).filter(|worker| worker.slots.find(id).is_some());
            let worker = || worker().ok_or_else(|| Status::Stale.into());
            start_elsewhere(worker, Some(id), &spec, &mut finalizer, announce)
        }
    };
    disarmed(finalizer, result)
}

/// What was not taken stays the program's.
fn disarmed(finalizer: Option<Finalizer>, result: Result<()>) -> Result<()> {
    if let Some(finalizer) = finalizer {
        finalizer.disarm();
    }
    result
}

fn any_worker(id: ServerId) -> Result<Arc<WorkerShared>> {
    let server = super::find(id)?;
    server.team.anyone().map(Arc::clone).ok_or_else(|| Status::Stopped.into())
}

fn start_elsewhere(
    worker: impl FnOnce() -> Result<Arc<WorkerShared>>,
    conn: Option<ConnId>,
    spec: &Spec,
    finalizer: &mut Option<Finalizer>,
    announce: impl FnOnce(TimerId),
) -> Result<()> {
    let worker = worker()?;
    let id = TimerId(worker.timer_ids.reserve()?);
    let timer = Timer::new(id, conn, spec, finalizer.take().unwrap_or(Finalizer::NONE));
    let posted = worker.mailbox.post_after(Command::StartTimer(Box::new(timer)), || announce(id));
    posted.map_err(|(error, command)| {
        if let Command::StartTimer(timer) = command {
            *finalizer = Some(timer.finalizer);
        }
        worker.timer_ids.release(id.0);
        if error.status == Status::Stale { Status::Stopped.into() } else { error }
    })
}

impl Timer {
    fn new(id: TimerId, conn: Option<ConnId>, spec: &Spec, finalizer: Finalizer) -> Self {
        Self {
            id,
            deadline_ms: sys::deadline_ms(spec.after_ms),
            every_ms: spec.every_ms,
            call: spec.call,
            function: spec.function,
            user: super::mailbox::UserWord::new(spec.user),
            finalizer,
            conn,
            key: None,
            state: State::Waiting,
            next: NOBODY,
            previous: NOBODY,
        }
    }
}

/// Cancels a timer.
pub fn cancel(id: TimerId) -> Result<()> {
    let worker = registry::find_worker(id.0).ok_or(Status::Stale)?;
    match roster::with(|roster| roster.cancel_timer(id)).flatten() {
        // Dropped here, with nothing borrowed: the program's function runs.
        Some(cancelled) => cancelled.map(drop),
        None if worker.timer_ids.is(id.0) => {
            worker.mailbox.post(Command::CancelTimer { id }).map_err(|(error, _)| error)
        }
        None => Err(Status::Stale.into()),
    }
}

impl Roster {
    /// Starts a timer on this worker; takes the finalizer when it does.
    fn start_timer(&mut self, conn: Option<ConnId>, spec: &Spec, finalizer: &mut Option<Finalizer>) -> Result<TimerId> {
        let id = TimerId(self.me.timer_ids.reserve_from(&mut self.timers.stock)?);
        let mut timer = Some(Timer::new(id, conn, spec, finalizer.take().unwrap_or(Finalizer::NONE)));
        self.insert_timer(&mut timer).inspect_err(|_| {
            *finalizer = timer.map(|timer| timer.finalizer);
            self.me.timer_ids.release(id.0);
        })?;
        Ok(id)
    }

    /// Takes a timer on; leaves it where it is if that fails.
    pub(super) fn insert_timer(&mut self, timer: &mut Option<Timer>) -> Result<()> {
        if self.is_over {
            return Err(Status::Stopped.into());
        }
        let Some(given) = timer.as_ref() else { return Ok(()) };
        let (id, conn) = (given.id, given.conn);
        self.timers.places.grow_to(id.0.index())?;
        // Not before the next turn, or one that starts itself again would keep its worker for ever.
        let deadline_ms = given.deadline_ms.max(self.now_ms + 1);
        let next = match conn {
            Some(conn) if self.conn(conn).is_none_or(|conn| conn.phase == crate::conn::Phase::Closed) => {
                return Err(Status::Stale.into());
            }
            Some(conn) => self.extra_mut(conn)?.first_timer,
            None => NOBODY,
        };
        let key = self.wheel.start(deadline_ms, Due::Timer(id.0.index()))?;
        if let (Some(given), Some(place)) = (timer.as_mut(), self.timers.places.get_mut(id.0.index())) {
            (given.deadline_ms, given.key, given.next) = (deadline_ms, Some(key), next);
            *place = timer.take();
        }
        if let Some(conn) = conn {
            if let Some(next) = self.timer(next) {
                next.previous = id.0.index();
            }
            self.extra_mut(conn)?.first_timer = id.0.index();
        }
        self.me.counters.timers.add(1);
        Ok(())
    }

    #[inline]
    fn timer(&mut self, at: u32) -> Option<&mut Timer> {
        self.timers.places.get_mut(at)?.as_mut()
    }

    /// None: it is not here. Otherwise what frees the program's data, to be dropped with nothing borrowed.
    pub(super) fn cancel_timer(&mut self, id: TimerId) -> Option<Result<Option<Finalizer>>> {
        if id.0.worker() != self.me.number {
            return None;
        }
        let timer = self.timer(id.0.index()).filter(|timer| timer.id == id)?;
        match timer.state {
            State::Waiting => Some(Ok(self.remove_timer(id.0.index()))),
            State::Running => {
                timer.state = State::Cancelled;
                Some(Ok(None))
            }
            State::Cancelled => Some(Err(Status::Stale.into())),
        }
    }

    fn remove_timer(&mut self, at: u32) -> Option<Finalizer> {
        let timer = self.timers.places.get_mut(at)?.take()?;
        if let Some(key) = timer.key {
            self.wheel.cancel(key);
        }
        if let Some(next) = self.timer(timer.next) {
            next.previous = timer.previous;
        }
        match self.timer(timer.previous) {
            Some(previous) => previous.next = timer.next,
            None => {
                if let Some(extra) = timer.conn.and_then(|conn| self.extra(conn)) {
                    extra.first_timer = timer.next;
                }
            }
        }
        self.me.timer_ids.release(timer.id.0);
        self.me.counters.timers.subtract(1);
        Some(timer.finalizer)
    }

    /// Removes one timer of a connection that is over; None: there is none. To be dropped with nothing borrowed.
    pub(super) fn pop_conn_timer(&mut self, conn: ConnId) -> Option<Finalizer> {
        let first = self.extra(conn)?.first_timer;
        self.remove_timer(first)
    }

    /// Removes any timer of a server that is over.
    pub(super) fn pop_timer(&mut self) -> Option<Finalizer> {
        loop {
            let last = self.timers.emptied.min(self.timers.places.len()).checked_sub(1)?;
            self.timers.emptied = last;
            let removed = self.remove_timer(last);
            if removed.is_some() {
                return removed;
            }
        }
    }

    /// A timer's time has come: how to call it.
    fn begin_timer(&mut self, at: u32) -> Option<(Spec, TimerId, Option<ConnId>)> {
        let timer = self.timer(at)?;
        timer.key = None;
        timer.state = State::Running;
        let Timer { call, function, every_ms, .. } = *timer;
        let user = timer.user.load(std::sync::atomic::Ordering::Relaxed);
        Some((Spec { after_ms: 0, every_ms, call, function, user }, timer.id, timer.conn))
    }

    /// Its callback has returned: it goes on, or it is over.
    fn end_timer(&mut self, at: u32) -> Option<Finalizer> {
        let now_ms = sys::now_ms();
        let timer = self.timer(at)?;
        if timer.state == State::Cancelled || timer.every_ms == 0 {
            return self.remove_timer(at);
        }
        let every_ms = u64::from(timer.every_ms);
        // Late by more than a period: the calls that were missed are left out, the beat is kept.
        let late_ms = now_ms.saturating_sub(timer.deadline_ms);
        timer.deadline_ms += every_ms * (late_ms / every_ms + 1);
        timer.state = State::Waiting;
        let deadline_ms = timer.deadline_ms.max(self.now_ms + 1);
        match self.wheel.start(deadline_ms, Due::Timer(at)) {
            Ok(key) => {
                if let Some(timer) = self.timer(at) {
                    timer.key = Some(key);
                }
                None
            }
            Err(_) => self.remove_timer(at),
        }
    }
}

impl Context {
    /// Runs a timer of the program's.
    pub(super) fn fire(&self, at: u32) {
        let Some((spec, id, conn)) = roster::with(|roster| roster.begin_timer(at)).flatten() else { return };
        (spec.call)(spec.function, id, conn, spec.user);
        // What frees the program's data runs here, with nothing borrowed.
        drop(roster::with(|roster| roster.end_timer(at)).flatten());
    }

    /// A timer that another thread has started.
    pub(super) fn take_timer(&self, timer: Timer) {
        let id = timer.id;
        let mut timer = Some(timer);
        let inserted = roster::with(|roster| roster.insert_timer(&mut timer)).unwrap_or(Err(Status::Stopped.into()));
        if let Err(error) = inserted {
            log_lost(&error);
            self.me.timer_ids.release(id.0);
        }
        // Not taken: the program gets back what it lent.
        drop(timer);
    }
}

fn log_lost(error: &Error) {
    if error.status == Status::Memory {
        log::warn!("a timer was lost: {error}");
    }
}
