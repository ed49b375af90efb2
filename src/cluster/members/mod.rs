//! The members of a cluster: who they are, and whether they are there.
//!
//! Each node says so again and again on a subject of its own, which all others hear. There is no list that anybody keeps:
//! each node concludes for itself, by its own clock.
//!
//! - `heartbeat`: what is said; `watch`: what is concluded from it; `claim`: whose a name is.

mod claim;
mod heartbeat;
mod name;
mod watch;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::claim::Claim;
pub(super) use self::claim::name_taken;
use self::heartbeat::ADDRESSES_BYTES_MAX;
pub(super) use self::heartbeat::Heartbeat;
use self::watch::Watch;
use super::engine::{Answer, Echo, Link, Message, SubscriptionKey, with};
use super::{Cluster, LANE_CLUSTER};
#[cfg(feature = "cluster")]
use crate::net;
use crate::status::{Error, Result, Status};
use crate::sys;

/// How often a node says that it is there.
const BEAT_MS: u32 = 300;
/// How often it looks at the clock.
const TICK_MS: u32 = 100;
/// Silence after which a node is suspected.
const SUSPECT_MS: u64 = 900;
/// How often who is suspected is asked, and how long its answer is waited for.
const ASK_MS: u32 = 300;
const ANSWER_MS: u32 = 600;
/// Silence after which nobody lives for whom nobody hears.
const DESERTED_MS: u64 = 1_300;
/// Silence after which nobody lives who does not answer.
const DEAD_MS: u64 = 2_700;
/// After a loss of our own link others have so long to come back, too, before their silence counts.
const GRACE_MS: u64 = 2_000;

/// Calls of the program's in a row, before others of the worker have their turn.
const NEWS_IN_A_ROW: usize = 64;

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Up,
    /// It was not heard for a while.
    Suspect,
    /// It said goodbye, or is dead.
    Left,
    /// We are cut off ourselves.
    Unknown,
}

/// A member, as one node knows it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Which life of the node this is.
    pub incarnation: u64,
    /// Where it listens: URLs with commas between.
    pub addresses: String,
    /// What its program wants others to know.
    pub meta: String,
    /// When it joined: milliseconds since 1970, by its own clock.
    pub since_ms: u64,
    /// How many it has.
    pub connections: u64,
    /// Which part of their time its workers are busy, in thousandths.
    pub load: u32,
    /// Whether it is there.
    pub presence: Presence,
    /// It is this very node.
    pub is_self: bool,
}

impl Member {
    fn new(said: &Heartbeat, presence: Presence, is_self: bool) -> Self {
        Self {
            node: said.node.clone(),
            incarnation: said.incarnation,
            addresses: said.addresses.clone(),
            meta: said.meta.clone(),
            since_ms: said.since_ms,
            connections: said.connections,
            load: said.load,
            presence,
            is_self,
        }
    }
}

/// What a node has to say of its server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) connections: u64,
    /// The time for which its workers were busy so far, all of them together.
    pub(crate) busy_ns: u64,
    pub(crate) workers: u64,
}

/// This node among the others.
pub(super) struct Members {
    /// Which life of this node this is; part of the addresses of its connections.
    pub(super) incarnation: u64,
    /// Where it listens, in its own words.
    listening: Vec<String>,
    meta: String,
    inner: Mutex<Inner>,
    /// The name is ours.
    claimed: Condvar,
}

struct Inner {
    watch: Watch,
    /// Where it listens, for the others.
    addresses: String,
    claim: Claim,
    /// Answers to whoever asks for our name.
    who: Option<SubscriptionKey>,
    since_ms: u64,
    beat_ms: u64,
    /// Somebody new is to hear of us soon.
    beats_soon: bool,
    load: Load,
    self_asked_ms: u64,
    /// A task is under way that tells the program the news.
    tells: bool,
    has_left: bool,
}

/// Which part of the time the workers are busy, between two looks.
#[derive(Default)]
struct Load {
    looked_ns: u64,
    busy_ns: u64,
    permille: u32,
}

impl Load {
    fn look(&mut self, vitals: Vitals) -> u32 {
        let now_ns = sys::now_ns();
        let could_ns = now_ns.saturating_sub(self.looked_ns).saturating_mul(vitals.workers);
        // Often enough for what it is; and never of no time at all.
        if could_ns / vitals.workers.max(1) >= u64::from(TICK_MS) * sys::NANOSECONDS {
            let busy_ns = vitals.busy_ns.saturating_sub(self.busy_ns);
            let permille = u128::from(busy_ns) * 1_000 / u128::from(could_ns);
            self.permille = u32::try_from(permille.min(1_000)).unwrap_or(1_000);
            (self.looked_ns, self.busy_ns) = (now_ns, vitals.busy_ns);
        }
        self.permille
    }
}

impl Members {
    /// `is_alone`: there are no others, and never will be.
    pub(super) fn new(listening: &[String], meta: String, is_alone: bool) -> Self {
        let listening = listening.to_vec();
        let inner = Inner {
            watch: Watch::default(),
            addresses: list(&listening),
            claim: if is_alone { Claim::held() } else { Claim::default() },
            who: None,
            since_ms: wall_clock_ms(),
            beat_ms: 0,
            beats_soon: false,
            load: Load { looked_ns: sys::now_ns(), ..Load::default() },
            self_asked_ms: 0,
            tells: false,
            has_left: false,
        };
        Self { incarnation: random(), listening, meta, inner: Mutex::new(inner), claimed: Condvar::new() }
    }

    /// Other machines reach this one at that host: it is told for listeners on every address.
    #[cfg(feature = "cluster")]
    pub(super) fn reached_at(&self, host: &str) {
        let reached: Vec<String> = self.listening.iter().map(|url| net::reached_at(url, host)).collect();
        self.lock().addresses = list(&reached);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the name is ours; or somebody else's.
    pub(super) fn standing(&self) -> (bool, bool) {
        let inner = self.lock();
        (inner.claim.is_held(), inner.claim.is_taken())
    }

    /// Waits until the name is ours, at most until then.
    pub(super) fn wait_until_claimed(&self, node: &str, until: Instant) -> Result<()> {
        let mut inner = self.lock();
        while !inner.claim.is_held() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(match inner.claim.is_taken() {
                    true => name_taken(node),
                    false => Error::new(Status::Disconnected, "the cluster does not answer"),
                });
            }
            inner = self.claimed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// The other members that are known.
    pub(super) fn others(&self) -> Vec<u64> {
        self.lock().watch.incarnations().collect()
    }
}

/// As a heartbeat has them: a comma keeps them apart, and a line has them all.
fn list(urls: &[String]) -> String {
    let mut listed = String::new();
    for url in urls.iter().filter(|url| !url.contains([',', '\n', '\r', '\0'])) {
        if listed.len() + url.len() < ADDRESSES_BYTES_MAX {
            listed.push_str(if listed.is_empty() { "" } else { "," });
            listed.push_str(url);
        }
    }
    listed
}

/// Milliseconds since 1970.
fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no other node has, and that is not 0.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), sys::now_ns())).max(1)
}

impl Cluster {
    /// Begins to hear others, and to be heard. Before the link is up.
    pub(super) fn begin_members(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let sink = with(&weak, |cluster, message| cluster.heartbeat(message));
        self.engine.subscribe(&format!("{}.member.*", self.name), None, Echo::No, sink)?;
        let sink = with(&weak, |cluster, message| cluster.respond_alive(message));
        self.engine.subscribe(&self.ping_subject(self.members.incarnation), None, Echo::Yes, sink)?;
        self.engine.every(TICK_MS, Box::new(move || weak.upgrade().is_some_and(|cluster| cluster.tick())))
    }

    pub(super) fn ping_subject(&self, incarnation: u64) -> String {
        format!("{}.node.{incarnation:016x}.ping", self.name)
    }

    fn who_subject(&self) -> String {
        format!("{}.node.{}.who", self.name, self.node)
    }

    /// What this node says of itself.
    fn said(&self, inner: &mut Inner, vitals: Vitals) -> Heartbeat {
        Heartbeat {
            node: self.node.clone(),
            incarnation: self.members.incarnation,
            addresses: inner.addresses.clone(),
            meta: self.members.meta.clone(),
            since_ms: inner.since_ms,
            connections: vitals.connections,
            load: inner.load.look(vitals),
            interval_ms: BEAT_MS,
            is_leaving: inner.has_left,
        }
    }

    /// What this node answers to those who look for nodes.
    pub(super) fn introduction(&self) -> String {
        let vitals = self.host.vitals();
        self.said(&mut self.members.lock(), vitals).write()
    }

    /// All members, this node first.
    pub(crate) fn members(&self) -> Vec<Member> {
        let vitals = self.host.vitals();
        let mut inner = self.members.lock();
        let presence = if inner.claim.is_held() { Presence::Up } else { Presence::Unknown };
        let own = Member::new(&self.said(&mut inner, vitals), presence, true);
        std::iter::once(own).chain(inner.watch.members()).collect()
    }

    // ---- What comes

    fn heartbeat(self: &Arc<Self>, message: &Message<'_>) {
        let Some(said) = Heartbeat::read(message.payload) else {
            return log::debug!("{}: no heartbeat", message.subject);
        };
        if message.subject.rsplit('.').next() != Some(&said.node) || said.incarnation == self.members.incarnation {
            return;
        }
        let now_ms = sys::now_ms();
        let mut yields = None;
        {
            let mut inner = self.members.lock();
            if said.node == self.node {
                if said.is_leaving {
                    inner.claim.rival_left();
                } else if !inner.claim.is_held() {
                    inner.claim.rival(now_ms);
                } else if (said.since_ms, said.incarnation) < (inner.since_ms, self.members.incarnation) {
                    // Both have asked, and nobody has heard the other. Whoever had it first keeps it.
                    inner.claim.yield_to_rival(now_ms);
                    yields = Some(inner.who.take());
                } else {
                    // It will yield when it hears us.
                    inner.beats_soon = true;
                    return;
                }
            }
            inner.beats_soon |= inner.watch.heard(said, now_ms);
        }
        if let Some(who) = yields {
            log::warn!("cluster {}: another node has the name {}", self.name, self.node);
            who.into_iter().for_each(|key| self.engine.unsubscribe(key));
            self.beat(true);
            self.restate();
        } else if !self.members.lock().claim.is_held() {
            self.restate();
        }
        self.tell_news();
    }

    fn respond_alive(&self, message: &Message<'_>) {
        let Some(reply) = &message.reply else { return };
        let vitals = self.host.vitals();
        let said = self.said(&mut self.members.lock(), vitals);
        if let Err(error) = self.engine.respond(reply, said.write().as_bytes(), None) {
            log::debug!("an answer was not sent: {error}");
        }
    }

    /// The engine's link is up, or down.
    pub(super) fn members_link(self: &Arc<Self>, link: Link) {
        match link {
            Link::Joining => return,
            Link::Down => self.members.lock().watch.lost(),
            Link::Up => {
                let is_held = {
                    let mut inner = self.members.lock();
                    inner.watch.regained(sys::now_ms());
                    inner.claim.is_held()
                };
                if is_held { self.beat(false) } else { self.ask_name() }
            }
        }
        self.tell_news();
    }

    // ---- What goes

    /// Says that this node is there, or has left.
    fn beat(&self, is_leaving: bool) {
        let vitals = self.host.vitals();
        let said = {
            let mut inner = self.members.lock();
            inner.beat_ms = sys::now_ms();
            inner.beats_soon = false;
            self.said(&mut inner, vitals)
        };
        let said = Heartbeat { is_leaving: said.is_leaving || is_leaving, ..said };
        let subject = format!("{}.member.{}", self.name, self.node);
        if let Err(error) = self.engine.publish(&subject, said.write().as_bytes(), Echo::No) {
            log::debug!("a heartbeat was not sent: {error}");
        }
    }

    /// The last heartbeat.
    pub(super) fn say_goodbye(&self) {
        if self.is_local() || std::mem::replace(&mut self.members.lock().has_left, true) {
            return;
        }
        if self.members.standing().0 {
            self.beat(true);
        }
    }

    fn tick(self: &Arc<Self>) -> bool {
        let now_ms = sys::now_ms();
        let is_up = self.engine.link() == Link::Up;
        let (asks, beats, proves);
        {
            let mut inner = self.members.lock();
            if inner.has_left {
                return false;
            }
            asks = if is_up { inner.watch.look(now_ms) } else { Vec::new() };
            // A tick may come a little early.
            let is_due = now_ms + u64::from(TICK_MS) / 2 >= inner.beat_ms + u64::from(BEAT_MS);
            beats = is_up && inner.claim.is_held() && (is_due || inner.beats_soon);
            proves = !asks.is_empty() && now_ms >= inner.self_asked_ms + u64::from(ASK_MS);
            if proves {
                inner.self_asked_ms = now_ms;
            }
        }
        if beats {
            self.beat(false);
        }
        if proves {
            self.ask(self.members.incarnation);
        }
        asks.into_iter().for_each(|incarnation| self.ask(incarnation));
        if is_up {
            self.ask_name();
        }
        self.tell_news();
        true
    }

    /// Asks a member, or ourselves, whether it is there.
    fn ask(self: &Arc<Self>, incarnation: u64) {
        let weak = Arc::downgrade(self);
        let asked_ms = sys::now_ms();
        let done = move |answer: Result<Answer>| {
            let Some(cluster) = weak.upgrade() else { return };
            {
                let mut inner = cluster.members.lock();
                match answer {
                    Ok(_) if incarnation == cluster.members.incarnation => inner.watch.proved(asked_ms),
                    Ok(answer) => {
                        inner.watch.answered(incarnation, Status::Ok, sys::now_ms());
                        let said = Heartbeat::read(&answer.payload).filter(|said| said.incarnation == incarnation);
                        if let Some(said) = said {
                            inner.watch.heard(said, sys::now_ms());
                        }
                    }
                    Err(error) => inner.watch.answered(incarnation, error.status, sys::now_ms()),
                }
            }
            cluster.tell_news();
        };
        if let Err(error) = self.engine.request(&self.ping_subject(incarnation), &[], ANSWER_MS, Box::new(done)) {
            self.members.lock().watch.answered(incarnation, error.status, sys::now_ms());
        }
    }

    /// Tells the program what is new, in its order, on a worker.
    fn tell_news(self: &Arc<Self>) {
        {
            let mut inner = self.members.lock();
            if inner.tells || !inner.watch.has_news() {
                return;
            }
            inner.tells = true;
        }
        let cluster = Arc::clone(self);
        let told = self.host.run(
            LANE_CLUSTER,
            Box::new(move || {
                for _ in 0..NEWS_IN_A_ROW {
                    let Some(news) = cluster.next_news() else { return };
                    cluster.host.on_member(&news);
                }
                // Others of the worker have their turn.
                cluster.members.lock().tells = false;
                cluster.tell_news();
            }),
        );
        if told.is_err() {
            // The next tick tries again.
            self.members.lock().tells = false;
        }
    }

    fn next_news(&self) -> Option<Member> {
        let mut inner = self.members.lock();
        let news = inner.watch.next_news();
        inner.tells = news.is_some();
        news
    }
}
