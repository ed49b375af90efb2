//! What a program asks of a connection. On the connection's own worker, inside a callback, it is done at once;
//! from any other thread it is posted to the worker's mailbox, in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mailbox::{Command, Tally, UserWord};
use super::roster::{self, Roster};
use super::sending::{Body, QUEUE_FULL, TOTAL_FULL, too_long};
use super::shared::WorkerShared;
use super::{ServerId, registry};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Cost;
use crate::conn::payload::Share;
use crate::conn::slot::{CLOSE_POSTED, CLOSING, END_POSTED, Raised, SlotRef, WAIT_POSTED};
use crate::framing::Framing;
use crate::net::Peer;
use crate::options::Overflow;
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer, HostUser, LentBytes};

/// Sends a copy of a message, if the connection is this thread's worker's and nothing comes before it.
#[inline]
pub fn send_here(id: ConnId, message: &[u8]) -> Option<Result<()>> {
    roster::with(|roster| roster.send(id, Body::Parts(&[message]))).flatten()
}

/// Sends a copy of one more message to the connection that this thread has just sent to. False: there is more to it
/// than that, and nothing was done.
#[inline]
pub fn send_again(id: ConnId, message: &[u8]) -> bool {
    roster::in_streak(|roster| roster.send_again(id, message)) == Some(true)
}

/// Sends a copy of a message.
#[inline]
pub fn send(id: ConnId, message: &[u8]) -> Result<()> {
    send_here(id, message).unwrap_or_else(|| post_parts(id, &[message]))
}

/// Sends a copy of a message that lies in several parts.
pub fn send_parts(id: ConnId, parts: &[&[u8]]) -> Result<()> {
    let here = roster::with(|roster| roster.send(id, Body::Parts(parts))).flatten();
    here.unwrap_or_else(|| post_parts(id, parts))
}

pub(super) fn post_parts(id: ConnId, parts: &[&[u8]]) -> Result<()> {
    let remote = Remote::find(id)?;
    remote.check_open()?;
    let framing = remote.framing();
    let length = Body::Parts(parts).length();
    let cost = Body::Parts(parts).cost(framing.frame(length)?.overhead());
    remote.check_length(length, cost)?;
    if cost.conn == 0 {
        return Ok(());
    }
    let bytes = framed(framing, parts)?;
    let tally = remote.tally(cost, length, cost.conn)?;
    remote.post_counted(cost, Command::Send { conn: id, bytes, tally }).map_err(|(error, _)| error)
}

/// A copy of a message in its frame.
fn framed(framing: &Framing, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let length = Body::Parts(parts).length();
    let frame = framing.frame(length)?;
    let mut copy = Vec::new();
    sys::reserve(&mut copy, length + frame.overhead())?;
    copy.extend_from_slice(frame.prefix());
    parts.iter().for_each(|part| copy.extend_from_slice(part));
    copy.extend_from_slice(frame.suffix());
    Ok(copy)
}

/// Sends a message without a copy. On an error it is given back without a call of its finalizer.
pub fn send_lent(id: ConnId, lent: LentBytes) -> Result<()> {
    let mut lent = Some(lent);
    let result = match roster::with(|roster| roster.send(id, Body::Lent(&mut lent))).flatten() {
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
    let length = Body::Lent(lent).length();
    let overhead = remote.framing().frame(length)?.overhead();
    let cost = Body::Lent(lent).cost(overhead);
    remote.check_length(length, cost)?;
    let tally = remote.tally(cost, length, length + overhead)?;
    let Some(bytes) = lent.take() else { return Ok(()) };
    remote.post_counted(cost, Command::SendLent { conn: id, bytes, tally }).map_err(|(error, command)| {
        if let Command::SendLent { bytes, .. } = command {
            *lent = Some(bytes);
        }
        error
    })
}

/// Posts a share in a published message.
pub(super) fn post_share(id: ConnId, share: Share) -> Result<()> {
    let body = Body::Share(share.clone());
    let tally = Tally { cost: body.cost(0), bytes: body.length() };
    let command = Command::SendShare { conn: id, share, tally };
    Remote::find(id)?.post_counted(tally.cost, command).map_err(|(error, _)| error)
}

/// Posts a request for a connection that is not closing.
pub(super) fn post_open(id: ConnId, command: Command) -> Result<()> {
    let remote = Remote::find(id)?;
    remote.check_open()?;
    remote.post(command).map_err(|(error, _)| error)
}

/// Bytes queued; None for a stale handle. A program that sees as many as `queue_high_bytes` may wait for
/// `on_writable`: from here on it is owed, also if the count was of a moment that has passed.
pub fn queued(id: ConnId) -> Option<usize> {
    if let Some(queued) = here(id, |roster| roster.queued(id)) {
        return Some(queued);
    }
    let remote = Remote::find(id).ok()?;
    let queued = remote.slot.queued() + remote.slot.inflight();
    if queued >= remote.worker.server.limits.queue_high_bytes as usize {
        remote.wait();
    }
    Some(queued)
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
    post_once(id, CLOSE_POSTED, Command::Close { conn: id })
}

/// Closes at once.
pub fn abort(id: ConnId) -> Result<()> {
    if here(id, |roster| roster.abort(id, Status::Ok)).is_some() {
        return Ok(());
    }
    let remote = Remote::find(id)?;
    let raised = remote.slot.raise(id, CLOSE_POSTED);
    remote.post(Command::Abort { conn: id, reason: Status::Ok }).map_err(|(error, _)| {
        if raised == Raised::Now {
            remote.slot.lower(id, CLOSE_POSTED);
        }
        error
    })
}

/// Ends our side when all is out.
pub fn end(id: ConnId) -> Result<()> {
    if let Some(result) = here(id, |roster| roster.end(id)) {
        return result;
    }
    let remote = Remote::find(id)?;
    if remote.slot.has_flag(id, CLOSING | CLOSE_POSTED) {
        return Err(Status::Closed.into());
    }
    if remote.peer()?.is_datagram() {
        return Err(Status::Unsupported.into());
    }
    post_once(id, END_POSTED, Command::End { conn: id })
}

/// Posts a request that is made once, and leaves a flag that says so.
fn post_once(id: ConnId, flag: u32, command: Command) -> Result<()> {
    let remote = Remote::find(id)?;
    match remote.slot.raise(id, flag) {
        Raised::Stale => Err(Status::Stale.into()),
        Raised::Already => Ok(()),
        Raised::Now => remote.post(command).map_err(|(error, _)| {
            remote.slot.lower(id, flag);
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
    let set = here(id, |roster| roster.set_user(id, user, finalizer.take().unwrap_or(Finalizer::NONE)));
    match set {
        // Dropped here, with nothing borrowed: the program's function runs.
        Some(Ok(before)) => {
            drop(before);
            return Ok(());
        }
        Some(Err((error, finalizer))) => {
            finalizer.disarm();
            return Err(error);
        }
        None => {}
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
    Remote::find(id)?.peer()
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
pub(super) fn here<R>(id: ConnId, body: impl FnOnce(&mut Roster) -> R) -> Option<R> {
    roster::with(|roster| roster.knows(id).then(|| body(roster))).flatten()
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
        let is_open = !self.slot.has_flag(self.id, CLOSING | CLOSE_POSTED | END_POSTED);
        if is_open { Ok(()) } else { Err(Status::Closed.into()) }
    }

    #[inline]
    fn check_length(&self, length: usize, cost: Cost) -> Result<()> {
        too_long(&self.worker.server.limits, length, cost.conn, self.peer()?.is_datagram())
    }

    /// `framed`: bytes with the frame. The one that keeps datagrams apart never reaches the network.
    fn tally(&self, cost: Cost, length: usize, framed: usize) -> Result<Tally> {
        Ok(Tally { cost, bytes: if self.peer()?.is_datagram() { length } else { framed } })
    }

    fn peer(&self) -> Result<Peer> {
        Ok(self.slot.read(self.id).ok_or(Status::Stale)?.1)
    }

    #[inline]
    fn framing(&self) -> &Framing {
        self.worker.server.framings.get(self.slot.framing())
    }

    #[inline]
    fn post(&self, command: Command) -> Result<(), (Error, Command)> {
        self.worker.mailbox.post(command)
    }

    /// Posts what counts against the limits from here on.
    fn post_counted(&self, cost: Cost, command: Command) -> Result<(), (Error, Command)> {
        let server = &self.worker.server;
        // Counted first, so that ten threads together cannot pass the limit.
        let inflight = self.slot.launch(cost.conn);
        if inflight + self.slot.queued() > server.limits.queue_bytes_max as usize {
            self.slot.land(cost.conn);
            return Err((self.refuse(QUEUE_FULL), command));
        }
        if !server.budget.take(cost.total as u64) {
            self.slot.land(cost.conn);
            return Err((self.refuse(TOTAL_FULL), command));
        }
        let is_high = server.limits.is_high(inflight + self.slot.queued());
        let posted = self.post(command).map_err(|(error, command)| {
            self.slot.land(cost.conn);
            server.budget.give(cost.total as u64);
            if error.status == Status::Again {
                self.wait();
            }
            (error, command)
        });
        if is_high && posted.is_ok() {
            // The program may have seen that, and stopped: by the time that the worker counts it may be less.
            self.wait();
        }
        posted
    }

    /// There is no room.
    fn refuse(&self, why: &'static str) -> Error {
        self.worker.server.refused.fetch_add(1, Ordering::Relaxed);
        if why == QUEUE_FULL && self.worker.server.limits.overflow == Overflow::Close {
            let command = Command::Abort { conn: self.id, reason: Status::Overflow };
            if self.slot.raise(self.id, CLOSE_POSTED) == Raised::Now && self.post(command).is_err() {
                self.slot.lower(self.id, CLOSE_POSTED);
            }
            return Error::new(Status::Overflow, why);
        }
        self.wait();
        Error::new(Status::Again, why)
    }

    /// Asks for `on_writable`. One request for a connection is under way at a time.
    fn wait(&self) {
        if self.slot.raise(self.id, WAIT_POSTED) == Raised::Now && self.post(Command::Wait { conn: self.id }).is_err() {
            self.slot.lower(self.id, WAIT_POSTED);
        }
    }
}
