//! Presence: how many connections are in a topic, on all nodes. Nobody keeps that number: every node is asked for its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::with;
use super::engine::{Echo, Message};
use super::{Cluster, Done};
use crate::status::Result;

/// How long the answers of the others are waited for.
const GATHER_MS: u32 = 1_000;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) connections: u64,
    /// Nodes that have not answered in time.
    pub(crate) silent: usize,
}

impl Cluster {
    fn count_subject(&self) -> String {
        format!("{}.count", self.name)
    }

    /// Answers others from here on.
    pub(super) fn begin_presence(self: &Arc<Self>) -> Result<()> {
        let sink = with(&Arc::downgrade(self), |cluster, message| cluster.respond_count(message));
        self.engine.subscribe(&self.count_subject(), None, Echo::Yes, sink).map(drop)
    }

    /// The payload is a topic; the answer is who we are, and a number.
    fn respond_count(&self, message: &Message<'_>) {
        let (Some(reply), Ok(topic)) = (&message.reply, std::str::from_utf8(message.payload)) else { return };
        let answer = format!("{:016x} {}", self.members.incarnation, self.topics.members(topic));
        if let Err(error) = self.engine.respond(reply, answer.as_bytes(), None) {
            log::debug!("an answer was not sent: {error}");
        }
    }

    /// Counts the connections in a topic. `done` may be called before this returns.
    pub(crate) fn topic_count(self: &Arc<Self>, topic: &str, done: Done<Count>) -> Result<()> {
        let _inside = self.enter()?;
        let hold = self.hold()?;
        let (own, own_node) = (self.topics.members(topic), self.members.incarnation);
        if self.is_local() {
            done(Ok(Count { connections: own, silent: 0 }));
            return Ok(());
        }
        let others = self.members.others();
        let counts: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
        let gathered = Arc::clone(&counts);
        let (wanted, bound) = (others.clone(), others.len() + STRANGERS_MAX);
        let heard = move |answer: &[u8]| {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            // We hear ourselves as well.
            if let Some((node, count)) = read(answer).filter(|(node, _)| *node != own_node) {
                counts.insert(node, count);
            }
            counts.len() >= bound || wanted.iter().all(|node| counts.contains_key(node))
        };
        let finish = move |result: Result<()>| {
            let counts = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            let connections = counts.values().fold(own, |sum, count| sum.saturating_add(*count));
            let silent = others.iter().filter(|node| !counts.contains_key(node)).count();
            drop(counts);
            done(result.map(|()| Count { connections, silent }));
            drop(hold);
        };
        let (subject, payload) = (self.count_subject(), topic.as_bytes());
        self.engine.ask_all(&subject, payload, GATHER_MS, Arc::new(heard), Box::new(finish))
    }
}

/// Nodes that may answer though we have not heard of them yet.
const STRANGERS_MAX: usize = 1_024;

fn read(answer: &[u8]) -> Option<(u64, u64)> {
    let (node, count) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
    Some((u64::from_str_radix(node, 16).ok()?, count.parse().ok()?))
}
