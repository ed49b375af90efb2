//! A worker: one thread, one driver, its share of the connections. One turn of it is the whole engine:
//! wait, carry out what other threads asked for, handle what happened, look at the clock, send.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::context::{Context, Follow};
use super::mailbox::{self, Command, Mailbox};
use super::registry;
use super::roster::{self, Due, Roster};
use super::shared::{ServerShared, Team, WorkerShared};
use crate::conn::handle::ConnId;
use crate::conn::ids::Ids;
use crate::conn::slot::SlotTable;
use crate::conn::{Flags, Phase};
use crate::driver::{Config, Driver};
use crate::log::Inside;
use crate::metrics::{Counter, Counters};
use crate::net::Listener;
use crate::probes;
use crate::status::{Error, Result, Status};
use crate::sys;

/// Most bytes that one receive takes. The buffer is the worker's: connections have none.
const RECEIVE_BYTES_MAX: usize = 64 << 10;

/// If more connections than that have something to send, they take turns of some milliseconds. As many as one wait brings at
/// most, so that answers never do.
const FLUSH_MAX: usize = 4096;

pub(crate) struct Worker<D: Driver> {
    pub(super) driver: D,
    pub(super) context: Context,
    /// By number; None: closed.
    pub(super) listeners: Vec<Option<Arc<Listener>>>,
    /// The number of the framing of each.
    pub(super) framings: Vec<u8>,
    /// Filled and emptied once a turn; kept for their memory.
    commands: VecDeque<Command>,
    batch: Vec<ConnId>,
    /// The orders that the driver has been told of.
    orders_settled: u64,
    /// In the thread-local while the worker runs.
    roster: Option<Box<Roster>>,
    pub(super) has_stopped: bool,
    pub(super) has_ended: bool,
    /// Panics in a row outside of any event.
    panics: u32,
}

/// A listener and the number of the framing of those who come there.
#[derive(Clone)]
pub(super) struct Listening {
    pub(super) listener: Arc<Listener>,
    pub(super) framing: u8,
    /// What it is called in its cluster.
    pub(super) name: Option<String>,
}

impl Listening {
    /// What other nodes are told.
    pub(super) fn named_url(&self) -> String {
        let url = self.listener.url();
        self.name.as_ref().map_or_else(|| url.to_owned(), |name| format!("{url}?name={name}"))
    }
}

/// A worker, whatever its driver.
pub(super) trait Runs: Send {
    fn shared(&self) -> Arc<WorkerShared>;

    /// A descriptor that is readable when a turn would not wait.
    fn poll_fd(&self) -> RawFd;

    /// Gives it its colleagues, the listeners that they share, and the datagram listeners that are its own.
    fn equip(&mut self, team: Team, shared: &[Listening], own: &[Listening]) -> Result<()>;

    /// Runs until the server has stopped. The life of a worker's thread.
    fn run(self: Box<Self>);

    /// One turn on the caller's thread.
    fn turn(&mut self, timeout_ms: Option<u64>) -> Turned;
}

/// Whether a worker goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    GoesOn,
    Ended,
}

impl<D: Driver> Worker<D> {
    /// Opens a driver and gives the worker a number. Nothing runs yet; dropping it undoes everything.
    pub(super) fn open(server: &Arc<ServerShared>, workers: usize, own_loop: bool) -> Result<Self> {
        let config = Config {
            receive_bytes_max: RECEIVE_BYTES_MAX,
            shares_listeners: workers > 1,
            names_peers: server.conduct.meets_peers,
            own_loop,
        };
        let driver = D::open(config).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
                let name = D::NAME.to_string_lossy();
                Error::new(Status::Unsupported, format!("{name}: not on this system, or not allowed here: {error}"))
            }
            _ => Error::system("open a driver", &error),
        })?;
        let me = registry::insert_worker(|number, generation_first| WorkerShared {
            number,
            slots: SlotTable::new(number, generation_first),
            timer_ids: Ids::new(number, generation_first),
            subscription_ids: Ids::new(number, generation_first),
            mailbox: Mailbox::new(driver.waker()),
            orders: Counter::default(),
            counters: Counters::default(),
            server: Arc::clone(server),
        })?;
        let roster = Box::new(Roster::new(Arc::clone(&me), Arc::clone(server)));
        Ok(Self {
            driver,
            context: Context { me, server: Arc::clone(server), team: Team::default() },
            listeners: Vec::new(),
            framings: Vec::new(),
            commands: VecDeque::new(),
            batch: Vec::new(),
            orders_settled: 0,
            roster: Some(roster),
            has_stopped: false,
            has_ended: false,
            panics: 0,
        })
    }
}

impl<D: Driver> Runs for Worker<D> {
    fn shared(&self) -> Arc<WorkerShared> {
        Arc::clone(&self.context.me)
    }

    fn poll_fd(&self) -> RawFd {
        self.driver.poll_fd()
    }

    fn equip(&mut self, team: Team, shared: &[Listening], own: &[Listening]) -> Result<()> {
        self.context.team = team;
        for Listening { listener, framing, .. } in shared.iter().chain(own) {
            let number = self.listeners.len();
            let watched = match listener.is_datagram() {
                true => self.driver.listen_datagrams(number, listener.as_fd()),
                false => self.driver.listen(number, listener.as_fd()),
            };
            watched.map_err(|error| Error::system(format_args!("watch {}", listener.url()), &error))?;
            self.listeners.push(Some(Arc::clone(listener)));
            self.framings.push(*framing);
        }
        Ok(())
    }

    fn run(mut self: Box<Self>) {
        let _inside = Inside::enter();
        roster::become_worker_thread();
        let before = roster::enter(self.roster.take());
        while self.turn_caught(None) == Turned::GoesOn {}
        self.roster = roster::enter(before);
        if sys::forked() {
            // A child that came back by another way than a callback: out of a function that frees, or that logs.
            super::leave_child();
        }
    }

    fn turn(&mut self, timeout_ms: Option<u64>) -> Turned {
        let _inside = Inside::enter();
        let before = roster::enter(self.roster.take());
        let turned = self.turn_caught(timeout_ms);
        if turned == Turned::GoesOn {
            self.driver.arm(roster::with(|roster| roster.timeout_ms()).flatten());
        }
        self.roster = roster::enter(before);
        turned
    }
}

impl<D: Driver> Worker<D> {
    /// Catches the panics that no connection is to blame for.
    fn turn_caught(&mut self, timeout_ms: Option<u64>) -> Turned {
        mailbox::begin_turn();
        let turned = catch_unwind(AssertUnwindSafe(|| self.turn_here(timeout_ms)));
        mailbox::end_turn();
        match turned {
            Ok(turned) => {
                self.panics = 0;
                turned
            }
            Err(_) => self.recover(),
        }
    }

    /// The first time the next turn may be well. The second time in a row every connection is given up; the third
    /// time the worker, so that those who wait for the end of the server do not wait for ever.
    fn recover(&mut self) -> Turned {
        self.context.caught_panic(None);
        self.panics += 1;
        if self.panics == 2 {
            self.context.server.stop(0);
        }
        if self.panics < 3 {
            return Turned::GoesOn;
        }
        self.end();
        Turned::Ended
    }

    fn turn_here(&mut self, timeout_ms: Option<u64>) -> Turned {
        if self.has_ended {
            return Turned::Ended;
        }
        let next_ms = roster::with(|roster| roster.timeout_ms()).flatten();
        let timeout_ms = [timeout_ms, next_ms].into_iter().flatten().min();
        if let Err(error) = self.driver.wait(timeout_ms)
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.lose_driver(&error);
        }
        let began_ns = sys::now_ns();
        probes::turn_begin(self.context.me.number);
        roster::with(|roster| roster.now_ms = began_ns / sys::NANOSECONDS);
        // Before the events: what a thread asked for before it closed its end is done before the end is seen.
        self.carry_out_commands();
        self.deliver_held();
        self.handle_events();
        self.look_at_clock();
        self.deliver_held();
        self.flush(FLUSH_MAX);
        self.handle_events();
        self.heed_stop();
        let took_ns = sys::now_ns() - began_ns;
        self.context.me.counters.turn(took_ns);
        probes::turn_end(self.context.me.number, took_ns);
        if sys::forked() {
            // A callback has forked, and this is the child: everything here is shared with the parent.
            self.has_ended = true;
            return Turned::Ended;
        }
        if self.has_stopped && self.is_done() && self.try_end() {
            return Turned::Ended;
        }
        Turned::GoesOn
    }

    fn run_task(&self, at: u32) {
        let context = &self.context;
        if catch_unwind(AssertUnwindSafe(|| context.run_task(at))).is_err() {
            context.caught_panic(None);
        }
    }

    // ---- Events

    pub(super) fn handle_events(&mut self) {
        while !sys::forked()
            && let Some(event) = self.driver.next()
        {
            let conn = event.conn();
            let context = &self.context;
            let follow = catch_unwind(AssertUnwindSafe(|| context.handle(event))).unwrap_or_else(|_| {
                context.caught_panic(conn);
                Follow::Nothing
            });
            match follow {
                Follow::Nothing => {}
                Follow::Take(listener, socket, peer) => self.take(listener, socket, peer),
                Follow::Rest(listener) => self.rest(listener),
                Follow::Unlisten(listener) => self.unlisten(listener),
                Follow::Meet(peer) => self.meet(peer),
                Follow::Attempted(attempt, result) => self.attempted(attempt, result),
            }
            self.settle();
        }
    }

    /// Brings the driver to what the connections want of it.
    #[inline]
    pub(super) fn settle(&mut self) {
        // Whatever puts a connection on the list counts as an order.
        if self.orders_settled != self.context.me.orders.get() {
            self.settle_all();
            self.orders_settled = self.context.me.orders.get();
        }
    }

    fn settle_all(&mut self) {
        while let Some(id) = roster::with(|roster| roster.unsettled.pop()).flatten()
            && !sys::forked()
        {
            let driver = &mut self.driver;
            roster::with(|roster| settle(roster, driver, id));
        }
    }

    // ---- What other threads ask for

    pub(super) fn carry_out_commands(&mut self) {
        if !self.context.me.mailbox.has_mail() {
            return;
        }
        self.context.me.mailbox.take(&mut self.commands);
        while !sys::forked()
            && let Some(command) = self.commands.pop_front()
        {
            match command {
                Command::Adopt { conn, socket, announced } => self.open_conn(conn, socket, announced),
                Command::Connect { conn, connector } => self.connect(conn, connector),
                Command::Resolved { conn, question, addresses } => self.resolved(conn, question, addresses),
                other => {
                    let context = &self.context;
                    let id = other.conn();
                    if catch_unwind(AssertUnwindSafe(|| context.carry_out(other))).is_err() {
                        self.context.caught_panic(id);
                    }
                }
            }
            self.settle();
        }
    }

    // ---- Time

    fn look_at_clock(&mut self) {
        while !sys::forked()
            && let Some(due) = roster::with(|roster| roster.wheel.expire(roster.now_ms)).flatten()
        {
            match due {
                Due::Conn(id) => {
                    let is_connecting = |conn: &mut roster::Conn| conn.phase == Phase::Connecting;
                    if roster::with(|roster| roster.conn(id).is_some_and(is_connecting)) == Some(true) {
                        self.connect_timer(id);
                    } else {
                        if roster::with(|roster| roster.is_stuck(id)) == Some(true) {
                            let unsent = self.driver.unsent(id);
                            roster::with(|roster| roster.has_unsent(id, unsent));
                        }
                        roster::with(|roster| roster.deadline(id));
                    }
                }
                Due::Timer(at) => self.context.fire(at),
                Due::Task(at) => self.run_task(at),
                Due::Listener(listener) => self.listen_again(listener),
                Due::Delayed => drop(roster::with(|roster| roster.look_after_delayed())),
                Due::Starved => {
                    for _ in 0..roster::with(|roster| roster.look_after_starved()).unwrap_or(0) {
                        if let Some((id, true)) = roster::with(|roster| roster.next_starved()).flatten() {
                            self.context.writable(id);
                        }
                    }
                }
            }
            self.settle();
        }
    }

    /// Delivers what came before a pause, to those that go on.
    fn deliver_held(&mut self) {
        // Only those that are on the list now: a program that pauses and goes on in each callback takes turns.
        for _ in 0..roster::with(|roster| roster.resumed.len()).unwrap_or(0) {
            let Some(id) = roster::with(|roster| roster.next_resumed()).flatten() else { continue };
            let context = &self.context;
            if catch_unwind(AssertUnwindSafe(|| context.received(id, None, &[]))).is_err() {
                context.caught_panic(Some(id));
            }
            roster::with(|roster| roster.unsettle(id));
            self.settle();
        }
    }

    /// Hands the outboxes that were filled in this turn to the driver; of those that wait since an earlier one so many.
    pub(super) fn flush(&mut self, most: usize) {
        if sys::forked() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        roster::with(|roster| roster.next_batch(&mut batch, most));
        for id in batch.drain(..) {
            if let Some(outbox) = roster::with(|roster| roster.take_outbox(id)).flatten() {
                self.driver.send(id, outbox);
            }
        }
        // The list that keeps the memory goes back where it came from, with what was added meanwhile.
        roster::with(|roster| {
            batch.append(&mut roster.dirty);
            std::mem::swap(&mut roster.dirty, &mut batch);
        });
        self.batch = batch;
        self.settle();
    }
}

impl<D: Driver> Drop for Worker<D> {
    fn drop(&mut self) {
        if !self.has_ended {
            registry::remove_worker(&self.context.me);
        }
    }
}

/// Brings the driver to what one connection wants of it.
fn settle<D: Driver>(roster: &mut Roster, driver: &mut D, id: ConnId) {
    let Some(conn) = roster.conn(id) else { return };
    conn.flags.set(Flags::UNSETTLED, false);
    let flags = conn.flags;
    let is_ended = flags.has(Flags::ENDED);
    let is_out = conn.outbox.as_ref().is_none_or(|outbox| outbox.is_empty()) && !flags.has(Flags::IN_FLIGHT);
    let phase = conn.phase;
    // Bytes that another thread was told are accepted come first; or the deadline does.
    if phase == Phase::Draining && is_out && !roster.has_inflight(id) {
        // A peer that is in the middle of an upload would get a reset for what it sends next, which may overtake the answer.
        if !is_ended && (flags.has(Flags::UPLOADING) || driver.unread(id)) {
            driver.finish(id);
            roster.linger(id);
        } else {
            roster.finished(id);
        }
    }
    if phase == Phase::Open && flags.has(Flags::ENDING) && is_out && !roster.has_inflight(id) {
        finish(roster, driver, id);
    }
    let Some(conn) = roster.conn(id) else { return };
    if conn.phase == Phase::Lingering && is_ended {
        conn.phase = Phase::Doomed;
    }
    if conn.phase == Phase::Doomed {
        conn.phase = Phase::Closing;
        let reset = conn.flags.has(Flags::RESET);
        let connector = conn.extra.as_mut().and_then(|extra| extra.connector.as_mut());
        for (attempt, _) in connector.map(|connector| std::mem::take(&mut connector.attempts)).unwrap_or_default() {
            driver.abandon(attempt);
            roster.attempts.remove(&attempt);
        }
        return driver.close(id, reset);
    }
    // What a closing connection receives is thrown away, but it has to be received for its end to be seen.
    let is_held = conn.phase == Phase::Open && (conn.flags.has(Flags::PAUSED) || conn.flags.has(Flags::HELD));
    let reads = !is_held && !is_ended;
    let has_driver = conn.phase >= Phase::Open && conn.phase < Phase::Doomed;
    if has_driver && conn.flags.set(Flags::READING, reads) != reads {
        driver.receive(id, reads);
    }
}

/// All that the program had to say is out, and it has ended our side.
fn finish<D: Driver>(roster: &mut Roster, driver: &mut D, id: ConnId) {
    let Some(conn) = roster.conn(id) else { return };
    if conn.flags.set(Flags::FINISHED, true) {
        return;
    }
    driver.finish(id);
    if roster.conn(id).is_some_and(|conn| conn.flags.has(Flags::ENDED)) {
        roster.close(id, Status::Eof);
        roster.finished(id);
    }
}
