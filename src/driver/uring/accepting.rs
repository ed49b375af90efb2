//! Connections that come to listeners: one order to accept for each listener, which goes on until it is taken back.
//!
//! Such an order brings no addresses with it: each connection is asked for its peer's, a short call, unless nobody can want to
//! know it. To give one order for each connection, with room for an address, costs more: a quarter of what a connection costs
//! in all that is greeted and closed. To ask only when the program asks would be too late for a peer that has reset.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use io_uring::{cqueue, opcode, types};

use super::ring::Ring;
use super::token::Token;
use super::{Step, Uring};
use crate::driver::{Event, socket};
use crate::fault::{self, Call};
use crate::net::Peer;

/// Connections that are taken from a listener when it is given up.
const REST_MAX: usize = 64;

/// Orders by their number. One whose listener is gone is kept until the kernel is done with it.
pub(super) struct Accepts {
    orders: Vec<Order>,
    names_peers: bool,
    /// Whom a test has put back, and how many of them are tried again in this turn.
    put_back: VecDeque<(usize, OwnedFd)>,
    again: usize,
}

struct Order {
    listener: usize,
    socket: RawFd,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody's.
    Free,
    /// To be given to the kernel.
    Due,
    Given,
    /// Its listener is gone.
    Cancelled,
}

impl Accepts {
    pub(super) fn new(names_peers: bool) -> Self {
        Self { orders: Vec::new(), names_peers, put_back: VecDeque::new(), again: 0 }
    }

    pub(super) fn add(&mut self, listener: usize, socket: BorrowedFd<'_>) -> io::Result<()> {
        fault::check(Call::EpollCtl)?;
        let order = Order { listener, socket: socket.as_raw_fd(), phase: Phase::Due };
        match self.orders.iter_mut().find(|order| order.phase == Phase::Free) {
            Some(free) => *free = order,
            None => {
                self.orders.try_reserve(1).map_err(|_| io::ErrorKind::OutOfMemory)?;
                self.orders.push(order);
            }
        }
        Ok(())
    }

    /// Accepts no more: what the kernel has accepted by now is still told. Says whether it had been told to.
    pub(super) fn remove(&mut self, listener: usize, ring: &mut Ring) -> bool {
        let mut was_on = false;
        for (number, order) in (0..).zip(&mut self.orders).filter(|(_, order)| order.listener == listener) {
            match order.phase {
                Phase::Due => order.phase = Phase::Free,
                Phase::Given => {
                    order.phase = Phase::Cancelled;
                    was_on = true;
                    ring.cancel(Token::Accept(number));
                }
                Phase::Free | Phase::Cancelled => {}
            }
        }
        // A test that makes accepting fail counts the calls.
        was_on && self.put_back.is_empty()
    }

    pub(super) fn give_orders(&mut self, ring: &mut Ring) {
        self.again = self.put_back.len();
        for (number, order) in (0..).zip(&mut self.orders).filter(|(_, order)| order.phase == Phase::Due) {
            order.phase = Phase::Given;
            let accept = opcode::AcceptMulti::new(types::Fd(order.socket));
            let accept = accept.flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).build();
            // SAFETY: it names no memory.
            unsafe { ring.push(accept, Token::Accept(number)) };
        }
    }

    pub(super) fn accepted(&mut self, number: u32, result: i32, flags: u32) -> Step {
        let Some(order) = self.orders.get_mut(number as usize) else { return Step::Next };
        let listener = order.listener;
        let is_on = order.phase == Phase::Given;
        if !cqueue::more(flags) {
            order.phase = if is_on { Phase::Due } else { Phase::Free };
        }
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            let is_told = is_on && !matches!(-result, libc::ECANCELED | libc::EAGAIN | libc::EINTR);
            return if is_told { Step::Tell(Event::AcceptFailed { listener, error }) } else { Step::Next };
        }
        // SAFETY: the descriptor was just given to us.
        self.admit(listener, unsafe { OwnedFd::from_raw_fd(result) })
    }

    /// Someone is accepted, unless a test wants that to fail: then they wait on, as in the system's queue.
    fn admit(&mut self, listener: usize, socket: OwnedFd) -> Step {
        match fault::check(Call::Accept4) {
            Ok(()) => {
                let peer = if self.names_peers { socket::peer_of(socket.as_fd()) } else { Peer::UNNAMED };
                Step::Tell(Event::Accepted { listener, socket, peer })
            }
            Err(error) => {
                self.put_back.push_back((listener, socket));
                let is_passing = error.kind() == io::ErrorKind::Interrupted;
                if is_passing { Step::Next } else { Step::Tell(Event::AcceptFailed { listener, error }) }
            }
        }
    }

    /// Whether somebody waits whom a test had put back, and whose listener is on.
    pub(super) fn has_more(&self) -> bool {
        let is_on =
            |listener: usize| self.orders.iter().any(|order| order.listener == listener && order.phase == Phase::Given);
        self.put_back.front().is_some_and(|(listener, _)| is_on(*listener))
    }

    /// Tries the next of those once more.
    pub(super) fn next(&mut self) -> Option<Step> {
        self.again = self.again.checked_sub(1)?;
        let (listener, socket) = if self.has_more() { self.put_back.pop_front()? } else { return None };
        Some(self.admit(listener, socket))
    }
}

impl Uring {
    /// Takes those who wait at a listener whose order is cancelled. The kernel wakes one of those who accept from the same
    /// socket for each who comes: if it was this one, nobody else knows that there is somebody.
    pub(super) fn accept_rest(&mut self, listener: usize, socket: BorrowedFd<'_>) {
        if let Err(error) = self.ring.hand_over() {
            log::debug!("a listener's order is not cancelled yet: {error}");
        }
        for _ in 0..REST_MAX {
            let Ok((socket, peer)) = socket::accept(socket.as_raw_fd()) else { return };
            self.done.push_back(Event::Accepted { listener, socket, peer });
        }
    }
}
