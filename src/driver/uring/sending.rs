//! Bytes that go: each outbox in one order, which never waits.

use std::io;

use io_uring::{opcode, squeue, types};

use super::stream::{State, find};
use super::token::Token;
use super::{Step, Uring};
use crate::conn::handle::ConnId;
use crate::conn::outbox::Outbox;
use crate::driver::{Event, Sent, socket};
use crate::fault::{self, Call};

/// Segments that one order sends.
const SEGMENTS_MAX: usize = 64;

/// Messages that are kept for the next turn: a kilobyte each.
const KEPT_MAX: usize = 256;

/// What an order to send several segments names. The kernel copies it when it takes the order.
struct Message {
    header: libc::msghdr,
    vectors: [libc::iovec; SEGMENTS_MAX],
}

/// The messages of one turn, some of which are kept for the next.
#[derive(Default)]
pub(super) struct Messages {
    #[allow(clippy::vec_box)] // what the kernel is told of must not move when the list grows
    all: Vec<Box<Message>>,
    used: usize,
}

// SAFETY: what is in them is only used between an order and the system call that takes it, on one thread.
unsafe impl Send for Messages {}

impl Messages {
    /// Nothing that was made so far is used any more.
    pub(super) fn reuse(&mut self) {
        self.used = 0;
        self.all.truncate(KEPT_MAX);
    }

    fn next(&mut self) -> &mut Message {
        if self.used == self.all.len() {
            // SAFETY: plain data, for which all bytes zero are fine.
            self.all.push(Box::new(unsafe { std::mem::zeroed() }));
        }
        self.used += 1;
        &mut self.all[self.used - 1]
    }

    /// The order that sends the first segments of an outbox.
    #[allow(clippy::cast_possible_truncation)] // no segment is that long; if one is, some of it is sent
    fn order(&mut self, fd: types::Fd, outbox: &Outbox) -> squeue::Entry {
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let mut slices = outbox.slices();
        let (first, second) = (slices.next().unwrap_or_default(), slices.next());
        let Some(second) = second else {
            let length = first.len().min(i32::MAX as usize) as u32;
            return opcode::Send::new(fd, first.as_ptr(), length).flags(FLAGS).build();
        };
        let message = self.next();
        let mut count = 0;
        for slice in [first, second].into_iter().chain(slices).take(SEGMENTS_MAX) {
            message.vectors[count] = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
            count += 1;
        }
        message.header.msg_iov = message.vectors.as_mut_ptr();
        message.header.msg_iovlen = count as _;
        opcode::SendMsg::new(fd, &raw const message.header).flags(FLAGS as u32).build()
    }
}

impl Uring {
    /// Sends the outbox of a stream, or lets it wait for room.
    pub(super) fn send_outbox(&mut self, conn: ConnId) {
        let Some(stream) = find(&mut self.streams, conn) else { return };
        if stream.state.has(State::CLOSING) {
            return;
        }
        if stream.state.has(State::BLOCKED) {
            return self.await_room(conn);
        }
        if stream.state.has(State::FRESH) {
            return self.send_first(conn);
        }
        // A call that the system makes for us fails before it is made, where a test wants that.
        match fault::check(Call::Sendmsg) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.state.set(State::BLOCKED, true);
                return self.await_room(conn);
            }
            Err(error) => {
                let Some(outbox) = stream.outbox.take() else { return };
                return self.done.push_back(Event::Sent { conn, outbox, result: Err(error) });
            }
            Ok(()) => {}
        }
        let Some(outbox) = &stream.outbox else { return };
        self.sanitizer.sends(stream.fd());
        let order = self.messages.order(types::Fd(stream.fd()), outbox);
        stream.orders += 1;
        self.sending += 1;
        // SAFETY: the outbox is the driver's until the order has ended, and the message until the next wait has handed it over.
        unsafe { self.ring.push(order, Token::Send(conn.index())) };
    }

    pub(super) fn sent(&mut self, index: u32, result: i32) -> Step {
        let conn = self.id(index);
        self.sending -= 1;
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        stream.orders -= 1;
        if matches!(-result, libc::EAGAIN | libc::EINTR) {
            stream.state.set(State::BLOCKED, result == -libc::EAGAIN);
            self.send_outbox(conn);
            self.close_if_done(index);
            return Step::Next;
        }
        let Some(outbox) = stream.outbox.take() else { return Step::Next };
        let result = match usize::try_from(result) {
            Ok(count) => {
                let tried: usize = outbox.slices().take(SEGMENTS_MAX).map(<[u8]>::len).sum();
                stream.state.set(State::BLOCKED, count < tried);
                Ok(Sent { taken: count, out: count, ..Sent::default() })
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        if stream.state.has(State::CLOSING) {
            if result.is_err() {
                stream.outbox = Some(outbox);
                self.close_if_done(index);
                return Step::Next;
            }
            // What has gone out is counted, before the close.
            self.done.push_back(Event::Sent { conn, outbox, result });
            self.close_if_done(index);
            return Step::Next;
        }
        Step::Tell(Event::Sent { conn, outbox, result })
    }

    /// Sends to a new stream, of which the kernel has no order.
    fn send_first(&mut self, conn: ConnId) {
        let Some(stream) = find(&mut self.streams, conn) else { return };
        let Some(outbox) = stream.outbox.take() else { return };
        self.sanitizer.sends(stream.fd());
        let result = socket::send(stream.fd(), &outbox);
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            stream.outbox = Some(outbox);
            stream.state.set(State::BLOCKED, true);
            return self.await_room(conn);
        }
        let result = result.map(|(sent, tried)| {
            stream.state.set(State::BLOCKED, sent < tried);
            Sent { taken: sent, out: sent, ..Sent::default() }
        });
        self.done.push_back(Event::Sent { conn, outbox, result });
    }

    /// The system takes no more at present.
    fn await_room(&mut self, conn: ConnId) {
        let unsent = super::Driver::unsent(self, conn);
        let Some(stream) = find(&mut self.streams, conn) else { return };
        if let Some(outbox) = &mut stream.outbox {
            outbox.compact();
        }
        self.done.push_back(Event::Blocked { conn, unsent });
        self.ask_for_room(conn.index(), false);
    }

    /// `goes_on`: each time that there is more room, not only once.
    fn ask_for_room(&mut self, index: u32, goes_on: bool) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        if stream.state.set(State::AWAITS_ROOM, true) {
            return;
        }
        stream.orders += 1;
        let order = opcode::PollAdd::new(types::Fd(stream.fd()), libc::POLLOUT as u32).multi(goes_on).build();
        // SAFETY: it names no memory.
        unsafe { self.ring.push(order, Token::Room(index)) };
    }

    /// There is room again; or the stream is broken, which the next send tells.
    pub(super) fn has_room(&mut self, index: u32, result: i32, flags: u32) -> Step {
        const ROOM: i32 = (libc::POLLOUT | libc::POLLERR | libc::POLLHUP) as i32;
        let conn = self.id(index);
        if self.completed(index, flags, State::AWAITS_ROOM).is_none() {
            return Step::Next;
        }
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        if result > 0 && result & ROOM == 0 {
            // Only that the peer has ended its side, which the kernel tells whether asked for or not: to ask again for once
            // would have the same answer for ever.
            self.ask_for_room(index, true);
            return Step::Next;
        }
        if !stream.state.set(State::BLOCKED, false) {
            return Step::Next;
        }
        if stream.outbox.is_some() {
            self.send_outbox(conn);
        }
        Step::Next
    }
}
