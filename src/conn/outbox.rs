//! The bytes that a connection still has to send, in order: copied ones gathered into few buffers, lent ones as
//! they are.

use std::collections::{TryReserveError, VecDeque};

use super::payload::Share;
use crate::framing::Frame;
use crate::sys::{self, LentBytes};

/// A quiet connection has no outbox; a worker keeps spare ones, each with a buffer, for those that send.
///
/// Most outboxes have nothing but a tail, which all that one turn has to say fits into.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What comes before the tail.
    segments: VecDeque<Segment>,
    /// Where copied bytes go; its buffer is kept when all is sent.
    tail: Vec<u8>,
    /// Empty buffers for what is copied between lent segments: frames, mostly.
    small: Vec<Vec<u8>>,
    /// Bytes of the first segment, or of the tail if there is none, that are sent.
    sent: usize,
    /// Bytes in all of it that are not sent.
    bytes: usize,
    /// What is queued may stay for long: buffers are no larger than they have to be.
    is_tight: bool,
}

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Lent(LentBytes),
    Shared(Share),
}

impl Segment {
    #[inline]
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Lent(bytes) => bytes.as_slice(),
            Self::Shared(share) => share.as_slice(),
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// What it counts beside its bytes.
    fn overhead(&self) -> usize {
        if matches!(self, Self::Copied(_)) { 0 } else { SEGMENT_OVERHEAD_BYTES }
    }
}

/// What is queued, as the limits count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// In the limit of the connection.
    pub(crate) conn: usize,
    /// In the limit of all connections, in which a shared payload is counted once, by itself.
    pub(crate) total: usize,
}

impl Cost {
    /// Of copied bytes.
    #[inline]
    pub(crate) fn copied(bytes: usize) -> Self {
        Self { conn: bytes, total: bytes }
    }

    /// Of lent bytes, `framing` bytes of a frame included.
    pub(crate) fn lent(bytes: usize) -> Self {
        Self::copied(bytes + SEGMENT_OVERHEAD_BYTES)
    }

    /// Of a share in `bytes` bytes.
    #[inline]
    pub(crate) fn shared(bytes: usize) -> Self {
        Self { conn: bytes + SEGMENT_OVERHEAD_BYTES, total: SEGMENT_OVERHEAD_BYTES }
    }
}

impl std::ops::AddAssign for Cost {
    #[inline]
    fn add_assign(&mut self, more: Self) {
        self.conn += more.conn;
        self.total += more.total;
    }
}

/// The first buffer of an outbox: small messages of one turn fit.
const BUFFER_BYTES_MIN: usize = 4 << 10;
/// The first one where what is queued may stay.
const BUFFER_BYTES_TIGHT: usize = 256;
/// Copied bytes behind a lent segment begin with a small one.
const BUFFER_BYTES_BEHIND_LENT: usize = 64;
/// So many of those are kept when all is sent.
const SMALL_MAX: usize = 32;
/// Later buffers are larger, up to this.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// A larger buffer is given back to the system when an outbox is done, not kept as a spare: what a receive brings fits,
/// so that a relay does not get and give back memory for each.
const SPARE_BYTES_MAX: usize = 66 << 10;
/// Of buffers larger than this a worker keeps a few.
const SPARE_BYTES_SMALL: usize = 16 << 10;
/// What a lent or shared segment counts beside its bytes, so that many tiny ones cannot outgrow a limit.
pub(crate) const SEGMENT_OVERHEAD_BYTES: usize = 64;

impl Outbox {
    /// For a connection whose peer takes nothing at present.
    pub(crate) fn tight() -> Self {
        Self { is_tight: true, ..Self::default() }
    }

    /// Gives back memory that holds nothing, or what is sent: the outbox has to wait, and with many that wait the memory
    /// would be a multiple of what the limits count. Up to half of a buffer may be sent before the rest is moved: a peer that
    /// takes a long message in small bites would have it moved for each.
    pub(crate) fn compact(&mut self) {
        let first = match self.segments.front_mut() {
            Some(Segment::Copied(first)) => Some(first),
            Some(_) => None,
            None => Some(&mut self.tail),
        };
        if let Some(first) = first {
            if self.sent > first.len() / 2 {
                first.drain(..std::mem::take(&mut self.sent));
            }
            first.shrink_to_fit();
        }
        self.tail.shrink_to_fit();
        self.small = Vec::new();
    }

    /// Makes an empty one as good as new.
    pub(crate) fn renew(&mut self) {
        self.is_tight = false;
    }

    /// Whether it keeps a large buffer.
    pub(crate) fn is_large(&self) -> bool {
        self.tail.capacity() > SPARE_BYTES_SMALL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tail.is_empty()
    }

    /// Bytes that are not sent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that are not sent, of an outbox of datagrams: without the length of four bytes before each.
    pub(crate) fn datagram_bytes(&self) -> usize {
        let mut bytes = self.slices().flatten();
        let mut sum = 0;
        loop {
            let mut length = [0; 4];
            for byte in &mut length {
                let Some(next) = bytes.next() else { return sum };
                *byte = *next;
            }
            let length = u32::from_be_bytes(length) as usize;
            sum += length;
            if length > 0 && bytes.nth(length - 1).is_none() {
                return sum;
            }
        }
    }

    /// What it counts in the limits.
    pub(crate) fn cost(&self) -> Cost {
        let mut cost = Cost::copied(self.tail.len());
        for segment in &self.segments {
            let bytes = segment.as_slice().len();
            cost.conn += bytes + segment.overhead();
            cost.total += segment.overhead() + if segment.is_shared() { 0 } else { bytes };
        }
        let is_first_shared = self.segments.front().is_some_and(Segment::is_shared);
        cost.conn -= self.sent;
        cost.total -= if is_first_shared { 0 } else { self.sent };
        cost
    }

    /// Copies a message in its frame to the end, all or nothing; `length` is that of the parts together. What one call
    /// copies lies in one piece.
    #[inline(always)]
    pub(crate) fn push(&mut self, frame: &Frame<'_>, parts: &[&[u8]], length: usize) -> Result<(), TryReserveError> {
        let length = length + frame.overhead();
        self.reserve(length)?;
        fill(&mut self.tail, frame, parts);
        self.bytes += length;
        Ok(())
    }

    /// Makes room for a copy of so many bytes, which cannot fail then.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, length: usize) -> Result<(), TryReserveError> {
        if self.has_room(length) { Ok(()) } else { self.make_room(length) }
    }

    /// Whether a copy of so many bytes needs no memory.
    #[inline(always)]
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.tail.capacity() - self.tail.len() >= length
    }

    /// Copies a message to the end, where there is room for it; behind its length in four bytes, or behind nothing.
    #[inline(always)]
    pub(crate) fn push_into_room(&mut self, message: &[u8], has_length: bool) {
        debug_assert!(self.has_room(message.len() + 4 * usize::from(has_length)));
        if has_length {
            #[allow(clippy::cast_possible_truncation)] // no message is longer than that
            self.tail.extend_from_slice(&(message.len() as u32).to_be_bytes());
            self.bytes += 4;
        }
        self.tail.extend_from_slice(message);
        self.bytes += message.len();
    }

    /// Copies bytes that are in their frame already.
    #[inline]
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), TryReserveError> {
        self.push(&Frame::default(), &[bytes], bytes.len())
    }

    /// Takes over bytes that are in their frame already; small ones go where there is room.
    pub(crate) fn push_owned(&mut self, bytes: Vec<u8>) -> Result<(), TryReserveError> {
        if self.has_room(bytes.len()) || bytes.len() < BUFFER_BYTES_TIGHT {
            return self.push_bytes(&bytes);
        }
        self.segments.try_reserve(2)?;
        self.seal();
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Copied(bytes));
        Ok(())
    }

    /// A tail with room for `length` bytes.
    #[cold]
    fn make_room(&mut self, length: usize) -> Result<(), TryReserveError> {
        // Twice the one before, so that what is reserved is in proportion to what is counted, also where small copies
        // and other segments take turns.
        let wanted = match self.segments.back() {
            _ if self.is_tight => (self.bytes / 4).clamp(BUFFER_BYTES_TIGHT, BUFFER_BYTES_MAX),
            _ if !self.tail.is_empty() => (2 * self.tail.capacity()).min(BUFFER_BYTES_MAX),
            Some(Segment::Lent(_) | Segment::Shared(_)) => BUFFER_BYTES_BEHIND_LENT,
            _ => BUFFER_BYTES_MIN,
        };
        let tail = self.buffer(wanted.max(length))?;
        self.segments.try_reserve(1)?;
        self.seal();
        self.tail = tail;
        Ok(())
    }

    /// An empty buffer for so many bytes.
    fn buffer(&mut self, length: usize) -> Result<Vec<u8>, TryReserveError> {
        if length <= BUFFER_BYTES_BEHIND_LENT
            && let Some(small) = self.small.pop()
        {
            return Ok(small);
        }
        let mut buffer = Vec::new();
        sys::reserve(&mut buffer, length)?;
        Ok(buffer)
    }

    /// Keeps a buffer that nothing is in any more.
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() == BUFFER_BYTES_BEHIND_LENT {
            if self.small.len() < SMALL_MAX && self.small.try_reserve(1).is_ok() {
                self.small.push(buffer);
            }
        } else if self.tail.capacity() == 0 && buffer.capacity() <= SPARE_BYTES_MAX {
            self.tail = buffer;
        }
    }

    /// Room for so many segments more. Mostly it is there.
    #[inline]
    fn reserve_segments(&mut self, count: usize) -> Result<(), TryReserveError> {
        if self.segments.capacity() - self.segments.len() >= count { Ok(()) } else { self.segments.try_reserve(count) }
    }

    /// Makes a segment of the tail. The caller has made room for it.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(Segment::Copied(std::mem::take(&mut self.tail)));
        }
    }

    /// Takes a lent message over, with a frame around it, if there is memory to remember it; otherwise it stays in `lent`
    /// and nothing is queued.
    pub(crate) fn push_lent(&mut self, frame: &Frame<'_>, lent: &mut Option<LentBytes>) -> Result<(), TryReserveError> {
        // First everything that can fail.
        self.reserve_segments(3)?;
        let mut suffix = Vec::new();
        if !frame.suffix().is_empty() {
            suffix = self.buffer(frame.suffix().len().max(BUFFER_BYTES_BEHIND_LENT))?;
        }
        if !frame.prefix().is_empty() {
            self.push_bytes(frame.prefix())?;
        }
        let Some(lent) = lent.take() else { return Ok(()) };
        self.seal();
        self.bytes += lent.as_slice().len() + frame.suffix().len();
        self.segments.push_back(Segment::Lent(lent));
        if !frame.suffix().is_empty() {
            suffix.extend_from_slice(frame.suffix());
            let before = std::mem::replace(&mut self.tail, suffix);
            self.recycle(before);
        }
        Ok(())
    }

    /// Takes a share in a payload, its frame included.
    #[inline]
    pub(crate) fn push_share(&mut self, share: Share) -> Result<(), TryReserveError> {
        self.reserve_segments(2)?;
        self.seal();
        self.bytes += share.as_slice().len();
        self.segments.push_back(Segment::Shared(share));
        Ok(())
    }

    /// Puts what is in `later` behind what is here.
    pub(crate) fn append(&mut self, later: &mut Self) -> Result<(), TryReserveError> {
        debug_assert_eq!(later.sent, 0);
        self.segments.try_reserve(later.segments.len() + 1)?;
        self.seal();
        self.segments.append(&mut later.segments);
        self.tail = std::mem::take(&mut later.tail);
        self.bytes += std::mem::take(&mut later.bytes);
        Ok(())
    }

    /// What is not sent, in order.
    #[inline]
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.sent;
        let tail = Some(self.tail.as_slice()).filter(|tail| !tail.is_empty());
        let all = self.segments.iter().map(Segment::as_slice).chain(tail);
        all.map(move |slice| &slice[std::mem::take(&mut skip)..])
    }

    /// Drops the first `count` bytes, which are sent; says what that frees in the limits. Functions of the host
    /// run in here: nothing of the worker may be borrowed.
    #[inline(always)]
    pub(crate) fn advance(&mut self, mut count: usize) -> Cost {
        let mut freed = Cost::default();
        self.bytes -= count;
        while let Some(first) = self.segments.front() {
            let rest = first.as_slice().len() - self.sent;
            let done = rest.min(count);
            freed += Cost { conn: done, total: if first.is_shared() { 0 } else { done } };
            if count < rest {
                self.sent += count;
                return freed;
            }
            count -= rest;
            self.sent = 0;
            freed += Cost::copied(first.overhead());
            // Where something is left, it may have to wait, and what it does not need goes back to the system.
            if let Some(Segment::Copied(first)) = self.segments.pop_front()
                && self.bytes == 0
            {
                self.recycle(first);
            }
        }
        freed += Cost::copied(count);
        self.sent += count;
        if self.sent == self.tail.len() {
            self.sent = 0;
            self.tail.clear();
            if self.tail.capacity() > SPARE_BYTES_MAX {
                self.tail = Vec::new();
            }
        }
        freed
    }
}

#[inline(always)]
fn fill(buffer: &mut Vec<u8>, frame: &Frame<'_>, parts: &[&[u8]]) {
    frame.write_prefix(buffer);
    for part in parts {
        buffer.extend_from_slice(part);
    }
    if !frame.suffix().is_empty() {
        buffer.extend_from_slice(frame.suffix());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::budget::Budget;
    use crate::conn::payload::Payload;
    use crate::framing::Framing;
    use crate::sys::Finalizer;
    use proptest::prelude::*;
    use std::sync::Arc;

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
            outbox.push_bytes(b"message").unwrap();
        }
        assert_eq!(outbox.slices().count(), 1);
        assert_eq!(outbox.advance(70), Cost::copied(70));
        assert!(outbox.is_empty());
        let spare = outbox.tail.as_ptr();
        outbox.push_bytes(b"again").unwrap();
        assert_eq!(outbox.slices().next().unwrap().as_ptr(), spare);
    }

    #[test]
    fn lent_bytes_cost_more_than_they_are_and_free_as_much() {
        let mut outbox = Outbox::default();
        outbox.push_lent(&Frame::default(), &mut lend(b"")).unwrap();
        outbox.push_lent(&Frame::default(), &mut lend(b"abc")).unwrap();
        assert_eq!(outbox.cost(), Cost::copied(3 + 2 * SEGMENT_OVERHEAD_BYTES));
        assert_eq!(outbox.advance(3), Cost::copied(3 + 2 * SEGMENT_OVERHEAD_BYTES));
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
            steps in prop::collection::vec((0..BYTES, 0usize..251, 0..5, 0..BYTES), 1..STEPS),
        ) {
            let budget = Arc::new(Budget::new(u64::MAX / 2, 1));
            let mut outbox = Outbox::default();
            let mut model = VecDeque::new();
            for (length, start, kind, advance) in steps {
                let bytes = &BYTES_TO_SEND[start..start + length];
                let frame = Framing::Lines.frame(length).unwrap();
                match kind {
                    0 => outbox.push_lent(&frame, &mut lend(bytes)).unwrap(),
                    1 => {
                        let mut later = Outbox::default();
                        later.push(&frame, &[&bytes[..length / 2], &bytes[length / 2..]], length).unwrap();
                        outbox.append(&mut later).unwrap();
                    }
                    2 => outbox.push(&frame, &[bytes], length).unwrap(),
                    3 => outbox.push_owned([bytes, b"\n"].concat()).unwrap(),
                    _ => {
                        let payload = Payload::new(bytes, 0, &Framing::Lines, &budget).unwrap();
                        outbox.push_share(Share::new(&payload, true)).unwrap();
                    }
                }
                model.extend(bytes);
                model.push_back(b'\n');
                prop_assert_eq!(outbox.bytes(), model.len());
                let before = outbox.cost();
                let advance = advance.min(model.len());
                if start % 3 == 0 {
                    outbox.compact();
                    prop_assert_eq!(outbox.cost(), before);
                }
                let mut after = outbox.advance(advance);
                after += outbox.cost();
                prop_assert_eq!(after, before);
                model.drain(..advance);
                prop_assert_eq!(content(&outbox), Vec::from(model.clone()));
            }
        }
    }
}
