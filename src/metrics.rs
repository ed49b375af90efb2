//! What a server counts. Each worker has counters of its own, which only it writes; a reader adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

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

macro_rules! counters {
    ($($(#[$comment:meta])* $name:ident,)*) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$comment])* pub $name: Counter,)*
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
}
