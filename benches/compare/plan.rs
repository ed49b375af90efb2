//! The servers. A new peer is a new row.

use crate::scenarios::{Load, SCENARIOS, Scenario};
use crate::targets;

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

/// Ours, as it is by itself: on the driver that it chooses.
pub(crate) const SUBJECT: &str = "ahoy";
/// What the plots compare with, and whose saturation sets the rate of the load that is paced.
pub(crate) const BASELINE: &str = "raw_epoll";

/// What each server that is not ours can be, if nothing is said.
const SERVER: &[(Role, &str)] = &[(Role::Echo, "echo"), (Role::Greet, "greet"), (Role::Framed, "framed")];

pub(crate) const PEERS: &[Peer] = &[
    Peer {
        name: SUBJECT,
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
        note: "`AHOY_DRIVER_AUTO`; one worker thread; the main thread waits; the relay is `c_examples/proxy.c`",
    },
    Peer {
        name: "ahoy_epoll",
        program: "ahoy",
        modes: &[
            (Role::Echo, "epoll-echo"),
            (Role::Greet, "epoll-greet"),
            (Role::Framed, "epoll-framed"),
            (Role::Publish, "epoll-publish"),
            (Role::PublishLarge, "epoll-publish-large"),
        ],
        note: "the same with `AHOY_DRIVER_EPOLL`",
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
        note: "the same with `AHOY_DRIVER_URING`",
    },
    Peer {
        name: "ahoy_two",
        program: "ahoy",
        modes: &[(Role::Echo, "two-echo"), (Role::Greet, "two-greet"), (Role::Framed, "two-framed")],
        note: "as ahoy, with two worker threads, which share the server's CPU",
    },
    Peer {
        name: "ahoy_epoll_two",
        program: "ahoy",
        modes: &[(Role::Echo, "two-epoll-echo"), (Role::Greet, "two-epoll-greet"), (Role::Framed, "two-epoll-framed")],
        note: "as ahoy_epoll, with two worker threads, which share the server's CPU",
    },
    Peer {
        name: BASELINE,
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
        name: "raw_uring",
        program: "raw_uring",
        modes: SERVER,
        note: "by hand: multishot accept and receive, buffers used up piece by piece, deferred task run; one system call a turn",
    },
    Peer {
        name: "libuv",
        program: "libuv",
        modes: SERVER,
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
        modes: SERVER,
        note: "bufferevents; the echo moves buffers, it copies nothing",
    },
    Peer {
        name: "libev",
        program: "libev",
        modes: SERVER,
        note: "a watcher per connection, `recv` and `send` by hand, one read buffer for all",
    },
    Peer {
        name: "nng",
        program: "nng",
        modes: SERVER,
        note: "its streams, on its own threads: an operation receives, and when it is done the next one sends",
    },
    Peer {
        name: "tokio",
        program: "tokio",
        modes: SERVER,
        note: "a task per connection, a runtime of one thread; messages by the codec of tokio-util",
    },
    Peer {
        name: "asio",
        program: "asio",
        modes: SERVER,
        note: "the fastest other one that was found; its echo server, on a context of one thread without locks",
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
pub(crate) const PAIRS_FEW: usize = 3;
/// Where there is no target: the fewest whose range is a 95 % interval of the median.
pub(crate) const PAIRS_OTHERS: usize = 6;

impl Peer {
    /// The argument that makes the program serve this load; none: it does not.
    pub(crate) fn mode(&self, load: Load) -> Option<&'static str> {
        self.modes.iter().find(|(role, _)| *role == load.role()).map(|(_, mode)| *mode)
    }

    pub(crate) fn takes_part_in(&self, scenario: &Scenario) -> bool {
        self.mode(scenario.load).is_some()
    }
}

/// How many pairs are worth while for a scenario and a peer, if `wanted` are wanted where there is a target.
pub(crate) fn pairs(scenario: &Scenario, peer: &Peer, wanted: usize) -> usize {
    match scenario.load {
        Load::Idle { .. } | Load::PublishSlow { .. } | Load::Timers => wanted.min(PAIRS_FEW),
        _ if targets::are_for(scenario, peer) => wanted,
        _ => wanted.min(PAIRS_OTHERS),
    }
}

pub(crate) fn peer(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

pub(crate) fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
