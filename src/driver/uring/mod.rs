//! The driver on io_uring: orders are given to the kernel and it tells what has become of them, both with one system call a
//! turn.
//!
//! A stream is received from with one order for as long as it goes on. In the turn in which it comes there is none yet: a
//! client that speaks first has often spoken by then, and one that is greeted and closed at once never costs an order, nor
//! the end of one. What comes after the worker has paused a stream, and before the kernel has heard of that, is held. A send
//! is tried without waiting: what the kernel cannot take at once comes back, and is sent again when there is room; so no
//! memory of an outbox is the kernel's for longer than one system call.
//!
//! What is no stream, datagrams and sockets that connect, runs on readiness in here, too: sent and received in batches,
//! datagrams gain nothing. Its epoll is one more thing that the rings wait for.
//!
//! Workers that share listeners wait the other way round: their rings are one more thing that their epoll waits for, and it
//! is from there that they accept. Rings that accept are woken in the order in which they came, also while their worker is busy, and
//! whoever comes waits for it; epoll wakes one that does nothing.

mod accepting;
mod buffers;
mod receiving;
mod ring;
mod sanitizer;
mod sending;
mod stream;
mod token;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{cqueue, opcode, types};
use socket2::SockRef;

use self::accepting::Accepts;
use self::buffers::Buffers;
use self::ring::Ring;
pub(crate) use self::ring::send_message;
use self::sanitizer::Sanitizer;
use self::sending::Messages;
use self::stream::{State, Stream, find};
use self::token::Token;
use super::{Carries, Config, Driver, Epoll, Event, Origin, Waker};
use crate::conn::chunks::Chunks;
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::sys;

/// After a new stream that had not spoken yet, so many are not tried.
const UNTRIED_AFTER_MISS: u32 = 16;

/// Where so much has come at a time there is more, and answers to all of it leave together: that costs less than to send one of
/// them before.
const STREAM_BYTES: usize = 32 << 10;

/// Turns and completions, counted together, after which a worker that need not wait looks for those who come.
const REST_AFTER: usize = 32;

pub(crate) struct Uring {
    // Dropped before the memory that its orders name.
    ring: Ring,
    buffers: Buffers,
    messages: Messages,
    accepts: Accepts,
    streams: Chunks<Stream>,
    sanitizer: Sanitizer,
    /// What is no stream.
    rest: Epoll,
    /// The listeners are in there, too, and it is what the worker waits in.
    waits_in_rest: bool,
    /// Turns and completions since it was last looked into.
    since_rest: usize,
    /// The kernel tells when that has something to tell.
    is_rest_watched: bool,
    /// It has something.
    has_rest: bool,
    waker: Arc<Waker>,
    /// The worker whose connections these are.
    worker: u32,
    /// Orders to send that the kernel has, or gets with the next wait.
    sending: usize,
    /// What is done and not yet told.
    done: VecDeque<Event<'static>>,
    /// Streams whose orders are to be brought in line with what the worker wants.
    changed: Vec<u32>,
    /// New streams, not yet read from.
    fresh: VecDeque<u32>,
    /// So many new streams are not tried: the last one that was tried had not spoken.
    untried: u32,
    /// What one of those has said.
    first: Box<[MaybeUninit<u8>]>,
    /// Streams that are read from again, and hold what came before.
    resumed: VecDeque<u32>,
    /// What was told last, of one that held it.
    told: Vec<u8>,
    /// The buffer that was used up by what was told last.
    used: Option<u16>,
}

impl Driver for Uring {
    const NAME: &'static CStr = c"io_uring";

    fn open(config: Config) -> io::Result<Self> {
        if config.own_loop {
            // The rings are one thread's; a program's loop may be any.
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a loop of the program's own runs on epoll"));
        }
        let mut ring = Ring::open()?;
        let rest = Epoll::open(config)?;
        let waker = if config.shares_listeners {
            ring.notify(rest.waker().as_fd())?;
            rest.waker()
        } else {
            Arc::new(Waker::of_ring(ring.duplicate()?, Token::Wake.to_raw())?)
        };
        // Last: when something fails the rings, which know them, have to go first.
        let buffers = Buffers::register(ring.inner(), config.receive_bytes_max)?;
        Ok(Self {
            ring,
            buffers,
            messages: Messages::default(),
            accepts: Accepts::new(config.names_peers),
            streams: Chunks::new(),
            sanitizer: Sanitizer::open()?,
            rest,
            waits_in_rest: config.shares_listeners,
            since_rest: 0,
            is_rest_watched: false,
            has_rest: false,
            waker,
            worker: 0,
            sending: 0,
            done: VecDeque::new(),
            changed: Vec::new(),
            fresh: VecDeque::new(),
            untried: 0,
            first: Box::new_uninit_slice(config.receive_bytes_max),
            resumed: VecDeque::new(),
            told: Vec::new(),
            used: None,
        })
    }

    fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    fn poll_fd(&self) -> RawFd {
        self.ring.fd()
    }

    fn listen(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.waits_in_rest { self.rest.listen(listener, socket) } else { self.accepts.add(listener, socket) }
    }

    fn listen_datagrams(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.rest.listen_datagrams(listener, socket)
    }

    fn unlisten(&mut self, listener: usize, socket: BorrowedFd<'_>) {
        if self.accepts.remove(listener, &mut self.ring) {
            self.accept_rest(listener, socket);
        }
        self.rest.unlisten(listener, socket);
    }

    fn attach(&mut self, conn: ConnId, socket: OwnedFd, carries: Carries) -> io::Result<()> {
        if carries == Carries::Datagrams {
            return self.rest.attach(conn, socket, carries);
        }
        // Room for what a turn can say about one connection, asked for here, where somebody can still be told that there is none.
        // Only turns that say something about many make the lists grow later.
        let out_of_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.done.try_reserve(3).map_err(out_of_memory)?;
        self.changed.try_reserve(1).map_err(out_of_memory)?;
        self.resumed.try_reserve(1).map_err(out_of_memory)?;
        self.fresh.try_reserve(1).map_err(out_of_memory)?;
        self.worker = conn.worker();
        let stream = self.streams.grow_to(conn.index()).map_err(out_of_memory)?;
        *stream = Stream { socket: Some(socket), generation: conn.generation(), ..Stream::default() };
        stream.state.set(State::READING, true);
        stream.state.set(State::FRESH, true);
        self.change(conn.index());
        match self.untried.checked_sub(1) {
            Some(rest) => self.untried = rest,
            None => self.fresh.push_back(conn.index()),
        }
        Ok(())
    }

    fn attach_peer(&mut self, conn: ConnId, listener: usize, origin: &Origin) -> io::Result<()> {
        self.rest.attach_peer(conn, listener, origin)
    }

    fn connect(&mut self, attempt: u64, socket: OwnedFd) {
        self.rest.connect(attempt, socket);
    }

    fn abandon(&mut self, attempt: u64) {
        self.rest.abandon(attempt);
    }

    fn receive(&mut self, conn: ConnId, on: bool) {
        match find(&mut self.streams, conn) {
            Some(stream) => {
                let was_on = stream.state.set(State::READING, on);
                if on && !was_on && stream.held.is_some() {
                    self.resumed.push_back(conn.index());
                }
                self.change(conn.index());
            }
            None => self.rest.receive(conn, on),
        }
    }

    fn unread(&self, conn: ConnId) -> bool {
        let Some(stream) = self.stream(conn) else { return self.rest.unread(conn) };
        // What the system has no more, the rings have.
        let is_receiving = stream.state.has(State::RECEIVING);
        stream.held.as_ref().is_some_and(|held| !held.bytes.is_empty())
            || stream.socket.as_ref().is_some_and(|socket| sys::unread(socket.as_fd()))
            || is_receiving && self.ring.may_have_got(Token::Receive(conn.index()))
    }

    fn unsent(&self, conn: ConnId) -> usize {
        match self.stream(conn).and_then(|stream| stream.socket.as_ref()) {
            Some(socket) => sys::unsent(socket.as_fd()),
            None => self.rest.unsent(conn),
        }
    }

    fn send(&mut self, conn: ConnId, outbox: Box<Outbox>) {
        match find(&mut self.streams, conn) {
            Some(stream) => {
                debug_assert!(stream.outbox.is_none() && !outbox.is_empty());
                stream.outbox = Some(outbox);
                self.send_outbox(conn);
            }
            None => self.rest.send(conn, outbox),
        }
    }

    fn has_unasked(&self) -> bool {
        self.sending > 0
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(socket) = find(&mut self.streams, conn).and_then(|stream| stream.socket.as_ref()) {
            sys::finish(socket.as_fd());
        }
    }

    fn close(&mut self, conn: ConnId, reset: bool) {
        let Some(stream) = find(&mut self.streams, conn) else { return self.rest.close(conn, reset) };
        stream.state.set(State::CLOSING, true);
        stream.state.set(State::RESET, reset);
        let state = stream.state;
        let ends = [
            (State::RECEIVING, Token::Receive(conn.index())),
            (State::WATCHED, Token::Watch(conn.index())),
            (State::AWAITS_ROOM, Token::Room(conn.index())),
        ];
        for (_, token) in ends.into_iter().filter(|(flag, _)| state.has(*flag)) {
            self.ring.cancel(token);
        }
        self.close_if_done(conn.index());
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        if sys::forked() {
            // A child, out of a function that logs: its worker looks about as soon as it is back. Of the rings' memory a
            // child has nothing.
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.release_used();
        let is_first = self.ring.enable()?;
        self.bring_in_line();
        self.accepts.give_orders(&mut self.ring);
        // It watches what it has to.
        self.rest.arm(None);
        let has_more = is_first
            || !self.done.is_empty()
            || !self.resumed.is_empty()
            || !self.fresh.is_empty()
            || self.accepts.has_more()
            || self.has_rest
            || self.rest.has_more()
            || self.ring.completions() > 0;
        let timeout_ms = if has_more { Some(0) } else { timeout_ms };
        let waited = if self.waits_in_rest { self.wait_in_rest(timeout_ms) } else { self.wait_in_rings(timeout_ms) };
        if self.ring.is_handed_over() {
            self.messages.reuse();
        }
        if self.ring.is_lost() {
            // Those that wait for the end of their orders wait in vain.
            (0..self.streams.len()).for_each(|index| self.close_if_done(index));
        }
        waited
    }

    fn next(&mut self) -> Option<Event<'_>> {
        loop {
            self.release_used();
            if let Some(done) = self.done.pop_front() {
                return Some(done);
            }
            let step = if let Some(index) = self.resumed.pop_front() {
                self.resume(index)
            } else if let Some(index) = self.fresh.pop_front() {
                self.receive_first(index)
            } else if let Some(step) = self.accepts.next() {
                step
            } else if let Some(completion) = self.ring.next() {
                self.complete(&completion)
            } else {
                break;
            };
            match step {
                Step::Next => {}
                Step::Tell(event) => return Some(event),
                Step::Received(conn, data) => {
                    let pours = data.len() >= STREAM_BYTES;
                    let stream = self.streams.get_mut(conn.index());
                    let socket = stream
                        .and_then(|stream| (!stream.state.set(State::POURS, pours) && !pours).then(|| stream.fd()));
                    // SAFETY: what was held, or said first, stays until the next of that kind; and the kernel writes no
                    // more to a buffer before it is given to it again, which the next call does at the earliest.
                    return Some(Event::Received { conn, socket, data: unsafe { &*data } });
                }
            }
        }
        if std::mem::take(&mut self.has_rest)
            && let Err(error) = self.rest.wait(Some(0))
        {
            log::warn!("datagrams and attempts to connect wait: {error}");
        }
        self.rest.next()
    }

    fn arm(&mut self, _timeout_ms: Option<u64>) {}
}

/// What comes of one completion.
enum Step {
    Next,
    Tell(Event<'static>),
    Received(ConnId, *const [u8]),
}

impl Uring {
    fn wait_in_rings(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        if !self.is_rest_watched {
            self.is_rest_watched = true;
            let order = opcode::PollAdd::new(types::Fd(self.rest.poll_fd()), libc::POLLIN as u32).build();
            // SAFETY: it names no memory.
            unsafe { self.ring.push(order, Token::Rest) };
        }
        self.ring.wait(timeout_ms)
    }

    /// Hands the orders over, and waits only if nothing comes of them at once.
    fn wait_in_rest(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        if self.ring.has_work() {
            self.ring.wait(Some(0))?;
        }
        let completions = self.ring.completions();
        let timeout_ms = if completions > 0 { Some(0) } else { timeout_ms };
        self.since_rest += 1 + completions;
        if timeout_ms == Some(0) && self.since_rest < REST_AFTER {
            return Ok(());
        }
        self.since_rest = 0;
        let waited = if timeout_ms == Some(0) {
            self.rest.wait(Some(0))
        } else if self.ring.start_notifying() {
            let waited = self.rest.wait(timeout_ms);
            self.ring.stop_notifying();
            waited
        } else {
            Ok(())
        };
        waited.and_then(|()| self.ring.wait(Some(0)))
    }

    /// Lets the stream's orders be brought in line with its state before the next wait.
    fn change(&mut self, index: u32) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if !stream.state.set(State::CHANGED, true) {
            self.changed.push(index);
        }
    }

    /// Gives the kernel a buffer that was used up by what was told before, and the system what was held.
    fn release_used(&mut self) {
        if !self.told.is_empty() {
            self.told = Vec::new();
        }
        if let Some(id) = self.used.take() {
            self.buffers.offer(id);
        }
    }

    fn stream(&self, conn: ConnId) -> Option<&Stream> {
        let is_it = |stream: &&Stream| stream.socket.is_some() && stream.generation == conn.generation();
        self.streams.get(conn.index()).filter(is_it)
    }

    fn id(&self, index: u32) -> ConnId {
        let generation = self.streams.get(index).map_or(0, |stream| stream.generation);
        ConnId::new(self.worker, index, generation)
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Step {
        let (result, flags) = (completion.result(), completion.flags());
        match Token::from_raw(completion.user_data()) {
            Token::Wake | Token::Cancel => Step::Next,
            Token::Rest => {
                (self.is_rest_watched, self.has_rest) = (false, true);
                Step::Next
            }
            Token::Accept(number) => {
                self.sanitizer.accepted();
                self.accepts.accepted(number, result, flags)
            }
            Token::Receive(index) => self.received(index, result, flags),
            Token::Send(index) => self.sent(index, result),
            Token::Room(index) => self.has_room(index, result, flags),
            Token::Watch(index) => self.broken(index, result, flags),
        }
    }

    /// A completion has come for an order of the stream's, which these flags stand for; if it is the last, the order has ended.
    /// Says whether it is. None: nothing is to be told of the stream any more.
    fn completed(&mut self, index: u32, flags: u32, order: u16) -> Option<bool> {
        let stream = self.streams.get_mut(index)?;
        self.sanitizer.received(stream.fd());
        let is_last = !cqueue::more(flags);
        if is_last {
            stream.orders -= 1;
            stream.state.set(order, false);
        }
        if stream.state.has(State::CLOSING) {
            self.close_if_done(index);
            return None;
        }
        Some(is_last)
    }

    /// Closes a stream that is to be closed, when the kernel has no order of it any more.
    fn close_if_done(&mut self, index: u32) {
        let conn = self.id(index);
        let Some(stream) = self.streams.get_mut(index) else { return };
        // Of lost rings no order ends, and none does anything any more.
        if stream.orders > 0 && !self.ring.is_lost() || !stream.state.has(State::CLOSING) {
            return;
        }
        // On the list its place stays until then.
        let is_changed = stream.state.has(State::CHANGED);
        let Stream { socket, outbox, state, .. } = std::mem::take(stream);
        stream.state.set(State::CHANGED, is_changed);
        if let Some(socket) = &socket {
            if state.has(State::RESET) {
                // What is queued in the system is thrown away, and TCP says so.
                let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
            }
            if self.ring.is_lost() {
                // The orders of lost rings keep it open.
                let _ = SockRef::from(socket).shutdown(Shutdown::Both);
            }
        }
        self.done.push_back(Event::Closed { conn, outbox });
    }
}
