//! The beginning of a message that has not come whole yet.

use std::ops::Range;

use super::Refused;
use crate::sys;

/// The bytes of a stream that are not delivered yet: the beginning of a message, or whatever had come when reading was
/// paused. Its memory follows what has arrived, never what a peer promises.
#[derive(Debug, Default)]
pub struct Partial {
    buffer: Vec<u8>,
    /// Where what is still to be delivered begins.
    start: usize,
    /// In so many bytes from there no delimiter begins.
    searched: usize,
}

/// The first buffer.
const BUFFER_BYTES_MIN: usize = 64;
/// A larger buffer is given back to the system when it is empty.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

impl Partial {
    /// Whether it holds no byte that is still to be delivered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The memory that it holds on to, in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Keeps all of `rest` for later without looking into it: reading was paused in the middle of a chunk. `next` with
    /// an empty chunk hands the whole messages out afterwards, in order, before anything newer.
    pub fn hold(&mut self, rest: &[u8]) -> Result<(), Refused> {
        if rest.is_empty() {
            return Ok(());
        }
        if self.is_empty() {
            self.clear();
        }
        self.append(rest, usize::MAX)
    }

    /// Empties it; keeps a buffer of moderate size for the next message.
    pub fn clear(&mut self) {
        self.start = 0;
        self.searched = 0;
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
    }

    /// What is still to be delivered.
    pub(super) fn held(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub(super) fn searched(&self) -> usize {
        self.searched
    }

    pub(super) fn set_searched(&mut self, searched: usize) {
        self.searched = searched;
    }

    /// Keeps the beginning of a message that has `frame_bytes_max` bytes at most. It must be empty before.
    pub(super) fn begin(&mut self, bytes: &[u8], frame_bytes_max: usize) -> Result<(), Refused> {
        self.clear();
        self.append(bytes, frame_bytes_max)
    }

    /// Keeps more of a message that has `frame_bytes_max` bytes at most.
    pub(super) fn append(&mut self, bytes: &[u8], frame_bytes_max: usize) -> Result<(), Refused> {
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.make_room(bytes.len(), frame_bytes_max)?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Moves what is held to the front where that costs no more than what was delivered since; otherwise, and if that
    /// is not enough, doubles the buffer. Either way the cost for each byte that arrives is constant.
    #[cold]
    fn make_room(&mut self, more: usize, frame_bytes_max: usize) -> Result<(), Refused> {
        let held = self.buffer.len() - self.start;
        if self.start >= held {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let (length, capacity) = (self.buffer.len(), self.buffer.capacity());
        if capacity - length < more {
            let useful = frame_bytes_max.saturating_add(self.start);
            let wanted = (2 * capacity).min(useful).max(BUFFER_BYTES_MIN).max(length + more);
            sys::reserve(&mut self.buffer, wanted - length).map_err(|_| Refused::Memory)?;
        }
        Ok(())
    }

    /// Hands out a message that is held; `end` is where its frame ends.
    pub(super) fn deliver(&mut self, message: Range<usize>, end: usize) -> &[u8] {
        let start = self.start;
        self.start += end;
        self.searched = 0;
        &self.buffer[start + message.start..start + message.end]
    }
}
