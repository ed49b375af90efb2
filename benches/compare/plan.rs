//! The tables. A new peer, scenario or target is a new row.

/// One of the servers. Its program is built by `benches/peers/Makefile`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    /// The argument that makes it echo.
    pub(crate) echo: &'static str,
    /// The argument that makes it greet; none: it takes no part in greeting.
    pub(crate) greet: Option<&'static str>,
    pub(crate) note: &'static str,
}

pub(crate) const SUBJECT: &str = "ahoy";

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: "ahoy",
        program: "ahoy",
        echo: "echo",
        greet: Some("greet"),
        note: "one worker thread; the main thread waits",
    },
    Peer {
        name: "raw_epoll",
        program: "raw_epoll",
        echo: "echo",
        greet: Some("greet"),
        note: "by hand: level-triggered, one read buffer for all",
    },
    Peer {
        name: "libuv",
        program: "libuv",
        echo: "echo",
        greet: Some("greet"),
        note: "as in its guide: a buffer per read, a request per write",
    },
    Peer {
        name: "libuv_try",
        program: "libuv",
        echo: "echo-try",
        greet: None,
        note: "for speed: one read buffer for all, `uv_try_write`",
    },
    Peer {
        name: "libevent",
        program: "libevent",
        echo: "echo",
        greet: Some("greet"),
        note: "bufferevents; the echo moves buffers, it copies nothing",
    },
];

/// Memory hardly varies: more pairs would say the same.
pub(crate) const PAIRS_IDLE: usize = 5;

/// What the load does to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Each connection has one message in flight, all the time.
    Echo { connections: usize, bytes: usize },
    /// So many conversations at a time: connect, send, read the greeting, see the end.
    Greet { concurrency: usize },
    /// Connections that do nothing; `used`: after one echo each.
    Idle { connections: usize, used: bool },
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
];

const TIMES: &[Metric] = &[Metric::Rate, Metric::CpuPerRequest, Metric::P50, Metric::P99, Metric::P999];

/// What is measured. A request is one echo, or one whole greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Rate,
    CpuPerRequest,
    P50,
    P99,
    P999,
    BytesPerConnection,
}

impl Metric {
    /// Name and unit, for the head of a column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::Rate => "requests/s",
            Metric::CpuPerRequest => "server CPU µs/request",
            Metric::P50 => "p50 µs",
            Metric::P99 => "p99 µs",
            Metric::P999 => "p99.9 µs",
            Metric::BytesPerConnection => "B/connection",
        }
    }

    pub(crate) fn decimals(self) -> usize {
        match self {
            Metric::Rate | Metric::BytesPerConnection => 0,
            Metric::CpuPerRequest => 2,
            Metric::P50 | Metric::P99 | Metric::P999 => 1,
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
];

impl Peer {
    /// The argument that makes the program serve this load; none: it does not.
    pub(crate) fn mode(&self, load: Load) -> Option<&'static str> {
        match load {
            Load::Echo { .. } | Load::Idle { .. } => Some(self.echo),
            Load::Greet { .. } => self.greet,
        }
    }

    pub(crate) fn takes_part_in(&self, scenario: &Scenario) -> bool {
        self.mode(scenario.load).is_some()
    }
}

impl Scenario {
    /// How many pairs are worth while, if `wanted` are wanted.
    pub(crate) fn pairs(&self, wanted: usize) -> usize {
        match self.load {
            Load::Echo { .. } | Load::Greet { .. } => wanted,
            Load::Idle { .. } => wanted.min(PAIRS_IDLE),
        }
    }
}

pub(crate) fn peer(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

pub(crate) fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
