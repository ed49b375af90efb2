//! Outgoing connections: how one is opened, from its URLs to a socket that has connected, and opened again when it
//! is lost. What the worker does for it is in `connecting.rs`.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use socket2::SockAddr;

use super::Server;
use super::mailbox::Command;
use super::roster::{self, Roster};
use super::shared::{FRAMING_DATAGRAM, FRAMING_OWN};
use crate::conn::handle::ConnId;
use crate::driver::Carries;
use crate::framing::Framing;
use crate::net::{Endpoint, Peer, Target};
use crate::status::{Error, Result, Status};
use crate::sys::{self, Finalizer, HostUser};

/// How to connect. Numbers that are zero stand for the defaults.
pub struct ConnectOptions {
    /// The connection's user data; None: the server's.
    pub user: Option<HostUser>,
    /// Gives it back.
    pub finalizer: Finalizer,
    /// The connection is down and will be tried again.
    pub on_down: Option<Arc<DownCall>>,
    /// None: the server's.
    pub framing: Option<Framing>,
    /// Time in which one of the URLs must have answered.
    pub connect_ms: u32,
    /// Whether it is opened again when it is lost.
    pub reconnect: bool,
    /// Bound of the first wait before that, and of all of them.
    pub reconnect_min_ms: u32,
    /// See above.
    pub reconnect_max_ms: u32,
    /// Tries in a row that may fail; 0: any number.
    pub reconnect_tries_max: u32,
}

/// Calls the program's function.
pub type DownCall = dyn Fn(ConnId, Status, HostUser) + Send + Sync;

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            user: None,
            finalizer: Finalizer::NONE,
            on_down: None,
            framing: None,
            connect_ms: 0,
            reconnect: false,
            reconnect_min_ms: 0,
            reconnect_max_ms: 0,
            reconnect_tries_max: 0,
        }
    }
}

/// Where a connection is that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A round is under way: once through the list of URLs.
    Round,
    /// The last round: the program has closed it. It is opened, what is queued goes out, and it closes.
    LastRound,
    /// The next round begins then.
    Waiting { until_ms: u64 },
}

/// What an outgoing connection needs to be opened.
pub(crate) struct Connector {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) carries: Carries,
    connect_ms: u32,
    pub(super) reconnect: bool,
    reconnect_min_ms: u32,
    reconnect_max_ms: u32,
    tries_max: u32,
    pub(super) on_down: Option<Arc<DownCall>>,
    finalizer: Option<Finalizer>,
    pub(super) stage: Stage,
    /// Tries in a row that have failed, or after which the peer said nothing.
    tries: u32,
    random: RandomState,

    // ---- The round that is under way.
    /// Which URL it is at.
    pub(super) at: usize,
    pub(super) until_ms: u64,
    /// The end of this URL's share of the time.
    pub(super) share_until_ms: u64,
    /// The number of the last question to the resolver, and whether its answer is awaited.
    pub(super) question: u32,
    pub(super) is_asking: bool,
    pub(super) addresses: VecDeque<SockAddr>,
    /// Attempts that the driver has.
    pub(super) attempts: Vec<(u64, SockAddr)>,
    /// When the next address is tried beside those that have not answered.
    pub(super) next_attempt_ms: u64,
    /// What came of the last attempt.
    pub(super) failure: Status,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("endpoints", &self.endpoints).field("at", &self.at).finish_non_exhaustive()
    }
}

/// Opens a connection. `announce` gets the handle before any callback does. On an error the finalizer is not called.
pub fn connect(server: &Server, urls: &str, options: ConnectOptions, announce: impl FnOnce(ConnId)) -> Result<()> {
    let user = options.user;
    let (connector, framing) = match Connector::new(server, urls, options) {
        Ok(made) => made,
        Err((error, finalizer)) => {
            finalizer.disarm();
            return Err(error);
        }
    };
    connector.post(server, framing, user, announce).map_err(|(error, mut connector)| {
        if let Some(finalizer) = connector.finalizer.take() {
            finalizer.disarm();
        }
        error
    })
}

impl Connector {
    fn new(server: &Server, urls: &str, options: ConnectOptions) -> Result<(Box<Self>, u8), (Error, Finalizer)> {
        let ConnectOptions { finalizer, on_down, framing, connect_ms, reconnect, reconnect_tries_max, .. } = options;
        let or = |given: u32, default: u32| if given == 0 { default } else { given };
        let reconnect_max_ms = or(options.reconnect_max_ms, 30_000);
        let reconnect_min_ms = or(options.reconnect_min_ms, 100).min(reconnect_max_ms);
        let (endpoints, carries, framing) = match targets(server, urls, framing) {
            Ok(targets) => targets,
            Err(error) => return Err((error, finalizer)),
        };
        let connector = Self {
            endpoints,
            carries,
            connect_ms: or(connect_ms, 10_000),
            reconnect,
            reconnect_min_ms,
            reconnect_max_ms,
            tries_max: reconnect_tries_max,
            on_down,
            finalizer: Some(finalizer),
            stage: Stage::Round,
            tries: 0,
            random: RandomState::new(),
            at: 0,
            until_ms: 0,
            share_until_ms: 0,
            question: 0,
            is_asking: false,
            addresses: VecDeque::new(),
            attempts: Vec::new(),
            next_attempt_ms: 0,
            failure: Status::Timeout,
        };
        Ok((Box::new(connector), framing))
    }

    fn post(
        self: Box<Self>,
        server: &Server,
        framing: u8,
        user: Option<HostUser>,
        announce: impl FnOnce(ConnId),
    ) -> Result<(), (Error, Box<Self>)> {
        let shared = &server.shared;
        if shared.stop_at_ms().is_some() {
            return Err((Status::Stopped.into(), self));
        }
        let here = |roster: &mut Roster| (roster.server.id == shared.id).then(|| Arc::clone(&roster.me));
        let Some(worker) = roster::with(here).flatten().or_else(|| server.team.anyone().map(Arc::clone)) else {
            return Err((Status::Stopped.into(), self));
        };
        if !shared.admit() {
            return Err((Error::new(Status::Again, "connections_max is reached"), self));
        }
        let peer = if self.carries == Carries::Datagrams { Peer::UNNAMED_DATAGRAM } else { Peer::UNNAMED };
        let conn = match worker.slots.reserve(peer, framing, user.unwrap_or_else(|| shared.user())) {
            Ok(conn) => conn,
            Err(error) => {
                shared.dismiss();
                return Err((error, self));
            }
        };
        // Also from its own worker: the driver is not at hand inside a callback.
        let command = Command::Connect { conn, connector: self };
        worker.mailbox.post_after(command, || announce(conn)).map_err(|(error, command)| {
            worker.slots.release(conn);
            shared.dismiss();
            let Command::Connect { connector, .. } = command else { unreachable!("it was a connection") };
            (if error.status == Status::Stale { Status::Stopped.into() } else { error }, connector)
        })
    }

    /// What gives the connection's user data back; the connection has it from here on.
    pub(super) fn take_finalizer(&mut self) -> Finalizer {
        self.finalizer.take().unwrap_or(Finalizer::NONE)
    }

    /// Begins a round.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.stage = Stage::Round;
        self.until_ms = now_ms + u64::from(self.connect_ms);
        self.at = 0;
        self.failure = Status::Timeout;
        self.begin_share(now_ms);
    }

    /// Begins with the next URL, which gets its share of the time that is left.
    pub(super) fn begin_share(&mut self, now_ms: u64) {
        let left = (self.endpoints.len() - self.at).max(1) as u64;
        self.share_until_ms = now_ms + self.until_ms.saturating_sub(now_ms) / left;
        self.next_attempt_ms = 0;
        self.addresses.clear();
    }

    /// There is not more time than this.
    pub(super) fn hurry(&mut self, left_ms: u32) {
        self.until_ms = self.until_ms.min(sys::now_ms() + u64::from(left_ms));
        self.share_until_ms = self.share_until_ms.min(self.until_ms);
    }

    /// When to look again.
    pub(super) fn next_ms(&self) -> u64 {
        if let Stage::Waiting { until_ms } = self.stage {
            return until_ms;
        }
        let next = if self.addresses.is_empty() { u64::MAX } else { self.next_attempt_ms };
        self.until_ms.min(self.share_until_ms).min(next)
    }

    /// A round has failed, or the connection was lost: whether to try again, and then when: after a random time
    /// between 0 and a bound that doubles ("full jitter"), so that those who lost the same server do not come
    /// back all at once.
    pub(super) fn plan_retry(&mut self, has_heard: bool) -> bool {
        self.tries = if has_heard { 0 } else { self.tries + 1 };
        if !self.reconnect || self.stage == Stage::LastRound || (self.tries_max > 0 && self.tries >= self.tries_max) {
            return false;
        }
        let doubled = u64::from(self.reconnect_min_ms) << self.tries.saturating_sub(1).min(31);
        let bound_ms = doubled.min(u64::from(self.reconnect_max_ms));
        let random = self.random.hash_one((self.tries, sys::now_ms()));
        self.stage = Stage::Waiting { until_ms: sys::now_ms() + random % (bound_ms + 1) };
        true
    }
}

/// The places to connect to, and the framing that they agree on.
fn targets(server: &Server, urls: &str, framing: Option<Framing>) -> Result<(Vec<Endpoint>, Carries, u8)> {
    let targets = Target::parse_list(urls)?;
    let is_datagram = targets.first().is_some_and(|target| target.endpoint.is_datagram());
    let mut number = None;
    for target in &targets {
        // Only what can be connected to.
        target.endpoint.literal()?;
        if target.endpoint.is_datagram() != is_datagram {
            return Err(Error::new(
                Status::Invalid,
                format!("\"{urls}\": streams and datagrams cannot stand in for each other"),
            ));
        }
        let wanted = match target.framing.clone().or_else(|| framing.clone()) {
            _ if is_datagram => FRAMING_DATAGRAM,
            Some(framing) => server.shared.framings.number(framing)?,
            None => FRAMING_OWN,
        };
        if *number.get_or_insert(wanted) != wanted {
            return Err(Error::new(Status::Invalid, format!("\"{urls}\": the URLs differ in their framing")));
        }
    }
    let carries = if is_datagram { Carries::Datagrams } else { Carries::Stream };
    let endpoints = targets.into_iter().map(|target| target.endpoint).collect();
    Ok((endpoints, carries, number.unwrap_or(FRAMING_OWN)))
}
