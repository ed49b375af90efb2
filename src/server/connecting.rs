//! What a worker does for its outgoing connections: names, attempts, and what comes of them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::SockAddr;

use super::connect::{Connector, Stage};
use super::context::Context;
use super::mailbox::Command;
use super::roster::{self, Roster};
use super::worker::Worker;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::slot::{CLOSE_POSTED, CLOSING};
use crate::conn::{Flags, Phase};
use crate::driver::{Carries, Driver};
use crate::net::{ATTEMPT_DELAY_MS, Peer, open_toward, outcome};
use crate::resolver;
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer};

/// How long a listener whose queue is full gets to make room.
const QUEUE_FULL_MS: u64 = 10;

/// What a step comes to.
enum Step {
    /// There is something to wait for.
    Wait,
    Connected(OwnedFd, SockAddr),
    Failed,
}

impl<D: Driver> Worker<D> {
    /// Takes an outgoing connection on.
    pub(super) fn connect(&mut self, id: ConnId, mut connector: Box<Connector>) {
        let mut finalizer = Some(connector.take_finalizer());
        let inserted = roster::with(|roster| roster.insert_connecting(id, connector, &mut finalizer));
        if let Some(Err(error)) = inserted {
            self.context.lose_unopened(id, error.status);
            // Dropped after the last callback, and with nothing borrowed.
            return drop(finalizer);
        }
        if self.has_stopped {
            roster::with(|roster| roster.close(id, Status::Stopped));
            return;
        }
        self.with_connector(id, |_, connector| connector.begin(sys::now_ms()));
        self.ask(id);
        self.proceed(id);
    }

    /// Addresses came for an outgoing connection.
    pub(super) fn resolved(&mut self, id: ConnId, question: u32, addresses: Result<Vec<SockAddr>>) {
        self.with_connector(id, |worker, connector| {
            if !connector.is_asking || connector.question != question {
                return;
            }
            connector.is_asking = false;
            match addresses {
                Ok(addresses) => connector.addresses.extend(addresses),
                Err(error) => {
                    log::debug!("{error}");
                    worker.context.me.counters.connects_failed.add(1);
                    connector.failure = error.status;
                }
            }
        });
        self.proceed(id);
    }

    /// An attempt has come to an end.
    pub(super) fn attempted(&mut self, attempt: u64, result: io::Result<OwnedFd>) {
        let Some(id) = roster::with(|roster| roster.attempts.remove(&attempt)).flatten() else { return };
        let connected = self.with_connector(id, |worker, connector| {
            let at = connector.attempts.iter().position(|(number, _)| *number == attempt)?;
            let (_, address) = connector.attempts.swap_remove(at);
            match result.and_then(|socket| outcome(&socket).map(|()| socket)) {
                Ok(socket) => Some((socket, address)),
                Err(error) => {
                    worker.attempt_failed(connector, &address, &error);
                    None
                }
            }
        });
        match connected.flatten() {
            Some((socket, address)) => self.connected(id, socket, &address),
            None => self.proceed(id),
        }
    }

    fn attempt_failed(&mut self, connector: &mut Connector, address: &SockAddr, error: &io::Error) {
        self.context.me.counters.connects_failed.add(1);
        log::debug!("connect {address:?}: {error}");
        connector.failure = match error.raw_os_error() {
            // This machine has no address of that kind to come from: no way there.
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => Status::Unreachable,
            _ => Status::from(error),
        };
        // The next address need not wait any more.
        connector.next_attempt_ms = 0;
    }

    /// The timer of a connecting connection has expired.
    pub(super) fn connect_timer(&mut self, id: ConnId) {
        let is_due = self.with_connector(id, |_, connector| {
            let now_ms = sys::now_ms();
            let is_due = matches!(connector.stage, Stage::Waiting { until_ms } if until_ms <= now_ms);
            if is_due {
                connector.begin(now_ms);
            }
            is_due
        });
        if is_due == Some(true) {
            self.ask(id);
        }
        self.proceed(id);
    }

    /// Gets the addresses of the URL that the round is at.
    fn ask(&mut self, id: ConnId) {
        let mailbox = Arc::clone(&self.context.me);
        self.with_connector(id, |worker, connector| {
            let Some(endpoint) = connector.endpoints.get(connector.at) else { return };
            match endpoint.literal() {
                Ok(Some(addresses)) => connector.addresses.extend(addresses),
                Ok(None) => {
                    connector.question = connector.question.wrapping_add(1);
                    let question = connector.question;
                    let done = move |addresses| {
                        // If the worker is gone, nobody waits for the answer.
                        drop(mailbox.mailbox.post(Command::Resolved { conn: id, question, addresses }));
                    };
                    let options = worker.context.me.server.cluster().map(|cluster| Arc::clone(cluster.options()));
                    match resolver::resolve(endpoint.clone(), options, connector.share_until_ms, Box::new(done)) {
                        Ok(()) => connector.is_asking = true,
                        Err(error) => connector.failure = error.status,
                    }
                }
                Err(error) => connector.failure = error.status,
            }
        });
    }

    /// Does what can be done now.
    fn proceed(&mut self, id: ConnId) {
        loop {
            let mut asks = false;
            let step = self.with_connector(id, |worker, connector| worker.step(id, connector, &mut asks));
            if asks {
                self.ask(id);
                continue;
            }
            match step {
                None => return,
                Some(Step::Wait) => return self.wait_for(id),
                Some(Step::Connected(socket, address)) => return self.connected(id, socket, &address),
                Some(Step::Failed) => return self.round_failed(id),
            }
        }
    }

    fn step(&mut self, id: ConnId, connector: &mut Connector, asks: &mut bool) -> Step {
        if matches!(connector.stage, Stage::Waiting { .. }) {
            return Step::Wait;
        }
        let now_ms = sys::now_ms();
        let is_waiting = connector.is_asking || !connector.attempts.is_empty();
        if now_ms >= connector.share_until_ms && (is_waiting || !connector.addresses.is_empty()) {
            connector.failure = Status::Timeout;
            self.context.me.counters.connects_failed.add(connector.attempts.len().max(1) as u64);
            connector.is_asking = false;
            connector.addresses.clear();
            self.abandon(connector);
            return self.next_url(connector, now_ms, asks);
        }
        while now_ms >= connector.next_attempt_ms
            && let Some(address) = connector.addresses.pop_front()
        {
            match open_toward(&address, connector.carries == Carries::Datagrams) {
                Ok((socket, true)) => return Step::Connected(socket, address),
                Ok((socket, false)) => {
                    let attempt = roster::with(|roster| roster.new_attempt(id)).unwrap_or(0);
                    connector.attempts.push((attempt, address));
                    connector.next_attempt_ms = now_ms + ATTEMPT_DELAY_MS;
                    self.driver.connect(attempt, socket);
                }
                // A Unix socket whose listener has a full queue: nothing will tell when it has room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connector.addresses.push_front(address);
                    connector.next_attempt_ms = now_ms + QUEUE_FULL_MS;
                }
                Err(error) => self.attempt_failed(connector, &address, &error),
            }
        }
        if connector.is_asking || !connector.attempts.is_empty() || !connector.addresses.is_empty() {
            return Step::Wait;
        }
        self.next_url(connector, now_ms, asks)
    }

    fn next_url(&mut self, connector: &mut Connector, now_ms: u64, asks: &mut bool) -> Step {
        connector.at += 1;
        if connector.at >= connector.endpoints.len() || now_ms >= connector.until_ms {
            return Step::Failed;
        }
        connector.begin_share(now_ms);
        *asks = true;
        Step::Wait
    }

    /// Gives up what is under way.
    fn abandon(&mut self, connector: &mut Connector) {
        abandon(&mut self.driver, connector);
    }

    fn wait_for(&mut self, id: ConnId) {
        roster::with(|roster| roster.wait_to_retry(id));
    }

    fn connected(&mut self, id: ConnId, socket: OwnedFd, address: &SockAddr) {
        let Some((carries, stage)) = self.with_connector(id, |worker, connector| {
            worker.abandon(connector);
            connector.addresses.clear();
            (connector.carries, connector.stage)
        }) else {
            return;
        };
        let peer = match (address.as_socket(), carries) {
            (Some(address), Carries::Stream) => Peer::new(address),
            (Some(address), Carries::Datagrams) => Peer::datagram(address),
            (None, Carries::Stream) => Peer::UNNAMED,
            (None, Carries::Datagrams) => Peer::UNNAMED_DATAGRAM,
        };
        let driver = &mut self.driver;
        let attached = driver.attach(id, socket, carries).map_err(|error| Error::system("attach a connection", &error));
        let opened = attached.and_then(|()| roster::with(|roster| roster.opened(id, peer)).unwrap_or(Ok(())));
        if let Err(error) = opened {
            log::warn!("a connection was lost: {error}");
            roster::with(|roster| roster.doom(id, error.status));
            return self.settle();
        }
        if stage == Stage::LastRound {
            roster::with(|roster| roster.close(id, Status::Ok));
        } else {
            self.call_opened(id);
        }
        self.settle();
    }

    /// No URL has answered: another round later, or the end.
    fn round_failed(&mut self, id: ConnId) {
        let Some((retries, failure)) = self.with_connector(id, |worker, connector| {
            worker.abandon(connector);
            (connector.plan_retry(false), connector.failure)
        }) else {
            return;
        };
        if retries && self.context.server.stop_at_ms().is_none() {
            self.context.down(id, failure);
            self.wait_for(id);
        } else {
            roster::with(|roster| roster.doom(id, failure));
        }
        self.settle();
    }

    /// Runs `body` with the connector of a connection that is being opened. It is not in its place meanwhile.
    fn with_connector<R>(&mut self, id: ConnId, body: impl FnOnce(&mut Self, &mut Connector) -> R) -> Option<R> {
        let take = |roster: &mut Roster| {
            let is_connecting = roster.conn(id).is_some_and(|conn| conn.phase == Phase::Connecting);
            if is_connecting { roster.extra(id)?.connector.take() } else { None }
        };
        let mut connector = roster::with(take).flatten()?;
        let result = body(self, &mut connector);
        roster::with(|roster| {
            if let Some(extra) = roster.extra(id) {
                extra.connector = Some(connector);
            }
        });
        Some(result)
    }
}

/// Gives up what is under way for a connection.
pub(super) fn abandon<D: Driver>(driver: &mut D, connector: &mut Connector) {
    for (attempt, _) in connector.attempts.drain(..) {
        driver.abandon(attempt);
        roster::with(|roster| roster.attempts.remove(&attempt));
    }
}

impl Context {
    /// An outgoing connection that comes too late.
    pub(super) fn refuse_connect(&self, id: ConnId, mut connector: Box<Connector>) {
        let finalizer = connector.take_finalizer();
        self.lose_unopened(id, Status::Stopped);
        // After the last callback.
        drop(finalizer);
    }
}

impl Roster {
    fn insert_connecting(
        &mut self,
        id: ConnId,
        connector: Box<Connector>,
        finalizer: &mut Option<Finalizer>,
    ) -> Result<()> {
        self.insert(id)?;
        let extra = self.extra_mut(id)?;
        extra.connector = Some(connector);
        extra.finalizer = finalizer.take().unwrap_or(Finalizer::NONE);
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Connecting;
            conn.flags.set(Flags::OUTGOING, true);
            // The program has the handle.
            conn.flags.set(Flags::ANNOUNCED, true);
        }
        self.me.counters.opened.add(1);
        self.me.counters.connecting.add(1);
        Ok(())
    }

    fn new_attempt(&mut self, id: ConnId) -> u64 {
        self.attempt_last += 1;
        self.attempts.insert(self.attempt_last, id);
        self.attempt_last
    }

    /// Lets the connector's timer expire when there is something to do.
    pub(super) fn wait_to_retry(&mut self, id: ConnId) {
        // The callback that was told may have closed it.
        if self.conn(id).is_none_or(|conn| conn.phase != Phase::Connecting) {
            return;
        }
        let next_ms = self.extra(id).and_then(|extra| extra.connector.as_ref()).map(|connector| connector.next_ms());
        let after_ms = next_ms.map(|next_ms| next_ms.saturating_sub(sys::now_ms()));
        if let Err(error) = self.set_deadline(id, after_ms) {
            self.doom(id, error.status);
        }
    }

    /// The driver has it.
    fn opened(&mut self, id: ConnId, peer: Peer) -> Result<()> {
        self.slots.set_peer(id.index(), peer)?;
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Open;
            conn.touch(sys::now_ms());
            conn.flags.set(Flags::HEARD, false);
            conn.flags.set(Flags::CONNECTED, true);
            self.me.counters.connecting.subtract(1);
        }
        self.announce(id)?;
        self.mark_dirty(id);
        self.unsettle(id);
        if self.conn(id).is_some_and(|conn| conn.flags.has(Flags::WAITING)) {
            self.wait(id);
        }
        Ok(())
    }

    /// The program, or the server, closes a connection that is not open yet. What is queued still goes out, if a round is
    /// under way.
    pub(super) fn close_connecting(&mut self, id: ConnId, reason: Status) {
        let has_queued = self.conn(id).is_some_and(|conn| conn.outbox.is_some()) || self.has_inflight(id);
        let drain_ms = self.server.limits.drain_ms;
        let connector = self.extra(id).and_then(|extra| extra.connector.as_mut());
        match connector.filter(|connector| !matches!(connector.stage, Stage::Waiting { .. })) {
            Some(connector) if has_queued && reason == Status::Ok => {
                connector.stage = Stage::LastRound;
                connector.hurry(drain_ms);
                self.slots.slot(id.index()).raise(id, CLOSING);
                if let Some(conn) = self.conn(id) {
                    conn.flags.set(Flags::ENDING, true);
                }
                self.wait_to_retry(id);
            }
            _ => self.doom(id, reason),
        }
    }

    /// A connection that this side has opened is lost, or was closed by its peer: whether it is to be opened again. If so,
    /// it is as it was before it was open; the outboxes are to be dropped with nothing borrowed.
    pub(super) fn revive(&mut self, id: ConnId, from_driver: Option<Box<Outbox>>) -> Revived {
        let has_stopped = self.server.stop_at_ms().is_some();
        let Some(conn) = self.conn(id) else { return Err(from_driver) };
        let (reason, flags) = (conn.reason(), conn.flags);
        let is_lost = !matches!(reason, Status::Ok | Status::Stopped | Status::Panic) && !flags.has(Flags::ENDING);
        let connector = conn.extra.as_mut().and_then(|extra| extra.connector.as_mut());
        let retries = !has_stopped && is_lost && flags.has(Flags::CONNECTED);
        if !connector.is_some_and(|connector| retries && connector.plan_retry(flags.has(Flags::HEARD))) {
            return Err(from_driver);
        }
        let outboxes = self.take_apart(id, from_driver);
        self.at_hand.forget();
        if let Some(conn) = self.conn(id) {
            conn.phase = Phase::Connecting;
            conn.set_reason(Status::Ok);
            let over = [Flags::ENDED, Flags::FINISHED, Flags::IN_FLIGHT, Flags::READING, Flags::HELD, Flags::RESET];
            for flag in over.into_iter().chain([Flags::CONNECTED, Flags::UPLOADING]) {
                conn.flags.set(flag, false);
            }
        }
        if let Some(extra) = self.extra(id) {
            extra.blocked_ms = 0;
        }
        self.me.counters.closing.subtract(1);
        self.me.counters.connecting.add(1);
        // A close that is in the mailbox is carried out all the same.
        self.slots.slot(id.index()).lower(id, CLOSING | CLOSE_POSTED);
        Ok((reason, outboxes))
    }
}

/// What comes of [`Roster::revive`]: why the connection was lost; or the outbox comes back.
pub(super) type Revived = std::result::Result<(Status, [Option<Box<Outbox>>; 2]), Option<Box<Outbox>>>;
