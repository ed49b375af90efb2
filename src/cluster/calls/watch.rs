//! Whether the nodes that have taken calls of ours are still there. A node is dead when twice nobody hears a ping to its
//! incarnation: its server has noticed that it is gone. One that is silent may be frozen, or behind a cut: only a call that may
//! be made twice is taken from it.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Call, State, TICK_MS};
use crate::cluster::Cluster;
use crate::status::{Result, Status};
use crate::sys;

/// What we know of a node.
#[derive(Default)]
pub(super) struct Watch {
    ping_at_ms: u64,
    is_pinged: bool,
    /// Times, one after the other, that nobody heard the ping.
    gone: u32,
    /// And that it was not answered.
    silent: u32,
}

/// From one ping to the next.
const PING_MS: u32 = 500;
/// And to the one that confirms that nobody is there.
const CONFIRM_MS: u64 = 200;
const GONE_MAX: u32 = 2;
const SILENT_MAX: u32 = 4;

impl State {
    /// The nodes that are to be pinged now. Those that have no call of ours any more are forgotten.
    pub(super) fn suspects(&mut self, now_ms: u64) -> Vec<u64> {
        if self.takers.is_empty() {
            return Vec::new();
        }
        let taken: HashSet<u64> = self.waiting.values().filter_map(|call| call.taker).collect();
        self.takers.retain(|incarnation, _| taken.contains(incarnation));
        let due = self.takers.iter_mut().filter(|(_, watch)| !watch.is_pinged && watch.ping_at_ms <= now_ms);
        due.map(|(incarnation, watch)| {
            watch.is_pinged = true;
            *incarnation
        })
        .collect()
    }

    /// When the next thing is to be done.
    pub(super) fn due_next_ms(&self, now_ms: u64) -> u64 {
        let of_call = |call: &Call| match call.is_unsent {
            true => call.deadline_ms.min(now_ms + u64::from(TICK_MS)),
            false => call.deadline_ms,
        };
        let calls = self.waiting.values().map(of_call);
        let pings = self.takers.values().filter(|watch| !watch.is_pinged).map(|watch| watch.ping_at_ms);
        calls.chain(pings).min().unwrap_or(u64::MAX)
    }
}

impl Cluster {
    /// A note has come of who has a call.
    pub(super) fn taken(&self, number: u64, payload: &[u8]) {
        let incarnation = std::str::from_utf8(payload).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        // Whether we are here ourselves is no question.
        let Some(incarnation) = incarnation.filter(|at| *at != self.members.incarnation) else { return };
        let mut state = self.calls.lock();
        let Some(call) = state.waiting.get_mut(&number) else { return };
        call.taker = Some(incarnation);
        let ping_at_ms = sys::deadline_ms(PING_MS);
        state.takers.entry(incarnation).or_insert(Watch { ping_at_ms, ..Watch::default() });
        state.due_ms = state.due_ms.min(ping_at_ms);
    }

    pub(super) fn ping(self: &Arc<Self>, incarnation: u64) {
        let cluster = Arc::clone(self);
        let done = move |answer: Result<_>| cluster.pinged(incarnation, answer.err().map(|error| error.status));
        if let Err(error) = self.engine.request(&self.ping_subject(incarnation), b"", PING_MS, Box::new(done)) {
            self.pinged(incarnation, Some(error.status));
        }
    }

    fn pinged(&self, incarnation: u64, failure: Option<Status>) {
        let (is_gone, is_silent) = {
            let mut state = self.calls.lock();
            let now_ms = sys::now_ms();
            let Some(watch) = state.takers.get_mut(&incarnation) else { return };
            watch.is_pinged = false;
            watch.ping_at_ms = now_ms + u64::from(PING_MS);
            match failure {
                None => (watch.gone, watch.silent) = (0, 0),
                Some(Status::NoService) => {
                    watch.gone += 1;
                    watch.ping_at_ms = now_ms + CONFIRM_MS;
                }
                Some(Status::Timeout) => {
                    watch.silent += 1;
                    watch.ping_at_ms = now_ms;
                }
                // We are cut off ourselves, and know nothing.
                Some(_) => {}
            }
            let is = (watch.gone >= GONE_MAX, watch.silent >= SILENT_MAX);
            state.due_ms = state.due_ms.min(now_ms);
            is
        };
        if is_gone {
            self.give_up(|call| call.taker == Some(incarnation), "the node that had it is gone");
        } else if is_silent {
            let may_be_taken = |call: &Call| call.taker == Some(incarnation) && call.kept.is_some() && !call.is_retried;
            self.give_up(may_be_taken, "the node that has it says nothing");
        }
    }
}
