//! What a connection's handle is made of.

/// Names a connection in this process: the worker that owns it, its place in that worker's table, and which of
/// the connections that had this place one after another it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(u64);

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 28;

/// Places in one worker's table.
pub(crate) const INDEX_COUNT: u32 = 1 << INDEX_BITS;
/// Generations of one place. A place that has used them up is never used again: a handle is good for one
/// connection, however old the process grows.
pub(crate) const GENERATION_COUNT: u32 = 1 << GENERATION_BITS;
/// Numbers of workers. The last is no worker's: a driver may use it for events of its own.
pub(crate) const WORKER_COUNT: u32 = (1 << (64 - INDEX_BITS - GENERATION_BITS)) - 1;

#[allow(clippy::cast_possible_truncation)] // each part is taken out of its own bits
impl ConnId {
    pub(crate) fn new(worker: u32, index: u32, generation: u32) -> Self {
        debug_assert!(worker <= WORKER_COUNT && index < INDEX_COUNT && generation < GENERATION_COUNT);
        Self(
            u64::from(worker) << (INDEX_BITS + GENERATION_BITS)
                | u64::from(index) << GENERATION_BITS
                | u64::from(generation),
        )
    }

    /// A handle as it came from outside: it may be stale or made up.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The handle's number, for the program.
    pub fn raw(self) -> u64 {
        self.0
    }

    pub(crate) fn worker(self) -> u32 {
        (self.0 >> (INDEX_BITS + GENERATION_BITS)) as u32
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> GENERATION_BITS) as u32 & (INDEX_COUNT - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32 & (GENERATION_COUNT - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_come_back(worker in 0..=WORKER_COUNT, index in 0..INDEX_COUNT, generation in 0..GENERATION_COUNT) {
            let id = ConnId::new(worker, index, generation);
            prop_assert_eq!((id.worker(), id.index(), id.generation()), (worker, index, generation));
            prop_assert_eq!(ConnId::from_raw(id.raw()), id);
        }
    }
}
