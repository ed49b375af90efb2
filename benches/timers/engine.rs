//! A server without threads, whose one turn is the bench.

use crate::pending::{Delays, PENDING};
use crate::sys::{self, Timer, Worker};

/// A timer of the server, until it is dropped.
pub(crate) struct Running<'a>(&'a Worker, Timer);

impl<'a> Running<'a> {
    pub(crate) fn start(worker: &'a Worker, delay_ms: u32) -> Running<'a> {
        Running(worker, worker.start(delay_ms))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.cancel(self.1);
    }
}

/// Runs `measure` in a callback of a server that has a million timers pending.
pub(crate) fn on_worker(measure: impl FnOnce(&Worker)) {
    sys::in_callback(|worker| {
        let mut delays = Delays::new();
        for _ in 0..PENDING {
            worker.start(delays.next_ms());
        }
        assert_eq!(worker.timers(), u64::from(PENDING) + 1, "all are pending, and the one that runs this");
        measure(worker);
        assert_eq!(worker.timers(), u64::from(PENDING) + 1, "what was started was cancelled");
    });
}
