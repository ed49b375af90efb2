//! Numbered places that are used again, for what is kept beside connections: members of topics, peers of a socket. What they
//! hold does not move when there is one more.

use std::collections::TryReserveError;

use super::chunks::Chunks;

/// The end of the list of free places.
const NONE: u32 = u32::MAX;

pub(crate) struct Places<T> {
    places: Chunks<Place<T>>,
    /// The first of those that were used before, each of which names the next.
    free: u32,
    /// Places from here on were never used.
    fresh: u32,
}

enum Place<T> {
    Taken(T),
    Free { next: u32 },
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self::Free { next: NONE }
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { places: Chunks::new(), free: NONE, fresh: 0 }
    }
}

impl<T> Places<T> {
    /// Puts something into a place; says which.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, TryReserveError> {
        let at = if self.free == NONE { self.fresh } else { self.free };
        let place = self.places.grow_to(at)?;
        match std::mem::replace(place, Place::Taken(value)) {
            Place::Free { next } if self.free == at => self.free = next,
            _ => self.fresh += 1,
        }
        Ok(at)
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.places.get(at)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.places.get_mut(at)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let place = self.places.get_mut(at).filter(|place| matches!(place, Place::Taken(_)))?;
        match std::mem::replace(place, Place::Free { next: std::mem::replace(&mut self.free, at) }) {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Whatever comes and goes, each place is one value's, and what is free is used before what is fresh.
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..600)) {
            let mut places = Places::default();
            let mut model = BTreeMap::new();
            let mut most = 0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some(which) if !model.is_empty() => {
                        let at = *model.keys().nth(which.index(model.len())).unwrap();
                        prop_assert_eq!(places.remove(at), model.remove(&at));
                        prop_assert_eq!(places.remove(at), None);
                    }
                    _ => {
                        let at = places.insert(number).unwrap();
                        prop_assert_eq!(model.insert(at, number), None);
                        most = most.max(model.len());
                        prop_assert!((at as usize) < most);
                    }
                }
                for at in 0..u32::try_from(most).unwrap() + 1 {
                    prop_assert_eq!(places.get(at), model.get(&at));
                    prop_assert_eq!(places.get_mut(at).copied(), model.get(&at).copied());
                }
            }
        }
    }
}
