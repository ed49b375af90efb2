//! A hierarchical wheel of timers: start, cancel and expiry in constant time, 1 ms apart.
//!
//! Six levels of 64 slots: a slot of level 0 is 1 ms wide, one of level n is 64ⁿ ms. A timer lies in the level
//! at which its deadline first differs from now, and moves down as its slot comes up (at most five times
//! in its life). A bitmap per level finds the next slot without a search.

use std::collections::TryReserveError;
use std::num::NonZeroU32;

const LEVELS: usize = 6;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Furthest that a timer can be placed, about two years; later ones are placed there and move on from there.
const REACH_MS: u64 = 1 << (SLOT_BITS * LEVELS);
/// The list of timers whose deadline has come.
const DUE: usize = LEVELS * SLOTS;
const NONE: u32 = u32::MAX;

/// Names a timer until it expires or is cancelled; then it is stale and harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    index: u32,
    /// Not zero, so that no timer takes no room beside it.
    generation: NonZeroU32,
}

/// Timers that each carry a `T`.
pub(crate) struct Wheel<T> {
    /// Everything up to here has been moved to `DUE`.
    now_ms: u64,
    occupied: [u64; LEVELS],
    heads: [u32; DUE + 1],
    entries: Vec<Entry<T>>,
    free: u32,
}

struct Entry<T> {
    deadline_ms: u64,
    /// None: the entry is free, and `next` leads to the next free one.
    payload: Option<T>,
    generation: NonZeroU32,
    list: u32,
    next: u32,
    previous: u32,
}

#[allow(clippy::cast_possible_truncation)] // of numbers of slots and lists, which are small
impl<T> Wheel<T> {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { now_ms, occupied: [0; LEVELS], heads: [NONE; DUE + 1], entries: Vec::new(), free: NONE }
    }

    /// Starts a timer that expires at `deadline_ms`, or at once if that has passed.
    pub(crate) fn start(&mut self, deadline_ms: u64, payload: T) -> Result<TimerKey, TryReserveError> {
        let index = match self.free {
            NONE => {
                self.entries.try_reserve(1)?;
                let index = u32::try_from(self.entries.len()).expect("fewer timers than connections can be");
                let (generation, list, next, previous) = (NonZeroU32::MIN, 0, NONE, NONE);
                self.entries.push(Entry { deadline_ms, payload: None, generation, list, next, previous });
                index
            }
            free => {
                self.free = self.entries[free as usize].next;
                free
            }
        };
        let entry = &mut self.entries[index as usize];
        entry.deadline_ms = deadline_ms;
        entry.payload = Some(payload);
        let generation = entry.generation;
        self.place(index);
        Ok(TimerKey { index, generation })
    }

    /// Cancels a timer, if it has not expired.
    #[inline]
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.payload.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// When a timer expires, if it has not.
    pub(crate) fn deadline_ms(&self, key: TimerKey) -> Option<u64> {
        let entry = self.entries.get(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        entry.payload.is_some().then_some(entry.deadline_ms)
    }

    /// When to look again: no timer expires before this time. None: there is no timer.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        if self.heads[DUE] != NONE {
            return Some(self.now_ms);
        }
        self.next_slot().map(|(_, deadline_ms)| deadline_ms)
    }

    /// Takes out one timer whose deadline is not after `now_ms`; call it until there is none.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Option<T> {
        loop {
            let head = self.heads[DUE];
            if head != NONE {
                self.unlink(head);
                return self.release(head);
            }
            match self.next_slot() {
                Some((list, deadline_ms)) if deadline_ms <= now_ms => {
                    self.now_ms = deadline_ms;
                    self.empty(list);
                }
                _ => {
                    self.now_ms = self.now_ms.max(now_ms);
                    return None;
                }
            }
        }
    }

    /// The occupied slot that comes up first, and when. Lower levels come before higher ones: what lies higher
    /// lies beyond the whole of the level below.
    #[inline]
    fn next_slot(&self) -> Option<(usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let shift = SLOT_BITS * level;
        let current = (self.now_ms >> shift) as usize % SLOTS;
        // Nothing lies in the current slot but what has come round once, and that comes last.
        let first = (current + 1) % SLOTS;
        let ahead = self.occupied[level].rotate_right(first as u32).trailing_zeros() as usize;
        let slot = (first + ahead) % SLOTS;
        let round = 1 << (shift + SLOT_BITS);
        let start = self.now_ms & !(round - 1);
        let mut deadline_ms = start + ((slot as u64) << shift);
        if deadline_ms <= self.now_ms {
            deadline_ms += round;
        }
        Some((level * SLOTS + slot, deadline_ms))
    }

    /// Moves the timers of a slot that has come up to where they belong now.
    fn empty(&mut self, list: usize) {
        let mut index = std::mem::replace(&mut self.heads[list], NONE);
        self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        while index != NONE {
            let next = self.entries[index as usize].next;
            self.place(index);
            index = next;
        }
    }

    fn place(&mut self, index: u32) {
        let deadline_ms = self.entries[index as usize].deadline_ms.min(self.now_ms + REACH_MS - 1);
        if deadline_ms <= self.now_ms {
            return self.link(index, DUE);
        }
        let differing = 63 - (deadline_ms ^ self.now_ms).leading_zeros() as usize;
        // A deadline across the end of the topmost round lies in the topmost level, too.
        let level = (differing / SLOT_BITS).min(LEVELS - 1);
        let slot = (deadline_ms >> (SLOT_BITS * level)) as usize % SLOTS;
        self.occupied[level] |= 1 << slot;
        self.link(index, level * SLOTS + slot);
    }

    fn link(&mut self, index: u32, list: usize) {
        let next = std::mem::replace(&mut self.heads[list], index);
        if next != NONE {
            self.entries[next as usize].previous = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.list = list as u32;
        entry.next = next;
        entry.previous = NONE;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { list, next, previous, .. } = self.entries[index as usize];
        let list = list as usize;
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        } else {
            self.heads[list] = next;
            if next == NONE && list != DUE {
                self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
            }
        }
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.next = self.free;
        self.free = index;
        entry.payload.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn expire_all(wheel: &mut Wheel<u32>, now_ms: u64) -> Vec<u32> {
        let mut expired: Vec<u32> = std::iter::from_fn(|| wheel.expire(now_ms)).collect();
        expired.sort_unstable();
        expired
    }

    #[test]
    fn timers_expire_at_their_millisecond_and_not_before() {
        for delay_ms in [1, 2, 63, 64, 65, 4095, 4096, 4097, 262_144, 1 << 30, REACH_MS - 1, REACH_MS, REACH_MS * 3 + 5]
        {
            for start_ms in [0, 1, 63, 64, 100_000, REACH_MS - 1] {
                let mut wheel = Wheel::new(start_ms);
                wheel.start(start_ms + delay_ms, 7).unwrap();
                assert!(expire_all(&mut wheel, start_ms + delay_ms - 1).is_empty(), "{start_ms} + {delay_ms}");
                assert!(wheel.next_ms().unwrap() <= start_ms + delay_ms);
                assert_eq!(expire_all(&mut wheel, start_ms + delay_ms), [7], "{start_ms} + {delay_ms}");
                assert_eq!(wheel.next_ms(), None);
            }
        }
    }

    #[test]
    fn a_deadline_in_the_past_is_due_at_once() {
        let mut wheel = Wheel::new(500);
        wheel.start(3, 1).unwrap();
        assert_eq!(wheel.next_ms(), Some(500));
        assert_eq!(expire_all(&mut wheel, 500), [1]);
    }

    #[test]
    fn a_key_is_good_for_one_timer() {
        let mut wheel = Wheel::new(0);
        let first = wheel.start(10, 1).unwrap();
        assert_eq!(wheel.cancel(first), Some(1));
        assert_eq!(wheel.cancel(first), None);
        let second = wheel.start(10, 2).unwrap();
        assert_eq!(wheel.cancel(first), None);
        assert_eq!(expire_all(&mut wheel, 10), [2]);
        assert_eq!(wheel.cancel(second), None);
    }

    proptest! {
        /// Whatever is started and cancelled, the wheel does what a sorted map does.
        #[test]
        fn it_does_what_a_sorted_map_does(
            start_ms in 0u64..1 << 40,
            steps in prop::collection::vec((0u64..1 << 14, 0u64..1 << 20, any::<bool>()), 1..200),
        ) {
            let mut wheel = Wheel::new(start_ms);
            let mut model = BTreeMap::new();
            let mut now_ms = start_ms;
            for (number, (advance_ms, delay_ms, cancels)) in steps.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let key = wheel.start(now_ms + delay_ms, number).unwrap();
                model.insert((now_ms + delay_ms, number), key);
                if cancels {
                    let (&id, &key) = model.iter().nth(model.len() / 2).unwrap();
                    prop_assert_eq!(wheel.cancel(key), Some(id.1));
                    model.remove(&id);
                }
                now_ms += advance_ms;
                let rest = model.split_off(&(now_ms + 1, 0));
                let mut expected: Vec<u32> = std::mem::replace(&mut model, rest).into_keys().map(|(_, id)| id).collect();
                expected.sort_unstable();
                if let (Some(next_ms), Some(((deadline_ms, _), _))) = (wheel.next_ms(), model.first_key_value()) {
                    prop_assert!(!expected.is_empty() || next_ms <= *deadline_ms);
                }
                prop_assert_eq!(expire_all(&mut wheel, now_ms), expected);
            }
        }
    }
}
