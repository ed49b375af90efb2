//! What is to be reached. A new target is a new row.

use crate::plan::Peer;
use crate::scenarios::{Metric, Scenario};

pub(crate) struct Target {
    pub(crate) scenario: &'static str,
    pub(crate) metric: Metric,
    /// Ours over theirs; without a peer: ours.
    pub(crate) peer: Option<&'static str>,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        }
    }
}

const fn at_most(scenario: &'static str, metric: Metric, bound: f64, peer: &'static str) -> Target {
    Target { scenario, metric, peer: Some(peer), bound: Bound::AtMost(bound) }
}

const fn at_least(scenario: &'static str, metric: Metric, bound: f64, peer: &'static str) -> Target {
    Target { scenario, metric, peer: Some(peer), bound: Bound::AtLeast(bound) }
}

const fn itself_at_most(scenario: &'static str, metric: Metric, bound: f64) -> Target {
    Target { scenario, metric, peer: None, bound: Bound::AtMost(bound) }
}

pub(crate) const TARGETS: &[Target] = &[
    at_most("echo-64x50", Metric::CpuPerRequest, 1.00, "raw_epoll"),
    at_most("echo-64x50", Metric::CpuPerRequest, 0.55, "libuv"),
    at_most("echo-64x50", Metric::CpuPerRequest, 0.75, "libevent"),
    at_most("echo-64x50", Metric::CpuPerRequest, 1.00, "tokio"),
    at_most("echo-64x1000", Metric::CpuPerRequest, 0.96, "raw_epoll"),
    at_most("echo-64x1000", Metric::CpuPerRequest, 0.55, "libuv"),
    at_most("echo-64x1000", Metric::CpuPerRequest, 0.75, "libevent"),
    at_most("echo-64x1000", Metric::CpuPerRequest, 1.00, "tokio"),
    at_most("echo-64x10000", Metric::CpuPerRequest, 1.00, "tokio"),
    at_most("framed-16x64x50", Metric::CpuPerMessage, 1.00, "raw_epoll"),
    at_most("framed-16x64x50", Metric::CpuPerMessage, 0.20, "libuv"),
    at_most("framed-16x64x50", Metric::CpuPerMessage, 0.70, "libevent"),
    at_most("framed-16x64x50", Metric::CpuPerMessage, 1.00, "tokio"),
    at_most("echo-1kx50", Metric::CpuPerRequest, 1.00, "tokio"),
    at_most("echo-16kx50", Metric::CpuPerRequest, 1.05, "raw_epoll"),
    at_most("echo-16kx50", Metric::CpuPerRequest, 0.40, "libuv"),
    at_most("echo-16kx50", Metric::CpuPerRequest, 0.20, "libevent"),
    at_most("echo-16kx50", Metric::CpuPerRequest, 1.00, "tokio"),
    at_most("echo-1mx4", Metric::CpuPerGib, 1.00, "tokio"),
    at_most("greet", Metric::CpuPerRequest, 0.97, "raw_epoll"),
    at_most("greet", Metric::CpuPerRequest, 0.95, "libuv"),
    at_most("greet", Metric::CpuPerRequest, 0.85, "libevent"),
    at_most("greet", Metric::CpuPerRequest, 1.00, "tokio"),
    // No more than 1.05 times as much with two workers.
    at_least("echo-64x50", Metric::CpuPerRequest, 0.95, "ahoy_two"),
    at_least("echo-64x1000", Metric::CpuPerRequest, 0.95, "ahoy_two"),
    at_most("echo-64x1", Metric::P50, 1.00, "raw_epoll"),
    at_most("echo-64x1", Metric::P50, 1.00, "libuv"),
    at_most("echo-64x1", Metric::P50, 1.00, "libevent"),
    at_most("echo-64x1", Metric::P50, 1.00, "tokio"),
    at_most("half-64x50", Metric::P999, 1.00, "raw_epoll"),
    itself_at_most("idle-quiet", Metric::BytesPerConnection, 128.0),
    itself_at_most("idle-fresh", Metric::BytesPerConnection, 128.0),
    at_least("publish-64x10000", Metric::MessageRate, 0.90, "raw_epoll"),
    at_least("publish-64x10000", Metric::MessagesPerCpu, 0.90, "raw_epoll"),
    itself_at_most("publish-slow", Metric::BytesPerMember, 1024.0),
    at_most("relay-bulk", Metric::CpuPerGib, 1.00, "haproxy"),
    at_most("relay-64x50", Metric::CpuPerRequest, 1.00, "haproxy"),
    itself_at_most("timers", Metric::StartTimer, 100.0),
    itself_at_most("timers", Metric::CancelTimer, 100.0),
];

pub(crate) fn are_in(scenario: &Scenario) -> bool {
    TARGETS.iter().any(|target| target.scenario == scenario.name)
}

/// Whether there is a target for which this scenario is to be measured against this peer.
pub(crate) fn are_for(scenario: &Scenario, peer: &Peer) -> bool {
    TARGETS.iter().any(|target| target.scenario == scenario.name && target.peer == Some(peer.name))
}
