//! What there is to see of a cluster, for the metrics.

use super::Cluster;
use super::members::Presence;
use crate::metrics::{Family, Kind};

/// What has happened how often.
fn events(name: &'static str, help: &'static str, counts: &[(&'static str, u64)]) -> Family {
    let samples = counts.iter().map(|(event, count)| (format!("event=\"{event}\""), *count)).collect();
    Family { name, help, kind: Kind::Counter, samples }
}

impl Cluster {
    /// All of it; a server without a cluster has neither a link nor other members.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = if self.is_local() { Vec::new() } else { self.link_families() };
        families.push(events(
            "ahoy_jobs",
            "Jobs of work queues, by what this server has done with them.",
            &self.queue_counters().named(),
        ));
        families.push(events(
            "ahoy_calls",
            "Calls of services, by what this server has done with them; served and busy: as the one who is called.",
            &self.counts.named(),
        ));
        let kv = self.kv_counts();
        families.push(events(
            "ahoy_kv",
            "Reads and changes of buckets, by what came of them; gaps: times that a watch had missed something, and has read it.",
            &[
                ("read", kv.reads),
                ("written", kv.writes),
                ("conflict", kv.conflicts),
                ("unknown", kv.unknown),
                ("gap", kv.gaps),
            ],
        ));
        families
    }

    fn link_families(&self) -> Vec<Family> {
        let labels = format!("cluster=\"{}\",node=\"{}\",engine=\"{}\"", self.name, self.node, self.engine.name());
        let counts = self.engine.counts();
        let one = |name, help, value| Family { name, help, kind: Kind::Counter, samples: vec![(String::new(), value)] };
        vec![
            Family {
                name: "ahoy_cluster_info",
                help: "The cluster, this node, and what carries the cluster; always 1.",
                kind: Kind::Gauge,
                samples: vec![(labels, 1)],
            },
            Family {
                name: "ahoy_cluster_up",
                help: "1 while the cluster is joined.",
                kind: Kind::Gauge,
                samples: vec![(String::new(), u64::from(self.state().is_up()))],
            },
            self.member_family(),
            one("ahoy_cluster_reconnects", "Times that the cluster was joined again.", counts.reconnects),
            one(
                "ahoy_cluster_slow_consumers",
                "Messages of other nodes that were dropped because this one was slow to take them: at least so many.",
                counts.slow_consumer_drops,
            ),
            one(
                "ahoy_cluster_messages_at_risk",
                "Messages that were taken shortly before the cluster was lost: some may not have left.",
                counts.at_risk,
            ),
        ]
    }

    fn member_family(&self) -> Family {
        let members = self.members();
        let count = |presence| members.iter().filter(|member| member.presence == presence).count() as u64;
        let states = [("up", Presence::Up), ("suspect", Presence::Suspect), ("unknown", Presence::Unknown)];
        let samples = states.map(|(state, presence)| (format!("state=\"{state}\""), count(presence)));
        Family {
            name: "ahoy_cluster_members",
            help: "Nodes of the cluster, this one included, by what is known of them.",
            kind: Kind::Gauge,
            samples: samples.into(),
        }
    }
}
