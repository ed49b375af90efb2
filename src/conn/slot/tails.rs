//! What of a peer's address its slot has no room for.
//!
//! An IPv4 address fits. The first peer of a chunk whose address does not gives the chunk room for those of all: so a server
//! of IPv4 pays nothing for IPv6, and a place is still found by its number.

use std::collections::TryReserveError;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::CHUNK;
use crate::conn::chunks::chunk_of;
use crate::net::Peer;

#[derive(Debug, Default)]
pub(super) struct Tails(OnceLock<Box<[[AtomicU64; 2]]>>);

impl Tails {
    /// Room for a peer, if it needs any.
    #[inline]
    pub(super) fn make_room(&self, peer: Peer) -> Result<(), TryReserveError> {
        if Peer::has_more(peer.0[0]) && self.0.get().is_none() {
            // Of two at the same time one is dropped.
            let _ = self.0.set(chunk_of(CHUNK)?);
        }
        Ok(())
    }

    pub(super) fn load(&self, offset: usize) -> [u64; 2] {
        self.0.get().map_or([0; 2], |tails| tails[offset].each_ref().map(|word| word.load(Ordering::Acquire)))
    }

    /// Nothing, for a peer that has no tail.
    pub(super) fn store(&self, offset: usize, peer: Peer) {
        let [head, high, low] = peer.0;
        if Peer::has_more(head)
            && let Some(tails) = self.0.get()
        {
            tails[offset][0].store(high, Ordering::Release);
            tails[offset][1].store(low, Ordering::Release);
        }
    }
}
