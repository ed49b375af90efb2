//! Bytes that many connections send: one copy, counted once, shared by reference.

use std::ops::Range;
use std::sync::Arc;

use super::budget::Budget;
use crate::framing::Framing;
use crate::status::{Error, Result, Status};
use crate::sys;

/// A published message, in the frame of the server's own framing. Gives its bytes back to the limit when the last
/// connection has sent it.
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    message: Range<usize>,
    /// What it counts, with what carries it.
    charged: u64,
    budget: Arc<Budget>,
}

impl Payload {
    /// Copies a message, if the limit for all connections has room for it and for `overhead` bytes that carry it about.
    pub(crate) fn new(message: &[u8], overhead: usize, framing: &Framing, budget: &Arc<Budget>) -> Result<Arc<Self>> {
        let frame = framing.frame(message.len())?;
        let length = message.len() + frame.overhead();
        let charged = (length + overhead) as u64;
        if !budget.take(charged) {
            return Err(Error::new(Status::Again, "queue_total_bytes_max is reached"));
        }
        // From here on dropping it gives the bytes back.
        let start = frame.prefix().len();
        let message_at = start..start + message.len();
        let mut payload = Self { bytes: Vec::new(), message: message_at, charged, budget: Arc::clone(budget) };
        sys::reserve(&mut payload.bytes, length)?;
        payload.bytes.extend_from_slice(frame.prefix());
        payload.bytes.extend_from_slice(message);
        payload.bytes.extend_from_slice(frame.suffix());
        Ok(Arc::new(payload))
    }

    /// The message without a frame.
    pub(crate) fn message(&self) -> &[u8] {
        &self.bytes[self.message.clone()]
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.budget.give(self.charged);
    }
}

/// One connection's share in a payload.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    payload: Arc<Payload>,
    is_framed: bool,
}

impl Share {
    /// With the frame of the server's own framing, or without any.
    pub(crate) fn new(payload: &Arc<Payload>, is_framed: bool) -> Self {
        Self { payload: Arc::clone(payload), is_framed }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.is_framed { &self.payload.bytes } else { self.payload.message() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_once_and_given_back_by_the_last() {
        let budget = Arc::new(Budget::new(100, 1));
        let payload = Payload::new(b"news", 20, &Framing::Lines, &budget).unwrap();
        assert_eq!((payload.message(), Share::new(&payload, true).as_slice()), (&b"news"[..], &b"news\n"[..]));
        let shares: Vec<Share> = (0..10).map(|_| Share::new(&payload, false)).collect();
        assert!(shares.iter().all(|share| share.as_slice() == b"news"));
        drop(payload);
        assert!(!budget.take(76) && budget.take(75));
        budget.give(75);
        drop(shares);
        assert!(budget.take(100));
        assert_eq!(Payload::new(b"", 0, &Framing::Lines, &budget).unwrap_err().status, Status::Again);
    }
}
