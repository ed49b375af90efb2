//! The tables behind topics: which connections and which subscriptions of one worker are in which.

use std::collections::HashMap;
use std::sync::Arc;

use super::roster::NOBODY;
use super::topics::{Subscription, SubscriptionId};
use crate::cluster::{Cluster, Interest};
use crate::conn::handle::ConnId;
use crate::conn::places::Places;
use crate::fault::{self, Call};
use crate::status::{Error, Result, Status};

/// Topics that one connection can be in.
const MEMBERSHIPS_MAX: usize = 1_024;

/// The topics of one worker.
#[derive(Default)]
pub(crate) struct Topics {
    pub(super) by_name: HashMap<Box<str>, u32>,
    pub(super) topics: Places<Topic>,
    pub(super) members: Places<Member>,
    pub(super) subscriptions: Vec<Option<Box<Subscription>>>,
}

pub(super) struct Topic {
    name: Box<str>,
    pub(super) first_member: u32,
    pub(super) subscriptions: Vec<SubscriptionId>,
    /// Lets the cluster know that somebody is in it; None: there is no cluster yet.
    interest: Option<Interest>,
}

/// One connection in one topic; in the list of the one and in the list of the other.
pub(super) struct Member {
    pub(super) conn: ConnId,
    pub(super) topic: u32,
    pub(super) next: u32,
    previous: u32,
    next_of_conn: u32,
}

impl Topics {
    /// The topic with this name, made if it is new.
    pub(super) fn open(&mut self, name: &str, cluster: Option<&Arc<Cluster>>) -> Result<u32> {
        if let Some(&topic) = self.by_name.get(name) {
            return Ok(topic);
        }
        self.by_name.try_reserve(1)?;
        let interest = cluster.map(|cluster| cluster.interest(name)).transpose()?;
        let (key, name) = (copy(name)?, copy(name)?);
        fault::check(Call::Memory).map_err(|_| Status::Memory)?;
        let topic = self.topics.insert(Topic { name, first_member: NOBODY, subscriptions: Vec::new(), interest })?;
        self.by_name.insert(key, topic);
        Ok(topic)
    }

    /// Forgets a topic in which nobody is.
    pub(super) fn close_empty(&mut self, at: u32) {
        let Some(topic) = self.topics.get_mut(at) else { return };
        if topic.first_member == NOBODY && topic.subscriptions.is_empty() {
            self.by_name.remove(&topic.name);
            self.topics.remove(at);
        }
    }

    /// Puts a connection, whose list of memberships begins at `first`, into a topic. None: it is there already.
    pub(super) fn add(&mut self, conn: ConnId, topic: u32, first: u32) -> Result<Option<u32>> {
        let mut count = 0;
        let mut at = first;
        while let Some(member) = self.members.get_mut(at) {
            if member.topic == topic {
                return Ok(None);
            }
            count += 1;
            at = member.next_of_conn;
        }
        if count >= MEMBERSHIPS_MAX {
            return Err(Error::new(Status::Again, format!("the connection is in {MEMBERSHIPS_MAX} topics")));
        }
        let next = self.topics.get_mut(topic).map_or(NOBODY, |topic| topic.first_member);
        fault::check(Call::Memory).map_err(|_| Status::Memory)?;
        let at = self.members.insert(Member { conn, topic, next, previous: NOBODY, next_of_conn: first })?;
        if let Some(next) = self.members.get_mut(next) {
            next.previous = at;
        }
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.first_member = at;
            topic.interest.iter().for_each(Interest::joined);
        }
        Ok(Some(at))
    }

    /// Takes the membership in a topic out of a connection's list that begins at `first`; says where the list begins then.
    pub(super) fn drop_member(&mut self, topic: u32, first: u32) -> u32 {
        let mut before = NOBODY;
        let mut at = first;
        while let Some(member) = self.members.get_mut(at) {
            let next_of_conn = member.next_of_conn;
            if member.topic != topic {
                (before, at) = (at, next_of_conn);
                continue;
            }
            let (next, previous) = (member.next, member.previous);
            self.members.remove(at);
            if let Some(next) = self.members.get_mut(next) {
                next.previous = previous;
            }
            match self.members.get_mut(previous) {
                Some(previous) => previous.next = next,
                None => {
                    if let Some(topic) = self.topics.get_mut(topic) {
                        topic.first_member = next;
                    }
                }
            }
            if let Some(topic) = self.topics.get_mut(topic) {
                topic.interest.iter().for_each(Interest::left);
            }
            self.close_empty(topic);
            return match self.members.get_mut(before) {
                Some(before) => {
                    before.next_of_conn = next_of_conn;
                    first
                }
                None => next_of_conn,
            };
        }
        first
    }
}

/// A copy that answers for its memory.
pub(super) fn copy(name: &str) -> Result<Box<str>> {
    let mut copy = String::new();
    copy.try_reserve_exact(name.len())?;
    copy.push_str(name);
    Ok(copy.into_boxed_str())
}
