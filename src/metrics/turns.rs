//! How long turns take: a histogram with fixed bounds, so that counting is two additions and no search.

use super::Counter;

/// The first bucket has what took at most 2^10 ns, about a microsecond.
const FIRST_BITS: u32 = 10;
/// The last bound is 2^30 ns, about a second: each is twice the one before.
const BOUNDS: usize = 21;

/// The turn times of one worker, which alone writes them.
#[derive(Debug, Default)]
pub struct Turns {
    /// One for each bound, and one for what takes longer than the last.
    buckets: [Counter; BOUNDS + 1],
    nanoseconds: Counter,
}

impl Turns {
    /// Counts one turn.
    #[inline]
    pub fn count(&self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)].add(1);
        self.nanoseconds.add(nanoseconds);
    }

    /// The time of all turns.
    pub(super) fn nanoseconds(&self) -> u64 {
        self.nanoseconds.get()
    }
}

/// The first bucket whose bound is not less.
#[inline]
const fn bucket(nanoseconds: u64) -> usize {
    let bits = u64::BITS - nanoseconds.saturating_sub(1).leading_zeros();
    let bucket = bits.saturating_sub(FIRST_BITS) as usize;
    if bucket < BOUNDS { bucket } else { BOUNDS }
}

/// The turn times of all workers at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnSums {
    buckets: [u64; BOUNDS + 1],
    nanoseconds: u64,
}

impl TurnSums {
    /// Adds one worker's.
    pub fn add(&mut self, turns: &Turns) {
        for (sum, counter) in self.buckets.iter_mut().zip(&turns.buckets) {
            *sum += counter.get();
        }
        self.nanoseconds = self.nanoseconds.wrapping_add(turns.nanoseconds.get());
    }

    /// The time of all turns.
    pub(super) fn nanoseconds(&self) -> u64 {
        self.nanoseconds
    }

    /// Bounds in nanoseconds, each with the number of turns that took no longer; None: no bound, all turns. A total
    /// that was counted apart from the buckets could differ from them in the moment of reading.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = (0..BOUNDS).map(|at| Some(1 << (FIRST_BITS as usize + at))).chain([None]);
        bounds.zip(self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_buckets_reach_from_a_microsecond_to_a_second() {
        let cases = [(0, 0), (1, 0), (1024, 0), (1025, 1), (2048, 1), (2049, 2)];
        for (nanoseconds, expected) in cases {
            assert_eq!(bucket(nanoseconds), expected, "{nanoseconds} ns");
        }
        assert_eq!(bucket(1 << 30), BOUNDS - 1);
        assert_eq!(bucket((1 << 30) + 1), BOUNDS);
        assert_eq!(bucket(u64::MAX), BOUNDS);
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_times_themselves(times in prop::collection::vec(0u64..4 << 30, 0..200)) {
            let workers = [Turns::default(), Turns::default()];
            for (at, nanoseconds) in times.iter().enumerate() {
                workers[at % 2].count(*nanoseconds);
            }
            let mut sums = TurnSums::default();
            workers.iter().for_each(|turns| sums.add(turns));
            for (bound, count) in sums.cumulative() {
                let expected = times.iter().filter(|time| bound.is_none_or(|bound| **time <= bound)).count();
                prop_assert_eq!(count, expected as u64, "up to {:?}", bound);
            }
            prop_assert_eq!(sums.nanoseconds(), times.iter().sum::<u64>());
        }
    }
}
