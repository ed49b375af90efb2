//! Starting a server: everything that can fail is done before anything runs, and undone if it does fail.

use std::ffi::CStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::host::ServerHost;
use super::registry::ReservedServer;
use super::shared::{FRAMING_OWN, ServerShared, Team};
use super::worker::{Listening, Runs, Worker};
use super::{Handler, OwnLoop, Server, ServerId};
use crate::cluster::Cluster;
#[cfg(feature = "uring")]
use crate::driver::Uring;
use crate::driver::{Driver, Epoll, Waker};
use crate::fault::{self, Call};
use crate::log::silence_panics;
use crate::net::{Endpoint, ListenMode, Listener, Target, systemd};
use crate::options::{DriverChoice, Options};
use crate::status::{Error, Result, Status};
use crate::sys;

/// Starts a server.
pub fn start(mut options: Options, handler: Box<dyn Handler>) -> Result<ServerId> {
    silence_panics();
    let limits = options.limits.checked()?;
    let (count, has_threads) = options.worker_count()?;
    let greeting_max = limits.message_bytes_max.min(limits.queue_bytes_max) as usize;
    if options.greeting.len() > greeting_max {
        let text = format!("the greeting has {} bytes; the limits allow {greeting_max}", options.greeting.len());
        return Err(Error::new(Status::TooLong, text));
    }
    let targets = options.listen.as_deref().map_or(Ok(Vec::new()), Target::parse_list)?;
    let mode = ListenMode { backlog: limits.backlog, reuse_port: options.reuse_port, blocking: false, copies: count };
    let has_systemd = targets.iter().any(|target| matches!(target.endpoint, Endpoint::Systemd(_)));
    let reserved = ReservedServer::new()?;
    let id = reserved.id();
    let joins = options.cluster.take();
    let chosen = options.driver;
    let ended = Waker::new().map_err(|error| Error::system("eventfd", &error))?;
    let shared = Arc::new(ServerShared::new(id, handler, options, limits, count, ended)?);
    let mut listening = Vec::new();
    for target in &targets {
        let framing = match &target.framing {
            Some(framing) => shared.framings.number(framing.clone())?,
            None => FRAMING_OWN,
        };
        let opened = Listener::open(&target.endpoint, mode)?.into_iter().map(Arc::new);
        listening.extend(opened.map(|listener| Listening { listener, framing, name: target.name.clone() }));
    }
    let listed = |listening: &&Listening| !listening.listener.is_copy();
    let addresses: Vec<String> = listening.iter().filter(listed).map(|at| at.listener.url().to_owned()).collect();
    let named: Vec<String> = listening.iter().filter(listed).map(Listening::named_url).collect();

    let listeners: Vec<Arc<Listener>> = listening.iter().map(|at| Arc::clone(&at.listener)).collect();

    let (driver, mut workers) = open_workers(chosen, &shared, count, !has_threads)?;
    let team = Team::new(workers.iter().map(|worker| worker.shared()));
    let host = ServerHost::new(&team);
    shared.set_cluster(match joins {
        Some(options) => Cluster::join(options, &named, host)?,
        None => Cluster::local(&named, host),
    });
    // Streams come to any worker. Whose datagrams a socket brings is for one worker to know: each has its own sockets.
    let (own, common): (Vec<_>, Vec<_>) = listening.into_iter().partition(|at| at.listener.is_datagram());
    for (number, worker) in workers.iter_mut().enumerate() {
        let own: Vec<Listening> = own.iter().skip(number).step_by(count).cloned().collect();
        worker.equip(team.clone(), &common, &own)?;
    }
    drop((common, own));

    let gate = Arc::new(Gate::default());
    let mut threads = Vec::new();
    let mut own_loop = None;
    for worker in workers {
        if has_threads {
            match spawn(threads.len(), worker, &gate) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    gate.open(false);
                    threads.into_iter().for_each(|thread: JoinHandle<()>| drop(thread.join()));
                    return Err(error);
                }
            }
        } else {
            own_loop = Some(OwnLoop { poll_fd: worker.poll_fd(), worker: Mutex::new(worker) });
        }
    }
    log::info!(
        "server {:x} starts: {count} workers on {}, {}",
        id.raw(),
        driver.to_string_lossy(),
        addresses.join(",")
    );
    // From here on nothing fails: descriptors that the program passed are the server's.
    listeners.iter().for_each(|listener| listener.commit());
    let server = Arc::new(Server {
        shared,
        team,
        addresses,
        driver,
        listeners: listeners.iter().map(Arc::downgrade).collect(),
        has_systemd: AtomicBool::new(has_systemd),
        threads: Mutex::new(threads),
        own_loop,
    });
    drop(listeners);
    reserved.fill(&server);
    gate.open(true);
    if has_systemd {
        tell_systemd("READY=1");
    }
    Ok(id)
}

type Workers = Vec<Box<dyn Runs>>;

/// Opens the workers on the driver that the program wants; says which one that is.
fn open_workers(
    chosen: DriverChoice,
    shared: &Arc<ServerShared>,
    count: usize,
    own_loop: bool,
) -> Result<(&'static CStr, Workers)> {
    fn open<D: Driver + 'static>(
        shared: &Arc<ServerShared>,
        count: usize,
        own_loop: bool,
    ) -> Result<(&'static CStr, Workers)> {
        let opened = (0..count).map(|_| Ok(Box::new(Worker::<D>::open(shared, count, own_loop)?) as Box<dyn Runs>));
        Ok((D::NAME, opened.collect::<Result<_>>()?))
    }
    match chosen {
        DriverChoice::Epoll => open::<Epoll>(shared, count, own_loop),
        #[cfg(feature = "uring")]
        DriverChoice::Auto if suits_rings(shared, count, own_loop) => {
            open::<Uring>(shared, count, own_loop).or_else(|error| {
                // Not on this system, or not allowed here, or there is no room for it: whatever it is, epoll needs less.
                log::info!("the server runs on epoll: {error}");
                open::<Epoll>(shared, count, own_loop)
            })
        }
        DriverChoice::Auto => open::<Epoll>(shared, count, own_loop),
        #[cfg(feature = "uring")]
        DriverChoice::Uring => open::<Uring>(shared, count, own_loop),
        #[cfg(not(feature = "uring"))]
        DriverChoice::Uring => Err(Error::new(Status::Unsupported, "this libahoy is built without io_uring")),
    }
}

/// Whether a server is one for which io_uring was measured and never found worse than epoll (docs/benchmarks.md): one worker
/// that greets and closes. Conversations gain or lose by what they are like, which nobody knows beforehand. Under Valgrind a
/// thread that waits in rings holds up all others.
#[cfg(feature = "uring")]
fn suits_rings(shared: &ServerShared, count: usize, own_loop: bool) -> bool {
    count == 1 && !own_loop && !shared.conduct.converses && !sys::is_under_valgrind()
}

/// Tells systemd how the service is, if it wants to know.
pub(super) fn tell_systemd(state: &str) {
    if let Err(error) = systemd::notify(state) {
        log::warn!("systemd was not told {state}: {error}");
    }
}

fn spawn(number: usize, worker: Box<dyn Runs>, gate: &Arc<Gate>) -> Result<JoinHandle<()>> {
    let gate = Arc::clone(gate);
    let body = move || {
        if gate.wait() {
            worker.run();
        }
    };
    // The mask is inherited: with the signals blocked from its first instruction on, no handler of the host's
    // ever runs on a worker.
    let spawned = fault::check(Call::Spawn)
        .and_then(|()| sys::with_signals_blocked(|| thread::Builder::new().name(format!("ahoy-{number}")).spawn(body)));
    spawned.map_err(|error| Error { status: Status::Thread, ..Error::system("start a thread", &error) })
}

/// Holds the threads back until all of them are there.
#[derive(Default)]
struct Gate {
    go: Mutex<Option<bool>>,
    opened: Condvar,
}

impl Gate {
    fn open(&self, go: bool) {
        *self.go.lock().unwrap_or_else(PoisonError::into_inner) = Some(go);
        self.opened.notify_all();
    }

    fn wait(&self) -> bool {
        let mut go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *go {
                Some(go) => return go,
                None => go = self.opened.wait(go).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
