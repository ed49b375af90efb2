//! Bytes that come: told from the buffer that the kernel has written them to, or held while the worker does not read.

use std::io;
use std::os::fd::AsFd;

use io_uring::{cqueue, opcode, types};
use socket2::SockRef;

use super::buffers::GROUP;
use super::stream::State;
use super::token::Token;
use super::{Step, UNTRIED_AFTER_MISS, Uring};
use crate::driver::Event;
use crate::fault::{self, Call};
use crate::sys;

/// The error that a test wants a call of the system's to have had; what passes is asked again, as the system does.
fn fault_in(call: Call) -> Option<i32> {
    loop {
        match fault::check(call).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)) {
            Ok(()) => return None,
            Err(libc::EINTR | libc::EAGAIN) => {}
            Err(error) => return Some(error),
        }
    }
}

impl Uring {
    /// Gives and takes back orders to receive, so that each stream has those that it is to have.
    pub(super) fn bring_in_line(&mut self) {
        while let Some(index) = self.changed.pop() {
            let Some(stream) = self.streams.get_mut(index) else { continue };
            stream.state.set(State::CHANGED, false);
            stream.state.set(State::FRESH, false);
            let state = stream.state;
            if stream.socket.is_none() || state.has(State::CLOSING) {
                continue;
            }
            let fd = types::Fd(stream.fd());
            let order = if state.has(State::READING) && !state.has(State::ENDED) {
                if state.has(State::WATCHED) && !stream.state.set(State::UNWATCHING, true) {
                    self.ring.cancel(Token::Watch(index));
                }
                if stream.state.set(State::RECEIVING, true) {
                    continue;
                }
                (opcode::RecvMulti::new(fd, GROUP).build(), Token::Receive(index))
            } else {
                if state.has(State::RECEIVING) {
                    if !stream.state.set(State::PAUSING, true) {
                        self.ring.cancel(Token::Receive(index));
                    }
                    continue;
                }
                if stream.state.set(State::WATCHED, true) {
                    continue;
                }
                // What breaks is told whether asked for or not; and the end of the peer's side, which is not meant.
                (opcode::PollAdd::new(fd, 0).multi(true).build(), Token::Watch(index))
            };
            stream.orders += 1;
            // SAFETY: the orders name no memory but the ring's own buffers.
            unsafe { self.ring.push(order.0, order.1) };
        }
    }

    /// Looks whether a new stream has said something.
    pub(super) fn receive_first(&mut self, index: u32) -> Step {
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        let is_due = stream.state.has(State::FRESH) && stream.state.has(State::READING);
        if !is_due || stream.state.has(State::ENDED) || stream.state.has(State::CLOSING) {
            return Step::Next;
        }
        let step = self.receive_now(index);
        if let Step::Next = step {
            self.untried = UNTRIED_AFTER_MISS;
        }
        step
    }

    /// Receives what there is from a stream of which the kernel has no order to receive.
    fn receive_now(&mut self, index: u32) -> Step {
        let conn = self.id(index);
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        let Some(socket) = &stream.socket else { return Step::Next };
        let received = sys::recv(socket.as_fd(), &mut self.first);
        self.sanitizer.received(stream.fd());
        match received {
            Ok(0) => {
                stream.state.set(State::ENDED, true);
                Step::Tell(Event::Ended { conn })
            }
            Ok(count) => Step::Received(conn, std::ptr::slice_from_raw_parts(self.first.as_ptr().cast(), count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Next,
            Err(error) => {
                stream.state.set(State::ENDED, true);
                Step::Tell(Event::Failed { conn, error })
            }
        }
    }

    pub(super) fn received(&mut self, index: u32, result: i32, flags: u32) -> Step {
        let conn = self.id(index);
        // Where nothing was written nothing of a buffer is gone, whatever the flags say: not every kernel says that right.
        let count = usize::try_from(result).unwrap_or(0);
        let piece = cqueue::buffer_select(flags).filter(|_| count > 0).map(|id| {
            if !cqueue::buffer_more(flags) {
                self.used = Some(id);
            }
            self.buffers.piece(id, count)
        });
        let Some(is_last) = self.completed(index, flags, State::RECEIVING | State::PAUSING) else { return Step::Next };
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        let is_reading = stream.state.has(State::READING) && stream.held.is_none();
        let result = if result > 0 { fault_in(Call::Recv).map_or(result, |error| -error) } else { result };
        let step = match result {
            1.. => {
                let Some(piece) = piece else { return Step::Next };
                if is_reading {
                    Step::Received(conn, piece)
                } else {
                    // SAFETY: the kernel has written it, and writes no more there.
                    match stream.hold(unsafe { &*piece }) {
                        Ok(()) => Step::Next,
                        Err(_) => Step::Tell(Event::Failed { conn, error: io::ErrorKind::OutOfMemory.into() }),
                    }
                }
            }
            // Others have used all buffers, and may do that again each time: who goes without one is heard in this way.
            _ if result == -libc::ENOBUFS && is_reading && is_last => self.receive_now(index),
            // It was told to end, or interrupted.
            _ if matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR) => Step::Next,
            _ => {
                stream.state.set(State::ENDED, true);
                let end = if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-result)) };
                // That it is broken is told at once; that it has ended waits for the worker to read.
                if is_reading || end.is_err() && !stream.state.has(State::READING) {
                    Step::Tell(match end {
                        Ok(()) => Event::Ended { conn },
                        Err(error) => Event::Failed { conn, error },
                    })
                } else {
                    stream.held.get_or_insert_default().end = Some(end);
                    Step::Next
                }
            }
        };
        if is_last {
            self.change(index);
        }
        step
    }

    /// Tells what a stream holds, now that it is read from again.
    pub(super) fn resume(&mut self, index: u32) -> Step {
        let conn = self.id(index);
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        if !stream.state.has(State::READING) || stream.state.has(State::CLOSING) {
            return Step::Next;
        }
        let Some(held) = stream.held.as_deref_mut() else { return Step::Next };
        if !held.bytes.is_empty() {
            self.told = std::mem::take(&mut held.bytes);
            // The end comes next; or, with nothing more, what the kernel has.
            if held.end.is_some() {
                self.resumed.push_front(index);
            } else {
                stream.held = None;
            }
            return Step::Received(conn, &raw const *self.told);
        }
        let end = held.end.take();
        stream.held = None;
        match end {
            None => Step::Next,
            Some(Ok(())) => Step::Tell(Event::Ended { conn }),
            Some(Err(error)) => Step::Tell(Event::Failed { conn, error }),
        }
    }

    /// A stream that nobody reads from is broken, or is watched no more.
    pub(super) fn broken(&mut self, index: u32, result: i32, flags: u32) -> Step {
        let conn = self.id(index);
        let Some(is_last) = self.completed(index, flags, State::WATCHED | State::UNWATCHING) else { return Step::Next };
        let Some(stream) = self.streams.get_mut(index) else { return Step::Next };
        // Whoever asks takes the error away: what is found is told, also where the completion was for the end of the peer's
        // side alone, and the rest came since.
        let error = match &stream.socket {
            Some(socket) if result > 0 => SockRef::from(socket).take_error().unwrap_or_else(Some),
            _ => None,
        };
        if is_last && error.is_none() {
            // Told to end; or broken off, for want of places for what it had to say.
            self.change(index);
        }
        error.map_or(Step::Next, |error| Step::Tell(Event::Failed { conn, error }))
    }
}
