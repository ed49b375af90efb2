//! Topics across nodes. Who is in a topic is each node's own affair; between nodes a topic is a subject, which a node hears
//! from when the first of its own joins until the last has left. What a node publishes it has delivered to its own by
//! then, and does not hear again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::engine::{Echo, Message, SubscriptionKey};
use super::{Cluster, subject};
use crate::status::Result;

/// The topics in which somebody of this node is.
#[derive(Default)]
pub(super) struct Topics(RwLock<HashMap<Arc<str>, Topic>>);

struct Topic {
    /// Workers of this node on which somebody is in it.
    workers: usize,
    members: Arc<AtomicU64>,
    /// None: the cluster is local.
    subscription: Option<SubscriptionKey>,
}

/// A worker's interest in a topic. It ends when this is dropped.
pub(crate) struct Interest {
    cluster: Arc<Cluster>,
    name: Arc<str>,
    members: Arc<AtomicU64>,
}

impl Interest {
    /// One connection more is in the topic.
    pub(crate) fn joined(&self) {
        self.members.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub(crate) fn left(&self) {
        self.members.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut topics = self.cluster.topics.write();
        let Some(topic) = topics.get_mut(&self.name) else { return };
        topic.workers -= 1;
        if topic.workers > 0 {
            return;
        }
        let removed = topics.remove(&self.name);
        // Locked still: with a new subscription of another worker beside the old one what is published now would come twice.
        if let Some(key) = removed.and_then(|topic| topic.subscription) {
            self.cluster.engine.unsubscribe(key);
        }
    }
}

impl Topics {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, Topic>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Arc<str>, Topic>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections of this node in a topic.
    pub(super) fn members(&self, name: &str) -> u64 {
        self.read().get(name).map_or(0, |topic| topic.members.load(Ordering::Relaxed))
    }
}

impl Cluster {
    /// A worker is interested in a topic from here on: somebody is in it.
    pub(crate) fn interest(self: &Arc<Self>, name: &str) -> Result<Interest> {
        let mut topics = self.topics.write();
        topics.try_reserve(1)?;
        if let Some((name, topic)) = topics.get_key_value(name).map(|(name, topic)| (Arc::clone(name), &topic.members))
        {
            let members = Arc::clone(topic);
            if let Some(topic) = topics.get_mut(&name) {
                topic.workers += 1;
            }
            return Ok(Interest { cluster: Arc::clone(self), name, members });
        }
        let name: Arc<str> = Arc::from(name);
        let subscription = if self.is_local() { None } else { Some(self.hear_topic(&name)?) };
        let members = Arc::new(AtomicU64::new(0));
        topics.insert(Arc::clone(&name), Topic { workers: 1, members: Arc::clone(&members), subscription });
        Ok(Interest { cluster: Arc::clone(self), name, members })
    }

    /// Whether somebody of this node is in a topic.
    pub(crate) fn has_interest(&self, name: &str) -> bool {
        self.topics.read().contains_key(name)
    }

    fn hear_topic(&self, name: &Arc<str>) -> Result<SubscriptionKey> {
        let (host, topic) = (Arc::clone(&self.host), Arc::clone(name));
        let sink = move |message: &Message<'_>| host.deliver(&topic, message.payload);
        self.engine.subscribe(&self.topic_subject(name), None, Echo::No, Arc::new(sink))
    }

    fn topic_subject(&self, name: &str) -> String {
        const BETWEEN: &str = ".topic.";
        let mut text = String::with_capacity(self.name.len() + BETWEEN.len() + name.len());
        text.push_str(&self.name);
        text.push_str(BETWEEN);
        subject::encode_onto(&mut text, name.as_bytes());
        text
    }

    /// Publishes to the other nodes.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) -> Result<()> {
        if self.is_local() { Ok(()) } else { self.engine.publish(&self.topic_subject(topic), payload, Echo::No) }
    }
}
