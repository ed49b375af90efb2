//! What the load does, and what is measured. A new scenario is a new row.

use crate::plan::Role;

/// What the load does to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection has one message in flight, all the time.
    Echo { connections: usize, bytes: usize },
    /// As echo, but requests are sent when they are due, at half the rate that the baseline can serve, whether or not those
    /// before have been answered.
    Paced { connections: usize, bytes: usize },
    /// So many conversations at a time: connect, send, read the greeting, see the end.
    Greet { concurrency: usize },
    /// As echo, but what is in flight is a batch of messages, each with its length in front, in one write.
    Framed { connections: usize, batch: usize, bytes: usize },
    /// Connections that do nothing; `used`: after one echo each.
    Idle { connections: usize, used: bool },
    /// One of the members says something, and when all have heard it the next thing.
    Publish { members: usize, bytes: usize },
    /// Members that read nothing, and one large message for all.
    PublishSlow { members: usize },
    /// Clients send as much as the relay takes, the target behind it reads it.
    RelayBulk { connections: usize, bytes: usize },
    /// As echo; it is the target behind the relay that answers.
    RelayEcho { connections: usize, bytes: usize },
    /// Timers are started and cancelled, in one thread, without a load.
    Timers,
}

impl Load {
    pub(crate) fn role(self) -> Role {
        match self {
            Load::Echo { .. } | Load::Paced { .. } | Load::Idle { .. } => Role::Echo,
            Load::Greet { .. } => Role::Greet,
            Load::Framed { .. } => Role::Framed,
            Load::Publish { .. } => Role::Publish,
            Load::PublishSlow { .. } => Role::PublishLarge,
            Load::RelayBulk { .. } | Load::RelayEcho { .. } => Role::Relay,
            Load::Timers => Role::Timers,
        }
    }

    /// How many the server, or the load, has open.
    pub(crate) fn connections(self) -> usize {
        match self {
            Load::Echo { connections, .. }
            | Load::Paced { connections, .. }
            | Load::Framed { connections, .. }
            | Load::Idle { connections, .. } => connections,
            Load::Greet { concurrency } => concurrency,
            Load::Publish { members, .. } | Load::PublishSlow { members } => members,
            Load::RelayBulk { connections, .. } | Load::RelayEcho { connections, .. } => 2 * connections,
            Load::Timers => 0,
        }
    }
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    pub(crate) metrics: &'static [Metric],
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo-64x1",
        title: "echo of 64 B, 1 connection",
        load: Load::Echo { connections: 1, bytes: 64 },
        metrics: TIMES,
    },
    Scenario {
        name: "echo-64x50",
        title: "echo of 64 B, 50 connections",
        load: Load::Echo { connections: 50, bytes: 64 },
        metrics: TIMES,
    },
    Scenario {
        name: "echo-64x1000",
        title: "echo of 64 B, 1,000 connections",
        load: Load::Echo { connections: 1000, bytes: 64 },
        metrics: TIMES,
    },
    Scenario {
        name: "echo-64x10000",
        title: "echo of 64 B, 10,000 connections",
        load: Load::Echo { connections: 10_000, bytes: 64 },
        metrics: &[Metric::Rate, Metric::CpuPerRequest, Metric::P50, Metric::P99],
    },
    Scenario {
        name: "framed-16x64x50",
        title: "echo of 16 messages of 64 B in each read, 50 connections",
        load: Load::Framed { connections: 50, batch: 16, bytes: 64 },
        metrics: &[Metric::MessageRate, Metric::CpuPerMessage, Metric::P50, Metric::P99],
    },
    Scenario {
        name: "echo-1kx50",
        title: "echo of 1 KiB, 50 connections",
        load: Load::Echo { connections: 50, bytes: 1 << 10 },
        metrics: TIMES,
    },
    Scenario {
        name: "echo-16kx50",
        title: "echo of 16 KiB, 50 connections",
        load: Load::Echo { connections: 50, bytes: 16 << 10 },
        metrics: TIMES,
    },
    Scenario {
        name: "echo-1mx4",
        title: "echo of streams, 4 connections with 1 MiB under way on each",
        load: Load::Echo { connections: 4, bytes: 1 << 20 },
        metrics: &[Metric::GibRate, Metric::CpuPerGib, Metric::P50, Metric::P99],
    },
    Scenario {
        name: "greet",
        title: "connect, send, greeting, end; 50 at a time",
        load: Load::Greet { concurrency: 50 },
        metrics: TIMES,
    },
    Scenario {
        name: "half-64x50",
        title: "echo of 64 B, 50 connections, at half the rate that saturates raw_epoll",
        load: Load::Paced { connections: 50, bytes: 64 },
        metrics: TIMES,
    },
    Scenario {
        name: "idle-quiet",
        title: "10,000 connections, quiet after one echo of 64 B each",
        load: Load::Idle { connections: 10_000, used: true },
        metrics: &[Metric::BytesPerConnection],
    },
    Scenario {
        name: "idle-fresh",
        title: "10,000 connections that never sent a byte",
        load: Load::Idle { connections: 10_000, used: false },
        metrics: &[Metric::BytesPerConnection],
    },
    Scenario {
        name: "publish-64x10000",
        title: "64 B published to 10,000 connections",
        load: Load::Publish { members: 10_000, bytes: 64 },
        metrics: &[Metric::MessageRate, Metric::MessagesPerCpu, Metric::CpuPerMessage, Metric::P50],
    },
    Scenario {
        name: "publish-slow",
        title: "1 MiB published to 256 connections that read nothing",
        load: Load::PublishSlow { members: 256 },
        metrics: &[Metric::BytesPerMember],
    },
    Scenario {
        name: "relay-bulk",
        title: "relay, 8 connections that write 256 KiB at a time",
        load: Load::RelayBulk { connections: 8, bytes: 256 << 10 },
        metrics: &[Metric::GibRate, Metric::CpuPerGib],
    },
    Scenario {
        name: "relay-64x50",
        title: "relay, echo of 64 B behind it, 50 connections",
        load: Load::RelayEcho { connections: 50, bytes: 64 },
        metrics: TIMES,
    },
    Scenario {
        name: "timers",
        title: "timers, a million pending",
        load: Load::Timers,
        metrics: &[Metric::StartTimer, Metric::CancelTimer],
    },
];

const TIMES: &[Metric] = &[Metric::Rate, Metric::CpuPerRequest, Metric::P50, Metric::P99, Metric::P999];

/// What is measured. A request is one echo (of a batch, there and back through a relay), one whole greeting, or
/// one publish; its messages are those of the batch, or the deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Rate,
    CpuPerRequest,
    MessageRate,
    MessagesPerCpu,
    CpuPerMessage,
    GibRate,
    CpuPerGib,
    P50,
    P99,
    P999,
    BytesPerConnection,
    /// Beyond one payload for all.
    BytesPerMember,
    StartTimer,
    CancelTimer,
}

impl Metric {
    /// Name and unit, for the head of a column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::Rate => "requests/s",
            Metric::CpuPerRequest => "server CPU µs/request",
            Metric::MessageRate => "messages/s",
            Metric::MessagesPerCpu => "messages/server CPU s",
            Metric::CpuPerMessage => "server CPU ns/message",
            Metric::GibRate => "GiB/s",
            Metric::CpuPerGib => "server CPU ms/GiB",
            Metric::P50 => "p50 µs",
            Metric::P99 => "p99 µs",
            Metric::P999 => "p99.9 µs",
            Metric::BytesPerConnection => "B/connection",
            Metric::BytesPerMember => "B/member beyond 1 MiB for all",
            Metric::StartTimer => "start ns",
            Metric::CancelTimer => "cancel ns",
        }
    }

    pub(crate) fn decimals(self) -> usize {
        match self {
            Metric::Rate | Metric::MessageRate | Metric::MessagesPerCpu | Metric::CpuPerMessage => 0,
            Metric::BytesPerConnection | Metric::BytesPerMember => 0,
            Metric::CpuPerRequest | Metric::GibRate => 2,
            Metric::StartTimer | Metric::CancelTimer => 1,
            Metric::CpuPerGib | Metric::P50 | Metric::P99 | Metric::P999 => 1,
        }
    }
}

impl Scenario {
    /// The one of its measures that says what the server's CPU costs, if it has one.
    pub(crate) fn cost(&self) -> Option<Metric> {
        let costs = [Metric::CpuPerRequest, Metric::CpuPerMessage, Metric::CpuPerGib];
        self.metrics.iter().copied().find(|metric| costs.contains(metric))
    }
}
