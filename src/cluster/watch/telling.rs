//! Telling the program what a watch has for it: on the worker of its bucket's handle, one call after the other.

use std::sync::Arc;

use super::{PENDING_BYTES_MAX, PENDING_MAX, Watch};
use crate::cluster::bucket::Entry;

/// After a want of memory.
const SHORT_MS: u32 = 100;
/// Calls of the program's in a row, before others of the worker have their turn.
const CALLS_IN_A_ROW: usize = 64;

impl Watch {
    /// Sees to it that the program gets what waits for it.
    pub(super) fn post(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            if state.is_over || state.is_posted || state.order.is_empty() {
                return;
            }
            state.is_posted = true;
        }
        let watch = Arc::clone(self);
        self.kv.run(Box::new(move || watch.deliver()));
    }

    /// For want of memory: there may be some in a while. Until then it counts as posted.
    fn deliver_later(self: &Arc<Self>, entry: Option<Entry>) {
        self.lock().put_back(entry);
        let watch = Arc::clone(self);
        let again = move || {
            let kv = Arc::clone(&watch.kv);
            kv.run(Box::new(move || watch.deliver()));
        };
        if let Err(error) = self.kv.after(SHORT_MS, Box::new(again)) {
            log::debug!("a watch waits for the next change: {error}");
            let finalizer = {
                let mut state = self.lock();
                state.is_posted = false;
                if state.is_over { state.finalizer.take() } else { None }
            };
            drop(finalizer);
        }
    }

    /// Calls the program.
    fn deliver(self: &Arc<Self>) {
        let next = |count: usize| {
            let mut state = self.lock();
            if state.is_over || count == CALLS_IN_A_ROW { None } else { state.pop() }
        };
        let mut count = 0;
        while let Some(entry) = next(count) {
            if !(self.call)(entry.as_ref()) {
                return self.deliver_later(entry);
            }
            count += 1;
        }
        let finalizer = {
            let mut state = self.lock();
            state.is_posted = false;
            if state.is_behind && state.pending.len() < PENDING_MAX / 2 && state.pending_bytes < PENDING_BYTES_MAX / 2 {
                state.is_behind = false;
                state.walks = true;
            }
            if state.is_over { state.finalizer.take() } else { None }
        };
        drop(finalizer);
        self.post();
        self.pump();
    }
}
