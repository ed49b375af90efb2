//! The tables. A new peer, scenario or target is a new row.

/// One of the servers. Its program is built by `benches/peers/Makefile`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// What it can be, and the argument that makes it so.
    pub(crate) modes: &'static [(Role, &'static str)],
    pub(crate) note: &'static str,
}

/// What a server has to be for a load; `benches/peers/peer.h` says what each does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Echo,
    Greet,
    Framed,
    Publish,
    PublishLarge,
    Relay,
    /// No server: one of the groups of `benches/timers`.
    Timers,
}

pub(crate) const SUBJECT: &str = "ahoy";

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "ahoy",
        program: "ahoy",
        modes: &[
            (Role::Echo, "echo"),
            (Role::Greet, "greet"),
            (Role::Framed, "framed"),
            (Role::Publish, "publish"),
            (Role::PublishLarge, "publish-large"),
            (Role::Relay, "relay"),
            (Role::Timers, "engine"),
        ],
        note: "one worker thread; the main thread waits; the relay is `c_examples/proxy.c`",
    },
    Peer {
        name: "ahoy_uring",
        program: "ahoy",
        modes: &[
            (Role::Echo, "uring-echo"),
            (Role::Greet, "uring-greet"),
            (Role::Framed, "uring-framed"),
            (Role::Publish, "uring-publish"),
            (Role::PublishLarge, "uring-publish-large"),
        ],
        note: "the same on io_uring",
    },
    Peer {
        name: "raw_epoll",
        program: "raw_epoll",
        modes: &[
            (Role::Echo, "echo"),
            (Role::Greet, "greet"),
            (Role::Framed, "framed"),
            (Role::Publish, "publish"),
            (Role::PublishLarge, "publish-large"),
        ],
        note: "by hand: level-triggered, one read buffer for all; one write for all that one read asked; a publish is a \
               loop of `send`",
    },
    Peer {
        name: "libuv",
        program: "libuv",
        modes: &[(Role::Echo, "echo"), (Role::Greet, "greet"), (Role::Framed, "framed")],
        note: "as in its guide: a buffer per read, a request and an `uv_write` per message, which is a system call",
    },
    Peer {
        name: "libuv_try",
        program: "libuv",
        modes: &[(Role::Echo, "echo-try")],
        note: "for speed: one read buffer for all, `uv_try_write`",
    },
    Peer {
        name: "libevent",
        program: "libevent",
        modes: &[(Role::Echo, "echo"), (Role::Greet, "greet"), (Role::Framed, "framed")],
        note: "bufferevents; the echo moves buffers, it copies nothing",
    },
    Peer {
        name: "haproxy",
        program: "haproxy",
        modes: &[(Role::Relay, "relay")],
        note: "TCP mode, `nbthread 1`, otherwise its defaults",
    },
    Peer {
        name: "haproxy_splice",
        program: "haproxy",
        modes: &[(Role::Relay, "relay-splice")],
        note: "the same with `option splice-auto`",
    },
    Peer {
        name: "wheel",
        program: "ahoy",
        modes: &[(Role::Timers, "wheel")],
        note: "the wheel of timers beneath ours, alone",
    },
];

/// Memory hardly varies, and a run of the timers is many: more pairs would say the same.
pub(crate) const PAIRS_FEW: usize = 5;

/// What the load does to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection has one message in flight, all the time.
    Echo { connections: usize, bytes: usize },
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
            Load::Echo { .. } | Load::Idle { .. } => Role::Echo,
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
            Load::Echo { connections, .. } | Load::Framed { connections, .. } | Load::Idle { connections, .. } => {
                connections
            }
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
        name: "echo-16kx50",
        title: "echo of 16 KiB, 50 connections",
        load: Load::Echo { connections: 50, bytes: 16 << 10 },
        metrics: TIMES,
    },
    Scenario {
        name: "framed-16x64x50",
        title: "echo of 16 messages of 64 B in each read, 50 connections",
        load: Load::Framed { connections: 50, batch: 16, bytes: 64 },
        metrics: &[Metric::MessageRate, Metric::MessagesPerCpu, Metric::CpuPerMessage, Metric::P50, Metric::P99],
    },
    Scenario {
        name: "greet",
        title: "connect, send, greeting, end; 50 at a time",
        load: Load::Greet { concurrency: 50 },
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

/// What is to be reached.
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

pub(crate) const TARGETS: &[Target] = &[
    Target {
        scenario: "echo-64x50",
        metric: Metric::CpuPerRequest,
        peer: Some("raw_epoll"),
        bound: Bound::AtMost(1.10),
    },
    Target { scenario: "echo-64x50", metric: Metric::CpuPerRequest, peer: Some("libuv"), bound: Bound::AtMost(0.75) },
    Target { scenario: "greet", metric: Metric::Rate, peer: Some("raw_epoll"), bound: Bound::AtLeast(0.97) },
    Target { scenario: "idle-quiet", metric: Metric::BytesPerConnection, peer: None, bound: Bound::AtMost(256.0) },
    Target { scenario: "idle-fresh", metric: Metric::BytesPerConnection, peer: None, bound: Bound::AtMost(256.0) },
    Target {
        scenario: "framed-16x64x50",
        metric: Metric::MessagesPerCpu,
        peer: Some("libuv"),
        bound: Bound::AtLeast(4.0),
    },
    Target {
        scenario: "framed-16x64x50",
        metric: Metric::MessagesPerCpu,
        peer: Some("raw_epoll"),
        bound: Bound::AtLeast(0.9),
    },
    Target {
        scenario: "publish-64x10000",
        metric: Metric::MessageRate,
        peer: Some("raw_epoll"),
        bound: Bound::AtLeast(0.9),
    },
    Target {
        scenario: "publish-64x10000",
        metric: Metric::MessagesPerCpu,
        peer: Some("raw_epoll"),
        bound: Bound::AtLeast(0.9),
    },
    Target { scenario: "publish-slow", metric: Metric::BytesPerMember, peer: None, bound: Bound::AtMost(1024.0) },
    Target { scenario: "relay-bulk", metric: Metric::CpuPerGib, peer: Some("haproxy"), bound: Bound::AtMost(1.0) },
    Target { scenario: "relay-64x50", metric: Metric::CpuPerRequest, peer: Some("haproxy"), bound: Bound::AtMost(1.0) },
    Target { scenario: "timers", metric: Metric::StartTimer, peer: None, bound: Bound::AtMost(100.0) },
    Target { scenario: "timers", metric: Metric::CancelTimer, peer: None, bound: Bound::AtMost(100.0) },
];

impl Peer {
    /// The argument that makes the program serve this load; none: it does not.
    pub(crate) fn mode(&self, load: Load) -> Option<&'static str> {
        self.modes.iter().find(|(role, _)| *role == load.role()).map(|(_, mode)| *mode)
    }

    pub(crate) fn takes_part_in(&self, scenario: &Scenario) -> bool {
        self.mode(scenario.load).is_some()
    }
}

/// How many pairs are worth while for a scenario and a peer, if `wanted` are wanted.
pub(crate) fn pairs(scenario: &Scenario, peer: &Peer, wanted: usize) -> usize {
    let has_target = TARGETS.iter().any(|target| target.scenario == scenario.name && target.peer == Some(peer.name));
    match scenario.load {
        Load::Idle { .. } | Load::PublishSlow { .. } | Load::Timers => wanted.min(PAIRS_FEW),
        _ if has_target => wanted,
        _ => wanted.div_ceil(2),
    }
}

pub(crate) fn peer(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

pub(crate) fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
