//! The limit on bytes queued for all connections together.
//!
//! Workers take from it in leases of some KiB, so that in the steady state no message touches what all
//! workers share.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is left for everybody.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    limit: u64,
    /// What a worker takes at a time, and keeps at hand when it gives back.
    lease: u64,
}

/// Largest lease. With a small limit or many workers it is less, so that what workers keep at hand is always a
/// small part of the whole.
const LEASE_BYTES_MAX: u64 = 64 << 10;

impl Budget {
    pub(crate) fn new(limit: u64, workers: usize) -> Self {
        let lease = (limit / (64 * workers as u64)).clamp(1, LEASE_BYTES_MAX);
        Self { left: AtomicU64::new(limit), limit, lease }
    }

    /// Takes all of it or nothing.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether it pays to try again after a refusal: a sixteenth of the limit is free.
    pub(crate) fn has_room(&self) -> bool {
        self.left.load(Ordering::Relaxed) >= self.limit / 16
    }
}

/// One worker's share of the budget.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    held: u64,
    used: u64,
}

impl Lease {
    /// Takes bytes, from the share if they are there.
    #[inline(always)]
    pub(crate) fn take(&mut self, budget: &Budget, bytes: u64) -> bool {
        if self.held - self.used < bytes && !self.extend(budget, bytes) {
            return false;
        }
        self.used += bytes;
        true
    }

    #[cold]
    fn extend(&mut self, budget: &Budget, bytes: u64) -> bool {
        let missing = bytes - (self.held - self.used);
        // Near the limit only what is needed.
        let more = [missing.next_multiple_of(budget.lease), missing].into_iter().find(|more| budget.take(*more));
        self.held += more.unwrap_or(0);
        more.is_some()
    }

    /// Counts bytes that another thread has taken from the budget and that are now this worker's.
    pub(crate) fn adopt(&mut self, bytes: u64) {
        self.held += bytes;
        self.used += bytes;
    }

    /// Gives bytes back, and what is then more than two leases.
    #[inline]
    pub(crate) fn give(&mut self, budget: &Budget, bytes: u64) {
        self.used -= bytes;
        let idle = self.held - self.used;
        if idle > 2 * budget.lease {
            self.held -= idle - budget.lease;
            budget.give(idle - budget.lease);
        }
    }

    /// Gives everything back that is not in use.
    pub(crate) fn settle(&mut self, budget: &Budget) {
        budget.give(self.held - self.used);
        self.held = self.used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_byte_can_be_taken_and_no_more() {
        let budget = Budget::new(100, 2);
        let mut lease = Lease::default();
        assert!(lease.take(&budget, 60));
        assert!(!lease.take(&budget, 41));
        assert!(lease.take(&budget, 40));
        assert!(!budget.take(1));
        lease.give(&budget, 100);
        lease.settle(&budget);
        assert!(budget.take(100));
    }

    proptest! {
        /// Whoever takes and gives, no more than the limit is out, and all of it comes back.
        #[test]
        fn nothing_is_lost_and_nothing_made(steps in prop::collection::vec((0usize..3, 0u64..300_000), 0..200)) {
            const LIMIT: u64 = 1 << 20;
            let budget = Budget::new(LIMIT, 2);
            let mut leases = [Lease::default(), Lease::default()];
            let mut taken: Vec<(usize, u64)> = Vec::new();
            for (which, bytes) in steps {
                if which == 2 {
                    if let Some((which, bytes)) = taken.pop() {
                        leases[which].give(&budget, bytes);
                    }
                } else if leases[which].take(&budget, bytes) {
                    taken.push((which, bytes));
                }
                prop_assert!(taken.iter().map(|(_, bytes)| bytes).sum::<u64>() <= LIMIT);
            }
            for (which, bytes) in taken {
                leases[which].give(&budget, bytes);
            }
            leases.iter_mut().for_each(|lease| lease.settle(&budget));
            prop_assert!(budget.take(LIMIT));
        }
    }
}
