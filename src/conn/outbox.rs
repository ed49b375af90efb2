//! The bytes that a connection still has to send, in order: copied ones gathered into few buffers, lent ones as
//! they are.

use std::collections::{TryReserveError, VecDeque};

use crate::sys::{self, LentBytes};

/// A quiet connection has no outbox; a worker keeps spare ones, each with a buffer, for those that send.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that are sent.
    sent: usize,
    /// Bytes in all segments that are not sent.
    bytes: usize,
    /// An empty buffer that the next copied bytes go to.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Lent(LentBytes),
}

impl Segment {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Lent(bytes) => bytes.as_slice(),
        }
    }
}

/// The first buffer of an outbox: small messages of one turn fit.
const BUFFER_BYTES_MIN: usize = 4 << 10;
/// Copied bytes behind a lent segment begin with a small one.
const BUFFER_BYTES_BEHIND_LENT: usize = 64;
/// Later buffers are larger, up to this.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// A larger buffer is given back to the system when an outbox is done, not kept as a spare.
const SPARE_BYTES_MAX: usize = 16 << 10;
/// What a lent segment counts beside its bytes, so that many tiny ones cannot outgrow a limit.
pub(crate) const LENT_OVERHEAD_BYTES: usize = 64;

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that are not sent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it counts in the limits: its bytes, and the overhead of its lent segments.
    pub(crate) fn cost(&self) -> usize {
        let lent = self.segments.iter().filter(|segment| matches!(segment, Segment::Lent(_))).count();
        self.bytes + lent * LENT_OVERHEAD_BYTES
    }

    /// Copies bytes to the end, all or nothing.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        if let Some(Segment::Copied(last)) = self.segments.back_mut()
            && last.capacity() - last.len() >= bytes.len()
        {
            last.extend_from_slice(bytes);
            self.bytes += bytes.len();
            return Ok(());
        }
        self.push_buffer(bytes)
    }

    fn push_buffer(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        // Twice the one before, so that what is reserved is in proportion to what is counted, also where small copies
        // and lent segments take turns.
        let (mut buffer, wanted) = match self.segments.back() {
            None => (std::mem::take(&mut self.spare), BUFFER_BYTES_MIN),
            Some(Segment::Lent(_)) => (Vec::new(), BUFFER_BYTES_BEHIND_LENT),
            Some(Segment::Copied(last)) => (Vec::new(), (2 * last.capacity()).min(BUFFER_BYTES_MAX)),
        };
        if buffer.capacity() < bytes.len().max(1) {
            sys::reserve(&mut buffer, wanted.max(bytes.len()))?;
        }
        self.segments.try_reserve(1)?;
        buffer.extend_from_slice(bytes);
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Copied(buffer));
        Ok(())
    }

    /// Takes lent bytes over, if there is memory to remember them; otherwise they stay in `lent`.
    pub(crate) fn push_lent(&mut self, lent: &mut Option<LentBytes>) -> Result<(), TryReserveError> {
        self.segments.try_reserve(1)?;
        if let Some(lent) = lent.take() {
            self.bytes += lent.as_slice().len();
            self.segments.push_back(Segment::Lent(lent));
        }
        Ok(())
    }

    /// Puts what is in `later` behind what is here.
    pub(crate) fn append(&mut self, later: &mut Self) -> Result<(), TryReserveError> {
        debug_assert_eq!(later.sent, 0);
        self.segments.try_reserve(later.segments.len())?;
        self.segments.append(&mut later.segments);
        self.bytes += std::mem::take(&mut later.bytes);
        Ok(())
    }

    /// What is not sent, in order.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        self.segments.iter().map(move |segment| &segment.as_slice()[std::mem::take(&mut skip)..])
    }

    /// Drops the first `count` bytes, which are sent; says what that frees in the limits. Functions of the host
    /// run in here: nothing of the worker may be borrowed.
    pub(crate) fn advance(&mut self, mut count: usize) -> usize {
        let mut freed = count;
        self.bytes -= count;
        while let Some(first) = self.segments.front() {
            let rest = first.as_slice().len() - self.sent;
            if count < rest {
                self.sent += count;
                break;
            }
            count -= rest;
            self.sent = 0;
            match self.segments.pop_front() {
                Some(Segment::Copied(buffer)) => self.keep(buffer),
                Some(Segment::Lent(lent)) => {
                    freed += LENT_OVERHEAD_BYTES;
                    drop(lent);
                }
                None => {}
            }
        }
        freed
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.capacity() == 0 && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Finalizer;
    use proptest::prelude::*;

    fn content(outbox: &Outbox) -> Vec<u8> {
        outbox.slices().flatten().copied().collect()
    }

    fn lend(bytes: &'static [u8]) -> Option<LentBytes> {
        Some(crate::sys::lend_static(bytes, Finalizer::NONE))
    }

    #[test]
    fn small_messages_share_a_buffer_that_is_used_again() {
        let mut outbox = Outbox::default();
        for _ in 0..10 {
            outbox.push(b"message").unwrap();
        }
        assert_eq!(outbox.slices().count(), 1);
        assert_eq!(outbox.advance(70), 70);
        assert!(outbox.is_empty());
        let spare = outbox.spare.as_ptr();
        outbox.push(b"again").unwrap();
        assert_eq!(outbox.slices().next().unwrap().as_ptr(), spare);
    }

    #[test]
    fn lent_bytes_cost_more_than_they_are_and_free_as_much() {
        let mut outbox = Outbox::default();
        outbox.push_lent(&mut lend(b"")).unwrap();
        outbox.push_lent(&mut lend(b"abc")).unwrap();
        assert_eq!(outbox.cost(), 3 + 2 * LENT_OVERHEAD_BYTES);
        assert_eq!(outbox.advance(3), 3 + 2 * LENT_OVERHEAD_BYTES);
        assert!(outbox.is_empty());
    }

    /// Miri takes a hundred times as long.
    const BYTES: usize = if cfg!(miri) { 90 } else { 9000 };
    const STEPS: usize = if cfg!(miri) { 6 } else { 40 };

    /// Bytes to send, a different byte each time round.
    static BYTES_TO_SEND: [u8; 9000 + 251] = {
        let mut bytes = [0; 9000 + 251];
        let (mut at, mut byte) = (0, 0u8);
        while at < bytes.len() {
            bytes[at] = byte;
            byte = if byte == 250 { 0 } else { byte + 1 };
            at += 1;
        }
        bytes
    };

    proptest! {
        /// Whatever is pushed and however it is sent, the bytes come out in order and the counts agree.
        #[test]
        fn bytes_come_out_in_order(
            steps in prop::collection::vec((0..BYTES, 0usize..251, any::<bool>(), 0..BYTES), 1..STEPS),
        ) {
            let mut outbox = Outbox::default();
            let mut model = VecDeque::new();
            for (length, start, lent, advance) in steps {
                let bytes = &BYTES_TO_SEND[start..start + length];
                if lent {
                    outbox.push_lent(&mut lend(bytes)).unwrap();
                } else {
                    let mut later = Outbox::default();
                    later.push(bytes).unwrap();
                    outbox.append(&mut later).unwrap();
                }
                model.extend(bytes);
                prop_assert_eq!(outbox.bytes(), model.len());
                let before = outbox.cost();
                let advance = advance.min(model.len());
                let freed = outbox.advance(advance);
                prop_assert_eq!(outbox.cost() + freed, before);
                model.drain(..advance);
                prop_assert_eq!(content(&outbox), Vec::from(model.clone()));
            }
        }
    }
}
