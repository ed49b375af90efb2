//! The table that gives the places of a worker's connections out.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CHUNK, FLAG_BITS, FRAMING_MASK, FRAMING_SHIFT, Slot, SlotChunk, SlotRef};
use crate::conn::handle::{ConnId, GENERATION_COUNT, INDEX_COUNT};
use crate::fault::{self, Call};
use crate::net::Peer;
use crate::status::{Error, Result, Status};
use crate::sys::HostUser;

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

    pub(super) fn chunk(&self, number: usize) -> Option<Arc<SlotChunk>> {
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

#[cfg(test)]
mod tests {
    use super::super::{CLOSE_POSTED, Raised, SlotCache, WAIT_POSTED};
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::ptr::{self, null_mut};

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
