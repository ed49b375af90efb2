//! Asking for this node's name, and what comes of that: see `claim` for the rules.

use std::sync::Arc;

use super::{ANSWER_MS, wall_clock_ms};
use crate::cluster::Cluster;
use crate::cluster::engine::{Answer, Echo, with};
use crate::status::{Result, Status};
use crate::sys;

impl Cluster {
    /// Asks whether somebody has our name, if it is time to.
    pub(super) fn ask_name(self: &Arc<Self>) {
        if !self.members.lock().claim.ask(sys::now_ms()) {
            return;
        }
        let weak = Arc::downgrade(self);
        let done = move |answer: Result<Answer>| {
            if let Some(cluster) = weak.upgrade() {
                cluster.name_answered(answer.map_or_else(|error| error.status, |_| Status::Ok));
            }
        };
        if let Err(error) = self.engine.request(&self.who_subject(), &[], ANSWER_MS, Box::new(done)) {
            self.name_answered(error.status);
        }
    }

    fn name_answered(self: &Arc<Self>, answer: Status) {
        let is_held = {
            let mut inner = self.members.lock();
            let is_held = inner.claim.answered(sys::now_ms(), answer);
            if is_held {
                inner.since_ms = wall_clock_ms();
            }
            is_held
        };
        if is_held {
            let sink = with(&Arc::downgrade(self), |cluster, message| cluster.respond_alive(message));
            match self.engine.subscribe(&self.who_subject(), None, Echo::Yes, sink) {
                Ok(key) => self.members.lock().who = Some(key),
                Err(error) => log::warn!("nobody will hear whose the name {} is: {error}", self.node),
            }
            self.beat(false);
            self.members.claimed.notify_all();
        }
        self.restate();
    }
}
