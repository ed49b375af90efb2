//! How connections come to a worker: accepted, handed over by another worker, or adopted.

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::context::{Context, REST_MS};
use super::mailbox::Command;
use super::roster::{self, Due};
use super::shared::{FRAMING_OWN, WorkerShared};
use super::worker::Worker;
use crate::conn::handle::ConnId;
use crate::driver::{Carries, Driver};
use crate::net::{Peer, peer_of_stream};
use crate::status::Error;
use crate::sys;

/// Counts one who cannot be served, and says who it is. The driver may not have asked.
fn refuse(me: &WorkerShared, peer: Peer, socket: BorrowedFd<'_>, why: impl Display) {
    let peer = if peer == Peer::UNNAMED { peer_of_stream(socket).unwrap_or(peer) } else { peer };
    me.counters.refused.add(1);
    log::warn!("{peer} refused: {why}");
}

impl<D: Driver> Worker<D> {
    /// Someone was accepted: by this worker, or by one that has fewer connections.
    pub(super) fn take(&mut self, listener: usize, socket: OwnedFd, peer: Peer) {
        let Context { me, server, team, .. } = &self.context;
        if !server.admit() {
            return refuse(me, peer, socket.as_fd(), "connections_max is reached");
        }
        let framing = self.framings.get(listener).copied().unwrap_or(FRAMING_OWN);
        // What was accepted is served, also while the server stops; but only here: another worker may have ended.
        let target = if server.stop_at_ms().is_some() { me } else { team.lightest(me) };
        let id = match target.slots.reserve(peer, framing, server.user()) {
            Ok(id) => id,
            Err(_) => {
                server.dismiss();
                return refuse(me, peer, socket.as_fd(), "out of memory");
            }
        };
        if Arc::ptr_eq(target, me) {
            return self.open_conn(id, socket, false);
        }
        let command = Command::Adopt { conn: id, socket, announced: false };
        let Err((error, command)) = target.mailbox.post(command) else { return };
        target.slots.release(id);
        let Command::Adopt { socket, .. } = command else { return };
        if let Ok(id) = me.slots.reserve(peer, framing, server.user()) {
            return self.open_conn(id, socket, false);
        }
        server.dismiss();
        refuse(me, peer, socket.as_fd(), error);
    }

    /// Takes a connection on. `announced`: the program has its handle already.
    pub(super) fn open_conn(&mut self, id: ConnId, socket: OwnedFd, announced: bool) {
        let driver = &mut self.driver;
        let inserted = roster::with(|roster| roster.insert(id)).unwrap_or(Ok(()));
        let opened = inserted.and_then(|()| {
            driver.attach(id, socket, Carries::Stream).map_err(|error| Error::system("attach a connection", &error))?;
            roster::with(|roster| roster.announce(id)).unwrap_or(Ok(()))
        });
        if let Err(error) = opened {
            log::warn!("a connection was lost: {error}");
            self.driver.close(id, false);
            return self.context.lose(id, error.status, announced);
        }
        self.call_opened(id);
        if self.has_stopped {
            self.stop_conn(id);
        }
        self.settle();
    }

    /// Tells the program that a connection is open.
    pub(super) fn call_opened(&self, id: ConnId) {
        let context = &self.context;
        if catch_unwind(AssertUnwindSafe(|| context.opened(id))).is_err() {
            context.caught_panic(Some(id));
        }
    }

    pub(super) fn rest(&mut self, listener: usize) {
        self.unlisten(listener);
        self.context.me.counters.rests.add(1);
        // Without memory for the timer the listener stays off: there is nothing to accept with, either.
        roster::with(|roster| roster.wheel.start(sys::now_ms() + REST_MS, Due::Listener(listener)).map(drop));
    }

    pub(super) fn unlisten(&mut self, listener: usize) {
        if let Some(Some(socket)) = self.listeners.get(listener) {
            self.driver.unlisten(listener, socket.as_fd());
        }
    }

    pub(super) fn listen_again(&mut self, listener: usize) {
        if self.has_stopped {
            return;
        }
        let Some(Some(socket)) = self.listeners.get(listener) else { return };
        let watched = match socket.is_datagram() {
            true => self.driver.listen_datagrams(listener, socket.as_fd()),
            false => self.driver.listen(listener, socket.as_fd()),
        };
        if let Err(error) = watched {
            log::warn!("{} rests again: {error}", socket.url());
            self.rest(listener);
        }
    }
}
