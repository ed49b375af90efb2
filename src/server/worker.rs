//! A worker: one thread, one driver, its share of the connections. One turn of it is the whole engine:
//! wait, carry out what other threads asked for, handle what happened, look at the clock, send.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::context::{Context, Follow, REST_MS};
use super::mailbox::{Command, Mailbox};
use super::registry;
use super::roster::{self, Due, Roster};
use super::shared::{ServerShared, Team, WorkerShared};
use crate::conn::handle::ConnId;
use crate::conn::slot::SlotTable;
use crate::conn::{Flags, Phase};
use crate::driver::{Config, Driver};
use crate::log::Inside;
use crate::metrics::Counters;
use crate::net::{Listener, Peer};
use crate::status::{Error, Result, Status};
use crate::sys;

/// Most bytes that one receive takes. The buffer is the worker's: connections have none.
const RECEIVE_BYTES_MAX: usize = 64 << 10;

pub(crate) struct Worker<D: Driver> {
    driver: D,
    context: Context,
    listeners: Vec<Arc<Listener>>,
    /// Filled and emptied once a turn; kept for their memory.
    commands: VecDeque<Command>,
    batch: Vec<ConnId>,
    /// In the thread-local while the worker runs.
    roster: Option<Box<Roster>>,
    has_stopped: bool,
    has_ended: bool,
    /// Panics in a row outside of any event.
    panics: u32,
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
            receive_bytes_max: RECEIVE_BYTES_MAX.min(server.limits.message_bytes_max as usize),
            shares_listeners: workers > 1,
            own_loop,
        };
        let driver = D::open(config).map_err(|error| Error::system("open a driver", &error))?;
        let me = registry::insert_worker(|number, generation_first| WorkerShared {
            number,
            slots: SlotTable::new(number, generation_first),
            mailbox: Mailbox::new(driver.waker()),
            counters: Counters::default(),
            server: Arc::clone(server),
        })?;
        let roster = Box::new(Roster::new(Arc::clone(&me), Arc::clone(server)));
        Ok(Self {
            driver,
            context: Context { me, server: Arc::clone(server), team: Team::default() },
            listeners: Vec::new(),
            commands: VecDeque::new(),
            batch: Vec::new(),
            roster: Some(roster),
            has_stopped: false,
            has_ended: false,
            panics: 0,
        })
    }

    pub(super) fn shared(&self) -> Arc<WorkerShared> {
        Arc::clone(&self.context.me)
    }

    pub(super) fn poll_fd(&self) -> RawFd {
        self.driver.poll_fd()
    }

    /// Gives it its colleagues and the listeners that they share.
    pub(super) fn equip(&mut self, team: Team, listeners: &[Arc<Listener>]) -> Result<()> {
        self.context.team = team;
        for (number, listener) in listeners.iter().enumerate() {
            let error = |error| Error::system(format_args!("watch {}", listener.url()), &error);
            self.driver.listen(number, listener.as_fd()).map_err(error)?;
            self.listeners.push(Arc::clone(listener));
        }
        Ok(())
    }

    /// Runs until the server has stopped. The life of a worker's thread.
    pub(super) fn run(mut self) {
        let _inside = Inside::enter();
        let before = roster::enter(self.roster.take());
        while self.turn_caught(None) == Turned::GoesOn {}
        self.roster = roster::enter(before);
        if sys::forked() {
            // A callback returned in a child. There is nothing it could return to; and the host's exit handlers, and
            // its buffers, are the parent's.
            sys::exit_child();
        }
    }

    /// One turn on the caller's thread.
    pub(super) fn turn(&mut self, timeout_ms: Option<u64>) -> Turned {
        let _inside = Inside::enter();
        let before = roster::enter(self.roster.take());
        let turned = self.turn_caught(timeout_ms);
        if turned == Turned::GoesOn {
            self.driver.arm(roster::with(|roster| roster.timeout_ms()).flatten());
        }
        self.roster = roster::enter(before);
        turned
    }

    /// Catches the panics that no connection is to blame for.
    fn turn_caught(&mut self, timeout_ms: Option<u64>) -> Turned {
        match catch_unwind(AssertUnwindSafe(|| self.turn_here(timeout_ms))) {
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
        roster::with(|roster| roster.now_ms = sys::now_ms());
        // Before the events: what a thread asked for before it closed its end is done before the end is seen.
        self.carry_out_commands();
        self.handle_events();
        self.look_at_clock();
        self.flush();
        self.handle_events();
        self.heed_stop();
        if sys::forked() {
            // A callback has forked, and this is the child: everything here is shared with the parent.
            self.has_ended = true;
            return Turned::Ended;
        }
        if self.has_stopped && roster::with(|roster| roster.count) == Some(0) {
            self.end();
            return Turned::Ended;
        }
        Turned::GoesOn
    }

    // ---- Events

    fn handle_events(&mut self) {
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
                Follow::Take(socket, peer) => self.take(socket, peer),
                Follow::Rest(listener) => self.rest(listener),
                Follow::Unlisten(listener) => self.unlisten(listener),
            }
            self.settle();
        }
    }

    /// Brings the driver to what the connections want of it.
    fn settle(&mut self) {
        while let Some(id) = roster::with(|roster| roster.unsettled.pop()).flatten()
            && !sys::forked()
        {
            let driver = &mut self.driver;
            roster::with(|roster| settle(roster, driver, id));
        }
    }

    // ---- Connections come

    /// Someone was accepted: by this worker, or by one that has fewer connections.
    fn take(&mut self, socket: OwnedFd, peer: Peer) {
        let Context { me, server, team, .. } = &self.context;
        if server.stop_at_ms().is_some() {
            return;
        }
        if !server.admit() {
            me.counters.refused.add(1);
            log::warn!("{peer} refused: connections_max is reached");
            return;
        }
        let target = team.lightest(me);
        let id = match target.slots.reserve(peer, server.user()) {
            Ok(id) => id,
            Err(_) => {
                server.dismiss();
                me.counters.refused.add(1);
                log::warn!("{peer} refused: out of memory");
                return;
            }
        };
        if Arc::ptr_eq(target, me) {
            return self.open_conn(id, socket, false);
        }
        let command = Command::Adopt { conn: id, socket, announced: false };
        if let Err((error, _)) = target.mailbox.post(command) {
            target.slots.release(id);
            server.dismiss();
            me.counters.refused.add(1);
            log::warn!("{peer} refused: {error}");
        }
    }

    /// Takes a connection on. `announced`: the program has its handle already.
    fn open_conn(&mut self, id: ConnId, socket: OwnedFd, announced: bool) {
        let driver = &mut self.driver;
        let inserted = roster::with(|roster| roster.insert(id)).unwrap_or(Ok(()));
        let opened = inserted.and_then(|()| {
            driver.attach(id, socket).map_err(|error| Error::system("attach a connection", &error))?;
            roster::with(|roster| roster.announce(id)).unwrap_or(Ok(()))
        });
        if let Err(error) = opened {
            log::warn!("a connection was lost: {error}");
            self.driver.close(id);
            return self.context.lose(id, error.status, announced);
        }
        let context = &self.context;
        if catch_unwind(AssertUnwindSafe(|| context.opened(id))).is_err() {
            context.caught_panic(Some(id));
        }
        if self.has_stopped {
            roster::with(|roster| roster.close(id, Status::Stopped));
        }
        self.settle();
    }

    fn rest(&mut self, listener: usize) {
        self.unlisten(listener);
        self.context.me.counters.rests.add(1);
        // Without memory for the timer the listener stays off: there is nothing to accept with, either.
        roster::with(|roster| roster.wheel.start(sys::now_ms() + REST_MS, Due::Listener(listener)).map(drop));
    }

    fn unlisten(&mut self, listener: usize) {
        if let Some(socket) = self.listeners.get(listener) {
            self.driver.unlisten(listener, socket.as_fd());
        }
    }

    fn listen_again(&mut self, listener: usize) {
        if self.has_stopped {
            return;
        }
        let Some(socket) = self.listeners.get(listener) else { return };
        if let Err(error) = self.driver.listen(listener, socket.as_fd()) {
            log::warn!("{} rests again: {error}", socket.url());
            self.rest(listener);
        }
    }

    // ---- What other threads ask for

    fn carry_out_commands(&mut self) {
        if !self.context.me.mailbox.has_mail() {
            return;
        }
        self.context.me.mailbox.take(&mut self.commands);
        while !sys::forked()
            && let Some(command) = self.commands.pop_front()
        {
            match command {
                Command::Adopt { conn, socket, announced } => self.open_conn(conn, socket, announced),
                other => {
                    let context = &self.context;
                    let id = other.conn();
                    if catch_unwind(AssertUnwindSafe(|| context.carry_out(other))).is_err() {
                        self.context.caught_panic(Some(id));
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
                Due::Conn(id) => drop(roster::with(|roster| roster.deadline(id))),
                Due::Listener(listener) => self.listen_again(listener),
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

    /// Hands every outbox that was filled in this turn to the driver.
    fn flush(&mut self) {
        if sys::forked() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        roster::with(|roster| std::mem::swap(&mut roster.dirty, &mut batch));
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
    }

    // ---- The end

    /// Begins to stop when the server is told to, and cuts off what is left when the time for it has passed.
    fn heed_stop(&mut self) {
        let Some(stop_at_ms) = self.context.server.stop_at_ms() else { return };
        if sys::forked() {
            return;
        }
        if !self.has_stopped {
            // What a thread asked for before it stopped the server is done before the stop.
            self.carry_out_commands();
            self.has_stopped = true;
            for listener in 0..self.listeners.len() {
                self.unlisten(listener);
            }
            self.listeners.clear();
            roster::with(|roster| roster.each(|roster, id| roster.close(id, Status::Stopped)));
            self.settle();
            self.handle_events();
            // Each pass hands something to the system, or leaves an outbox with the driver, which waits for room.
            while roster::with(|roster| !roster.dirty.is_empty()) == Some(true) && !sys::forked() {
                self.flush();
                self.handle_events();
            }
        }
        if sys::now_ms() >= stop_at_ms {
            roster::with(|roster| roster.each(|roster, id| roster.doom(id, Status::Stopped)));
            self.settle();
            self.handle_events();
        }
    }

    /// The driver does not work any more: somebody else in the process has closed its descriptors.
    fn lose_driver(&mut self, error: &io::Error) {
        log::error!("a worker stops: its driver failed: {error}");
        self.context.server.stop(0);
        roster::with(|roster| roster.each(|roster, id| roster.doom(id, Status::System)));
        self.settle();
    }

    /// The last connection of a stopped server is gone.
    fn end(&mut self) {
        self.has_ended = true;
        self.retire();
        roster::with(|roster| roster.settle_lease());
        self.context.server.worker_ended();
    }

    /// Gives the worker's number back. What is still in the mailbox comes to nothing, and is told so.
    fn retire(&mut self) {
        for command in self.context.me.mailbox.close() {
            match command {
                Command::Adopt { conn, announced, .. } => self.context.lose(conn, Status::Stopped, announced),
                other => self.context.carry_out(other),
            }
        }
        registry::remove_worker(&self.context.me);
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
    let is_ended = conn.flags.has(Flags::ENDED);
    if conn.phase == Phase::Draining && conn.outbox.is_none() && !conn.flags.has(Flags::IN_FLIGHT) {
        if roster.has_inflight(id) {
            // Bytes that another thread was told are accepted come first; or the deadline does.
            return;
        }
        if !is_ended && driver.unread(id) {
            driver.finish(id);
            roster.linger(id);
        } else {
            roster.finished(id);
        }
    }
    let Some(conn) = roster.conn(id) else { return };
    if conn.phase == Phase::Lingering && is_ended {
        conn.phase = Phase::Doomed;
    }
    if conn.phase == Phase::Doomed {
        conn.phase = Phase::Closing;
        return driver.close(id);
    }
    // What a closing connection receives is thrown away, but it has to be received for its end to be seen.
    let is_held = conn.flags.has(Flags::PAUSED) && conn.phase == Phase::Open;
    let reads = !is_held && !is_ended;
    if conn.phase < Phase::Doomed && conn.flags.set(Flags::READING, reads) != reads {
        driver.receive(id, reads);
    }
}
