//! A climb: from a thousand connections to as many as there can be; at each step all is measured.

use crate::Arguments;
use crate::load::Load;
use crate::server::Server;
use crate::talk::{TALKERS, Talk, Talked};
use crate::{report, sys, system};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections of one process of load.
const PER_LOAD: usize = 250_000;
/// Descriptors beside those of the connections.
const FILES_SPARE: usize = 100;

/// Bytes of memory that are left to everybody else.
const MEMORY_SPARE: u64 = 4 << 30;
/// What a connection takes of the machine's memory at most: both ends, and what is published to it.
const CONNECTION_BYTES: u64 = 12_000;

pub(crate) struct Climb {
    pub(crate) driver: String,
    pub(crate) steps: Vec<Step>,
    /// Why it went no higher, if it did not reach what was asked for.
    pub(crate) limit: Option<String>,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

impl Climb {
    pub(crate) fn has_all_of(&self, steps: &[usize]) -> bool {
        self.steps.iter().map(|step| step.connections).eq(steps.iter().copied())
    }
}

/// Of one step. "Each": for each connection.
pub(crate) struct Step {
    pub(crate) connections: usize,
    pub(crate) opened_s: f64,
    pub(crate) opened_each: Each,
    /// Bytes of the server's memory for each: greeted; in a topic, too; and after a publish to it.
    pub(crate) quiet_bytes: f64,
    pub(crate) member_bytes: f64,
    pub(crate) published_bytes: f64,
    /// The kernel's, both ends.
    pub(crate) kernel_bytes: f64,
    pub(crate) longest_opening_turn_ms: f64,
    pub(crate) published_s: f64,
    pub(crate) published_each: Each,
    pub(crate) longest_publishing_turn_ms: f64,
    pub(crate) talked: Talked,
}

/// Microseconds for each connection: of time, and of the server's CPU.
pub(crate) struct Each {
    pub(crate) time_us: f64,
    pub(crate) cpu_us: f64,
}

struct Conductor {
    loads: Vec<Load>,
    talk: Talk,
    server: Server,
    published: u64,
}

/// One after the other, each with a server of its own. `cpus`: of the server, of the load.
pub(crate) fn climb(arguments: &Arguments, driver: &str, cpus: [usize; 2]) -> io::Result<Climb> {
    let (most, files) = allowed(arguments.steps.last().copied().unwrap_or(0))?;
    let (mut limit, mut failure) = (None, None);
    let mut steps: Vec<Step> = Vec::new();
    for &wanted in &arguments.steps {
        system::settle()?;
        let room = system::memory("MemAvailable")?.saturating_sub(MEMORY_SPARE) / CONNECTION_BYTES;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let connections = wanted.min(room).min(most);
        if connections > steps.last().map_or(0, |step| step.connections) {
            let step = Conductor::start(&arguments.server, driver, connections, cpus)
                .and_then(|mut conductor| conductor.step(connections, Duration::from_secs_f64(arguments.seconds)));
            match step {
                Ok(step) => {
                    eprintln!("{driver}: {}", report::line(&step));
                    steps.push(step);
                }
                // What there is by now is reported all the same.
                Err(error) => {
                    failure = Some(format!("{connections} connections: {error}"));
                    break;
                }
            }
        }
        if connections < wanted {
            limit = Some(if room < most { "memory".to_owned() } else { files });
            break;
        }
    }
    Ok(Climb { driver: driver.to_owned(), steps, limit, failure })
}

/// How many connections the limits of files allow, and which those are.
fn allowed(most: usize) -> io::Result<(usize, String)> {
    let spare = (FILES_SPARE + TALKERS) as u64;
    let files = sys::allow_files(most as u64 + spare)?;
    let allowed = usize::try_from(files.saturating_sub(spare)).unwrap_or(usize::MAX).min(most);
    Ok((allowed, format!("files of one process: {files} (the hard limit, or fs.nr_open)")))
}

impl Conductor {
    fn start(program: &Path, driver: &str, connections: usize, cpus: [usize; 2]) -> io::Result<Self> {
        let [server_cpu, load_cpu] = cpus;
        let server = Server::start(program, driver, server_cpu)?;
        let talk = Talk::start(&server)?;
        let port = server.address.port();
        let loads = (0..connections.div_ceil(PER_LOAD)).map(|number| Load::start(number, port, load_cpu));
        Ok(Self { loads: loads.collect::<io::Result<Vec<Load>>>()?, talk, server, published: 0 })
    }

    fn step(&mut self, connections: usize, duration: Duration) -> io::Result<Step> {
        let per = |bytes: u64, before: u64| (bytes as f64 - before as f64) / connections as f64;
        let (memory_before, kernel_before) = (self.server.memory()?, system::kernel_memory()?);
        let turns_before = self.talk.turns()?;
        let (opened, opened_cpu) = self.timed(|conductor| conductor.open(connections))?;
        let (quiet, kernel) = (self.server.memory()?, system::kernel_memory()?);
        let turns_opened = self.talk.turns()?;
        self.all("join")?;
        let member = self.server.memory()?;
        let turns_joined = self.talk.turns()?;
        let (published, published_cpu) = self.timed(Self::publish)?;
        let turns_published = self.talk.turns()?;
        let after = self.server.memory()?;
        let talked = self.talk.talk(&self.server, duration)?;
        let each = |time: Duration, cpu: Duration| Each {
            time_us: time.as_secs_f64() * 1e6 / connections as f64,
            cpu_us: cpu.as_secs_f64() * 1e6 / connections as f64,
        };
        Ok(Step {
            connections,
            opened_s: opened.as_secs_f64(),
            opened_each: each(opened, opened_cpu),
            quiet_bytes: per(quiet, memory_before),
            member_bytes: per(member, memory_before),
            published_bytes: per(after, memory_before),
            kernel_bytes: per(kernel, kernel_before),
            longest_opening_turn_ms: turns_opened.longest_ms(&turns_before),
            published_s: published.as_secs_f64(),
            published_each: each(published, published_cpu),
            longest_publishing_turn_ms: turns_published.longest_ms(&turns_joined),
            talked,
        })
    }

    /// How long something takes, and how much of the server's CPU.
    fn timed(&mut self, body: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<(Duration, Duration)> {
        let (started, cpu) = (Instant::now(), self.server.cpu()?);
        body(self)?;
        Ok((started.elapsed(), self.server.cpu()? - cpu))
    }

    fn open(&mut self, connections: usize) -> io::Result<()> {
        let count = self.loads.len();
        for (number, load) in self.loads.iter_mut().enumerate() {
            load.order(&format!("open {}", (connections + number) / count))?;
        }
        self.loads.iter_mut().try_for_each(Load::done)
    }

    fn publish(&mut self) -> io::Result<()> {
        self.published += 1;
        let order = format!("hear {}", self.published);
        self.loads.iter_mut().try_for_each(|load| load.order(&order))?;
        self.talk.publish(self.published)?;
        self.loads.iter_mut().try_for_each(Load::done)
    }

    fn all(&mut self, order: &str) -> io::Result<()> {
        self.loads.iter_mut().try_for_each(|load| load.order(order))?;
        self.loads.iter_mut().try_for_each(Load::done)
    }
}
