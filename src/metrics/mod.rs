//! What a server counts. Each worker has counters of its own, which only it writes; a reader adds them up.
//!
//! - `turns`: the histogram of how long turns take.
//! - `text`: all of it in Prometheus' text format.

mod text;
mod turns;

use std::sync::atomic::{AtomicU64, Ordering};

pub use text::{Detail, Family, Kind, text};
pub use turns::{TurnSums, Turns};

use crate::status::Status;

/// A number that one thread writes and any thread reads: no read-modify-write, no shared cache line.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only from the thread that owns the counter.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Takes away; only from the thread that owns the counter.
    #[inline]
    pub fn subtract(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less), Ordering::Relaxed);
    }

    /// Reads, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a server has done with buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvCounts {
    /// Keys read.
    pub reads: u64,
    /// Changes that were done.
    pub writes: u64,
    /// Changes refused because the key was not as the program said.
    pub conflicts: u64,
    /// Changes whose answer was lost.
    pub unknown: u64,
    /// Times that a watch had missed something, and has read it.
    pub gaps: u64,
}

/// Statuses, each of which may be the reason of a close.
const REASONS: usize = 1 + (Status::Replicas as i32).unsigned_abs() as usize;

/// The place of a reason: codes run 0, -1, -2 …
#[inline]
const fn place(reason: Status) -> usize {
    (reason as i32).unsigned_abs() as usize
}

/// A counter for each reason of a close.
#[derive(Debug)]
struct ByReason([Counter; REASONS]);

impl Default for ByReason {
    fn default() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; REASONS])
    }
}

macro_rules! counters {
    ($($(#[$comment:meta])* $name:ident,)*) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$comment])* pub $name: Counter,)*
            closed_by: ByReason,
            turn_times: Turns,
        }

        /// The sums over all workers at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            /// Workers.
            pub workers: u64,
            /// Connections open now.
            pub connections: u64,
            /// Connections open now on the worker that has most.
            pub connections_worker_max: u64,
            $($(#[$comment])* pub $name: u64,)*
        }

        impl Stats {
            /// Adds one worker's counters.
            pub fn add(&mut self, counters: &Counters, connections: u64) {
                self.workers += 1;
                self.connections += connections;
                self.connections_worker_max = self.connections_worker_max.max(connections);
                $(self.$name += counters.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections opened.
    opened,
    /// Connections closed.
    closed,
    /// Accepted and closed at once over the limit.
    refused,
    /// Given up by the peer before they could be accepted.
    aborted,
    /// Rests of a listener because descriptors or memory ran out.
    rests,
    /// Messages received.
    messages_in,
    /// Bytes received.
    bytes_in,
    /// Bytes handed to the system.
    bytes_out,
    /// Bytes queued now.
    bytes_queued,
    /// Bytes queued and never handed to the system.
    bytes_cut,
    /// Connections that had such bytes.
    connections_cut,
    /// Panics caught.
    panics,
    /// Messages taken for sending.
    messages_out,
    /// Messages refused because a queue was full.
    messages_refused,
    /// Messages published.
    published,
    /// Publishes that passed a connection by.
    published_dropped,
    /// Datagrams dropped.
    datagrams_dropped,
    /// Outgoing connections that are being opened now.
    connecting,
    /// Tries to open one that failed.
    connects_failed,
    /// Bytes of partial messages kept now.
    bytes_partial,
    /// Timers of the program that are running now.
    timers,
    /// Turns of the workers.
    turns,
    /// Connections that are closing now: the program is done with them, but not all is out, or `on_close` has not
    /// returned.
    closing,
}

impl Counters {
    /// Counts one connection closed, and for what reason.
    #[inline]
    pub fn closed_for(&self, reason: Status) {
        self.closed.add(1);
        self.closed_by.0[place(reason)].add(1);
    }

    /// The time that the worker was busy.
    pub fn busy_ns(&self) -> u64 {
        self.turn_times.nanoseconds()
    }

    /// Counts one turn, which took so long.
    #[inline]
    pub fn turn(&self, nanoseconds: u64) {
        self.turns.add(1);
        self.turn_times.count(nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_place_as_a_reason() {
        assert_eq!(Status::all().count(), REASONS);
        let counters = Counters::default();
        Status::all().for_each(|reason| counters.closed_for(reason));
        assert!(counters.closed_by.0.iter().all(|counter| counter.get() == 1));
        assert_eq!(counters.closed.get(), REASONS as u64);
    }

    #[test]
    fn workers_are_added_up() {
        let (one, other) = (Counters::default(), Counters::default());
        one.bytes_in.add(5);
        one.bytes_queued.add(9);
        one.bytes_queued.subtract(2);
        other.bytes_in.add(6);
        other.turn(1);
        let mut stats = Stats::default();
        stats.add(&one, 3);
        stats.add(&other, 4);
        let expected = Stats {
            workers: 2,
            connections: 7,
            connections_worker_max: 4,
            bytes_in: 11,
            bytes_queued: 7,
            turns: 1,
            ..Stats::default()
        };
        assert_eq!(stats, expected);
    }
}
