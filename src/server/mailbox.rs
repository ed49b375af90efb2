//! What other threads ask of a worker: a bounded queue, and one wake-up for each batch.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::conn::handle::ConnId;
use crate::driver::Waker;
use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, LentBytes};

/// A word of the host's on its way to a worker.
pub(crate) type UserWord = AtomicPtr<std::ffi::c_void>;

/// One request. Those for a connection are carried out in the order in which they were posted.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take on a connection whose handle is given out already. `announced`: the program has it.
    Adopt {
        conn: ConnId,
        socket: OwnedFd,
        announced: bool,
    },
    Send {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    SendLent {
        conn: ConnId,
        bytes: LentBytes,
    },
    Close {
        conn: ConnId,
    },
    Pause {
        conn: ConnId,
        on: bool,
    },
    SetUser {
        conn: ConnId,
        user: UserWord,
        finalizer: Finalizer,
    },
    /// A send was refused; call `on_writable` when there is room.
    Wait {
        conn: ConnId,
    },
}

impl Command {
    /// The connection that it is for.
    pub(crate) fn conn(&self) -> ConnId {
        match self {
            Self::Adopt { conn, .. }
            | Self::Send { conn, .. }
            | Self::SendLent { conn, .. }
            | Self::Close { conn }
            | Self::Pause { conn, .. }
            | Self::SetUser { conn, .. }
            | Self::Wait { conn } => *conn,
        }
    }
}

/// Requests that a mailbox holds. Closes, waits and adoptions go in beyond it: there is at most one of each for a
/// connection, so that the limit on connections bounds them.
const COMMANDS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    /// There is something in the queue: the worker looks at this, not at the lock, once a turn.
    has_mail: AtomicBool,
    waker: Arc<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// The worker is gone.
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { queue: Mutex::new(Queue::default()), has_mail: AtomicBool::new(false), waker }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts a request. On an error the command comes back with it.
    pub(crate) fn post(&self, command: Command) -> Result<(), (Error, Command)> {
        self.post_after(command, || {})
    }

    /// Posts a request; once it is sure that it can be posted, and before the worker can see it, `first` is done.
    pub(crate) fn post_after(&self, command: Command, first: impl FnOnce()) -> Result<(), (Error, Command)> {
        let is_bounded = !matches!(command, Command::Close { .. } | Command::Wait { .. } | Command::Adopt { .. });
        let mut queue = self.lock();
        if queue.closed {
            return Err((Status::Stale.into(), command));
        }
        if is_bounded && queue.commands.len() >= COMMANDS_MAX {
            return Err((Error::new(Status::Again, "the worker's mailbox is full"), command));
        }
        if fault::check(Call::Memory).is_err() || queue.commands.try_reserve(1).is_err() {
            return Err((Status::Memory.into(), command));
        }
        first();
        let was_empty = queue.commands.is_empty();
        queue.commands.push_back(command);
        self.has_mail.store(true, Ordering::Release);
        drop(queue);
        if was_empty {
            self.waker.wake();
        }
        Ok(())
    }

    /// Wakes the worker for something that is not in the mailbox.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether there is something to take. What was posted before something else happened in the world is seen
    /// by a worker that has seen the other thing.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Swaps all requests for an empty queue.
    pub(crate) fn take(&self, commands: &mut VecDeque<Command>) {
        debug_assert!(commands.is_empty());
        let mut queue = self.lock();
        self.has_mail.store(false, Ordering::Relaxed);
        std::mem::swap(&mut queue.commands, commands);
    }

    /// Refuses requests from here on; says what was left.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut queue = self.lock();
        queue.closed = true;
        std::mem::take(&mut queue.commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(number: u64) -> Command {
        Command::Pause { conn: ConnId::from_raw(number), on: true }
    }

    #[test]
    fn it_is_bounded_but_a_close_always_goes_in() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        for number in 0..COMMANDS_MAX as u64 {
            mailbox.post(pause(number)).unwrap();
        }
        let (error, command) = mailbox.post(pause(7)).unwrap_err();
        assert_eq!(error.status, Status::Again);
        assert!(matches!(command, Command::Pause { .. }));
        mailbox.post(Command::Close { conn: ConnId::from_raw(1) }).unwrap();
        let mut commands = VecDeque::new();
        mailbox.take(&mut commands);
        assert_eq!(commands.len(), COMMANDS_MAX + 1);
        assert!(matches!(commands[3], Command::Pause { conn, .. } if conn.raw() == 3));
    }

    #[test]
    fn what_comes_too_late_comes_back() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        mailbox.post(pause(1)).unwrap();
        assert_eq!(mailbox.close().len(), 1);
        assert_eq!(mailbox.post(pause(2)).unwrap_err().0.status, Status::Stale);
    }
}
