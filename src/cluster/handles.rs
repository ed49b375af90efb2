//! Handles of what a cluster has: numbers that are never used again, so that a stale one finds nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::status::{Result, Status};

/// A table of one kind of thing, for the whole process.
pub(crate) struct Handles<T> {
    table: RwLock<Table<T>>,
}

struct Table<T> {
    things: BTreeMap<u64, Arc<T>>,
    last: u64,
}

impl<T> Handles<T> {
    pub(crate) const fn new() -> Self {
        Self { table: RwLock::new(Table { things: BTreeMap::new(), last: 0 }) }
    }

    /// Gives a thing a number, with which it is made.
    pub(crate) fn insert(&self, make: impl FnOnce(u64) -> T) -> Arc<T> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.last += 1;
        let number = table.last;
        let thing = Arc::new(make(number));
        table.things.insert(number, Arc::clone(&thing));
        thing
    }

    pub(crate) fn find(&self, number: u64) -> Result<Arc<T>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.things.get(&number).cloned().ok_or_else(|| Status::Stale.into())
    }

    /// Whether there is such a thing, without keeping it: who finds it may be the last to let it go.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).things.contains_key(&number)
    }

    /// Makes a handle stale; gives back what it named.
    pub(crate) fn remove(&self, number: u64) -> Result<Arc<T>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.things.remove(&number).ok_or_else(|| Status::Stale.into())
    }

    /// Makes the handles of all such things stale; gives back what they named.
    pub(crate) fn remove_if(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let wanted: Vec<_> = table.things.iter().filter(|(_, thing)| is_wanted(thing)).map(|(at, _)| *at).collect();
        wanted.into_iter().filter_map(|number| table.things.remove(&number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_used_again() {
        static HANDLES: Handles<u64> = Handles::new();
        let first = HANDLES.insert(|number| number);
        assert_eq!(*HANDLES.find(*first).unwrap(), *first);
        HANDLES.remove(*first).unwrap();
        assert_eq!(HANDLES.find(*first).unwrap_err().status, Status::Stale);
        assert_eq!(HANDLES.remove(*first).unwrap_err().status, Status::Stale);
        assert_ne!(*HANDLES.insert(|number| number), *first);
        assert_eq!(HANDLES.find(0).unwrap_err().status, Status::Stale);
    }
}
