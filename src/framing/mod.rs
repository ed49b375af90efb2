//! Framing: how messages lie in a stream of bytes. Bytes in, whole messages out; and what goes around a message on
//! its way out.
//!
//! A message that lies whole in what one read gave is handed on in place. Only the beginning of a message is copied,
//! into a [`Partial`], until the rest of it comes; then delivery goes on in place.

mod delimiter;
mod partial;
mod query;

use std::ops::Range;

pub use delimiter::{DELIMITER_BYTES_MAX, Delimiter};
pub use partial::Partial;

use crate::status::{Error, Result, Status};
use crate::sys;

/// Which byte of a length comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The most significant one (network order).
    Big,
    /// The least significant one.
    Little,
}

/// How many bytes a length has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Messages of at most 255 bytes.
    One = 1,
    /// Messages of at most 65,535 bytes.
    Two = 2,
    /// Messages of less than 4 GiB.
    Four = 4,
}

impl Width {
    const fn bytes(self) -> usize {
        self as usize
    }

    const fn length_max(self) -> u32 {
        u32::MAX >> (32 - 8 * self as u32)
    }
}

/// How messages lie in a stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// They do not: a message is what one read gave.
    Raw,
    /// Each ends with LF or CRLF.
    Lines,
    /// In front of each is its length in bytes.
    Length {
        /// How many bytes the length has.
        width: Width,
        /// Which of them comes first.
        order: Order,
    },
    /// Behind each is a delimiter.
    Delimiter(Box<Delimiter>),
}

/// Why no message comes out of a stream any more. What the partial message holds then is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The next message is longer than allowed.
    TooLong,
    /// There is no memory to keep the beginning of a message.
    Memory,
}

/// The first message in some bytes.
struct Found {
    message: Range<usize>,
    /// Where its frame ends, and the next message begins.
    end: usize,
}

impl Framing {
    /// With the length in front, of 1, 2 or 4 bytes (0: 4).
    pub fn length(bytes: u32, order: Order) -> Result<Self> {
        let width = match bytes {
            1 => Width::One,
            2 => Width::Two,
            0 | 4 => Width::Four,
            _ => return Err(Error::new(Status::Invalid, format!("a length has 1, 2 or 4 bytes, not {bytes}"))),
        };
        Ok(Self::Length { width, order })
    }

    /// With a delimiter behind, of 1 to [`DELIMITER_BYTES_MAX`] bytes.
    pub fn delimiter(bytes: &[u8]) -> Result<Self> {
        Ok(Self::Delimiter(sys::boxed(Delimiter::new(bytes)?)?))
    }

    /// Whether messages have no frame.
    #[inline]
    pub fn is_raw(&self) -> bool {
        matches!(self, Self::Raw)
    }

    /// What goes before and after a message of so many bytes.
    #[inline(always)]
    pub fn frame(&self, length: usize) -> Result<Frame<'_>> {
        let mut frame = Frame { prefix: [0; 4], prefix_bytes: 0, suffix: &[] };
        match self {
            Self::Raw => {}
            // The usual one, without a copy of a varying length.
            Self::Length { width: Width::Four, order: Order::Big } => {
                let length = u32::try_from(length).map_err(|_| too_long_for(length, 4))?;
                (frame.prefix, frame.prefix_bytes) = (length.to_be_bytes(), 4);
            }
            Self::Lines => frame.suffix = b"\n",
            Self::Delimiter(delimiter) => frame.suffix = delimiter.bytes(),
            Self::Length { width, order } => {
                let bytes = width.bytes();
                let fitting = u32::try_from(length).ok().filter(|length| *length <= width.length_max());
                let length = fitting.ok_or_else(|| too_long_for(length, bytes))?;
                match order {
                    Order::Big => frame.prefix[..bytes].copy_from_slice(&length.to_be_bytes()[4 - bytes..]),
                    Order::Little => frame.prefix = length.to_le_bytes(),
                }
                frame.prefix_bytes = bytes;
            }
        }
        Ok(frame)
    }

    /// The next message: out of what `partial` holds first, then out of `chunk`, which goes on behind what it took.
    /// None: all of `chunk` is used up; what is not a whole message is kept in `partial`.
    #[inline(always)]
    pub fn next<'p, 'c: 'p>(
        &self,
        partial: &'p mut Partial,
        chunk: &mut &'c [u8],
        message_bytes_max: usize,
    ) -> Result<Option<&'p [u8]>, Refused> {
        // The usual one, by the shortest way; what is not whole or too long goes the other.
        if let Self::Length { width: Width::Four, order: Order::Big } = self
            && partial.is_empty()
            && let Some((length, rest)) = chunk.split_first_chunk::<4>()
            && let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)
            && message.len() <= message_bytes_max
        {
            *chunk = rest;
            return Ok(Some(message));
        }
        self.next_of_any(partial, chunk, message_bytes_max)
    }

    /// [`Self::next`], whatever there is.
    fn next_of_any<'p, 'c: 'p>(
        &self,
        partial: &'p mut Partial,
        chunk: &mut &'c [u8],
        message_bytes_max: usize,
    ) -> Result<Option<&'p [u8]>, Refused> {
        if !partial.is_empty() {
            return self.next_of_held(partial, chunk, message_bytes_max);
        }
        let bytes = *chunk;
        if let Some(found) = self.find(bytes, 0, message_bytes_max)? {
            *chunk = &bytes[found.end..];
            return Ok(Some(&bytes[found.message]));
        }
        if !bytes.is_empty() {
            *chunk = &[];
            partial.begin(bytes, self.frame_bytes_max(bytes, message_bytes_max))?;
            partial.set_searched(self.searched(bytes.len()));
        }
        Ok(None)
    }

    /// [`Self::next`] where a message begins in `partial`.
    #[cold]
    fn next_of_held<'p>(
        &self,
        partial: &'p mut Partial,
        chunk: &mut &[u8],
        message_bytes_max: usize,
    ) -> Result<Option<&'p [u8]>, Refused> {
        loop {
            let held = partial.held();
            if let Some(found) = self.find(held, partial.searched(), message_bytes_max)? {
                return Ok(Some(partial.deliver(found.message, found.end)));
            }
            let searched = self.searched(held.len());
            if chunk.is_empty() {
                partial.set_searched(searched);
                return Ok(None);
            }
            // More than a frame can have is never copied, also where its end is not found: then the next turn of this
            // loop refuses what is held.
            let frame_bytes_max = self.frame_bytes_max(held, message_bytes_max);
            let wanted = self.wanted(held, chunk).min(frame_bytes_max - held.len());
            let (taken, rest) = chunk.split_at(wanted.min(chunk.len()));
            *chunk = rest;
            partial.set_searched(searched);
            partial.append(taken, frame_bytes_max)?;
        }
    }

    /// The first message in `bytes`, in the first `searched` of which no delimiter begins. None: there is no whole one,
    /// but what is there may be the beginning of one that is not too long.
    #[inline]
    fn find(&self, bytes: &[u8], searched: usize, message_bytes_max: usize) -> Result<Option<Found>, Refused> {
        match self {
            Self::Raw => {
                let end = bytes.len().min(message_bytes_max.max(1));
                Ok((end > 0).then_some(Found { message: 0..end, end }))
            }
            Self::Lines => match memchr::memchr(b'\n', &bytes[searched..]) {
                Some(at) => {
                    let at = searched + at;
                    let end = if at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
                    delivered(end <= message_bytes_max, Found { message: 0..end, end: at + 1 })
                }
                None => {
                    let length = bytes.len() - usize::from(bytes.last() == Some(&b'\r'));
                    kept(length <= message_bytes_max)
                }
            },
            Self::Length { width, order } => {
                let Some(length) = decode(bytes, *width, *order) else { return Ok(None) };
                if length > message_bytes_max {
                    return Err(Refused::TooLong);
                }
                let start = width.bytes();
                let is_whole = bytes.len() - start >= length;
                Ok(is_whole.then(|| Found { message: start..start + length, end: start + length }))
            }
            Self::Delimiter(delimiter) => match delimiter.find(&bytes[searched..]) {
                Some(at) => {
                    let end = searched + at;
                    delivered(end <= message_bytes_max, Found { message: 0..end, end: end + delimiter.bytes().len() })
                }
                None => kept(bytes.len() <= message_bytes_max || delimiter.may_begin(bytes, message_bytes_max)),
            },
        }
    }

    /// How many bytes of `chunk` (it may be more than it has) complete the message that `held` begins.
    fn wanted(&self, held: &[u8], chunk: &[u8]) -> usize {
        match self {
            Self::Raw => 0,
            Self::Lines => memchr::memchr(b'\n', chunk).map_or(chunk.len(), |at| at + 1),
            Self::Length { .. } => usize::MAX,
            Self::Delimiter(delimiter) => delimiter.end_in(held, chunk).unwrap_or(chunk.len()),
        }
    }

    /// Most bytes of the frame that `held` begins, as far as it tells. It is more than `held` has, where that is the
    /// beginning of a message that is not too long: see [`Self::find`].
    fn frame_bytes_max(&self, held: &[u8], message_bytes_max: usize) -> usize {
        match self {
            Self::Raw => message_bytes_max,
            Self::Lines => message_bytes_max.saturating_add(2),
            Self::Length { width, order } => {
                let length = decode(held, *width, *order).unwrap_or(0);
                width.bytes().saturating_add(length)
            }
            Self::Delimiter(delimiter) => message_bytes_max.saturating_add(delimiter.bytes().len()),
        }
    }

    /// In how many bytes of a beginning of `length` bytes no delimiter begins: a search goes on behind them, so that
    /// it costs the same however small the pieces are in which a message comes.
    fn searched(&self, length: usize) -> usize {
        match self {
            Self::Lines => length,
            Self::Delimiter(delimiter) => length.saturating_sub(delimiter.bytes().len() - 1),
            Self::Raw | Self::Length { .. } => 0,
        }
    }
}

#[inline]
fn delivered(is_allowed: bool, found: Found) -> Result<Option<Found>, Refused> {
    if is_allowed { Ok(Some(found)) } else { Err(Refused::TooLong) }
}

#[inline]
fn kept(is_allowed: bool) -> Result<Option<Found>, Refused> {
    if is_allowed { Ok(None) } else { Err(Refused::TooLong) }
}

/// The length in front of a message, once all its bytes are there.
#[inline]
fn decode(bytes: &[u8], width: Width, order: Order) -> Option<usize> {
    let length = match (width, order) {
        (Width::One, _) => u32::from(*bytes.first()?),
        (Width::Two, Order::Big) => u32::from(u16::from_be_bytes(*bytes.first_chunk()?)),
        (Width::Two, Order::Little) => u32::from(u16::from_le_bytes(*bytes.first_chunk()?)),
        (Width::Four, Order::Big) => u32::from_be_bytes(*bytes.first_chunk()?),
        (Width::Four, Order::Little) => u32::from_le_bytes(*bytes.first_chunk()?),
    };
    // Where it does not fit, no limit allows it either.
    Some(usize::try_from(length).unwrap_or(usize::MAX))
}

#[cold]
fn too_long_for(length: usize, bytes: usize) -> Error {
    Error::new(Status::TooLong, format!("{length} bytes are too long for a length of {bytes} bytes in front"))
}

/// What goes before and after a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    prefix: [u8; 4],
    prefix_bytes: usize,
    suffix: &'a [u8],
}

impl Frame<'_> {
    /// What goes before it.
    #[inline]
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[..self.prefix_bytes]
    }

    /// Writes it; a length of four bytes without a copy of a varying length.
    #[inline(always)]
    pub(crate) fn write_prefix(&self, buffer: &mut Vec<u8>) {
        match self.prefix_bytes {
            0 => {}
            4 => buffer.extend_from_slice(&self.prefix),
            _ => buffer.extend_from_slice(self.prefix()),
        }
    }

    /// What goes after it.
    #[inline]
    pub fn suffix(&self) -> &[u8] {
        self.suffix
    }

    /// Bytes of both.
    #[inline]
    pub fn overhead(&self) -> usize {
        self.prefix_bytes + self.suffix.len()
    }
}
