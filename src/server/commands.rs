//! What a program asks of a connection. On the connection's own worker, inside a callback, it is done at once;
//! from any other thread it is posted to the worker's mailbox, in order.

use std::sync::Arc;

use super::mailbox::{Command, UserWord};
use super::roster::{self, Roster};
use super::sending::{QUEUE_FULL, TOTAL_FULL, too_long};
use super::shared::WorkerShared;
use super::{ServerId, registry};
use crate::conn::handle::ConnId;
use crate::conn::outbox::LENT_OVERHEAD_BYTES;
use crate::conn::slot::{CLOSE_POSTED, CLOSING, Raised, SlotRef, WAIT_POSTED};
use crate::net::Peer;
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer, HostUser, LentBytes};

/// Sends a copy of `bytes`.
pub fn send(id: ConnId, bytes: &[u8]) -> Result<()> {
    if let Some(result) = here_in_order(id, |roster| roster.send(id, bytes)) {
        return result;
    }
    let remote = Remote::find(id)?;
    remote.check_open()?;
    too_long(&remote.worker.server, bytes.len(), bytes.len())?;
    if bytes.is_empty() {
        return Ok(());
    }
    let mut copy = Vec::new();
    sys::reserve(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    remote.post_counted(bytes.len(), Command::Send { conn: id, bytes: copy }).map_err(|(error, _)| error)
}

/// Sends bytes without a copy. On an error they are given back without a call of their finalizer.
pub fn send_lent(id: ConnId, lent: LentBytes) -> Result<()> {
    let mut lent = Some(lent);
    let result = match here_in_order(id, |roster| roster.send_lent(id, &mut lent)) {
        Some(result) => result,
        None => post_lent(id, &mut lent),
    };
    if let (Err(_), Some(lent)) = (&result, lent) {
        lent.disarm();
    }
    result
}

fn post_lent(id: ConnId, lent: &mut Option<LentBytes>) -> Result<()> {
    let remote = Remote::find(id)?;
    remote.check_open()?;
    let length = lent.as_ref().map_or(0, |lent| lent.as_slice().len());
    let cost = length + LENT_OVERHEAD_BYTES;
    too_long(&remote.worker.server, length, cost)?;
    let Some(bytes) = lent.take() else { return Ok(()) };
    remote.post_counted(cost, Command::SendLent { conn: id, bytes }).map_err(|(error, command)| {
        if let Command::SendLent { bytes, .. } = command {
            *lent = Some(bytes);
        }
        error
    })
}

/// Sends the server's greeting.
pub fn greet(id: ConnId) -> Result<()> {
    let server = match here(id, |roster| Arc::clone(&roster.server)) {
        Some(server) => server,
        None => Arc::clone(&Remote::find(id)?.worker.server),
    };
    send(id, &server.greeting)
}

/// Closes when all is out.
pub fn close(id: ConnId) -> Result<()> {
    if here(id, |roster| roster.close(id, Status::Ok)).is_some() {
        return Ok(());
    }
    let remote = Remote::find(id)?;
    match remote.slot.raise(id, CLOSE_POSTED) {
        Raised::Stale => Err(Status::Stale.into()),
        Raised::Already => Ok(()),
        Raised::Now => remote.post(Command::Close { conn: id }).map_err(|(error, _)| {
            remote.slot.lower(id, CLOSE_POSTED);
            error
        }),
    }
}

/// Stops or goes on receiving.
pub fn pause(id: ConnId, on: bool) -> Result<()> {
    if here(id, |roster| roster.pause(id, on)).is_some() {
        return Ok(());
    }
    Remote::find(id)?.post(Command::Pause { conn: id, on }).map_err(|(error, _)| error)
}

/// Replaces the user data. On an error the finalizer is given back without a call.
pub fn set_user(id: ConnId, user: HostUser, finalizer: Finalizer) -> Result<()> {
    let mut finalizer = Some(finalizer);
    let before = here(id, |roster| roster.set_user(id, user, finalizer.take().unwrap_or(Finalizer::NONE)));
    if before.is_some() {
        // Dropped here, with nothing borrowed: the program's function runs.
        return Ok(());
    }
    let finalizer = finalizer.unwrap_or(Finalizer::NONE);
    let remote = match Remote::find(id) {
        Ok(remote) => remote,
        Err(error) => {
            finalizer.disarm();
            return Err(error);
        }
    };
    let command = Command::SetUser { conn: id, user: UserWord::new(user), finalizer };
    remote.post(command).map_err(|(error, command)| {
        if let Command::SetUser { finalizer, .. } = command {
            finalizer.disarm();
        }
        error
    })
}

/// The peer's address.
pub fn peer(id: ConnId) -> Result<Peer> {
    let (_, peer) = Remote::find(id)?.slot.read(id).ok_or(Status::Stale)?;
    Ok(peer)
}

/// The user data; None for a stale handle.
pub fn user(id: ConnId) -> Option<HostUser> {
    if let Some(user) = here(id, |roster| roster.user(id)) {
        return Some(user);
    }
    Some(Remote::find(id).ok()?.slot.read(id)?.0)
}

/// The server; None for a stale handle.
pub fn server(id: ConnId) -> Option<ServerId> {
    if let Some(server) = here(id, |roster| roster.server.id) {
        return Some(server);
    }
    Some(Remote::find(id).ok()?.worker.server.id)
}

/// Runs `body` if the connection's worker runs on this thread and has it.
#[inline]
fn here<R>(id: ConnId, body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    roster::with(|roster| roster.knows(id).then(|| body(roster))).flatten()
}

/// As [`here`], for bytes: while bytes of other threads are in the mailbox, ours go there, too, behind them.
#[inline]
fn here_in_order<R>(id: ConnId, body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    roster::with(|roster| (roster.knows(id) && !roster.has_inflight(id)).then(|| body(roster))).flatten()
}

/// A connection of another thread's worker.
struct Remote {
    id: ConnId,
    worker: Arc<WorkerShared>,
    slot: SlotRef,
}

impl Remote {
    fn find(id: ConnId) -> Result<Self> {
        let worker = registry::find_worker(id).ok_or(Status::Stale)?;
        let slot = worker.slots.find(id).ok_or(Status::Stale)?;
        Ok(Self { id, worker, slot })
    }

    fn check_open(&self) -> Result<()> {
        if self.slot.has_flag(self.id, CLOSING | CLOSE_POSTED) { Err(Status::Closed.into()) } else { Ok(()) }
    }

    fn post(&self, command: Command) -> Result<(), (Error, Command)> {
        self.worker.mailbox.post(command)
    }

    /// Posts bytes that count against the limits from here on.
    fn post_counted(&self, cost: usize, command: Command) -> Result<(), (Error, Command)> {
        let refuse = |why: &'static str, command| {
            self.wait();
            Err((Error::new(Status::Again, why), command))
        };
        let limits = &self.worker.server.limits;
        // Counted first, so that ten threads together cannot pass the limit.
        let inflight = self.slot.launch(cost);
        if inflight + self.slot.queued() > limits.queue_bytes_max as usize {
            self.slot.land(cost);
            return refuse(QUEUE_FULL, command);
        }
        if !self.worker.server.budget.take(cost as u64) {
            self.slot.land(cost);
            return refuse(TOTAL_FULL, command);
        }
        self.post(command).map_err(|(error, command)| {
            self.slot.land(cost);
            self.worker.server.budget.give(cost as u64);
            if error.status == Status::Again {
                self.wait();
            }
            (error, command)
        })
    }

    /// Asks for `on_writable`. One request for a connection is under way at a time.
    fn wait(&self) {
        if self.slot.raise(self.id, WAIT_POSTED) == Raised::Now && self.post(Command::Wait { conn: self.id }).is_err() {
            self.slot.lower(self.id, WAIT_POSTED);
        }
    }
}
