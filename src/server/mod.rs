//! A server: listeners, workers and connections, from start to free.
//!
//! - `worker`: one turn of one worker, which is the whole engine; `opening`, `connecting`, `peers`: how connections come to
//!   it; `ending`: how it stops; `context`: what it does about each event.
//! - `roster`: the part of a worker that calls inside callbacks reach; its sides are `receiving`, `sending`, `deadlines`.
//! - [`timers`], [`topics`] (and `membership`, their tables), [`connect`]: what else a server has, from any thread.
//! - [`commands`]: what a program asks of a connection, from any thread; `mailbox`: how it gets there.
//! - `shared`: what workers share; `registry`: where handles find what they name.

mod at_once;
mod closing;
pub mod commands;
pub mod connect;
mod connecting;
mod context;
mod deadlines;
mod ending;
mod flushing;
mod host;
mod mailbox;
mod membership;
mod opening;
mod peers;
mod receiving;
mod registry;
mod roster;
mod sending;
mod shared;
mod start;
mod streak;
pub mod timers;
pub mod topics;
mod waiting;
mod worker;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::thread::JoinHandle;

use self::mailbox::Command;
use self::shared::{FRAMING_OWN, ServerShared, Team};
use self::worker::{Runs, Turned};
use crate::cluster;
use crate::conn::handle::ConnId;
use crate::framing::Framing;
use crate::metrics;
use crate::net::{Listener, Peer, peer_of_stream};
use crate::options::{DriverChoice, Greet, Limits};
use crate::status::{Error, Result, Status};
use crate::sys::{self, HostUser, StopSignals};

pub use self::start::start;
pub use crate::metrics::Stats;
pub use crate::options::Options;

/// What a program does with what happens. Called on the worker of the connection; whatever it calls in turn,
/// nothing of the worker is borrowed meanwhile.
pub trait Handler: Send + Sync {
    /// A connection is open.
    fn on_open(&self, _conn: ConnId, _user: HostUser) {}
    /// A message came.
    fn on_message(&self, _conn: ConnId, _data: &[u8], _user: HostUser) {}
    /// There is room again after a refusal.
    fn on_writable(&self, _conn: ConnId, _user: HostUser) {}
    /// The peer has ended its side.
    fn on_end(&self, _conn: ConnId, _user: HostUser) {}
    /// The server stops.
    fn on_drain(&self, _conn: ConnId, _user: HostUser) {}
    /// The connection is over: its last call.
    fn on_close(&self, _conn: ConnId, _reason: Status, _user: HostUser) {}
    /// The cluster was joined, or lost; or why it is not joined has changed.
    fn on_cluster_state(&self, _server: ServerId, _state: cluster::State, _why: Option<&Error>) {}
    /// A member of the cluster has come, or gone.
    fn on_member(&self, _server: ServerId, _member: &cluster::Member) {}
    /// The server is over: the last call of all.
    fn on_free(&self) {}
}

/// Names a server in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(u64);

#[allow(clippy::cast_possible_truncation)] // each part is taken out of its own bits
impl ServerId {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(index) << 32 | u64::from(generation))
    }

    /// A handle as it came from outside: it may be stale or made up.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The handle's number, for the program. Never 0.
    pub fn raw(self) -> u64 {
        self.0
    }

    fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// A running or stopped server.
pub struct Server {
    shared: Arc<ServerShared>,
    team: Team,
    addresses: Vec<String>,
    driver: &'static CStr,
    /// Gone when every worker has let go of them.
    listeners: Vec<Weak<Listener>>,
    /// To be told of the stop.
    has_systemd: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    own_loop: Option<OwnLoop>,
}

/// The one worker of a server whose turns the program calls.
struct OwnLoop {
    worker: Mutex<Box<dyn Runs>>,
    poll_fd: RawFd,
}

/// The server that a handle names.
pub fn find(id: ServerId) -> Result<Arc<Server>> {
    registry::find_server(id).ok_or_else(|| Status::Stale.into())
}

/// Refuses a call that waits, inside a callback.
pub fn refuse_in_callback() -> Result<()> {
    if roster::is_here() { Err(Status::Deadlock.into()) } else { Ok(()) }
}

/// This is a child that was forked in a callback, and the callback has returned. On a worker's thread there is nothing it
/// could return to; and the host's exit handlers, and its buffers, are the parent's.
pub fn leave_child() {
    if roster::is_worker_thread() {
        sys::exit_child();
    }
}

/// Makes the handle stale and ends the server. Waits for the end, unless called inside a callback.
pub fn free(id: ServerId) {
    let Some(server) = registry::remove_server(id) else { return };
    server.stop(Some(0));
    if let Some(own_loop) = &server.own_loop {
        server.finish_own_loop(own_loop);
    } else if refuse_in_callback().is_ok() {
        server.join();
    }
}

/// A whole program: serves until SIGINT or SIGTERM.
pub fn serve(url: &str, greeting: &[u8]) -> Result<()> {
    refuse_in_callback()?;
    struct Silent;
    impl Handler for Silent {}
    let options = Options {
        listen: Some(url.to_owned()),
        workers: 0,
        greet: Greet::Auto,
        greeting: crate::options::copy(greeting)?,
        limits: Limits::default(),
        reuse_port: false,
        converses: false,
        half_open: false,
        drains: false,
        meets_peers: false,
        framing: Framing::Raw,
        driver: DriverChoice::Auto,
        cluster: None,
        user: std::ptr::null_mut(),
    };
    let signals = StopSignals::block().map_err(|error| Error::system("signalfd", &error))?;
    let server = find(start(options, Box::new(Silent))?)?;
    let result = serve_until_signalled(&server, &signals);
    free(server.id());
    result
}

fn serve_until_signalled(server: &Server, signals: &StopSignals) -> Result<()> {
    let mut drain_ms = None;
    while !server.shared.has_ended() {
        let wanted = [signals.as_raw_fd(), server.shared.ended.as_fd().as_raw_fd()].map(|fd| (fd, libc::POLLIN));
        let [is_signalled, _] = sys::poll(wanted, None).map_err(|error| Error::system("poll", &error))?;
        if is_signalled && signals.take() {
            server.stop(drain_ms);
            // A second signal does not wait.
            drain_ms = Some(0);
        }
    }
    Ok(())
}

impl Server {
    /// Its handle.
    pub fn id(&self) -> ServerId {
        self.shared.id
    }

    /// Stops it: see `ahoy_server_stop`. None: within the time of its options.
    pub fn stop(&self, drain_ms: Option<u32>) {
        self.shared.stop(drain_ms.unwrap_or(self.shared.limits.drain_ms));
        if self.has_systemd.swap(false, Ordering::Relaxed) {
            start::tell_systemd("STOPPING=1");
        }
        self.team.iter().for_each(|worker| worker.mailbox.wake());
    }

    /// Waits until it has stopped.
    pub fn wait(&self) -> Result<()> {
        refuse_in_callback()?;
        match &self.own_loop {
            Some(own_loop) => {
                let mut worker = own_loop.worker.lock().unwrap_or_else(PoisonError::into_inner);
                while worker.turn(None) == Turned::GoesOn {}
                if sys::forked() { Err(Status::Forked.into()) } else { Ok(()) }
            }
            None => self.shared.ended.wait().map_err(|error| Error::system("poll", &error)),
        }
    }

    /// Where a listener listens.
    pub fn address(&self, index: usize) -> Result<&str> {
        let found = self.addresses.get(index).map(String::as_str);
        found.ok_or_else(|| {
            Error::new(Status::Invalid, format!("listener {index} of {}: there is none", self.addresses.len()))
        })
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.team.iter().for_each(|worker| stats.add(&worker.counters, worker.slots.taken() as u64));
        stats.published += self.shared.published.load(Ordering::Relaxed);
        stats.published_dropped += self.shared.dropped.load(Ordering::Relaxed);
        stats.messages_refused += self.shared.refused.load(Ordering::Relaxed);
        stats
    }

    /// The same, and more, in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        let limits = &self.shared.limits;
        let mut detail = metrics::Detail::default();
        detail.driver = self.driver.to_str().unwrap_or_default();
        detail.connections_max = u64::from(limits.connections_max);
        detail.queued_bytes_max = limits.queue_total_bytes_max;
        detail.log_held_back = crate::log::held_back();
        self.team.iter().for_each(|worker| detail.add(&worker.counters, worker.mailbox.len()));
        let more = self.shared.cluster().map(|cluster| cluster.families()).unwrap_or_default();
        metrics::text(&self.stats(), &detail, &more)
    }

    /// How it stands to its cluster.
    pub fn cluster_state(&self) -> cluster::State {
        self.shared.cluster().map_or(cluster::State::Local, |cluster| cluster.state())
    }

    /// How many workers it has.
    pub(crate) fn worker_count(&self) -> usize {
        self.team.iter().count()
    }

    /// How many listening sockets it has.
    pub fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    /// Copies of the listening sockets, for a successor, which the files of Unix sockets belong to from here on.
    pub fn listeners(&self, capacity: usize) -> Result<Vec<OwnedFd>> {
        if self.shared.stop_at_ms().is_some() {
            return Err(Status::Stopped.into());
        }
        if self.listeners.len() > capacity {
            let text = format!("there are {} listeners, and room for {capacity}", self.listeners.len());
            return Err(Error::new(Status::TooLong, text));
        }
        let listeners: Option<Vec<_>> = self.listeners.iter().map(Weak::upgrade).collect();
        let listeners = listeners.ok_or(Status::Stopped)?;
        let copies = listeners.iter().map(|listener| listener.duplicate()).collect::<Result<_>>()?;
        listeners.iter().for_each(|listener| listener.hand_over());
        Ok(copies)
    }

    /// Takes a connected socket of the program's on. `announce` gets the handle before any callback does. On an
    /// error the socket comes back.
    pub fn adopt(&self, socket: OwnedFd, announce: impl FnOnce(ConnId)) -> Result<(), (Error, OwnedFd)> {
        let checked = peer_of_stream(socket.as_fd()).and_then(|peer| {
            if self.shared.stop_at_ms().is_some() {
                Err(Status::Stopped.into())
            } else if self.shared.admit() {
                Ok(peer)
            } else {
                Err(Error::new(Status::Again, "connections_max is reached"))
            }
        });
        match checked {
            Ok(peer) => self.hand_over(socket, peer, announce).inspect_err(|_| self.shared.dismiss()),
            Err(error) => Err((error, socket)),
        }
    }

    fn hand_over(&self, socket: OwnedFd, peer: Peer, announce: impl FnOnce(ConnId)) -> Result<(), (Error, OwnedFd)> {
        let Some(target) = self.team.iter().min_by_key(|worker| worker.slots.taken()) else {
            return Err((Status::Stopped.into(), socket));
        };
        let conn = match target.slots.reserve(peer, FRAMING_OWN, self.shared.user()) {
            Ok(conn) => conn,
            Err(error) => return Err((error, socket)),
        };
        let posted = match prepare_adopted(&socket, peer) {
            Ok(()) => {
                let command = Command::Adopt { conn, socket, announced: true };
                target.mailbox.post_after(command, || announce(conn)).map_err(|(error, command)| {
                    let Command::Adopt { socket, .. } = command else { unreachable!("it was an adoption") };
                    (if error.status == Status::Stale { Status::Stopped.into() } else { error }, socket)
                })
            }
            Err(error) => Err((Error::system("adopt", &error), socket)),
        };
        posted.inspect_err(|_| target.slots.release(conn))
    }

    /// What the workers run on.
    pub fn driver(&self) -> &'static CStr {
        self.driver
    }

    /// The descriptor to wait on, when the program's loop is the worker.
    pub fn loop_fd(&self) -> Result<RawFd> {
        Ok(self.own_loop()?.poll_fd)
    }

    /// One turn, when the program's loop is the worker.
    pub fn turn(&self, timeout_ms: Option<u32>) -> Result<()> {
        let own_loop = self.own_loop()?;
        refuse_in_callback()?;
        let turned = match own_loop.worker.try_lock() {
            Ok(mut worker) => worker.turn(timeout_ms.map(u64::from)),
            Err(TryLockError::Poisoned(worker)) => worker.into_inner().turn(timeout_ms.map(u64::from)),
            Err(TryLockError::WouldBlock) => return Err(Status::Busy.into()),
        };
        self.after_turn(own_loop, turned)
    }

    /// What a turn has come to. `Stopped`: it was the last one.
    fn after_turn(&self, own_loop: &OwnLoop, turned: Turned) -> Result<()> {
        if sys::forked() {
            return Err(Status::Forked.into());
        }
        // Freed in a callback of this very turn, or by a thread that found the turn under way.
        if turned == Turned::GoesOn && registry::find_server(self.id()).is_none() {
            self.finish_own_loop(own_loop);
            return Err(Status::Stopped.into());
        }
        if turned == Turned::Ended { Err(Status::Stopped.into()) } else { Ok(()) }
    }

    fn own_loop(&self) -> Result<&OwnLoop> {
        let none = || Error::new(Status::Unsupported, "the server has worker threads");
        self.own_loop.as_ref().ok_or_else(none)
    }

    /// Runs a stopped server to its end. Inside a callback of its own turn, that turn's caller does it.
    fn finish_own_loop(&self, own_loop: &OwnLoop) {
        let finish = |worker: &mut Box<dyn Runs>| while worker.turn(None) == Turned::GoesOn {};
        if refuse_in_callback().is_ok() {
            finish(&mut own_loop.worker.lock().unwrap_or_else(PoisonError::into_inner));
        } else if let Ok(mut worker) = own_loop.worker.try_lock() {
            finish(&mut worker);
        }
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker catches its own panics; one that got out has ended the thread all the same.
            let _ = thread.join();
        }
    }
}

/// Makes a socket of the program's like those that are accepted.
fn prepare_adopted(socket: &OwnedFd, peer: Peer) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    if peer != Peer::UNNAMED {
        // It may not be TCP, whatever its family.
        let _ = socket.set_tcp_nodelay(true);
    }
    Ok(())
}
