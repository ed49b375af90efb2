//! Handles of what a worker keeps in a table beside its connections (timers, subscriptions): given out to any thread,
//! checked by any thread, never valid twice.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::handle::{ConnId, GENERATION_COUNT, INDEX_COUNT};
use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};

/// Places with a generation each, which is odd while the place is taken.
#[derive(Debug)]
pub(crate) struct Ids {
    worker: u32,
    places: Mutex<Places>,
}

#[derive(Debug)]
struct Places {
    generations: Vec<u32>,
    /// Its capacity always suffices for all places.
    free: Vec<u32>,
    generation_first: u32,
    generation_last: u32,
}

impl Ids {
    /// As for the connections of a worker: nothing below `generation_first` (odd) is given out.
    pub(crate) fn new(worker: u32, generation_first: u32) -> Self {
        let generation_last = generation_first;
        let places = Places { generations: Vec::new(), free: Vec::new(), generation_first, generation_last };
        Self { worker, places: Mutex::new(places) }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place.
    pub(crate) fn reserve(&self) -> Result<ConnId> {
        self.lock().take(self.worker)
    }

    /// Takes a place out of `stock`, or else as many as it has room for, so that a worker that takes many seldom locks.
    #[inline]
    pub(crate) fn reserve_from(&self, stock: &mut Vec<ConnId>) -> Result<ConnId> {
        match stock.pop() {
            Some(id) => Ok(id),
            None => self.restock(stock),
        }
    }

    #[cold]
    fn restock(&self, stock: &mut Vec<ConnId>) -> Result<ConnId> {
        let mut places = self.lock();
        let id = places.take(self.worker)?;
        // The last one given back is the first to be used again, as it is still in the cache.
        while stock.len() < stock.capacity() && !places.free.is_empty() {
            stock.push(places.take(self.worker)?);
        }
        stock.reverse();
        Ok(id)
    }

    /// Whether the handle has its place, now.
    pub(crate) fn is(&self, id: ConnId) -> bool {
        let places = self.lock();
        id.generation() % 2 == 1 && places.generations.get(id.index() as usize) == Some(&id.generation())
    }

    /// Makes the handle stale. Says whether it was not before.
    pub(crate) fn release(&self, id: ConnId) -> bool {
        let mut places = self.lock();
        let Some(generation) = places.generations.get_mut(id.index() as usize) else { return false };
        if *generation != id.generation() || generation.is_multiple_of(2) {
            return false;
        }
        *generation += 1;
        if *generation + 1 < GENERATION_COUNT {
            places.free.push(id.index());
        }
        true
    }

    /// The highest generation given out so far.
    pub(crate) fn generation_last(&self) -> u32 {
        self.lock().generation_last
    }
}

impl Places {
    fn take(&mut self, worker: u32) -> Result<ConnId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.take_fresh()?,
        };
        let generation = &mut self.generations[index as usize];
        *generation += 1;
        let generation = *generation;
        self.generation_last = self.generation_last.max(generation);
        Ok(ConnId::new(worker, index, generation))
    }

    fn take_fresh(&mut self) -> Result<u32> {
        let index = u32::try_from(self.generations.len()).unwrap_or(u32::MAX);
        if index >= INDEX_COUNT {
            return Err(Error::new(Status::Memory, "a worker has all the handles that it can tell apart"));
        }
        fault::check(Call::Memory).map_err(|_| Status::Memory)?;
        self.generations.try_reserve(1)?;
        let all = self.generations.capacity();
        self.free.try_reserve(all - self.free.len())?;
        self.generations.push(self.generation_first - 1);
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_released() {
        let ids = Ids::new(5, 3);
        let first = ids.reserve().unwrap();
        assert_eq!((first.worker(), first.index(), first.generation()), (5, 0, 3));
        assert!(ids.is(first));
        assert!(ids.release(first));
        assert!(!ids.is(first) && !ids.release(first));
        let second = ids.reserve().unwrap();
        assert_eq!((second.index(), second.generation()), (0, 5));
        assert!(ids.is(second) && !ids.is(first));
        assert_eq!(ids.generation_last(), 5);
    }

    #[test]
    fn a_stock_holds_what_nobody_else_gets() {
        let ids = Ids::new(0, 1);
        let mut stock = Vec::with_capacity(4);
        let given: Vec<ConnId> = (0..3).map(|_| ids.reserve_from(&mut stock).unwrap()).collect();
        assert!(stock.is_empty(), "fresh places are not taken in advance");
        given.iter().for_each(|id| assert!(ids.release(*id)));
        let again: Vec<ConnId> = (0..3).map(|_| ids.reserve_from(&mut stock).unwrap()).collect();
        let other = ids.reserve().unwrap();
        assert!(again.iter().all(|id| id.index() < 3 && id.generation() == 3 && *id != other));
        assert!(given.iter().all(|id| !ids.is(*id)));
    }

    #[test]
    fn what_was_never_given_out_is_stale() {
        let ids = Ids::new(0, 1);
        for raw in [0, 1, 2, u64::MAX] {
            assert!(!ids.is(ConnId::from_raw(raw)) && !ids.release(ConnId::from_raw(raw)));
        }
    }
}
