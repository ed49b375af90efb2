//! The part of a connection that every thread may see: whether it lives, how much is queued for it, its peer
//! and its user data. And the table that gives such places out.
//!
//! A worker's own state of its connections is in [`super::Conn`], which no other thread ever touches.

mod tails;

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::tails::Tails;
use super::handle::{ConnId, GENERATION_COUNT, INDEX_COUNT};
use crate::fault::{self, Call};
use crate::net::Peer;
use crate::options::QUEUE_BYTES_MAX;
use crate::status::{Error, Result, Status};
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

/// The places of one worker's connections. Any thread may reserve one; only the worker gives them back.
#[derive(Debug)]
pub(crate) struct SlotTable {
    worker: u32,
    places: Mutex<Places>,
    /// Places that connections have.
    taken: AtomicUsize,
}

#[derive(Debug)]
struct Places {
    chunks: Vec<Arc<SlotChunk>>,
    /// The first of the places that were used before, each of which names the next: the last one given back is the
    /// first to be used again, while the cache still knows it.
    free: Option<u32>,
    /// Places from here on were never used.
    fresh: u32,
    /// What the first connection of a fresh place gets; odd.
    generation_first: u32,
    /// The highest generation that was ever given out.
    generation_last: u32,
}

impl SlotTable {
    /// A table for the worker with this number, which gives out no generation below `generation_first` (odd):
    /// handles of an earlier worker with the same number stay stale.
    pub(crate) fn new(worker: u32, generation_first: u32) -> Self {
        debug_assert!(generation_first % 2 == 1);
        let generation_last = generation_first;
        let places = Places { chunks: Vec::new(), free: None, fresh: 0, generation_first, generation_last };
        Self { worker, places: Mutex::new(places), taken: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places that connections have now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The highest generation given out so far.
    pub(crate) fn generation_last(&self) -> u32 {
        self.lock().generation_last
    }

    /// Gives a place to a new connection.
    pub(crate) fn reserve(&self, peer: Peer, framing: u8, user: HostUser) -> Result<ConnId> {
        let mut places = self.lock();
        let index = match places.free {
            Some(index) => index,
            None => places.fresh()?,
        };
        let (chunk, offset) = places.chunk(index);
        chunk.tails.make_room(peer)?;
        let next_free = chunk.slots[offset].next_free();
        let generation = {
            let slot = &chunk.slots[offset];
            let generation = match slot.state.load(Ordering::Relaxed) >> FLAG_BITS {
                0 => places.generation_first,
                even => even + 1,
            };
            // Pairs with the fence in `Slot::read`.
            fence(Ordering::Release);
            slot.user.store(user, Ordering::Relaxed);
            debug_assert_eq!(peer.0[0] & FRAMING_MASK, 0);
            slot.peer.store(peer.0[0] | u64::from(framing) << FRAMING_SHIFT, Ordering::Relaxed);
            chunk.tails.store(offset, peer);
            // `inflight` is left alone: who raised it for a predecessor will lower it again.
            slot.queued.store(0, Ordering::Relaxed);
            slot.state.store(generation << FLAG_BITS, Ordering::Release);
            generation
        };
        match places.free {
            Some(_) => places.free = next_free,
            None => places.fresh += 1,
        }
        places.generation_last = places.generation_last.max(generation);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(ConnId::new(self.worker, index, generation))
    }

    /// Takes the place back: the handle is stale from here on.
    pub(crate) fn release(&self, id: ConnId) {
        let mut places = self.lock();
        let next = id.generation() + 1;
        let next_free = places.free;
        let slot = places.slot(id.index());
        slot.state.store(next << FLAG_BITS, Ordering::Release);
        self.taken.fetch_sub(1, Ordering::Relaxed);
        if next + 1 < GENERATION_COUNT {
            // Pairs with the fence in `SlotRef::read`.
            fence(Ordering::Release);
            slot.set_next_free(next_free);
            places.free = Some(id.index());
        }
    }

    /// The chunk of a connection's slot, if the connection has it now.
    pub(crate) fn find(&self, id: ConnId) -> Option<SlotRef> {
        let chunk = self.chunk(id.index() as usize / CHUNK)?;
        let slot = SlotRef { chunk, offset: id.index() as usize % CHUNK };
        slot.is(id).then_some(slot)
    }

    /// As [`Slot::land`], for a connection that the worker does not know.
    pub(crate) fn land(&self, id: ConnId, cost: usize) {
        self.lock().slot(id.index()).land(cost);
    }

    fn chunk(&self, number: usize) -> Option<Arc<SlotChunk>> {
        self.lock().chunks.get(number).cloned()
    }
}

impl Places {
    fn chunk(&self, index: u32) -> (&SlotChunk, usize) {
        (&self.chunks[index as usize / CHUNK], index as usize % CHUNK)
    }

    fn slot(&self, index: u32) -> &Slot {
        let (chunk, offset) = self.chunk(index);
        &chunk.slots[offset]
    }

    /// The next place that was never used, and room for it.
    fn fresh(&mut self) -> Result<u32> {
        if self.fresh == INDEX_COUNT {
            return Err(Error::new(Status::Memory, "a worker has all the connections that it can tell apart"));
        }
        if self.fresh as usize == self.chunks.len() * CHUNK {
            fault::check(Call::Memory).map_err(|_| Status::Memory)?;
            self.chunks.try_reserve(1)?;
            self.chunks.push(Arc::new(SlotChunk::new()));
        }
        Ok(self.fresh)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::ptr::null_mut;

    #[test]
    fn a_slot_is_small() {
        // There may be a million of them.
        assert_eq!(size_of::<Slot>(), 32);
    }

    #[test]
    fn long_and_short_peers_take_turns() {
        let table = SlotTable::new(0, 1);
        let short = Peer::new(SocketAddr::from((Ipv4Addr::new(1, 2, 3, 4), 5)));
        let long = Peer::new(SocketAddr::from((Ipv6Addr::LOCALHOST, 6)));
        for peer in [short, long, short, Peer::UNNAMED, long] {
            let id = table.reserve(peer, 7, null_mut()).unwrap();
            let slot = table.find(id).unwrap();
            assert_eq!((slot.read(id).unwrap().1, slot.framing()), (peer, 7));
            let mut cache = SlotCache::default();
            cache.know(&table, id.index()).unwrap();
            cache.set_peer(id.index(), long).unwrap();
            assert_eq!((slot.read(id).unwrap().1, slot.framing()), (long, 7));
            table.release(id);
        }
    }

    #[test]
    fn the_last_place_given_back_is_used_first() {
        let table = SlotTable::new(0, 1);
        let user = ptr::without_provenance_mut(77);
        let ids: Vec<ConnId> = (0..600).map(|_| table.reserve(Peer::UNNAMED, 0, user).unwrap()).collect();
        assert!(ids.iter().zip(0..).all(|(id, index)| id.index() == index));
        for place in [3, 599, 0] {
            table.release(ids[place]);
        }
        let again: Vec<u32> = (0..4).map(|_| table.reserve(Peer::UNNAMED, 0, user).unwrap().index()).collect();
        assert_eq!(again, [0, 599, 3, 600]);
    }

    #[test]
    fn a_place_is_good_for_one_connection_at_a_time() {
        let table = SlotTable::new(3, 1);
        let first = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        let second = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        assert_eq!((first.worker(), first.index(), second.index()), (3, 0, 1));
        assert_ne!(first.raw(), 0);
        table.release(first);
        assert!(table.find(first).is_none());
        let third = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        assert_eq!(third.index(), first.index());
        assert!(table.find(first).is_none());
        assert!(table.find(third).is_some());
        assert_eq!(table.taken(), 2);
    }

    #[test]
    fn made_up_handles_find_nothing() {
        let table = SlotTable::new(0, 1);
        let id = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        for forged in [
            ConnId::new(0, id.index(), id.generation() + 1),
            ConnId::new(0, id.index(), 0),
            ConnId::new(0, 5, id.generation()),
            ConnId::new(0, INDEX_COUNT - 1, 1),
        ] {
            assert!(table.find(forged).is_none(), "{forged:?}");
        }
        table.release(id);
        // The even generation between two connections is nobody's.
        assert!(table.find(ConnId::new(0, id.index(), id.generation() + 1)).is_none());
    }

    #[test]
    fn a_place_without_generations_left_is_never_used_again() {
        let table = SlotTable::new(0, GENERATION_COUNT - 3);
        let id = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        table.release(id);
        let last = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        assert_eq!((last.index(), last.generation()), (id.index(), GENERATION_COUNT - 1));
        table.release(last);
        assert_ne!(table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap().index(), id.index());
    }

    #[test]
    fn a_flag_never_lands_on_a_successor() {
        let table = SlotTable::new(0, 1);
        let id = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        let slot = table.find(id).unwrap();
        assert_eq!(slot.raise(id, CLOSE_POSTED), Raised::Now);
        assert_eq!(slot.raise(id, CLOSE_POSTED), Raised::Already);
        table.release(id);
        assert_eq!(slot.raise(id, WAIT_POSTED), Raised::Stale);
        let next = table.reserve(Peer::UNNAMED, 0, null_mut()).unwrap();
        assert!(!slot.has_flag(next, CLOSE_POSTED));
        assert_eq!(slot.raise(id, CLOSE_POSTED), Raised::Stale);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_successor() {
        let table = Arc::new(SlotTable::new(0, 1));
        let peer_of = |mark: u64| {
            let half = u128::from(mark);
            Peer::new(SocketAddr::from((Ipv6Addr::from(half << 64 | half), 0)))
        };
        let reader = {
            let table = Arc::clone(&table);
            let first = table.reserve(peer_of(1), 0, null_mut()).unwrap();
            let slot = table.find(first).unwrap();
            std::thread::spawn(move || {
                while let Some((_, peer)) = slot.read(first) {
                    assert_eq!(peer, peer_of(1));
                }
            })
        };
        let first = ConnId::new(0, 0, 1);
        table.release(first);
        for mark in 2..200 {
            let id = table.reserve(peer_of(mark), 0, null_mut()).unwrap();
            table.release(id);
        }
        reader.join().unwrap();
    }
}
