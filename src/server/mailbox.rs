//! What other threads ask of a worker: a bounded queue, and a wake-up only for a worker that sleeps. Other workers wake it once
//! a turn, however much they have for it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering, fence};
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

/// What other threads write to is on cache lines of its own.
#[repr(align(128))]
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    /// There is something in the queue: the worker looks at this, not at the lock, once a turn.
    has_mail: AtomicBool,
    alarm: Arc<Alarm>,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    /// The worker is gone.
    closed: bool,
}

/// What ends a worker's sleep. One that is awake looks for mail before it sleeps again, and needs none.
struct Alarm {
    waker: Arc<Waker>,
    is_asleep: AtomicBool,
}

impl Alarm {
    /// To be called when the mail is there.
    fn ring(&self) {
        // Pairs with the fence in `Mailbox::doze`: either the mail is seen there, or the sleep here.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

thread_local! {
    /// While a worker makes a turn on this thread: the others that it has posted something to. They are woken when the turn
    /// ends, once for all that it had for them, as its own connections are sent to then.
    static OWED: RefCell<Option<Vec<Arc<Alarm>>>> = const { RefCell::new(None) };
}

/// A turn begins on this thread. What comes back is for [`end_turn`].
pub(super) fn begin_turn() -> Owed {
    Owed(OWED.with(|owed| owed.borrow_mut().replace(Vec::new())))
}

/// A turn has ended, and whoever it has posted to is woken.
pub(super) fn end_turn(before: Owed) {
    let owed = OWED.with(|owed| std::mem::replace(&mut *owed.borrow_mut(), before.0));
    if !sys::forked() {
        owed.into_iter().flatten().for_each(|alarm| alarm.ring());
    }
}

/// What a turn that goes on around another one owes.
pub(super) struct Owed(Option<Vec<Arc<Alarm>>>);

/// See [`Mailbox::room_for`].
pub(crate) struct Room<'a> {
    mailbox: &'a Mailbox,
    queue: MutexGuard<'a, Queue>,
}

impl<'a> Room<'a> {
    /// Posts the request. The worker has still to be told: see [`Mailbox::tell`].
    pub(crate) fn fill(mut self, command: Command) -> &'a Mailbox {
        self.queue.commands.push_back(command);
        self.mailbox.has_mail.store(true, Ordering::Release);
        self.mailbox
    }
}

impl Mailbox {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        let alarm = Arc::new(Alarm { waker, is_asleep: AtomicBool::new(true) });
        Self { queue: Mutex::new(Queue::default()), has_mail: AtomicBool::new(false), alarm }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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
                room.fill(command).tell();
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
        self.alarm.waker.wake();
    }

    /// Tells the worker that there is mail, at the latest when the turn ends that this is called in.
    pub(crate) fn tell(&self) {
        let is_owed = OWED.with(|owed| {
            let mut owed = owed.borrow_mut();
            let Some(owed) = owed.as_mut() else { return false };
            let is_known = owed.iter().any(|alarm| Arc::ptr_eq(alarm, &self.alarm));
            let has_room = is_known || owed.try_reserve(1).is_ok();
            if !is_known && has_room {
                owed.push(Arc::clone(&self.alarm));
            }
            has_room
        });
        if !is_owed {
            self.alarm.ring();
        }
    }

    /// The worker is about to sleep: from here on whoever posts wakes it. It has to look for mail once more.
    pub(super) fn doze(&self) {
        self.alarm.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker is awake.
    pub(super) fn rouse(&self) {
        self.alarm.is_asleep.store(false, Ordering::Relaxed);
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
        let Ok([true]) = sys::poll([(mailbox.alarm.waker.as_fd().as_raw_fd(), libc::POLLIN)], Some(0)) else {
            return 0;
        };
        let mut count = [0; 8];
        File::from(mailbox.alarm.waker.as_fd().try_clone_to_owned().unwrap()).read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn only_who_sleeps_is_woken_and_once() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        // Before its first turn a worker counts as asleep.
        (0..3).for_each(|number| mailbox.post(pause(number)).ok().unwrap());
        assert_eq!(wakes(&mailbox), 1);
        mailbox.rouse();
        mailbox.post(pause(3)).ok().unwrap();
        assert_eq!(wakes(&mailbox), 0);
        assert!(mailbox.has_mail());
        mailbox.doze();
        mailbox.post(pause(4)).ok().unwrap();
        assert_eq!(wakes(&mailbox), 1);
    }

    #[test]
    fn a_turn_wakes_others_when_it_ends() {
        let [one, other] = [(); 2].map(|()| Mailbox::new(Arc::new(Waker::new().unwrap())));
        let outer = begin_turn();
        (0..3).for_each(|number| one.post(pause(number)).ok().unwrap());
        // A turn of another server's, in a callback of this one.
        let inner = begin_turn();
        other.post(pause(0)).ok().unwrap();
        assert_eq!((wakes(&one), wakes(&other)), (0, 0));
        end_turn(inner);
        assert_eq!((wakes(&one), wakes(&other)), (0, 1));
        end_turn(outer);
        assert_eq!((wakes(&one), wakes(&other)), (1, 0));
        one.doze();
        one.post(pause(3)).ok().unwrap();
        assert_eq!(wakes(&one), 1);
    }

    #[test]
    fn what_comes_too_late_comes_back() {
        let mailbox = Mailbox::new(Arc::new(Waker::new().unwrap()));
        mailbox.post(pause(1)).ok().unwrap();
        assert_eq!(mailbox.close().len(), 1);
        assert!(mailbox.post(pause(2)).is_err_and(|(error, _)| error.status == Status::Stale));
    }
}
