//! The part of a connection that every thread may see: whether it lives, how much is queued for it, its peer
//! and its user data. And the table that gives such places out.
//!
//! A worker's own state of its connections is in [`super::Conn`], which no other thread ever touches.

mod table;
mod tails;

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

pub(crate) use self::table::SlotTable;
use self::tails::Tails;
use super::handle::ConnId;
use crate::net::Peer;
use crate::options::QUEUE_BYTES_MAX;
use crate::status::Result;
use crate::sys::HostUser;

/// One place in a worker's table.
///
/// `state` holds the generation above four bits. A generation is odd while a connection has the place and even
/// between two; every change of it is made under the table's lock.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: AtomicU32,
    /// Bytes that other threads have queued and the worker has not yet taken out of its mailbox.
    inflight: AtomicU64,
    /// Bytes in the outboxes of the connection. Only its worker writes this.
    queued: AtomicU32,
    /// While nobody has the place: the next one that is free.
    user: AtomicPtr<c_void>,
    /// The first word of the peer; the others, where there are any, are in [`Tails`].
    peer: AtomicU64,
}

const FLAG_BITS: u32 = 4;
/// A close is in the worker's mailbox.
pub(crate) const CLOSE_POSTED: u32 = 1;
/// A wish for `on_writable` is in the worker's mailbox.
pub(crate) const WAIT_POSTED: u32 = 2;
/// The connection is closing: its worker takes no more for it.
pub(crate) const CLOSING: u32 = 4;
/// The program has ended our side, or a request for that is in the worker's mailbox.
pub(crate) const END_POSTED: u32 = 8;

/// Where the first word of a peer has room for the number of the connection's framing.
const FRAMING_SHIFT: u32 = 24;
const FRAMING_MASK: u64 = 0xff << FRAMING_SHIFT;

impl Slot {
    fn generation(&self) -> u32 {
        self.state.load(Ordering::Acquire) >> FLAG_BITS
    }

    /// Whether the connection has the place, now.
    pub(crate) fn is(&self, id: ConnId) -> bool {
        id.generation() % 2 == 1 && self.generation() == id.generation()
    }

    /// Whether the connection has the place and the flag.
    pub(crate) fn has_flag(&self, id: ConnId, flag: u32) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state >> FLAG_BITS == id.generation() && state & flag != 0
    }

    /// Sets a flag of this very connection; says whether it was set by this call. The generation is compared
    /// in the same step, so that a flag never lands on a successor.
    pub(crate) fn raise(&self, id: ConnId, flag: u32) -> Raised {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if state >> FLAG_BITS != id.generation() || id.generation().is_multiple_of(2) {
                return Raised::Stale;
            }
            if state & flag != 0 {
                return Raised::Already;
            }
            match self.state.compare_exchange_weak(state, state | flag, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Raised::Now,
                Err(now) => state = now,
            }
        }
    }

    /// Takes a flag of this very connection back.
    pub(crate) fn lower(&self, id: ConnId, flag: u32) {
        let lower = |state: u32| (state >> FLAG_BITS == id.generation()).then_some(state & !flag);
        // Where it has a successor there is nothing to take back.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, lower);
    }

    /// Bytes in the outboxes of the connection.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed) as usize
    }

    /// Says how much is in the outboxes now. Only the worker does this.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // no limit is larger than QUEUE_BYTES_MAX
    pub(crate) fn set_queued(&self, queued: usize) {
        debug_assert!(queued <= QUEUE_BYTES_MAX as usize);
        self.queued.store(queued as u32, Ordering::Relaxed);
    }

    /// Bytes of other threads in the worker's mailbox.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // no more than there is memory
    pub(crate) fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed) as usize
    }

    /// Counts bytes that another thread is about to post; says how many are in the mailbox then.
    #[allow(clippy::cast_possible_truncation)] // as above
    pub(crate) fn launch(&self, cost: usize) -> usize {
        self.inflight.fetch_add(cost as u64, Ordering::Relaxed) as usize + cost
    }

    /// Bytes of another thread are no longer in the mailbox.
    #[allow(clippy::cast_possible_truncation)] // as above
    pub(crate) fn land(&self, cost: usize) {
        self.inflight.fetch_sub(cost as u64, Ordering::Relaxed);
    }

    /// Sets the user data. Only the worker does this.
    pub(crate) fn set_user(&self, user: HostUser) {
        self.user.store(user, Ordering::Release);
    }

    /// The user data, from the worker, which knows the connection to have the place.
    #[inline]
    pub(crate) fn user(&self) -> HostUser {
        self.user.load(Ordering::Relaxed)
    }

    /// The place that is free next, of one that is free.
    fn next_free(&self) -> Option<u32> {
        u32::try_from(self.user.load(Ordering::Relaxed).addr()).ok()?.checked_sub(1)
    }

    fn set_next_free(&self, next: Option<u32>) {
        let word = next.map_or(0, |next| next as usize + 1);
        self.user.store(ptr::without_provenance_mut(word), Ordering::Relaxed);
    }

    /// The number of the connection's framing.
    #[allow(clippy::cast_possible_truncation)] // eight bits
    pub(crate) fn framing(&self) -> u8 {
        (self.peer.load(Ordering::Relaxed) >> FRAMING_SHIFT) as u8
    }

    /// Whether it is the peer of a datagram socket, which never changes.
    pub(crate) fn is_datagram(&self) -> bool {
        Peer([self.peer.load(Ordering::Relaxed), 0, 0]).is_datagram()
    }
}

/// What [`Slot::raise`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    Now,
    Already,
    Stale,
}

/// Slots in a chunk.
const CHUNK: usize = 256;

/// A share of the slots, which never moves.
#[derive(Debug)]
pub(crate) struct SlotChunk {
    slots: [Slot; CHUNK],
    tails: Tails,
}

impl SlotChunk {
    fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()), tails: Tails::default() }
    }

    /// The peer; unnamed while it changes.
    fn peer(&self, offset: usize) -> Peer {
        let words = || {
            let head = self.slots[offset].peer.load(Ordering::Acquire);
            let [high, low] = if Peer::has_more(head) { self.tails.load(offset) } else { [0; 2] };
            [head, high, low]
        };
        let first = words();
        // Pairs with the fences in `set_peer`: two equal readings with a word from before and one from after would
        // need the first word to be empty in one of them.
        fence(Ordering::Acquire);
        let is_settled = words() == first;
        let [head, high, low] = first;
        let peer = Peer([head & !FRAMING_MASK, high, low]);
        if is_settled { peer } else { peer.without_address() }
    }

    /// Replaces the peer: an outgoing connection is open. Only the worker does this.
    fn set_peer(&self, offset: usize, peer: Peer) -> Result<()> {
        self.tails.make_room(peer)?;
        let slot = &self.slots[offset];
        let framing = slot.peer.load(Ordering::Relaxed) & FRAMING_MASK;
        // Whether it is a datagram's never changes.
        slot.peer.store(peer.without_address().0[0] | framing, Ordering::Relaxed);
        fence(Ordering::Release);
        self.tails.store(offset, peer);
        slot.peer.store(peer.0[0] | framing, Ordering::Release);
        Ok(())
    }
}

/// A slot that was found for another thread.
pub(crate) struct SlotRef {
    chunk: Arc<SlotChunk>,
    offset: usize,
}

impl SlotRef {
    /// The user data and the peer, from any thread: read, then checked to have been this connection's.
    pub(crate) fn read(&self, id: ConnId) -> Option<(HostUser, Peer)> {
        if !self.is(id) {
            return None;
        }
        let user = self.user.load(Ordering::Acquire);
        let peer = self.chunk.peer(self.offset);
        // Pairs with the fences in `reserve` and `release`: whoever saw a word of the successor also sees its generation.
        fence(Ordering::Acquire);
        self.is(id).then_some((user, peer))
    }
}

impl std::ops::Deref for SlotRef {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        &self.chunk.slots[self.offset]
    }
}

/// The worker's own view of its table: the chunks without the lock.
#[derive(Debug, Default)]
pub(crate) struct SlotCache {
    chunks: Vec<Arc<SlotChunk>>,
}

impl SlotCache {
    /// The slot of a connection that lives on this worker.
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        &self.chunks[index as usize / CHUNK].slots[index as usize % CHUNK]
    }

    /// Replaces the peer of a connection that lives on this worker: it has opened it.
    pub(crate) fn set_peer(&self, index: u32, peer: Peer) -> Result<()> {
        self.chunks[index as usize / CHUNK].set_peer(index as usize % CHUNK, peer)
    }

    /// As [`SlotCache::slot`], for an index that the worker may not know yet.
    pub(crate) fn get(&self, index: u32) -> Option<&Slot> {
        self.chunks.get(index as usize / CHUNK).map(|chunk| &chunk.slots[index as usize % CHUNK])
    }

    /// Makes the slot at `index` known. To be called for each connection that the worker takes on.
    pub(crate) fn know(&mut self, table: &SlotTable, index: u32) -> Result<()> {
        while self.chunks.len() <= index as usize / CHUNK {
            self.chunks.try_reserve(1)?;
            let chunk = table.chunk(self.chunks.len()).expect("the index was given out by the table");
            self.chunks.push(chunk);
        }
        Ok(())
    }
}
