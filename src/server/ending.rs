//! How a worker stops, and what is left when it has.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::mailbox::Command;
use super::registry;
use super::roster;
use super::worker::Worker;
use crate::conn::Phase;
use crate::conn::handle::ConnId;
use crate::driver::Driver;
use crate::status::Status;
use crate::sys;

impl<D: Driver> Worker<D> {
    /// Begins to stop when the server is told to, and cuts off what is left when the time for it has passed.
    pub(super) fn heed_stop(&mut self) {
        let Some(stop_at_ms) = self.context.server.stop_at_ms() else { return };
        if sys::forked() {
            return;
        }
        if !self.has_stopped {
            if let Some(cluster) = self.context.server.cluster() {
                cluster.leave();
            }
            // What a thread asked for before it stopped the server is done before the stop.
            self.carry_out_commands();
            if sys::forked() {
                return;
            }
            for listener in 0..self.listeners.len() {
                let Some(Some(socket)) = self.listeners.get(listener) else { continue };
                // Peers of a datagram socket are heard to the end; but where a successor reads from it, too, what comes is the
                // successor's.
                if socket.is_handed_over() || !socket.is_datagram() {
                    self.unlisten(listener);
                }
            }
            // Who was accepted by now is served like those before.
            self.handle_events();
            self.has_stopped = true;
            // What has arrived by now, from those who were accepted, is served.
            if self.driver.wait(Some(0)).is_ok() {
                self.handle_events();
            }
            // Datagrams are still sent through the sockets that they came to.
            for listener in &mut self.listeners {
                listener.take_if(|listener| !listener.is_datagram());
            }
            self.close_all();
            self.settle();
            self.handle_events();
            // What is queued by now is tried once, whoever closes what.
            self.flush(usize::MAX);
            self.handle_events();
            // Each pass hands something of a closing connection to the system, or leaves its outbox with the driver, which
            // waits for room; nobody can queue more for it.
            while !sys::forked() {
                if self.driver.has_unasked() && self.driver.wait(Some(0)).is_ok() {
                    self.handle_events();
                }
                if roster::with(|roster| roster.has_closing_dirty()) != Some(true) {
                    break;
                }
                self.flush(usize::MAX);
                self.handle_events();
            }
        }
        if sys::now_ms() >= stop_at_ms {
            if let Some(cluster) = self.context.server.cluster() {
                cluster.cut();
            }
            roster::with(|roster| roster.each(|roster, id| roster.doom(id, Status::Stopped)));
            self.settle();
            self.handle_events();
        }
    }

    /// Closes every connection; or lets the program do that, if it wants to.
    fn close_all(&mut self) {
        let drains = self.context.server.conduct.drains;
        let mut draining = Vec::new();
        roster::with(|roster| {
            roster.each(|roster, id| {
                let is_open = roster.conn(id).is_some_and(|conn| conn.phase == Phase::Open);
                // Without memory to remember it, it is closed at once.
                if drains && is_open && draining.try_reserve(1).is_ok() {
                    draining.push(id);
                } else {
                    roster.close(id, Status::Stopped);
                }
            });
        });
        for id in draining {
            self.stop_conn(id);
        }
    }

    /// The server has stopped: a connection that is still open is told, if the program wants to know, or closed.
    pub(super) fn stop_conn(&mut self, id: ConnId) {
        if !self.context.server.conduct.drains {
            roster::with(|roster| roster.close(id, Status::Stopped));
            return;
        }
        let context = &self.context;
        if catch_unwind(AssertUnwindSafe(|| context.drain(id))).is_err() {
            context.caught_panic(Some(id));
        }
        self.settle();
    }

    /// The driver does not work any more: somebody else in the process has closed its descriptors.
    pub(super) fn lose_driver(&mut self, error: &io::Error) {
        log::error!("a worker stops: its driver failed: {error}");
        self.context.server.stop(0);
        roster::with(|roster| roster.each(|roster, id| roster.doom(id, Status::System)));
        self.settle();
    }

    /// Whether nothing is left of a stopped server: no connection here, and nothing of the cluster's, whose calls run on
    /// the workers.
    pub(super) fn is_done(&self) -> bool {
        let has_left = self.context.server.cluster().is_none_or(|cluster| cluster.has_left());
        has_left && roster::with(|roster| roster.count) == Some(0)
    }

    /// The last connection of a stopped server is gone: the worker ends, unless another is on its way.
    pub(super) fn try_end(&mut self) -> bool {
        if !self.context.me.mailbox.close_if_done() {
            return false;
        }
        self.end();
        true
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
        self.retire();
        roster::with(|roster| roster.settle_lease());
        self.context.server.worker_ended();
    }

    /// Gives the worker's number back. What is still in the mailbox comes to nothing, and is told so.
    fn retire(&mut self) {
        for command in self.context.me.mailbox.close() {
            match command {
                Command::Adopt { conn, announced, .. } => self.context.lose(conn, Status::Stopped, announced),
                Command::Connect { conn, connector } => self.context.refuse_connect(conn, connector),
                other => self.context.carry_out(other),
            }
        }
        // From here on nobody starts a timer or a subscription, least of all a function that frees another.
        roster::with(|roster| roster.is_over = true);
        // What the program lent for its timers and subscriptions. Each is dropped with nothing borrowed.
        while let Some(finalizer) = roster::with(|roster| roster.pop_timer()).flatten() {
            drop(finalizer);
        }
        while let Some(subscription) = roster::with(|roster| roster.pop_subscription()).flatten() {
            drop(subscription);
        }
        drop(roster::with(|roster| roster.take_tasks()));
        registry::remove_worker(&self.context.me);
    }
}
