//! The timers that are pending, and those that come on top.

/// How many are pending.
pub(crate) const PENDING: u32 = 1_000_000;

/// From a minute to 18 hours: none comes due while the bench runs, and they lie all over the wheel.
const DELAY_MIN_MS: u32 = 60_000;
const DELAY_MAX_MS: u32 = 1 << 26;

/// Delays, the same ones every time.
pub(crate) struct Delays(u32);

impl Delays {
    pub(crate) fn new() -> Delays {
        Delays(1)
    }

    /// Marsaglia's xorshift: its cost is a nanosecond.
    pub(crate) fn next_ms(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        DELAY_MIN_MS + self.0 % (DELAY_MAX_MS - DELAY_MIN_MS)
    }
}
