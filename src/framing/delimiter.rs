//! The bytes that end a message, prepared for the search.

use memchr::memmem::Finder;

use crate::status::{Error, Result, Status};

/// Most bytes of a delimiter.
pub const DELIMITER_BYTES_MAX: usize = 64;

/// The bytes that end a message: 1 to [`DELIMITER_BYTES_MAX`].
#[derive(Clone, Debug)]
pub struct Delimiter(Finder<'static>);

impl Delimiter {
    pub(super) fn new(bytes: &[u8]) -> Result<Self> {
        match bytes.len() {
            0 => Err(Error::new(Status::Invalid, "the delimiter is empty")),
            1..=DELIMITER_BYTES_MAX => Ok(Self(Finder::new(bytes).into_owned())),
            length => {
                let text = format!("a delimiter of {length} bytes is too long: at most {DELIMITER_BYTES_MAX}");
                Err(Error::new(Status::TooLong, text))
            }
        }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.0.needle()
    }

    /// Where it first begins.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.0.find(bytes)
    }

    /// Where in `chunk` it first ends, when it may begin in `held`, which goes before and has no whole one.
    pub(super) fn end_in(&self, held: &[u8], chunk: &[u8]) -> Option<usize> {
        let bytes = self.bytes();
        // The longest part in `held` is the one that begins first.
        let part_min = bytes.len().saturating_sub(chunk.len()).max(1);
        (part_min..bytes.len())
            .rev()
            .map(|in_held| bytes.split_at(in_held))
            .find(|(begin, end)| held.ends_with(begin) && chunk.starts_with(end))
            .map(|(_, end)| end.len())
            .or_else(|| self.find(chunk).map(|at| at + bytes.len()))
    }

    /// Whether `bytes`, which have no whole one, end with the beginning of one that begins at `start_max` or before.
    #[cold]
    pub(super) fn may_begin(&self, bytes: &[u8], start_max: usize) -> bool {
        let start_min = (bytes.len() + 1).saturating_sub(self.bytes().len());
        (start_min..=start_max).any(|start| self.bytes().starts_with(&bytes[start..]))
    }
}

impl PartialEq for Delimiter {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Delimiter {}
