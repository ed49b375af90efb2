//! A growing array that never moves what it holds, so that a million connections do not stall a turn while
//! they are copied, and that answers for its memory.

use std::collections::TryReserveError;

/// Elements in a chunk.
const CHUNK: usize = 256;

#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Box<[T]>>,
}

impl<T: Default> Chunks<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / CHUNK).map(|chunk| &chunk[index as usize % CHUNK])
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / CHUNK).map(|chunk| &mut chunk[index as usize % CHUNK])
    }

    /// The element at `index`, which the array grows to hold.
    pub(crate) fn grow_to(&mut self, index: u32) -> Result<&mut T, TryReserveError> {
        while self.chunks.len() <= index as usize / CHUNK {
            self.chunks.try_reserve(1)?;
            self.chunks.push(chunk_of(CHUNK)?);
        }
        Ok(&mut self.chunks[index as usize / CHUNK][index as usize % CHUNK])
    }

    /// How many elements there are, vacant ones included.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX)
    }
}

/// `length` default values.
pub(crate) fn chunk_of<T: Default>(length: usize) -> Result<Box<[T]>, TryReserveError> {
    let mut chunk = Vec::new();
    chunk.try_reserve_exact(length)?;
    chunk.resize_with(length, T::default);
    Ok(chunk.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_keeps_what_it_holds() {
        let mut chunks = Chunks::<u32>::new();
        assert_eq!(chunks.get(0), None);
        for index in [0, 1, 255, 256, 5000] {
            *chunks.grow_to(index).unwrap() = index + 1;
        }
        for index in [0, 1, 255, 256, 5000] {
            assert_eq!(chunks.get(index), Some(&(index + 1)));
        }
        assert_eq!(chunks.get(5001), Some(&0));
        assert_eq!(chunks.get_mut(1 << 20), None);
        assert_eq!(chunks.len() as usize, 5000_usize.next_multiple_of(CHUNK));
    }
}
