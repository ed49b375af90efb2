//! One run: a fresh server, one scenario.

use crate::arguments::Arguments;
use crate::meter::Sample;
use crate::plan::{self, BASELINE, Peer};
use crate::scenarios::{Load, Metric, Scenario};
use crate::server::Server;
use crate::stats::{Median, Pair};
use crate::{echo, greet, idle, paced, publish, relay, sys, timers};
use std::cell::OnceCell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

/// Descriptors beside those of the connections.
const FILES_SPARE: usize = 100;

/// How many runs tell what saturates the baseline; and the share of that which the paced load asks for.
const SATURATIONS: usize = 3;
const PACED_SHARE: f64 = 0.5;

/// The tail of a paced load is of interest: it takes longer.
const PACED_DURATIONS: u32 = 2;

pub(crate) struct Bench {
    programs: PathBuf,
    duration: Duration,
    pub(crate) server_cpu: usize,
    pub(crate) load_cpu: usize,
    paced_rate: OnceCell<u64>,
    /// Held as long as this lives.
    _alone: UnixListener,
}

impl Bench {
    /// Confines this thread, the load, to its CPU.
    pub(crate) fn new(arguments: &Arguments) -> io::Result<Bench> {
        let connections = arguments.scenarios.iter().map(|scenario| scenario.load.connections());
        let files = (connections.max().unwrap_or(0) + FILES_SPARE) as u64;
        if sys::allow_files(files)? < files {
            return Err(io::Error::other(format!("a process may not open {files} files here")));
        }
        let (server_cpu, load_cpu) = match arguments.cpus {
            Some(cpus) => cpus,
            None => choose_cpus()?,
        };
        sys::pin_to_cpu(load_cpu).map_err(|error| io::Error::other(format!("CPU {load_cpu}: {error}")))?;
        Ok(Bench {
            programs: arguments.programs.clone(),
            duration: arguments.duration,
            server_cpu,
            load_cpu,
            paced_rate: OnceCell::new(),
            _alone: alone()?,
        })
    }

    /// Whether its program was built; what stands in the way of that was said then.
    pub(crate) fn has(&self, peer: &Peer) -> bool {
        self.program(peer).exists()
    }

    pub(crate) fn program(&self, peer: &Peer) -> PathBuf {
        self.programs.join(peer.program)
    }

    /// Runs of ours and theirs, theirs and ours, and so on: what drifts slowly falls on both alike.
    pub(crate) fn pairs(
        &self,
        scenario: &Scenario,
        subject: &Peer,
        peer: &Peer,
        count: usize,
    ) -> io::Result<Vec<Pair>> {
        let run = |server: &Peer| {
            self.measure(scenario.load, server).map_err(|error| io::Error::other(format!("{}: {error}", server.name)))
        };
        let pair = |number| {
            if number % 2 == 0 {
                let ours = run(subject)?;
                Ok(Pair { ours, theirs: run(peer)? })
            } else {
                let theirs = run(peer)?;
                Ok(Pair { ours: run(subject)?, theirs })
            }
        };
        (0..count).map(pair).collect()
    }

    /// Requests each second of the paced load: found once, so that all servers get the same.
    fn paced_rate(&self, connections: usize, bytes: usize) -> io::Result<u64> {
        if let Some(rate) = self.paced_rate.get() {
            return Ok(*rate);
        }
        let baseline = plan::peer(BASELINE).ok_or(io::ErrorKind::NotFound)?;
        let saturate = |_| Ok(self.measure(Load::Echo { connections, bytes }, baseline)?.value(Metric::Rate));
        let rates = (0..SATURATIONS).map(saturate).collect::<io::Result<Vec<f64>>>()?;
        let rate = Median::of(rates.into_iter()).map_or(0.0, |rate| rate.median) * PACED_SHARE;
        #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
        let rate = rate.max(1.0) as u64;
        Ok(*self.paced_rate.get_or_init(|| rate))
    }

    /// The rate of the paced load, if there was one.
    pub(crate) fn paced_rate_found(&self) -> Option<u64> {
        self.paced_rate.get().copied()
    }

    fn measure(&self, load: Load, peer: &Peer) -> io::Result<Sample> {
        let mode = peer.mode(load).ok_or(io::ErrorKind::Unsupported)?;
        let (program, duration) = (self.program(peer), self.duration);
        let start = || Server::start(&program, mode, self.server_cpu);
        let start_relay = |target: &TcpListener| {
            let port = target.local_addr()?.port();
            Server::start_relay(&program, mode, port, self.server_cpu)
        };
        match load {
            Load::Echo { connections, bytes } => echo::run(&start()?, connections, bytes, duration),
            Load::Paced { connections, bytes } => {
                let rate = self.paced_rate(connections, bytes)?;
                paced::run(&start()?, connections, bytes, rate, duration * PACED_DURATIONS)
            }
            Load::Framed { connections, batch, bytes } => {
                echo::run_framed(&start()?, connections, batch, bytes, duration)
            }
            Load::Greet { concurrency } => greet::run(&start()?, concurrency, duration),
            Load::Idle { connections, used } => idle::run(&start()?, connections, used),
            Load::Publish { members, bytes } => publish::run(&start()?, members, bytes, duration),
            Load::PublishSlow { members } => publish::run_slow(&start()?, members),
            Load::RelayBulk { connections, bytes } => {
                let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                relay::run_bulk(&start_relay(&target)?, &target, connections, bytes, duration)
            }
            Load::RelayEcho { connections, bytes } => {
                let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                relay::run_echo(&start_relay(&target)?, &target, connections, bytes, duration)
            }
            Load::Timers => timers::run(&self.programs.join("timers"), mode, self.server_cpu),
        }
    }
}

/// Two comparisons at once would measure each other. An abstract name needs no file, and is gone with the process.
fn alone() -> io::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name("ahoy-benchmark")?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            io::Error::other("another comparison runs on this machine: they would disturb each other")
        }
        _ => error,
    })
}

/// The first two CPUs allowed that do not share a core.
fn choose_cpus() -> io::Result<(usize, usize)> {
    let allowed = sys::cpus_allowed()?;
    let core = |cpu: usize| {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
            .unwrap_or_else(|_| cpu.to_string())
    };
    let server = *allowed.first().ok_or(io::ErrorKind::NotFound)?;
    let load = allowed.iter().find(|&&cpu| core(cpu) != core(server)).or(allowed.get(1));
    match load {
        Some(&load) => Ok((server, load)),
        None => Err(io::Error::other("server and load need a CPU each, and only one is allowed")),
    }
}
