//! What other threads ask of a worker: a bounded queue, and one wake-up for all that is in it. Other workers wake it when their
//! turns end, however much they have for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::SockAddr;

use super::connect::Connector;
use super::shared::Arrival;
use super::timers::{Timer, TimerId};
use super::topics::{Publish, Subscription, SubscriptionId};
use crate::cluster::Task;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Cost;
use crate::conn::payload::Share;
use crate::driver::Waker;
use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer, LentBytes};

/// A word of the host's on its way to a worker.
pub(crate) type UserWord = AtomicPtr<std::ffi::c_void>;

/// One request. Those for a connection are carried out in the order in which they were posted.
pub(crate) enum Command {
    /// Take on a connection whose handle is given out already. `announced`: the program has it.
    Adopt {
        conn: ConnId,
        socket: OwnedFd,
        announced: bool,
    },
    /// Open a connection whose handle the program has.
    Connect {
        conn: ConnId,
        connector: Box<Connector>,
    },
    /// The addresses that an outgoing connection has asked for.
    Resolved {
        conn: ConnId,
        question: u32,
        addresses: Result<Vec<SockAddr>>,
    },
    /// A message in its frame.
    Send {
        conn: ConnId,
        bytes: Vec<u8>,
        tally: Tally,
    },
    SendLent {
        conn: ConnId,
        bytes: LentBytes,
        tally: Tally,
    },
    /// A publish that has to wait for what is in the mailbox.
    SendShare {
        conn: ConnId,
        share: Share,
        tally: Tally,
    },
    Close {
        conn: ConnId,
    },
    Abort {
        conn: ConnId,
        reason: Status,
    },
    /// End our side.
    End {
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
    Join {
        conn: ConnId,
        topic: Box<str>,
        arrival: Arrival,
    },
    Leave {
        conn: ConnId,
        topic: Box<str>,
    },
    Publish(Publish),
    Subscribe(Box<Subscription>, Arrival),
    Unsubscribe {
        id: SubscriptionId,
    },
    StartTimer(Box<Timer>),
    CancelTimer {
        id: TimerId,
    },
    /// Something of the cluster's.
    Run(Task),
    /// The same, in a while.
    RunAt {
        deadline_ms: u64,
        task: Task,
    },
}

/// What a message in the mailbox counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// In the limits.
    pub(crate) cost: Cost,
    /// Among the bytes cut off, if the connection is over first.
    pub(crate) bytes: usize,
}

impl Command {
    /// The connection that it is for.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Adopt { conn, .. }
            | Self::Connect { conn, .. }
            | Self::Resolved { conn, .. }
            | Self::Send { conn, .. }
            | Self::SendLent { conn, .. }
            | Self::SendShare { conn, .. }
            | Self::Close { conn }
            | Self::Abort { conn, .. }
            | Self::End { conn }
            | Self::Pause { conn, .. }
            | Self::SetUser { conn, .. }
            | Self::Wait { conn }
            | Self::Join { conn, .. }
            | Self::Leave { conn, .. } => Some(*conn),
            Self::Publish(_)
            | Self::Subscribe(..)
            | Self::Unsubscribe { .. }
            | Self::StartTimer(_)
            | Self::CancelTimer { .. }
            | Self::Run(_)
            | Self::RunAt { .. } => None,
        }
    }

    /// Whether it counts against [`COMMANDS_MAX`]. Of the others there is at most one of a kind for a connection, so that
    /// the limit on connections bounds them, or the limit on bytes does, or those of the cluster.
    fn is_bounded(&self) -> bool {
        !matches!(
            self,
            Self::Close { .. }
                | Self::Abort { reason: Status::Overflow, .. }
                | Self::End { .. }
                | Self::Wait { .. }
                | Self::Adopt { .. }
                | Self::Connect { .. }
                | Self::Resolved { .. }
                | Self::Publish(_)
                | Self::SendShare { .. }
                | Self::Run(_)
                | Self::RunAt { .. }
        )
    }
}

/// Requests that a mailbox holds, and those that [`Command::is_bounded`] says no to.
const COMMANDS_MAX: usize = 1 << 16;

pub(crate) struct Mailbox(Arc<Letters>);

/// What other threads write to is on cache lines of its own.
#[repr(align(128))]
struct Letters {
    queue: Mutex<Queue>,
    /// There is something in the queue: the worker looks at this, not at the lock, once a turn.
    has_mail: AtomicBool,
    waker: Arc<Waker>,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// The worker was woken for what is there.
    is_told: bool,
    /// The worker is gone.
    closed: bool,
}

/// The turns that are made on this thread.
struct Turns {
    /// More than one: a turn of another server's, inside of a callback.
    depth: Cell<u32>,
    /// The other workers that they have posted something to. They are woken when a turn ends, once for all that it had for them, as its
    /// own connections are sent to then. Never dropped, so that each access is one step shorter: between turns it has no memory.
    owed: RefCell<ManuallyDrop<Vec<Arc<Letters>>>>,
}

thread_local! {
    static TURNS: Turns = const { Turns { depth: Cell::new(0), owed: RefCell::new(ManuallyDrop::new(Vec::new())) } };
}

/// A worker begins a turn on this thread.
pub(super) fn begin_turn() {
    TURNS.with(|turns| turns.depth.set(turns.depth.get() + 1));
}

/// It has ended, and whoever it has posted to is woken.
pub(super) fn end_turn() {
    TURNS.with(|turns| {
        turns.depth.set(turns.depth.get() - 1);
        if !turns.owed.borrow().is_empty() {
            let owed = std::mem::take(&mut **turns.owed.borrow_mut());
            // In a child they are the parent's.
            let is_child = sys::forked();
            owed.iter().filter(|_| !is_child).for_each(|letters| letters.tell());
        }
    });
}

/// See [`Mailbox::room_for`].
pub(crate) struct Room<'a> {
    mailbox: &'a Mailbox,
    queue: MutexGuard<'a, Queue>,
}

impl<'a> Room<'a> {
    /// Posts the request. The worker is to be woken now, if this says by what.
    #[must_use]
    pub(crate) fn fill(mut self, command: Command) -> Option<&'a Waker> {
        let letters = &self.mailbox.0;
        self.queue.commands.push_back(command);
        letters.has_mail.store(true, Ordering::Release);
        let is_new = !owes(letters) && !std::mem::replace(&mut self.queue.is_told, true);
        is_new.then_some(&*letters.waker)
    }
}

/// Whether the worker is told when the turn ends that this is called in.
fn owes(letters: &Arc<Letters>) -> bool {
    TURNS.with(|turns| {
        if turns.depth.get() == 0 {
            return false;
        }
        let mut owed = turns.owed.borrow_mut();
        let is_known = owed.iter().any(|known| Arc::ptr_eq(known, letters));
        let has_room = is_known || owed.try_reserve(1).is_ok();
        if !is_known && has_room {
            owed.push(Arc::clone(letters));
        }
        has_room
    })
}

impl Letters {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker, unless it was woken for what is there, or has taken it.
    fn tell(&self) {
        let mut queue = self.lock();
        let is_new = !queue.commands.is_empty() && !std::mem::replace(&mut queue.is_told, true);
        drop(queue);
        if is_new {
            self.waker.wake();
        }
    }
}

impl Mailbox {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self(Arc::new(Letters { queue: Mutex::default(), has_mail: AtomicBool::new(false), waker }))
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }

    /// Posts a request. On an error the command comes back with it.
    #[inline]
    pub(crate) fn post(&self, command: Command) -> Result<(), (Error, Command)> {
        self.post_after(command, || {})
    }

    /// Posts a request; once it is sure that it can be posted, and before the worker can see it, `first` is done.
    #[inline]
    pub(crate) fn post_after(&self, command: Command, first: impl FnOnce()) -> Result<(), (Error, Command)> {
        match self.room_for(&command) {
            Ok(room) => {
                first();
                if let Some(waker) = room.fill(command) {
                    waker.wake();
                }
                Ok(())
            }
            Err(error) => Err((error, command)),
        }
    }

    /// Room for a request, which can be posted from here on whatever happens. The mailbox is locked meanwhile.
    pub(crate) fn room_for(&self, command: &Command) -> Result<Room<'_>> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Status::Stale.into());
        }
        if command.is_bounded() && queue.commands.len() >= COMMANDS_MAX {
            return Err(Error::new(Status::Again, "the worker's mailbox is full"));
        }
        if fault::check(Call::Memory).is_err() || queue.commands.try_reserve(1).is_err() {
            return Err(Status::Memory.into());
        }
        Ok(Room { mailbox: self, queue })
    }

    /// Whether the worker has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().commands.len()
    }

    /// Wakes the worker for something that is not in the mailbox.
    pub(crate) fn wake(&self) {
        self.0.waker.wake();
    }

    /// Whether there is something to take. What was posted before something else happened in the world is seen
    /// by a worker that has seen the other thing.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.0.has_mail.load(Ordering::Acquire)
    }

    /// Swaps all requests for an empty queue.
    pub(crate) fn take(&self, commands: &mut VecDeque<Command>) {
        debug_assert!(commands.is_empty());
        let mut queue = self.lock();
        self.0.has_mail.store(false, Ordering::Relaxed);
        queue.is_told = false;
        std::mem::swap(&mut queue.commands, commands);
    }

    /// Refuses requests from here on, unless a connection is on its way, which is still to be served.
    pub(crate) fn close_if_done(&self) -> bool {
        let mut queue = self.lock();
        queue.closed |= !queue.commands.iter().any(|command| matches!(command, Command::Adopt { .. }));
        queue.closed
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
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;

    fn pause(number: u64) -> Command {
        Command::Pause { conn: ConnId::from_raw(number), on: true }
    }

    #[test]
    fn it_is_bounded_but_a_close_always_goes_in() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        for number in 0..COMMANDS_MAX as u64 {
            mailbox.post(pause(number)).ok().unwrap();
        }
        let Err((error, command)) = mailbox.post(pause(7)) else { panic!("it is full") };
        assert_eq!(error.status, Status::Again);
        assert!(matches!(command, Command::Pause { .. }));
        mailbox.post(Command::Close { conn: ConnId::from_raw(1) }).ok().unwrap();
        let mut commands = VecDeque::new();
        mailbox.take(&mut commands);
        assert_eq!(commands.len(), COMMANDS_MAX + 1);
        assert!(matches!(commands[3], Command::Pause { conn, .. } if conn.raw() == 3));
    }

    /// How often it was woken since the last look.
    fn wakes(mailbox: &Mailbox) -> u64 {
        let waker = mailbox.0.waker.as_fd();
        let Ok([true]) = sys::poll([(waker.as_raw_fd(), libc::POLLIN)], Some(0)) else { return 0 };
        let mut count = [0; 8];
        File::from(waker.try_clone_to_owned().unwrap()).read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn a_worker_is_woken_once_for_all_that_waits() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        (0..3).for_each(|number| mailbox.post(pause(number)).ok().unwrap());
        assert_eq!(wakes(&mailbox), 1);
        mailbox.post(pause(3)).ok().unwrap();
        assert_eq!(wakes(&mailbox), 0);
        mailbox.take(&mut VecDeque::new());
        mailbox.post(pause(4)).ok().unwrap();
        assert_eq!(wakes(&mailbox), 1);
    }

    #[test]
    fn a_turn_wakes_others_when_it_ends() {
        let [one, other, taken] = [(); 3].map(|()| Mailbox::new(Arc::new(Waker::new().unwrap())));
        begin_turn();
        (0..3).for_each(|number| one.post(pause(number)).ok().unwrap());
        taken.post(pause(0)).ok().unwrap();
        taken.take(&mut VecDeque::new());
        assert_eq!((wakes(&one), wakes(&taken)), (0, 0));
        // Somebody else does not wait for the end of our turn.
        std::thread::scope(|scope| drop(scope.spawn(|| other.post(pause(0)).ok().unwrap()).join()));
        other.post(pause(1)).ok().unwrap();
        assert_eq!(wakes(&other), 1);
        end_turn();
        assert_eq!((wakes(&one), wakes(&other), wakes(&taken)), (1, 0, 0));
    }

    #[test]
    fn what_comes_too_late_comes_back() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        mailbox.post(pause(1)).ok().unwrap();
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.post(pause(2)).is_err_and(|(error, _)| error.status == Status::Stale));
    }
}
