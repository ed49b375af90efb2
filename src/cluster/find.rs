//! Finding nodes from outside: a client knows the cluster's servers and a name, and asks who listens under it, each time that
//! it connects. So it moves to a node that is there when the one that it had is gone.

use std::sync::Arc;

use super::engine::Echo;
use super::engine::with;
use super::{Cluster, subject};
use crate::status::Result;

/// Whom everybody answers.
pub(super) fn find_subject(cluster: &str) -> String {
    format!("{cluster}.find")
}

/// Where a service is called.
pub(super) fn service_subject(cluster: &str, service: &str) -> String {
    format!("{cluster}.service.{}", subject::encode_token(service.as_bytes()))
}

impl Cluster {
    /// Answers whoever looks for nodes, from here on, with what the heartbeats say.
    pub(super) fn begin_finding(self: &Arc<Self>) -> Result<()> {
        let sink = with(&Arc::downgrade(self), |cluster, message| {
            let Some(reply) = message.reply.as_ref().filter(|_| cluster.state().is_up() && !cluster.is_leaving())
            else {
                return;
            };
            if let Err(error) = cluster.engine.respond(reply, cluster.introduction().as_bytes(), None) {
                log::debug!("an answer was not sent: {error}");
            }
        });
        self.engine.subscribe(&find_subject(&self.name), None, Echo::Yes, sink).map(drop)
    }
}
