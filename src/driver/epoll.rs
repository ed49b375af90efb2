//! The driver on epoll: the system call is made when the socket is ready, and the event says what came of it.
//!
//! Level-triggered. One receive per ready connection and turn keeps the turn fair; what is left makes the
//! socket ready again. A send is tried at once, and only if the system takes less than all is the
//! connection watched for room. A new connection is read from before it is watched at all: a client that speaks
//! first has often spoken by then, and one that is greeted and closed in the same turn never gets into epoll.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::{Config, Driver, Event, Waker, socket};
use crate::conn::chunks::Chunks;
use crate::conn::handle::{ConnId, WORKER_COUNT};
use crate::conn::outbox::Outbox;
use crate::fault::{self, Call};
use crate::sys;

/// Events that one wait takes; more are taken by the next.
const EVENTS_MAX: u16 = 512;
/// Connections that one turn accepts from a listener, so that those that are open get their turn, too.
const ACCEPT_MAX: u32 = 64;

/// After a new connection that had not spoken yet, so many are watched at once.
const UNTRIED_AFTER_MISS: u32 = 16;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
/// Reported whether asked for or not.
const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    waker: Arc<Waker>,
    /// Makes the descriptor readable in time, for a program that waits on it in a loop of its own.
    timer: Option<OwnedFd>,
    is_armed: bool,
    exclusive: bool,
    listeners: Vec<RawFd>,
    entries: Chunks<Entry>,
    buffer: Box<[MaybeUninit<u8>]>,
    ready: Box<[libc::epoll_event]>,
    ready_count: usize,
    /// The ready event that is being worked on, and how many connections were accepted for it.
    cursor: usize,
    accepted: u32,
    /// What is done and not yet told.
    done: VecDeque<Event<'static>>,
    /// New connections, not yet read from.
    fresh: VecDeque<ConnId>,
    /// New connections that were read from, to be watched from the next wait on.
    unwatched: Vec<ConnId>,
    /// So many new connections are watched without a try: the last one that was tried had not spoken.
    untried: u32,
}

/// What the driver keeps of a connection.
#[derive(Default)]
struct Entry {
    socket: Option<OwnedFd>,
    generation: u32,
    watched: Watched,
    reading: bool,
    /// The system took less than all: there is no point in trying before it says that there is room.
    blocked: bool,
    outbox: Option<Box<Outbox>>,
}

/// Whether epoll has a socket, and for what it watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watched {
    /// Not yet.
    #[default]
    Not,
    /// For these events; for none, it still reports a connection that breaks.
    For(u8),
    /// Not any more: the connection is broken in both directions and nobody reads from it at present, so that it
    /// would be reported for ever.
    Broken,
}

/// What an event of epoll is about. Connections keep their own number; others use the worker number that no
/// worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Conn(ConnId),
    Listener(usize),
    Waker,
    Timer,
}

const TOKEN_WAKER: u32 = 0;
const TOKEN_TIMER: u32 = 1;
const TOKEN_LISTENER: u32 = 2;

impl Token {
    fn to_raw(self) -> u64 {
        let own = |kind, index| ConnId::new(WORKER_COUNT, index, kind).raw();
        match self {
            Self::Conn(conn) => conn.raw(),
            Self::Listener(index) => own(TOKEN_LISTENER, u32::try_from(index).unwrap_or(u32::MAX)),
            Self::Waker => own(TOKEN_WAKER, 0),
            Self::Timer => own(TOKEN_TIMER, 0),
        }
    }

    fn from_raw(raw: u64) -> Self {
        let conn = ConnId::from_raw(raw);
        match (conn.worker(), conn.generation()) {
            (WORKER_COUNT, TOKEN_WAKER) => Self::Waker,
            (WORKER_COUNT, TOKEN_TIMER) => Self::Timer,
            (WORKER_COUNT, _) => Self::Listener(conn.index() as usize),
            _ => Self::Conn(conn),
        }
    }
}

impl Driver for Epoll {
    fn open(config: Config) -> io::Result<Self> {
        fault::check(Call::EpollCreate1)?;
        // SAFETY: the call takes a number and gives a descriptor that is ours alone.
        let epoll = unsafe { sys::owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        let waker = Arc::new(Waker::new()?);
        let timer = if config.own_loop { Some(open_timer()?) } else { None };
        let driver = Self {
            epoll,
            waker,
            timer,
            is_armed: false,
            exclusive: config.shares_listeners,
            listeners: Vec::new(),
            entries: Chunks::new(),
            buffer: Box::new_uninit_slice(config.receive_bytes_max),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; usize::from(EVENTS_MAX)].into_boxed_slice(),
            ready_count: 0,
            cursor: 0,
            accepted: 0,
            done: VecDeque::new(),
            fresh: VecDeque::new(),
            unwatched: Vec::new(),
            untried: 0,
        };
        driver.control(libc::EPOLL_CTL_ADD, driver.waker.as_fd(), IN, Token::Waker)?;
        if let Some(timer) = &driver.timer {
            driver.control(libc::EPOLL_CTL_ADD, timer.as_fd(), IN, Token::Timer)?;
        }
        Ok(driver)
    }

    fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    fn poll_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn listen(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        let exclusive = if self.exclusive { libc::EPOLLEXCLUSIVE as u32 } else { 0 };
        self.control(libc::EPOLL_CTL_ADD, socket, IN | exclusive, Token::Listener(listener))?;
        if self.listeners.len() <= listener {
            self.listeners.resize(listener + 1, -1);
        }
        self.listeners[listener] = socket.as_raw_fd();
        Ok(())
    }

    fn unlisten(&mut self, listener: usize, socket: BorrowedFd<'_>) {
        if self.listeners.get(listener) == Some(&socket.as_raw_fd()) {
            self.listeners[listener] = -1;
            // It can only fail if the socket is not watched.
            let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, Token::Listener(listener));
        }
    }

    fn attach(&mut self, conn: ConnId, socket: OwnedFd) -> io::Result<()> {
        // Room for what a turn can say about this connection, so that nothing has to be reserved later.
        let out_of_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.done.try_reserve(2).map_err(out_of_memory)?;
        self.fresh.try_reserve(1).map_err(out_of_memory)?;
        self.unwatched.try_reserve(1).map_err(out_of_memory)?;
        let (socket, generation) = (Some(socket), conn.generation());
        let entry = Entry { socket, generation, reading: true, ..Entry::default() };
        *self.entries.grow_to(conn.index()).map_err(out_of_memory)? = entry;
        if self.untried == 0 {
            self.fresh.push_back(conn);
        } else {
            self.untried -= 1;
            self.watch(conn);
        }
        Ok(())
    }

    fn receive(&mut self, conn: ConnId, on: bool) {
        if let Some(entry) = find(&mut self.entries, conn) {
            entry.reading = on;
            self.watch(conn);
        }
    }

    fn unread(&self, conn: ConnId) -> bool {
        let socket = self.entries.get(conn.index()).and_then(|entry| entry.socket.as_ref());
        socket.is_some_and(|socket| sys::unread(socket.as_fd()))
    }

    fn send(&mut self, conn: ConnId, outbox: Box<Outbox>) {
        let Some(entry) = find(&mut self.entries, conn) else {
            return self.done.push_back(Event::Closed { conn, outbox: Some(outbox) });
        };
        debug_assert!(entry.outbox.is_none() && !outbox.is_empty());
        entry.outbox = Some(outbox);
        if !entry.blocked
            && let Some(sent) = write(entry, conn)
        {
            self.done.push_back(sent);
        } else {
            self.watch(conn);
        }
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(Entry { socket: Some(socket), .. }) = find(&mut self.entries, conn) {
            sys::finish(socket.as_fd());
        }
    }

    fn close(&mut self, conn: ConnId) {
        let Some(entry) = find(&mut self.entries, conn) else { return };
        let Entry { socket, outbox, watched, .. } = std::mem::take(entry);
        if let (Some(socket), Watched::For(_)) = (socket, watched) {
            // Closing alone would leave it watched if a fork has made a copy of the descriptor, and epoll would
            // report it for ever.
            let _ = self.control(libc::EPOLL_CTL_DEL, socket.as_fd(), 0, Token::Conn(conn));
        }
        self.done.push_back(Event::Closed { conn, outbox });
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        self.watch_all();
        let timeout = if self.done.is_empty() && self.fresh.is_empty() { timeout } else { 0 };
        self.cursor = 0;
        self.accepted = 0;
        self.ready_count = 0;
        fault::check(Call::EpollWait)?;
        // SAFETY: the list has room for `EVENTS_MAX` events.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.ready.as_mut_ptr(), libc::c_int::from(EVENTS_MAX), timeout)
        };
        self.ready_count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn next(&mut self) -> Option<Event<'_>> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            if let Some(conn) = self.fresh.pop_front() {
                match self.work(conn, IN) {
                    Step::Received(conn, count) => {
                        self.unwatched.push(conn);
                        return Some(self.told(conn, count));
                    }
                    Step::Tell(event) | Step::TellLast(event) => return Some(event),
                    Step::Stay | Step::Next => {
                        self.untried = UNTRIED_AFTER_MISS;
                        self.watch(conn);
                        continue;
                    }
                }
            }
            if self.cursor == self.ready_count {
                return None;
            }
            let event = self.ready[self.cursor];
            let step = match Token::from_raw(event.u64) {
                Token::Waker => {
                    self.waker.drain();
                    Step::Next
                }
                Token::Timer => {
                    self.set_timer(None);
                    Step::Next
                }
                Token::Listener(listener) => self.accept(listener),
                Token::Conn(conn) => self.work(conn, event.events),
            };
            match step {
                Step::Stay => {}
                Step::Next => self.next_ready(),
                Step::Tell(event) => return Some(event),
                Step::TellLast(event) => {
                    self.next_ready();
                    return Some(event);
                }
                Step::Received(conn, count) => {
                    self.next_ready();
                    return Some(self.told(conn, count));
                }
            }
        }
    }

    fn arm(&mut self, timeout_ms: Option<u64>) {
        self.watch_all();
        let has_more = !self.done.is_empty() || !self.fresh.is_empty();
        self.set_timer(if has_more { Some(0) } else { timeout_ms });
    }
}

/// What comes of one step with a ready descriptor.
enum Step {
    Stay,
    Next,
    Tell(Event<'static>),
    TellLast(Event<'static>),
    Received(ConnId, usize),
}

impl Epoll {
    /// Makes the timer go off after a time; None: switches it off.
    fn set_timer(&mut self, timeout_ms: Option<u64>) {
        let Some(timer) = self.timer.as_ref().filter(|_| self.is_armed || timeout_ms.is_some()) else { return };
        self.is_armed = timeout_ms.is_some();
        // A time of zero would switch it off.
        let value = match timeout_ms {
            None => libc::timespec { tv_sec: 0, tv_nsec: 0 },
            Some(0) => libc::timespec { tv_sec: 0, tv_nsec: 1 },
            Some(ms) => libc::timespec {
                tv_sec: libc::time_t::try_from(ms / 1000).unwrap_or(libc::time_t::MAX),
                tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long,
            },
        };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the struct is readable and the descriptor a timer.
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
    }

    /// Watches the new connections that were read from without that.
    fn watch_all(&mut self) {
        while let Some(conn) = self.unwatched.pop() {
            self.watch(conn);
        }
    }

    fn told(&self, conn: ConnId, count: usize) -> Event<'_> {
        // SAFETY: the system has just written `count` bytes there, and writes no more before the next call.
        let data = unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), count) };
        Event::Received { conn, data }
    }

    fn next_ready(&mut self) {
        self.cursor += 1;
        self.accepted = 0;
    }

    fn control(&self, operation: libc::c_int, socket: BorrowedFd<'_>, events: u32, token: Token) -> io::Result<()> {
        fault::check(Call::EpollCtl)?;
        let mut event = libc::epoll_event { events, u64: token.to_raw() };
        // SAFETY: the event is readable and writable.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, socket.as_raw_fd(), &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets epoll watch for what the connection waits for: nothing that it does not, or it would be reported for
    /// ever.
    fn watch(&mut self, conn: ConnId) {
        let Some(entry) = find(&mut self.entries, conn) else { return };
        let wanted = if entry.reading { IN } else { 0 } | if entry.blocked { OUT } else { 0 };
        // Both are in the lowest bits: an entry has no more room than it needs.
        let narrow = Watched::For((wanted & 0xff) as u8);
        let operation = match entry.watched {
            same if same == narrow => return,
            Watched::Broken if wanted == 0 => return,
            Watched::For(_) => libc::EPOLL_CTL_MOD,
            Watched::Not | Watched::Broken => libc::EPOLL_CTL_ADD,
        };
        entry.watched = narrow;
        let Some(socket) = entry.socket.as_ref().map(AsRawFd::as_raw_fd) else { return };
        // SAFETY: the entry keeps the socket open meanwhile.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) };
        if let Err(error) = self.control(operation, socket, wanted, Token::Conn(conn)) {
            self.done.push_back(Event::Failed { conn, error });
        }
    }

    fn accept(&mut self, listener: usize) -> Step {
        let Some(&socket) = self.listeners.get(listener).filter(|fd| **fd >= 0) else { return Step::Next };
        if self.accepted == ACCEPT_MAX {
            return Step::Next;
        }
        self.accepted += 1;
        match socket::accept(socket) {
            Ok((socket, peer)) => Step::Tell(Event::Accepted { socket, peer }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Next,
            Err(error) => Step::TellLast(Event::AcceptFailed { listener, error }),
        }
    }

    fn work(&mut self, conn: ConnId, events: u32) -> Step {
        let Some(entry) = find(&mut self.entries, conn) else { return Step::Next };
        if events & (OUT | BROKEN) != 0 && entry.blocked && entry.outbox.is_some() {
            // Come back for the rest of the event afterwards.
            self.ready[self.cursor].events &= !OUT;
            entry.blocked = false;
            let sent = write(entry, conn);
            self.watch(conn);
            return sent.map_or(Step::Stay, Step::Tell);
        }
        if events & (IN | BROKEN) != 0 && entry.reading {
            let Some(socket) = &entry.socket else { return Step::Next };
            return match sys::recv(socket.as_fd(), &mut self.buffer) {
                Ok(0) => {
                    entry.reading = false;
                    self.watch(conn);
                    Step::TellLast(Event::Ended { conn })
                }
                Ok(count) => Step::Received(conn, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Next,
                Err(error) => Step::TellLast(Event::Failed { conn, error }),
            };
        }
        if events & BROKEN != 0 {
            return self.broken(conn);
        }
        Step::Next
    }

    /// Nobody reads from the connection, so no receive will tell what is wrong with it.
    fn broken(&mut self, conn: ConnId) -> Step {
        let Some(entry) = find(&mut self.entries, conn) else { return Step::Next };
        let Some(socket) = &entry.socket else { return Step::Next };
        match socket2::SockRef::from(socket).take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Step::TellLast(Event::Failed { conn, error }),
        }
        // Ended on both sides. It comes back into epoll when the worker reads again.
        entry.watched = Watched::Broken;
        // SAFETY: the entry keeps the socket open meanwhile.
        let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, Token::Conn(conn));
        Step::Next
    }
}

fn find(entries: &mut Chunks<Entry>, conn: ConnId) -> Option<&mut Entry> {
    entries.get_mut(conn.index()).filter(|entry| entry.socket.is_some() && entry.generation == conn.generation())
}

fn open_timer() -> io::Result<OwnedFd> {
    fault::check(Call::Timerfd)?;
    // SAFETY: the call takes two numbers and gives a descriptor that is ours alone.
    unsafe { sys::owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)) }
}

/// Sends as much as the system takes. None: nothing at all; the entry is blocked and keeps its outbox.
fn write(entry: &mut Entry, conn: ConnId) -> Option<Event<'static>> {
    let socket = entry.socket.as_ref()?.as_raw_fd();
    let outbox = entry.outbox.take()?;
    let result = socket::send(socket, &outbox);
    match &result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            entry.blocked = true;
            entry.outbox = Some(outbox);
            return None;
        }
        // More segments than one call takes are no sign of a full socket.
        Ok((sent, tried)) if sent < tried => entry.blocked = true,
        _ => {}
    }
    Some(Event::Sent { conn, outbox, result: result.map(|(sent, _)| sent) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let conn = Token::Conn(ConnId::new(7, 3, 1));
        for token in [conn, Token::Listener(0), Token::Listener(9), Token::Waker, Token::Timer] {
            assert_eq!(Token::from_raw(token.to_raw()), token);
        }
    }
}
