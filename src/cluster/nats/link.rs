//! Staying connected. The client reconnects by itself after a loss; what it gives up for good (it was refused at the first
//! try, or shut out later) is begun anew here, with the subscriptions that there are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, ClientError, ConnectOptions, Event};
use tokio::sync::mpsc;

use super::{Connected, Echo, Shared, error};
use crate::cluster::engine::Link;
use crate::cluster::options::ClusterOptions;
use crate::net::ClusterUrl;
use crate::status::{Error, Result, Status};

/// A server that says nothing for so long is asked whether it is there; after two such times it is given up.
const PING: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(1);
/// The longest rest between two tries.
const REST_MS_MAX: u64 = 1_000;
/// Commands that wait for the connection; a publish that finds it full is refused.
const COMMANDS_MAX: usize = 8_192;
/// Messages that wait to be heard, of one subscription; then some are dropped and counted.
const INCOMING_MAX: usize = 65_536;

/// How to connect.
pub(super) struct Connect {
    url: ClusterUrl,
    name: String,
    options: ClusterOptions,
}

impl Connect {
    pub(super) fn new(url: &ClusterUrl, node: &str, options: &ClusterOptions) -> Result<Self> {
        for file in [&options.credentials, &options.ca_file].into_iter().flatten() {
            std::fs::File::open(file).map_err(|error| Error::system(format_args!("open {file}"), &error))?;
        }
        if let Some((cert, key)) = &options.client_cert {
            for file in [cert, key] {
                std::fs::File::open(file).map_err(|error| Error::system(format_args!("open {file}"), &error))?;
            }
        }
        Ok(Self { url: url.clone(), name: node.to_owned(), options: options.clone() })
    }

    async fn connect(&self, echo: Echo, events: mpsc::UnboundedSender<Event>) -> Result<Client> {
        let mut connect = ConnectOptions::new()
            .name(&self.name)
            .ping_interval(PING)
            .connection_timeout(CONNECT)
            .client_capacity(COMMANDS_MAX)
            .subscription_capacity(INCOMING_MAX)
            .reconnect_delay_callback(|tries| Duration::from_millis(rest_ms(tries)))
            .skip_subject_validation(true)
            .event_callback(move |event| {
                let _ = events.send(event);
                std::future::ready(())
            });
        if echo == Echo::No {
            connect = connect.no_echo();
        }
        let connect = identified(connect, &self.options)?;
        connect.connect(self.url.servers.as_slice()).await.map_err(|failed| error::of_connect(&failed, &self.url))
    }

    /// The link is lost; and why it does not come back, if that is known.
    fn lost(&self, why: &str) -> Error {
        let colon = if why.is_empty() { "" } else { ": " };
        Error::new(Status::Disconnected, format!("{}: the link is lost{colon}{}", self.url, error::reason(why)))
    }
}

/// With who we are, and who may vouch for the servers.
pub(super) fn identified(mut connect: ConnectOptions, options: &ClusterOptions) -> Result<ConnectOptions> {
    if let Some((user, password)) = &options.user {
        connect = connect.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &options.token {
        connect = connect.token(token.clone());
    }
    if let Some(file) = &options.credentials {
        let text = std::fs::read_to_string(file).map_err(|error| Error::system(format_args!("read {file}"), &error))?;
        // A seed alone, as `nk -gen user` writes it, or both.
        connect = match text.trim() {
            seed if seed.starts_with("SU") => connect.nkey(seed.to_owned()),
            _ => {
                let read = connect.credentials(&text);
                read.map_err(|error| Error::new(Status::Credentials, format!("{file}: {error}")))?
            }
        };
    }
    if let Some(file) = &options.ca_file {
        connect = connect.add_root_certificates(file.into());
    }
    if let Some((cert, key)) = &options.client_cert {
        connect = connect.add_client_certificate(cert.into(), key.into());
    }
    Ok(connect)
}

/// Not at all at first, then twice as long each time.
fn rest_ms(tries: usize) -> u64 {
    match tries {
        0 | 1 => 0,
        _ => (1 << tries.min(10)).min(REST_MS_MAX),
    }
}

/// The life of one connection, until the runtime ends.
pub(super) async fn stay_connected(shared: Arc<Shared>, connect: Arc<Connect>, echo: Echo) {
    let mut tries = 0;
    let mut number = 0;
    loop {
        let (sender, mut events) = mpsc::unbounded_channel();
        match connect.connect(echo, sender).await {
            Ok(client) => {
                tries = 0;
                number += 1;
                let connected = Connected { client, number };
                // In this order, so that no subscription is left out that is made meanwhile.
                shared.set_connected(echo, Some(connected.clone()));
                shared.resubscribe(echo, &connected).await;
                drop(connected);
                shared.events.up(echo);
                while let Some(event) = next(&shared, echo, &mut events).await {
                    if heed(&shared, &connect, echo, &event) == Life::Over {
                        break;
                    }
                }
                shared.set_connected(echo, None);
                shared.events.down(echo, connect.lost(""));
            }
            Err(failed) => {
                log::warn!("the cluster cannot be joined: {failed}");
                shared.events.down(echo, failed);
            }
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(rest_ms(tries + 3))).await;
    }
}

#[derive(PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

fn heed(shared: &Shared, connect: &Connect, echo: Echo, event: &Event) -> Life {
    match event {
        Event::Connected => shared.events.up(echo),
        Event::Disconnected => {
            shared.bus.count_risk();
            shared.events.down(echo, connect.lost(""));
        }
        Event::SlowConsumer(_) => {
            shared.slow_consumer_drops.fetch_add(1, Ordering::Relaxed);
        }
        Event::Closed => return Life::Over,
        Event::ServerError(error) => log::warn!("a server of the cluster says: {error}"),
        // A try to connect again has failed.
        Event::ClientError(ClientError::Other(why)) => {
            log::info!("the link to the cluster: {why}");
            shared.events.down(echo, connect.lost(why));
        }
        Event::ClientError(error) => log::info!("the link to the cluster: {error}"),
        Event::LameDuckMode | Event::Draining => {}
    }
    Life::GoesOn
}

/// The next event; None: there are no more. The client keeps a short list of them for us, and in a flood the one that counts may
/// be missing: when it is quiet again the client itself is asked.
async fn next(shared: &Shared, echo: Echo, events: &mut mpsc::UnboundedReceiver<Event>) -> Option<Event> {
    loop {
        if let Ok(event) = tokio::time::timeout(QUIET, events.recv()).await {
            return event;
        }
        let state = shared.client(echo).as_ref().map(|connected| connected.client.connection_state());
        match state {
            Some(State::Connected) if !shared.events.is_connected(echo) => return Some(Event::Connected),
            Some(State::Disconnected) if shared.events.is_connected(echo) => return Some(Event::Disconnected),
            _ => {}
        }
    }
}

/// Tells how the link is: up when both connections are.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<EventsState>);

/// How the link is, and why it is not up.
type Listener = Box<dyn Fn(Link, Option<Error>) + Send + Sync>;

#[derive(Default)]
struct EventsState {
    link: Mutex<LinkState>,
    changed: Condvar,
    listener: Mutex<Option<Listener>>,
    reconnects: AtomicU64,
    /// The link is up: for those who ask with each message.
    is_up: AtomicBool,
}

#[derive(Default)]
struct LinkState {
    is_up: [bool; 2],
    was_up: bool,
    /// Why it is not.
    failure: Option<Error>,
    /// What was told last; of why, only the status: each try may fail in words of its own.
    told: Option<(Link, Option<Status>)>,
}

impl LinkState {
    fn link(&self) -> Link {
        match (self.is_up, self.was_up) {
            ([true, true], _) => Link::Up,
            (_, false) => Link::Joining,
            (_, true) => Link::Down,
        }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn link(&self) -> Link {
        self.lock().link()
    }

    fn is_connected(&self, echo: Echo) -> bool {
        self.lock().is_up[echo as usize]
    }

    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::Acquire)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.0.reconnects.load(Ordering::Relaxed)
    }

    /// From here on the listener hears each change, beginning with how it is now.
    pub(crate) fn listen(&self, listener: Listener) {
        *self.0.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        self.changed();
    }

    /// What is asked of a cluster that cannot be reached.
    #[cold]
    pub(super) fn disconnected(&self) -> Error {
        const WHAT: &str = "the cluster cannot be reached at present";
        let state = self.lock();
        let text = state.failure.as_ref().map_or(WHAT.into(), |why| format!("{WHAT}: {why}").into());
        Error { status: Status::Disconnected, detail: text }
    }

    fn up(&self, echo: Echo) {
        {
            let mut state = self.lock();
            let was_up = state.link() == Link::Up;
            state.is_up[echo as usize] = true;
            let now_up = state.link() == Link::Up;
            if now_up {
                state.failure = None;
            }
            if now_up && !was_up && state.was_up {
                self.0.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            state.was_up |= now_up;
            self.0.is_up.store(now_up, Ordering::Release);
        }
        self.changed();
    }

    fn down(&self, echo: Echo, failure: Error) {
        {
            let mut state = self.lock();
            state.is_up[echo as usize] = false;
            state.failure = Some(failure);
            self.0.is_up.store(false, Ordering::Release);
        }
        self.changed();
    }

    /// The listener's lock is held while it is told, so that it hears of changes in their order.
    fn changed(&self) {
        let listener = self.0.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let now = {
            let mut state = self.lock();
            let link = state.link();
            let why = state.failure.as_ref().filter(|_| link != Link::Up).map(Error::again);
            let now = (link, why.as_ref().map(|why| why.status));
            if listener.is_none() || state.told == Some(now) {
                None
            } else {
                state.told = Some(now);
                Some((link, why))
            }
        };
        self.0.changed.notify_all();
        if let (Some(listener), Some((link, why))) = (listener.as_ref(), now) {
            listener(link, why);
        }
    }

    /// Waits for the link, at most so long; says why it is not there.
    pub(crate) fn wait_until_up(&self, timeout_ms: u32) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(u64::from(timeout_ms));
        let mut state = self.lock();
        loop {
            if state.link() == Link::Up {
                return Ok(());
            }
            // Nobody who is refused is let in later.
            let is_final = |error: &Error| matches!(error.status, Status::Credentials | Status::Certificate);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.failure.as_ref().is_some_and(is_final) {
                let failure = state.failure.take();
                return Err(failure.unwrap_or_else(|| Error::new(Status::Disconnected, "the cluster does not answer")));
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
