//! Topics: who is in them, and how what is published gets there.
//!
//! Each worker keeps the members that live on it. A publish is carried to each worker once, with a reference to the
//! one copy of its bytes, and fans out there. What a thread publishes goes to each worker in order: through its
//! mailbox, or, from the worker's own callbacks, at once; so each connection gets it in order.

use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context::Context;
use super::mailbox::{Command, UserWord};
use super::membership::copy;
use super::roster::{self, NOBODY, Roster};
use super::shared::{Arrival, FRAMING_OWN, ServerShared, Team, WorkerShared};
use super::{Server, ServerId, commands, registry};
use crate::conn::Flags;
use crate::conn::handle::ConnId;
use crate::conn::payload::{Payload, Share};
use crate::driver::Waker;
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostUser};

/// Longest name of a topic.
const NAME_BYTES_MAX: usize = 255;

/// What a publish takes beside its bytes and its name.
const PUBLISH_BYTES: usize = 256;

/// Names a subscription in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId(ConnId);

impl SubscriptionId {
    /// A handle as it came from outside: it may be stale or made up.
    pub fn from_raw(raw: u64) -> Self {
        Self(ConnId::from_raw(raw))
    }

    /// The handle's number, for the program.
    pub fn raw(self) -> u64 {
        self.0.raw()
    }
}

/// Calls the program's function.
pub type TopicCall = dyn Fn(ServerId, &CStr, &[u8], HostUser) + Send + Sync;

/// A function of the program's that hears what is published.
pub(crate) struct Subscription {
    id: SubscriptionId,
    topic: CString,
    call: Arc<TopicCall>,
    user: UserWord,
    finalizer: Finalizer,
    is_running: bool,
    /// While it was running: it is over when its callback returns.
    is_cancelled: bool,
}

/// Something published, on its way to a worker.
#[derive(Clone)]
pub(crate) struct Publish {
    topic: Arc<str>,
    payload: Arc<Payload>,
    /// The worker's connections have it already; only its subscriptions have not.
    is_sent: bool,
}

/// Holds a topic's name to what is allowed.
pub(crate) fn checked(topic: &str) -> Result<()> {
    match topic.len() {
        0 => Err(Error::new(Status::Invalid, "the name of the topic is empty")),
        1..=NAME_BYTES_MAX => Ok(()),
        length => {
            Err(Error::new(Status::TooLong, format!("the topic's name has {length} bytes: at most {NAME_BYTES_MAX}")))
        }
    }
}

/// Lets a connection join a topic.
pub fn join(id: ConnId, topic: &str) -> Result<()> {
    checked(topic)?;
    match commands::here(id, |roster| roster.join(id, topic)) {
        Some(result) => result,
        None => {
            let topic = copy(topic)?;
            let worker = registry::find_worker(id).ok_or(Status::Stale)?;
            commands::post_open(id, Command::Join { conn: id, topic, arrival: Arrival::new(&worker.server) })
        }
    }
}

/// Lets a connection leave a topic.
pub fn leave(id: ConnId, topic: &str) -> Result<()> {
    checked(topic)?;
    match commands::here(id, |roster| roster.leave(id, topic)) {
        Some(()) => Ok(()),
        None => commands::post_open(id, Command::Leave { conn: id, topic: copy(topic)? }),
    }
}

/// Sends a message to everybody in a topic.
pub fn publish(id: ServerId, topic: &str, message: &[u8]) -> Result<()> {
    checked(topic)?;
    let server = super::find(id)?;
    let shared = &server.shared;
    if message.len() > shared.limits.message_bytes_max as usize {
        let text = format!("{} bytes are more than message_bytes_max allows", message.len());
        return Err(Error::new(Status::TooLong, text));
    }
    if shared.has_ended() {
        return Err(Status::Stopped.into());
    }
    // Within the limits here, then to the other nodes, then to those of this node: on an error nobody gets it. But while
    // this node is cut off its own do.
    let publish = prepare(&server.team, shared, topic, message)?;
    let elsewhere = shared.cluster().map_or(Ok(()), |cluster| cluster.publish(topic, message));
    if let Err(error) = &elsewhere
        && error.status != Status::Disconnected
    {
        return elsewhere;
    }
    publish.map_or(Ok(()), |publish| spread(&server.team, shared, &publish))?;
    shared.published.fetch_add(1, Ordering::Relaxed);
    elsewhere
}

/// Sends what another node has published to everybody of this node.
pub(super) fn publish_here(team: &Team, shared: &ServerShared, topic: &str, message: &[u8]) -> Result<()> {
    let publish = prepare(team, shared, topic, message)?;
    publish.map_or(Ok(()), |publish| spread(team, shared, &publish))
}

/// The message as all of this node share it; none if nobody is in the topic.
fn prepare(team: &Team, shared: &ServerShared, topic: &str, message: &[u8]) -> Result<Option<Publish>> {
    if shared.is_nobody_in(topic) {
        return Ok(None);
    }
    // Its mailboxes hold any number of publishes: the limit on bytes bounds them, so they have to count what they are.
    let overhead = PUBLISH_BYTES + topic.len() + team.iter().count() * size_of::<Command>();
    let payload = Payload::new(message, overhead, shared.framings.get(FRAMING_OWN), &shared.budget)?;
    Ok(Some(Publish { topic: Arc::from(topic), payload, is_sent: false }))
}

/// Sends a message to everybody of this node in its topic. Only for want of memory it does not.
fn spread(team: &Team, shared: &ServerShared, publish: &Publish) -> Result<()> {
    let topic = &publish.topic;
    // Room with every worker before anything goes to one: it reaches all of them or none.
    let mut rooms = Vec::new();
    rooms.try_reserve_exact(team.iter().count())?;
    for worker in team.iter() {
        let here = roster::with(|roster| Arc::ptr_eq(&roster.me, worker).then(|| roster.has_subscriptions(topic)));
        let is_sent = match here.flatten() {
            None => false,
            // Its functions later: they would run inside of the callback that publishes.
            Some(true) => true,
            Some(false) => continue,
        };
        let command = Command::Publish(Publish { is_sent, ..publish.clone() });
        match worker.mailbox.room_for(&command) {
            Ok(room) => rooms.push((room, command)),
            Err(error) if error.status == Status::Stale => {}
            Err(error) => return Err(error),
        }
    }
    // Woken when no mailbox is locked any more.
    let wakers: Vec<_> = rooms.into_iter().filter_map(|(room, command)| room.fill(command)).collect();
    wakers.into_iter().for_each(Waker::wake);
    roster::with(|roster| {
        if roster.server.id == shared.id {
            roster.fan_out(&publish.topic, &publish.payload, true);
        }
    });
    Ok(())
}

/// Lets a function hear what is published. On an error the finalizer is not called.
pub fn subscribe(
    server: &Server,
    topic: &str,
    call: Arc<TopicCall>,
    user: HostUser,
    finalizer: Finalizer,
    announce: impl FnOnce(SubscriptionId),
) -> Result<()> {
    let here = |roster: &mut Roster| (roster.server.id == server.id()).then(|| Arc::clone(&roster.me));
    let worker = roster::with(here).flatten().or_else(|| server.team.anyone().map(Arc::clone));
    let prepared = checked(topic).and_then(|()| {
        let worker = worker.ok_or(Status::Stopped)?;
        let name = CString::new(topic).map_err(|_| Status::Invalid)?;
        let id = SubscriptionId(worker.subscription_ids.reserve()?);
        Ok((worker, name, id))
    });
    let (worker, topic, id) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            finalizer.disarm();
            return Err(error);
        }
    };
    let user = UserWord::new(user);
    let subscription =
        Box::new(Subscription { id, topic, call, user, finalizer, is_running: false, is_cancelled: false });
    let posted = subscribe_on(&worker, subscription, || announce(id));
    posted.map_err(|(error, subscription)| {
        subscription.finalizer.disarm();
        worker.subscription_ids.release(id.0);
        if error.status == Status::Stale { Status::Stopped.into() } else { error }
    })
}

fn subscribe_on(
    worker: &Arc<WorkerShared>,
    subscription: Box<Subscription>,
    announce: impl FnOnce(),
) -> Result<(), (Error, Box<Subscription>)> {
    let mut subscription = Some(subscription);
    let here =
        roster::with(|roster| Arc::ptr_eq(&roster.me, worker).then(|| roster.insert_subscription(&mut subscription)));
    match here.flatten() {
        Some(Ok(())) => {
            announce();
            Ok(())
        }
        Some(Err(error)) => Err((error, subscription.expect("it was not taken"))),
        None => {
            let subscription = subscription.expect("it was not taken");
            let command = Command::Subscribe(subscription, Arrival::new(&worker.server));
            worker.mailbox.post_after(command, announce).map_err(|(error, command)| match command {
                Command::Subscribe(subscription, _) => (error, subscription),
                _ => unreachable!("it was a subscription"),
            })
        }
    }
}

/// Ends a subscription.
pub fn unsubscribe(id: SubscriptionId) -> Result<()> {
    let worker = registry::find_worker(id.0).ok_or(Status::Stale)?;
    match roster::with(|roster| roster.unsubscribe(id)).flatten() {
        // Dropped here, with nothing borrowed: the program's function runs.
        Some(removed) => removed.map(drop),
        None if worker.subscription_ids.is(id.0) => {
            worker.mailbox.post(Command::Unsubscribe { id }).map_err(|(error, _)| error)
        }
        None => Err(Status::Stale.into()),
    }
}

impl Roster {
    pub(super) fn join(&mut self, id: ConnId, name: &str) -> Result<()> {
        let Some(conn) = self.conn(id) else { return Err(Status::Stale.into()) };
        if !conn.phase.takes_sends() || conn.flags.has(Flags::ENDING) {
            return Err(Status::Closed.into());
        }
        let first = self.extra_mut(id)?.first_member;
        let topic = self.topics.open(name, self.server.cluster())?;
        if let Err(error) = self.topics.add(id, topic, first).and_then(|added| match added {
            Some(member) => self.extra_mut(id).map(|extra| extra.first_member = member),
            None => Ok(()),
        }) {
            self.topics.close_empty(topic);
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: ConnId, name: &str) {
        let Some(&topic) = self.topics.by_name.get(name) else { return };
        let first = self.extra(id).map_or(NOBODY, |extra| extra.first_member);
        let first = self.topics.drop_member(topic, first);
        if let Some(extra) = self.extra(id) {
            extra.first_member = first;
        }
    }

    /// The connection is over.
    pub(super) fn leave_all(&mut self, id: ConnId) {
        let Some(extra) = self.extra(id) else { return };
        let mut first = std::mem::replace(&mut extra.first_member, NOBODY);
        while let Some(member) = self.topics.members.get_mut(first) {
            let topic = member.topic;
            first = self.topics.drop_member(topic, first);
        }
    }

    /// Queues a payload for every connection in the topic.
    /// `heeds_mailbox`: it comes out of a callback, and bytes of other threads that are in the mailbox come first; otherwise it
    /// was in the mailbox itself, before whatever is there now.
    fn fan_out(&mut self, name: &str, payload: &Arc<Payload>, heeds_mailbox: bool) {
        let Some(&topic) = self.topics.by_name.get(name) else { return };
        let Some(topic) = self.topics.topics.get_mut(topic) else { return };
        let mut at = topic.first_member;
        while let Some(member) = self.topics.members.get_mut(at) {
            let conn = member.conn;
            at = member.next;
            let sent = self.send_payload(conn, payload, heeds_mailbox);
            let sent = sent.unwrap_or_else(|| self.post_payload(conn, payload));
            if sent.is_err_and(|error| !matches!(error.status, Status::Closed | Status::Stale)) {
                self.me.counters.published_dropped.add(1);
            }
        }
    }

    fn has_subscriptions(&mut self, name: &str) -> bool {
        let topic = self.topics.by_name.get(name).and_then(|&topic| self.topics.topics.get_mut(topic));
        topic.is_some_and(|topic| !topic.subscriptions.is_empty())
    }

    fn post_payload(&mut self, id: ConnId, payload: &Arc<Payload>) -> Result<()> {
        let framing = self.conn(id).map_or(FRAMING_OWN, |conn| conn.framing);
        if framing == FRAMING_OWN || self.server.framings.get(framing).is_raw() {
            return commands::post_share(id, Share::new(payload, framing == FRAMING_OWN));
        }
        commands::post_parts(id, &[payload.message()])
    }

    pub(super) fn insert_subscription(&mut self, subscription: &mut Option<Box<Subscription>>) -> Result<()> {
        if self.is_over {
            return Err(Status::Stopped.into());
        }
        let Some(given) = subscription.as_ref() else { return Ok(()) };
        let at = given.id.0.index() as usize;
        let id = given.id;
        let places = &mut self.topics.subscriptions;
        if places.len() <= at {
            places.try_reserve(at + 1 - places.len())?;
            places.resize_with(at + 1, || None);
        }
        let name = given.topic.to_str().map_err(|_| Status::Invalid)?;
        let topic = self.topics.open(name, self.server.cluster())?;
        let list = self.topics.topics.get_mut(topic).map(|topic| &mut topic.subscriptions).ok_or(Status::Memory)?;
        if let Err(error) = list.try_reserve(1) {
            self.topics.close_empty(topic);
            return Err(error.into());
        }
        list.push(id);
        self.topics.subscriptions[at] = subscription.take();
        Ok(())
    }

    fn subscription(&mut self, id: SubscriptionId) -> Option<&mut Box<Subscription>> {
        let place = self.topics.subscriptions.get_mut(id.0.index() as usize)?.as_mut();
        place.filter(|subscription| subscription.id == id)
    }

    /// None: it is not here. Otherwise what is left of it, to be dropped with nothing borrowed.
    pub(super) fn unsubscribe(&mut self, id: SubscriptionId) -> Option<Result<Option<Box<Subscription>>>> {
        if id.0.worker() != self.me.number {
            return None;
        }
        let subscription = self.subscription(id)?;
        if subscription.is_cancelled {
            return Some(Err(Status::Stale.into()));
        }
        subscription.is_cancelled = true;
        Some(Ok(if subscription.is_running { None } else { self.remove_subscription(id) }))
    }

    fn remove_subscription(&mut self, id: SubscriptionId) -> Option<Box<Subscription>> {
        let subscription = self.topics.subscriptions.get_mut(id.0.index() as usize)?.take()?;
        let topic = subscription.topic.to_str().ok().and_then(|name| self.topics.by_name.get(name).copied());
        if let Some(topic) = topic {
            if let Some(topic) = self.topics.topics.get_mut(topic) {
                topic.subscriptions.retain(|other| *other != id);
            }
            self.topics.close_empty(topic);
        }
        self.me.subscription_ids.release(id.0);
        Some(subscription)
    }

    /// Removes any subscription of a server that is over.
    pub(super) fn pop_subscription(&mut self) -> Option<Box<Subscription>> {
        while let Some(last) = self.topics.subscriptions.last() {
            match last.as_ref().map(|subscription| subscription.id) {
                Some(id) => return self.remove_subscription(id),
                None => drop(self.topics.subscriptions.pop()),
            }
        }
        None
    }

    fn begin_subscription(&mut self, id: SubscriptionId) -> Option<(Arc<TopicCall>, HostUser)> {
        let subscription = self.subscription(id).filter(|subscription| !subscription.is_cancelled)?;
        subscription.is_running = true;
        Some((Arc::clone(&subscription.call), subscription.user.load(Ordering::Relaxed)))
    }

    fn end_subscription(&mut self, id: SubscriptionId) -> Option<Box<Subscription>> {
        let subscription = self.subscription(id)?;
        subscription.is_running = false;
        if subscription.is_cancelled { self.remove_subscription(id) } else { None }
    }
}

impl Context {
    /// Something was published: to the worker's connections, then to its subscriptions.
    pub(super) fn published(&self, publish: &Publish) {
        if !publish.is_sent {
            roster::with(|roster| roster.fan_out(&publish.topic, &publish.payload, false));
        }
        let listeners = |roster: &mut Roster| {
            let topic = *roster.topics.by_name.get(&*publish.topic)?;
            // A copy: the callbacks may subscribe and unsubscribe.
            Some(roster.topics.topics.get_mut(topic)?.subscriptions.clone())
        };
        for id in roster::with(listeners).flatten().unwrap_or_default() {
            let Some((call, user)) = roster::with(|roster| roster.begin_subscription(id)).flatten() else { continue };
            if let Ok(topic) = CString::new(&*publish.topic) {
                call(self.server.id, &topic, publish.payload.message(), user);
            }
            // What frees the program's data runs here, with nothing borrowed.
            drop(roster::with(|roster| roster.end_subscription(id)).flatten());
        }
    }

    /// A subscription that another thread has made.
    pub(super) fn take_subscription(&self, subscription: Box<Subscription>) {
        let id = subscription.id;
        let mut subscription = Some(subscription);
        let inserted = roster::with(|roster| roster.insert_subscription(&mut subscription));
        if !matches!(inserted, Some(Ok(()))) {
            log::debug!("a subscription was lost");
            self.me.subscription_ids.release(id.0);
        }
        // Not taken: the program gets back what it lent.
        drop(subscription);
    }

    /// A connection may be gone, or have no memory to join; it is closed then, because the program was told otherwise.
    pub(super) fn join_posted(&self, id: ConnId, topic: &str) {
        match roster::with(|roster| roster.join(id, topic)) {
            Some(Err(error)) if error.status == Status::Memory => {
                roster::with(|roster| roster.doom(id, Status::Memory));
            }
            Some(Err(error)) if error.status == Status::Again => log::warn!("a join was refused: {error}"),
            _ => {}
        }
    }
}
