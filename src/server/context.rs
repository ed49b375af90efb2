//! What a worker does about each event and each request: the callbacks of the program are called from here, and
//! never while the roster is borrowed.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use super::commands;
use super::mailbox::{Command, Tally};
use super::peers::NewPeer;
use super::receiving::{Charge, Delivery, DeliveryEnd};
use super::roster;
use super::sending::Body;
use super::shared::{ServerShared, Team, WorkerShared};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::slot::END_POSTED;
use crate::conn::{Flags, Phase};
use crate::driver::{Event, Sent};
use crate::fault;
use crate::framing::Partial;
use crate::net::Peer;
use crate::options::Greet;
use crate::probes;
use crate::status::Status;
use crate::sys::HostUser;

/// How long a listener rests when the system has no descriptor or no memory for one more connection.
pub(super) const REST_MS: u64 = 100;
/// Who the worker is. Apart from the driver, so that an event may borrow from the driver while it is handled.
pub(super) struct Context {
    pub(super) me: Arc<WorkerShared>,
    pub(super) server: Arc<ServerShared>,
    pub(super) team: Team,
}

/// What an event asks of the driver, to be done when the event itself is gone.
pub(super) enum Follow {
    Nothing,
    Take(usize, OwnedFd, Peer),
    Rest(usize),
    Unlisten(usize),
    /// A datagram came from somebody new.
    Meet(NewPeer),
    /// An attempt to connect has come to an end.
    Attempted(u64, io::Result<OwnedFd>),
}

impl Context {
    /// Handles one event. Callbacks run in here.
    pub(super) fn handle(&self, event: Event<'_>) -> Follow {
        match event {
            Event::Received { conn, socket, data } => self.received(conn, socket, data),
            Event::Sent { conn, outbox, result } => self.sent(conn, outbox, result),
            Event::Blocked { conn, unsent } => drop(roster::with(|roster| roster.blocked(conn, unsent))),
            Event::TooLong { .. } => self.me.counters.datagrams_dropped.add(1),
            Event::Datagram { listener, origin, data, is_cut } => return self.datagram(listener, origin, data, is_cut),
            Event::Connected { attempt, result } => return Follow::Attempted(attempt, result),
            Event::Accepted { listener, socket, peer } => return Follow::Take(listener, socket, peer),
            Event::AcceptFailed { listener, error } => return self.accept_failed(listener, &error),
            Event::Ended { conn } => {
                if let Some(user) = roster::with(|roster| roster.ended(conn)).flatten() {
                    self.server.handler.on_end(conn, user);
                }
            }
            Event::Failed { conn, error } => {
                roster::with(|roster| roster.doom(conn, broken(&error)));
            }
            Event::Closed { conn, outbox } => self.over(conn, outbox),
        }
        Follow::Nothing
    }

    pub(super) fn opened(&self, id: ConnId) {
        log::debug!("opened {:x}", id.raw());
        let user = roster::with(|roster| roster.user(id)).unwrap_or(std::ptr::null_mut());
        probes::conn_opened(id.raw());
        self.server.handler.on_open(id, user);
        let is_outgoing = roster::with(|roster| roster.conn(id).is_some_and(|conn| conn.flags.has(Flags::OUTGOING)));
        if self.server.conduct.greet == Greet::OnOpen && is_outgoing != Some(true) {
            self.greet(id);
        }
    }

    /// Bytes came, or (none) a connection goes on after a pause.
    #[inline]
    pub(super) fn received(&self, id: ConnId, socket: Option<RawFd>, data: &[u8]) {
        let Some(delivery) = roster::with(|roster| roster.begin_delivery(id, socket, data.len())).flatten() else {
            return;
        };
        if delivery.is_whole {
            self.deliver(id, data, &delivery, delivery.user);
        } else {
            self.deliver_framed(id, data, delivery);
        }
    }

    /// One message after the other, as long as the program takes them.
    fn deliver_framed(&self, id: ConnId, data: &[u8], mut delivery: Delivery) {
        let framing = self.server.framings.get(delivery.framing);
        let most = self.server.limits.message_bytes_max as usize;
        let mut before = delivery.intake.take();
        let mut partial = before.as_mut().map_or_else(Partial::default, |intake| std::mem::take(&mut intake.partial));
        let charge = Charge(if delivery.is_begun { partial.bytes() as u64 } else { 0 });
        let mut rest = data;
        let mut delivered = false;
        let mut refused = None;
        let mut user = delivery.user;
        let mut orders = self.me.orders.get();
        loop {
            // Only if a callback has ordered anything: it may have paused or closed the connection.
            if orders != self.me.orders.get() {
                orders = self.me.orders.get();
                match roster::with(|roster| roster.goes_on(id)).flatten() {
                    Some(now) => user = now,
                    None => break,
                }
            }
            match framing.next(&mut partial, &mut rest, most) {
                Ok(Some(message)) => {
                    delivered = true;
                    self.me.counters.messages_in.add(1);
                    self.deliver(id, message, &delivery, user);
                }
                Ok(None) => break,
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        let end = DeliveryEnd {
            partial,
            rest,
            charged: charge.take(),
            delivered,
            refused,
            before,
            is_begun: delivery.is_begun,
        };
        roster::with(|roster| roster.end_delivery(id, end));
    }

    #[inline]
    fn deliver(&self, id: ConnId, message: &[u8], delivery: &Delivery, user: HostUser) {
        fault::check_panic();
        probes::message_in(id.raw(), message.len());
        if self.server.conduct.converses {
            self.server.handler.on_message(id, message, user);
        } else if !delivery.is_outgoing {
            self.greet(id);
        }
    }

    /// Greets, and closes unless the program goes on with the conversation.
    fn greet(&self, id: ConnId) {
        let sent = commands::send(id, &self.server.greeting);
        if !self.server.conduct.converses {
            roster::with(|roster| roster.close(id, Status::Ok));
        }
        if let Err(error) = sent {
            log::warn!("a greeting was not sent: {error}");
        }
    }

    fn sent(&self, id: ConnId, mut outbox: Box<Outbox>, result: io::Result<Sent>) {
        let sent = *result.as_ref().unwrap_or(&Sent::default());
        // Functions of the host's may run in here.
        let freed = outbox.advance(sent.taken);
        let after = roster::with(|roster| {
            let after = roster.sent(id, outbox, sent, freed);
            if let Err(error) = &result {
                roster.doom(id, broken(error));
            }
            after
        });
        let after = after.unwrap_or_default();
        drop(after.discarded);
        if after.is_writable && result.is_ok() {
            self.writable(id);
        }
    }

    /// The server stops.
    pub(super) fn drain(&self, id: ConnId) {
        let is_open = |roster: &mut roster::Roster| roster.conn(id).is_some_and(|conn| conn.phase == Phase::Open);
        let user = roster::with(|roster| is_open(roster).then(|| roster.user(id))).flatten();
        if let Some(user) = user {
            self.server.handler.on_drain(id, user);
        }
    }

    /// An outgoing connection is down, and will be tried again.
    pub(super) fn down(&self, id: ConnId, reason: Status) {
        let on_down = |roster: &mut roster::Roster| {
            let user = roster.user(id);
            Some((roster.extra(id)?.connector.as_ref()?.on_down.clone()?, user))
        };
        if let Some((on_down, user)) = roster::with(on_down).flatten() {
            on_down(id, reason, user);
        }
    }

    pub(super) fn writable(&self, id: ConnId) {
        let user = roster::with(|roster| roster.user(id)).unwrap_or(std::ptr::null_mut());
        self.server.handler.on_writable(id, user);
    }

    fn accept_failed(&self, listener: usize, error: &io::Error) -> Follow {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                log::warn!("a listener rests {REST_MS} ms: {error}");
                Follow::Rest(listener)
            }
            // Somebody else in the process has closed the descriptor.
            Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EFAULT) => {
                log::error!("a listener is lost: {error}");
                Follow::Unlisten(listener)
            }
            // The connection was gone, or its network; or a signal handler ran. The next one may be well.
            _ => {
                self.me.counters.aborted.add(1);
                Follow::Nothing
            }
        }
    }

    /// Carries out a request, for a connection that may be gone by now. (What needs the driver is the worker's.)
    pub(super) fn carry_out(&self, command: Command) {
        match command {
            Command::Adopt { .. } | Command::Connect { .. } | Command::Resolved { .. } => {}
            Command::Send { conn, bytes, tally } => self.send_posted(conn, Body::Framed(bytes), tally),
            Command::SendLent { conn, bytes, tally } => {
                // If it is not taken, it is dropped here, with nothing borrowed.
                self.send_posted(conn, Body::Lent(&mut Some(bytes)), tally);
            }
            Command::SendShare { conn, share, tally } => self.send_posted(conn, Body::Share(share), tally),
            Command::Close { conn } => drop(roster::with(|roster| roster.close(conn, Status::Ok))),
            Command::Abort { conn, reason } => drop(roster::with(|roster| roster.abort(conn, reason))),
            Command::End { conn } => {
                roster::with(|roster| {
                    if roster.end(conn).is_err()
                        && let Some(slot) = roster.slots.get(conn.index())
                    {
                        slot.lower(conn, END_POSTED);
                    }
                });
            }
            Command::Pause { conn, on } => drop(roster::with(|roster| roster.pause(conn, on))),
            Command::SetUser { conn, user, finalizer } => {
                let set = roster::with(|roster| roster.set_user(conn, user.into_inner(), finalizer));
                if let Some(Err((error, _))) = &set
                    && error.status == Status::Memory
                {
                    // The program was told otherwise.
                    roster::with(|roster| roster.doom(conn, Status::Memory));
                }
                drop(set);
            }
            Command::Wait { conn } => {
                if roster::with(|roster| roster.wait_posted(conn)) == Some(true) {
                    self.writable(conn);
                }
            }
            Command::Join { conn, topic, arrival } => {
                self.join_posted(conn, &topic);
                drop(arrival);
            }
            Command::Leave { conn, topic } => drop(roster::with(|roster| roster.leave(conn, &topic))),
            Command::Publish(publish) => self.published(&publish),
            Command::Subscribe(subscription, arrival) => {
                self.take_subscription(subscription);
                drop(arrival);
            }
            Command::Unsubscribe { id } => drop(roster::with(|roster| roster.unsubscribe(id))),
            Command::StartTimer(timer) => self.take_timer(*timer),
            Command::Run(task) => task(),
            Command::RunAt { deadline_ms, task } => self.take_task(deadline_ms, task),
            Command::CancelTimer { id } => drop(roster::with(|roster| roster.cancel_timer(id))),
        }
    }

    fn send_posted(&self, id: ConnId, body: Body<'_>, tally: Tally) {
        let Tally { cost, bytes } = tally;
        roster::with(|roster| {
            if roster.conn(id).is_some_and(|conn| conn.phase <= Phase::Draining) {
                roster.send_counted(id, body, tally);
            } else {
                // It was accepted, but the connection was over first.
                self.server.budget.give(cost.total as u64);
                roster.count_cut(id, bytes);
            }
            // Only now: at no moment they are counted nowhere.
            roster.landed(id, cost.conn);
        });
    }

    /// The driver has closed the connection.
    fn over(&self, id: ConnId, outbox: Option<Box<Outbox>>) {
        let outbox = match roster::with(|roster| roster.revive(id, outbox)) {
            Some(Ok((reason, outboxes))) => {
                log::debug!("lost {:x}: {}", id.raw(), reason.name().to_string_lossy());
                drop(outboxes);
                self.down(id, reason);
                roster::with(|roster| roster.wait_to_retry(id));
                return;
            }
            Some(Err(outbox)) => outbox,
            None => None,
        };
        let Some(farewell) = roster::with(|roster| roster.bury(id, outbox)).flatten() else { return };
        // Each is dropped with nothing borrowed.
        while let Some(finalizer) = roster::with(|roster| roster.pop_conn_timer(id)).flatten() {
            drop(finalizer);
        }
        if farewell.is_owed {
            log::debug!("closed {:x}: {}", id.raw(), farewell.reason.name().to_string_lossy());
            probes::conn_closed(id.raw(), farewell.reason as i32);
            self.server.handler.on_close(id, farewell.reason, farewell.user);
        }
        // What the callback has started for a connection that is over.
        while let Some(finalizer) = roster::with(|roster| roster.pop_conn_timer(id)).flatten() {
            drop(finalizer);
        }
        // The handle is stale before the program gets back what it lent, and before the close is counted.
        let extra = roster::with(|roster| roster.release(id)).flatten();
        if farewell.is_owed {
            self.me.counters.closed_for(farewell.reason);
        }
        drop((extra, farewell));
    }

    /// A connection that the driver does not have, and never will. If the program has the handle already, the
    /// connection opens and closes for it like any other.
    pub(super) fn lose(&self, id: ConnId, reason: Status, announced: bool) {
        let is_here = roster::with(|roster| roster.knows(id) || roster.insert(id).is_ok()) == Some(true);
        if !is_here {
            // Not even memory for its place.
            if announced {
                self.server.handler.on_close(id, reason, self.server.user());
            }
            self.me.slots.release(id);
            return self.server.dismiss();
        }
        if announced {
            // Without memory for a deadline it goes without one: it will be over in a moment.
            drop(roster::with(|roster| roster.announce(id)));
            self.opened(id);
        }
        roster::with(|roster| roster.doom(id, reason));
        self.over(id, None);
    }

    /// As [`Context::lose`], for an outgoing connection: the program has its handle, and it was never open.
    pub(super) fn lose_unopened(&self, id: ConnId, reason: Status) {
        self.me.counters.opened.add(1);
        let is_here = roster::with(|roster| {
            roster.doom(id, reason);
            roster.conn(id).map(|conn| conn.flags.set(Flags::ANNOUNCED, true)).is_some()
        });
        if is_here == Some(true) {
            // It got as far as a place.
            return self.over(id, None);
        }
        let user = self.me.slots.find(id).and_then(|slot| slot.read(id)).map_or(std::ptr::null_mut(), |(user, _)| user);
        probes::conn_closed(id.raw(), reason as i32);
        self.server.handler.on_close(id, reason, user);
        self.me.slots.release(id);
        self.server.dismiss();
        self.me.counters.closed_for(reason);
    }

    /// A bug of ours costs the connection that it met.
    pub(super) fn caught_panic(&self, conn: Option<ConnId>) {
        self.me.counters.panics.add(1);
        let Some(id) = conn else { return };
        let is_closed = roster::with(|roster| {
            roster.doom(id, Status::Panic);
            roster.conn(id).is_some_and(|conn| conn.phase == Phase::Closed)
        });
        if is_closed == Some(true) {
            drop(roster::with(|roster| roster.release(id)).flatten());
        }
    }
}

/// Why a connection is over whose socket has an error. The network's errors are all one to the program: the peer
/// can no longer be reached. (`Status::Timeout` is for the program's own deadlines.)
fn broken(error: &io::Error) -> Status {
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETUNREACH | libc::ENETDOWN) => {
            Status::Reset
        }
        _ => Status::from(error),
    }
}
