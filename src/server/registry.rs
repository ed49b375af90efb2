//! Where handles find what they name: all servers and all workers of this copy of the library.

use std::sync::{Arc, PoisonError, RwLock};

use super::shared::WorkerShared;
use super::{Server, ServerId};
use crate::conn::handle::{ConnId, GENERATION_COUNT, WORKER_COUNT};
use crate::status::{Error, Result, Status};

/// A numbered place.
struct Place<T> {
    /// What its next owner counts from, so that handles of earlier owners stay stale.
    next: u32,
    is_taken: bool,
    owner: Option<Arc<T>>,
}

struct Registry<T> {
    places: RwLock<Vec<Place<T>>>,
}

impl<T> Registry<T> {
    const fn new() -> Self {
        Self { places: RwLock::new(Vec::new()) }
    }

    /// Takes the first free place that has numbers left; says which, and what to count from.
    fn reserve(&self, count_max: u32, next_max: u32) -> Result<(u32, u32)> {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let free = |place: &Place<T>| !place.is_taken && place.next <= next_max;
        let at = match places.iter().position(free) {
            Some(at) => at,
            None if places.len() < count_max as usize => {
                places.try_reserve(1)?;
                places.push(Place { next: 1, is_taken: false, owner: None });
                places.len() - 1
            }
            None => return Err(Error::new(Status::Memory, "there are too many servers and workers in this process")),
        };
        places[at].is_taken = true;
        Ok((u32::try_from(at).unwrap_or(u32::MAX), places[at].next))
    }

    /// Makes the owner of a reserved place known.
    fn fill(&self, at: u32, owner: &Arc<T>) {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places[at as usize].owner = Some(Arc::clone(owner));
    }

    /// Gives a place back, if `is_meant` says so of its owner.
    fn remove(&self, at: u32, next: u32, is_meant: impl FnOnce(Option<&Arc<T>>) -> bool) -> Option<Arc<T>> {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let place = places.get_mut(at as usize).filter(|place| is_meant(place.owner.as_ref()))?;
        place.is_taken = false;
        place.next = next;
        // Dropped by the caller, not under the lock.
        place.owner.take()
    }

    #[inline]
    fn find(&self, at: u32) -> Option<Arc<T>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(at as usize)?.owner.clone()
    }
}

static SERVERS: Registry<Server> = Registry::new();
static WORKERS: Registry<WorkerShared> = Registry::new();

/// Servers that can live at once.
const SERVER_COUNT: u32 = 1 << 16;

/// A server's handle before anybody can find the server by it; given back when dropped.
pub(super) struct ReservedServer(ServerId);

impl ReservedServer {
    pub(super) fn new() -> Result<Self> {
        let (at, generation) = SERVERS.reserve(SERVER_COUNT, u32::MAX - 1)?;
        Ok(Self(ServerId::new(at, generation)))
    }

    pub(super) fn id(&self) -> ServerId {
        self.0
    }

    pub(super) fn fill(self, server: &Arc<Server>) {
        SERVERS.fill(self.0.index(), server);
        std::mem::forget(self);
    }
}

impl Drop for ReservedServer {
    fn drop(&mut self) {
        SERVERS.remove(self.0.index(), self.0.generation(), |owner| owner.is_none());
    }
}

/// Makes a server's handle stale. Only one caller gets the server.
pub(super) fn remove_server(id: ServerId) -> Option<Arc<Server>> {
    let is_meant = |owner: Option<&Arc<Server>>| owner.is_some_and(|server| server.id() == id);
    SERVERS.remove(id.index(), id.generation().checked_add(1)?, is_meant)
}

pub(super) fn find_server(id: ServerId) -> Option<Arc<Server>> {
    SERVERS.find(id.index()).filter(|server| server.id() == id)
}

/// Gives a worker its number and the first generation (odd) of its connections.
pub(super) fn insert_worker(make: impl FnOnce(u32, u32) -> WorkerShared) -> Result<Arc<WorkerShared>> {
    let (number, generation_first) = WORKERS.reserve(WORKER_COUNT, GENERATION_COUNT / 2)?;
    let worker = Arc::new(make(number, generation_first));
    WORKERS.fill(number, &worker);
    Ok(worker)
}

/// Takes a worker's number back.
pub(super) fn remove_worker(worker: &WorkerShared) {
    // The next odd one after the last that was given out.
    let ids = [&worker.timer_ids, &worker.subscription_ids].map(|ids| ids.generation_last());
    let last = ids.into_iter().max().unwrap_or(0).max(worker.slots.generation_last());
    let next = (last + 2) | 1;
    WORKERS.remove(worker.number, next, |_| true);
}

/// The worker that a connection's handle names.
#[inline]
pub(super) fn find_worker(conn: ConnId) -> Option<Arc<WorkerShared>> {
    WORKERS.find(conn.worker())
}
