//! The driver on epoll: the system call is made when the socket is ready, and the event says what came of it.
//!
//! Level-triggered. One receive per ready connection and turn keeps the turn fair; what is left makes the
//! socket ready again. A send is tried at once, and only if the system takes less than all is the
//! connection watched for room. A new connection is read from before it is watched at all: a client that speaks
//! first has often spoken by then, and one that is greeted and closed in the same turn never gets into epoll.

mod connecting;
mod datagrams;
mod entry;
mod timer;
mod token;

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use socket2::SockRef;

use self::datagrams::{DatagramSocket, Inbound, Pending};
use self::entry::{End, Entry, Peer, Watched, find, write};
use self::timer::open_timer;
use self::token::Token;
use super::{Carries, Config, Driver, Event, Origin, Waker, socket};
use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::conn::places::Places;
use crate::fault::{self, Call};
use crate::sys::{self, direct};

/// Events that one wait takes; more are taken by the next.
const EVENTS_MAX: u16 = 512;
/// Connections that one turn accepts from a listener, so that those that are open get their turn, too.
const ACCEPT_MAX: u32 = 64;

/// After a new connection that had not spoken yet, so many are watched at once.
const UNTRIED_AFTER_MISS: u32 = 16;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const EDGE: u32 = libc::EPOLLET as u32;
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
    /// By the number of their listener.
    datagram_sockets: Vec<Option<DatagramSocket>>,
    inbound: Option<Box<Inbound>>,
    /// Outboxes of datagrams, to be sent in batches.
    pending: VecDeque<Pending>,
    attempts: HashMap<u64, OwnedFd>,
    entries: Chunks<Entry>,
    /// Of datagram listeners.
    peers: Places<Peer>,
    buffer: Box<[MaybeUninit<u8>]>,
    /// The socket that was received from last.
    heard: RawFd,
    ready: Box<[libc::epoll_event]>,
    ready_count: usize,
    /// The ready event that is being worked on, and how many connections were accepted for it.
    cursor: usize,
    accepted: u32,
    /// What is done and not yet told.
    done: VecDeque<Event<'static>>,
    /// New connections, not yet read from.
    fresh: VecDeque<ConnId>,
    /// New connections that were read from and those that have ended, to be watched so from the next wait on.
    unwatched: Vec<ConnId>,
    /// So many new connections are watched without a try: the last one that was tried had not spoken.
    untried: u32,
}

impl Driver for Epoll {
    const NAME: &'static CStr = c"epoll";

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
            datagram_sockets: Vec::new(),
            inbound: None,
            pending: VecDeque::new(),
            attempts: HashMap::new(),
            entries: Chunks::new(),
            peers: Places::default(),
            buffer: Box::new_uninit_slice(config.receive_bytes_max),
            heard: -1,
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; usize::from(EVENTS_MAX)].into_boxed_slice(),
            ready_count: 0,
            cursor: 0,
            accepted: 0,
            done: VecDeque::new(),
            fresh: VecDeque::new(),
            unwatched: Vec::new(),
            untried: 0,
        };
        // Each time that it is made readable counts, and not that it is: it needs no draining.
        driver.control(libc::EPOLL_CTL_ADD, driver.waker.as_fd(), IN | EDGE, Token::Waker)?;
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
        self.stop_datagrams(listener);
        if self.listeners.get(listener) == Some(&socket.as_raw_fd()) {
            self.listeners[listener] = -1;
            // It can only fail if the socket is not watched.
            let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, Token::Listener(listener));
        }
    }

    fn listen_datagrams(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.add_datagram_socket(listener, socket)
    }

    fn attach(&mut self, conn: ConnId, socket: OwnedFd, carries: Carries) -> io::Result<()> {
        let end = match carries {
            Carries::Stream => End::Stream(socket),
            Carries::Datagrams => End::Datagrams(socket),
        };
        self.insert(conn, Entry { end, reading: true, ..Entry::default() })?;
        if self.untried == 0 {
            self.fresh.push_back(conn);
        } else {
            self.untried -= 1;
            self.watch(conn);
        }
        Ok(())
    }

    fn attach_peer(&mut self, conn: ConnId, listener: usize, origin: &Origin) -> io::Result<()> {
        self.add_peer(conn, listener, origin)
    }

    fn connect(&mut self, attempt: u64, socket: OwnedFd) {
        self.add_attempt(attempt, socket);
    }

    fn abandon(&mut self, attempt: u64) {
        self.take_attempt(attempt);
    }

    fn receive(&mut self, conn: ConnId, on: bool) {
        if let Some(entry) = find(&mut self.entries, conn) {
            entry.reading = on;
            self.watch(conn);
        }
    }

    fn unread(&self, conn: ConnId) -> bool {
        let entry = self.entries.get(conn.index()).filter(|entry| entry.generation == conn.generation());
        match entry.map(|entry| &entry.end) {
            Some(End::Stream(socket)) => sys::unread(socket.as_fd()),
            _ => false,
        }
    }

    fn unsent(&self, conn: ConnId) -> usize {
        let entry = self.entries.get(conn.index()).filter(|entry| entry.generation == conn.generation());
        entry.and_then(Entry::socket).map_or(0, |socket| sys::unsent(socket.as_fd()))
    }

    fn send(&mut self, conn: ConnId, outbox: Box<Outbox>) {
        let Some(entry) = find(&mut self.entries, conn) else {
            return self.done.push_back(Event::Closed { conn, outbox: Some(outbox) });
        };
        debug_assert!(entry.outbox.is_none() && !outbox.is_empty());
        if !matches!(entry.end, End::Stream(_)) {
            return self.pending.push_back(Pending { conn, outbox });
        }
        entry.outbox = Some(outbox);
        if !entry.blocked
            && let Some(sent) = write(entry, conn)
        {
            self.done.push_back(sent);
        } else {
            if let Some(outbox) = &mut entry.outbox {
                outbox.compact();
            }
            let unsent = self.unsent(conn);
            self.done.push_back(Event::Blocked { conn, unsent });
            self.watch(conn);
        }
    }

    fn has_unasked(&self) -> bool {
        false
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(Entry { end: End::Stream(socket), .. }) = find(&mut self.entries, conn) {
            sys::finish(socket.as_fd());
        }
    }

    fn close(&mut self, conn: ConnId, reset: bool) {
        let Some(entry) = find(&mut self.entries, conn) else {
            return self.done.push_back(Event::Closed { conn, outbox: None });
        };
        let Entry { end, outbox, watched, .. } = std::mem::take(entry);
        if let End::Stream(socket) | End::Datagrams(socket) = &end {
            if let Watched::For(_) = watched {
                // Closing alone would leave it watched if a fork has made a copy of the descriptor, and epoll would
                // report it for ever.
                let _ = self.control(libc::EPOLL_CTL_DEL, socket.as_fd(), 0, Token::Conn(conn));
            }
            if reset {
                // What is queued in the system is thrown away, and TCP says so.
                let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
            }
        }
        if let End::Peer(peer) = end {
            self.peers.remove(peer);
        }
        let outbox = if matches!(end, End::Stream(_)) { outbox } else { outbox.or_else(|| self.take_pending(conn)) };
        self.done.push_back(Event::Closed { conn, outbox });
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        self.watch_all();
        let timeout = if self.has_more() { 0 } else { timeout };
        self.cursor = 0;
        self.accepted = 0;
        self.ready_count = 0;
        fault::check(Call::EpollWait)?;
        // SAFETY: the list has room for `EVENTS_MAX` events.
        let count = unsafe {
            direct::epoll_wait(self.epoll.as_raw_fd(), self.ready.as_mut_ptr(), libc::c_int::from(EVENTS_MAX), timeout)
        };
        self.ready_count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn next(&mut self) -> Option<Event<'_>> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            if self.send_pending() {
                continue;
            }
            if let Some(at) = self.inbound.as_mut().and_then(|inbound| inbound.next()) {
                return self.inbound.as_ref().map(|inbound| inbound.event(at));
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
                Token::Waker => Step::Next,
                Token::Timer => {
                    self.set_timer(None);
                    Step::Next
                }
                Token::Listener(listener) => self.accept(listener),
                Token::Datagrams(listener) => self.receive_datagrams(listener, event.events),
                Token::Attempt(attempt) => self.connected(attempt),
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
        let timeout_ms = if self.has_more() { Some(0) } else { timeout_ms };
        self.set_timer(timeout_ms);
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
    /// Takes a connection on.
    fn insert(&mut self, conn: ConnId, entry: Entry) -> io::Result<()> {
        // Room for what a turn can say about one connection, asked for here, where somebody can still be told that there is none.
        // Only turns that say something about many make the lists grow later.
        let out_of_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.done.try_reserve(3).map_err(out_of_memory)?;
        self.fresh.try_reserve(1).map_err(out_of_memory)?;
        self.unwatched.try_reserve(1).map_err(out_of_memory)?;
        let entry = Entry { generation: conn.generation(), ..entry };
        *self.entries.grow_to(conn.index()).map_err(out_of_memory)? = entry;
        Ok(())
    }

    /// Whether there is something to tell without waiting.
    pub(super) fn has_more(&self) -> bool {
        let has_datagrams = self.inbound.as_ref().is_some_and(|inbound| inbound.has_more());
        !self.done.is_empty() || !self.fresh.is_empty() || !self.pending.is_empty() || has_datagrams
    }

    /// Watches those for what they want by now.
    fn watch_all(&mut self) {
        while let Some(conn) = self.unwatched.pop() {
            self.watch(conn);
        }
    }

    /// The same before the next wait: most that have ended are closed by then.
    fn watch_later(&mut self, conn: ConnId) {
        if self.unwatched.try_reserve(1).is_ok() { self.unwatched.push(conn) } else { self.watch(conn) }
    }

    #[inline(always)]
    fn told(&self, conn: ConnId, count: usize) -> Event<'_> {
        // SAFETY: the system has just written `count` bytes there, and writes no more before the next call.
        let data = unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), count) };
        Event::Received { conn, socket: Some(self.heard), data }
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
        let Some(socket) = entry.socket().map(AsRawFd::as_raw_fd) else { return };
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
            Ok((socket, peer)) => Step::Tell(Event::Accepted { listener, socket, peer }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Next,
            Err(error) => Step::TellLast(Event::AcceptFailed { listener, error }),
        }
    }

    fn work(&mut self, conn: ConnId, events: u32) -> Step {
        let Some(entry) = find(&mut self.entries, conn) else { return Step::Next };
        if events & (OUT | BROKEN) != 0 && entry.blocked {
            // Come back for the rest of the event afterwards.
            self.ready[self.cursor].events &= !OUT;
            entry.blocked = false;
            let sent = if matches!(entry.end, End::Stream(_)) { write(entry, conn) } else { None };
            self.unblock(conn);
            self.watch(conn);
            return sent.map_or(Step::Stay, Step::Tell);
        }
        if events & (IN | BROKEN) != 0 && entry.reading {
            let is_stream = matches!(entry.end, End::Stream(_));
            let Some(socket) = entry.socket() else { return Step::Next };
            self.heard = socket.as_raw_fd();
            let received = match is_stream {
                true => sys::recv(socket.as_fd(), &mut self.buffer),
                false => sys::recv_datagram(socket.as_fd(), &mut self.buffer),
            };
            return match received {
                Ok(0) if is_stream => {
                    entry.reading = false;
                    self.watch_later(conn);
                    Step::TellLast(Event::Ended { conn })
                }
                Ok(count) if count > self.buffer.len() => Step::TellLast(Event::TooLong { conn }),
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
        let Some(socket) = entry.socket() else { return Step::Next };
        match SockRef::from(socket).take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Step::TellLast(Event::Failed { conn, error }),
        }
        // SAFETY: the entry keeps the socket open meanwhile.
        let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        // Ended on both sides. It comes back into epoll when the worker reads again.
        entry.watched = Watched::Broken;
        let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, Token::Conn(conn));
        Step::Next
    }
}
