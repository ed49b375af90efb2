//! What a worker does about each event and each request: the callbacks of the program are called from here, and
//! never while the roster is borrowed.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::mailbox::Command;
use super::roster;
use super::shared::{ServerShared, Team, WorkerShared};
use crate::conn::Phase;
use crate::conn::handle::ConnId;
use crate::conn::outbox::{LENT_OVERHEAD_BYTES, Outbox};
use crate::driver::Event;
use crate::fault;
use crate::net::Peer;
use crate::options::Greet;
use crate::status::Status;
use crate::sys::LentBytes;

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
    Take(OwnedFd, Peer),
    Rest(usize),
    Unlisten(usize),
}

impl Context {
    /// Handles one event. Callbacks run in here.
    pub(super) fn handle(&self, event: Event<'_>) -> Follow {
        match event {
            Event::Received { conn, data } => self.received(conn, data),
            Event::Sent { conn, outbox, result } => self.sent(conn, outbox, result),
            Event::Accepted { socket, peer } => return Follow::Take(socket, peer),
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
        self.server.handler.on_open(id, user);
        if self.server.conduct.greet == Greet::OnOpen {
            self.greet(id);
        }
    }

    #[inline]
    fn received(&self, id: ConnId, data: &[u8]) {
        let Some(user) = roster::with(|roster| roster.received(id, data.len())).flatten() else { return };
        fault::check_panic();
        if self.server.conduct.converses {
            self.server.handler.on_message(id, data, user);
        } else {
            self.greet(id);
        }
    }

    /// Greets, and closes unless the program goes on with the conversation.
    fn greet(&self, id: ConnId) {
        let closes = !self.server.conduct.converses;
        let sent = roster::with(|roster| {
            let sent = roster.send(id, &self.server.greeting);
            if closes {
                roster.close(id, Status::Ok);
            }
            sent
        });
        if let Some(Err(error)) = sent {
            log::warn!("a greeting was not sent: {error}");
        }
    }

    fn sent(&self, id: ConnId, mut outbox: Box<Outbox>, result: io::Result<usize>) {
        let sent = *result.as_ref().unwrap_or(&0);
        // Functions of the host's may run in here.
        let freed = outbox.advance(sent);
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

    /// Carries out a request for a connection that may be gone by now.
    pub(super) fn carry_out(&self, command: Command) {
        match command {
            Command::Adopt { .. } => {}
            Command::Send { conn, bytes } => self.send_posted(conn, &bytes, &mut None, bytes.len()),
            Command::SendLent { conn, bytes } => {
                let cost = bytes.as_slice().len() + LENT_OVERHEAD_BYTES;
                // If it is not taken, it is dropped here, with nothing borrowed.
                self.send_posted(conn, &[], &mut Some(bytes), cost);
            }
            Command::Close { conn } => drop(roster::with(|roster| roster.close(conn, Status::Ok))),
            Command::Pause { conn, on } => drop(roster::with(|roster| roster.pause(conn, on))),
            Command::SetUser { conn, user, finalizer } => {
                drop(roster::with(|roster| roster.set_user(conn, user.into_inner(), finalizer)));
            }
            Command::Wait { conn } => {
                if roster::with(|roster| roster.wait_posted(conn)) == Some(true) {
                    self.writable(conn);
                }
            }
        }
    }

    fn send_posted(&self, id: ConnId, bytes: &[u8], lent: &mut Option<LentBytes>, cost: usize) {
        roster::with(|roster| {
            if roster.conn(id).is_some_and(|conn| conn.phase <= Phase::Draining) {
                roster.send_counted(id, bytes, lent, cost);
            } else {
                // It was accepted, but the connection was over first.
                let length = lent.as_ref().map_or(bytes.len(), |lent| lent.as_slice().len());
                self.server.budget.give(cost as u64);
                roster.count_cut(id, length);
            }
            // Only now: at no moment they are counted nowhere.
            roster.landed(id, cost);
        });
    }

    /// The driver has closed the connection.
    fn over(&self, id: ConnId, outbox: Option<Box<Outbox>>) {
        let Some(farewell) = roster::with(|roster| roster.bury(id, outbox)).flatten() else { return };
        if farewell.is_owed {
            log::debug!("closed {:x}: {}", id.raw(), farewell.reason.name().to_string_lossy());
            self.server.handler.on_close(id, farewell.reason, farewell.user);
        }
        // The handle is stale before the program gets back what it lent, and before the close is counted.
        let finalizer = roster::with(|roster| roster.release(id));
        self.me.counters.closed.add(u64::from(farewell.is_owed));
        drop((finalizer, farewell.outboxes));
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

    /// A bug of ours costs the connection that it met.
    pub(super) fn caught_panic(&self, conn: Option<ConnId>) {
        self.me.counters.panics.add(1);
        let Some(id) = conn else { return };
        let is_closed = roster::with(|roster| {
            roster.doom(id, Status::Panic);
            roster.conn(id).is_some_and(|conn| conn.phase == Phase::Closed)
        });
        if is_closed == Some(true) {
            drop(roster::with(|roster| roster.release(id)));
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
