//! The conductor's own connections: one that orders, and a hundred that talk while all others are silent.

use crate::load::{self, MESSAGE_BYTES};
use crate::server::Server;
use crate::sys::{EPOLLIN, Epoll, Events};
use hdrhistogram::Histogram;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections that talk.
pub(crate) const TALKERS: usize = 100;
const STALLED: Duration = Duration::from_secs(60);

pub(crate) struct Talk {
    epoll: Epoll,
    talkers: Vec<TcpStream>,
    control: BufReader<TcpStream>,
}

/// What came of talking for a while.
pub(crate) struct Talked {
    pub(crate) cpu_us: f64,
    pub(crate) turn_us: f64,
    pub(crate) requests_per_turn: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// What the server says of its turns.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turns {
    pub(crate) seconds: f64,
    pub(crate) count: f64,
    /// How many have taken at most so many seconds.
    up_to: [(f64, f64); BOUNDS],
}

/// Bounds of the histogram.
const BOUNDS: usize = 22;

impl Turns {
    /// The least bound that holds all turns since then.
    pub(crate) fn longest_ms(&self, since: &Turns) -> f64 {
        let count = self.count - since.count;
        let bounds = self.up_to.iter().zip(&since.up_to);
        let holds = |((_, now), (_, then)): &(&(f64, f64), &(f64, f64))| now - then >= count;
        let held = bounds.into_iter().find(holds).map_or(f64::INFINITY, |((bound, _), _)| *bound);
        held * 1e3
    }
}

impl Talk {
    pub(crate) fn start(server: &Server) -> io::Result<Talk> {
        let epoll = Epoll::new()?;
        let connect = || {
            let stream = TcpStream::connect(server.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(STALLED))?;
            Ok::<_, io::Error>(stream)
        };
        let mut talkers = Vec::new();
        for index in 0..TALKERS {
            let stream = connect()?;
            epoll.add(stream.as_fd(), index, EPOLLIN)?;
            talkers.push(stream);
        }
        let mut talk = Talk { epoll, talkers, control: BufReader::new(connect()?) };
        // All are accepted, and what a server sets up once is set up.
        talk.talk(server, Duration::from_millis(100))?;
        Ok(talk)
    }

    /// Publishes. Nobody answers that: whether all have heard it the others know.
    pub(crate) fn publish(&mut self, number: u64) -> io::Result<()> {
        self.control.get_mut().write_all(&load::message(number))
    }

    pub(crate) fn turns(&mut self) -> io::Result<Turns> {
        self.control.get_mut().write_all(b"m")?;
        let mut text = Vec::new();
        self.control.read_until(0, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        let mut turns = Turns::default();
        let mut bounds = turns.up_to.iter_mut();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value = value.parse().unwrap_or(f64::NAN);
            let bound = name.strip_prefix("ahoy_turn_seconds_bucket{le=\"").and_then(|rest| rest.strip_suffix("\"}"));
            match (name, bound) {
                ("ahoy_turn_seconds_sum", _) => turns.seconds = value,
                ("ahoy_turn_seconds_count", _) => turns.count = value,
                (_, Some(bound)) => {
                    if let (Some(place), Ok(bound)) = (bounds.next(), bound.parse()) {
                        *place = (bound, value);
                    }
                }
                _ => {}
            }
        }
        match turns.count > 0.0 && turns.up_to[0].0 > 0.0 {
            true => Ok(turns),
            false => Err(io::Error::new(ErrorKind::InvalidData, "the server's metrics have no turn times")),
        }
    }

    /// Each talker asks, and asks again when it is answered.
    pub(crate) fn talk(&mut self, server: &Server, duration: Duration) -> io::Result<Talked> {
        let mut nanoseconds = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
        let (turns_before, cpu_before) = (self.turns()?, server.cpu()?);
        let started = Instant::now();
        let mut asked_at = vec![started; TALKERS];
        for talker in &self.talkers {
            (&mut &*talker).write_all(b"?")?;
        }
        let mut events = Events::new();
        let mut waiting = TALKERS;
        let mut buffer = [0; 2 * MESSAGE_BYTES];
        while waiting > 0 {
            let count = self.epoll.wait(&mut events, STALLED)?;
            if count == 0 {
                return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
            }
            let now = Instant::now();
            for event in 0..count {
                let index = events.token(event);
                let mut talker = &self.talkers[index];
                let bytes = talker.read(&mut buffer)?;
                if buffer[..bytes] != *b"?" {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a talker heard what it had not said"));
                }
                let took = now.duration_since(asked_at[index]);
                nanoseconds.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                if now.duration_since(started) < duration {
                    asked_at[index] = now;
                    talker.write_all(b"?")?;
                } else {
                    waiting -= 1;
                }
            }
        }
        let (cpu, turns) = (server.cpu()? - cpu_before, self.turns()?);
        let requests = nanoseconds.len() as f64;
        let count = turns.count - turns_before.count;
        Ok(Talked {
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
            turn_us: (turns.seconds - turns_before.seconds) * 1e6 / count,
            requests_per_turn: requests / count,
            p50_us: nanoseconds.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: nanoseconds.value_at_quantile(0.99) as f64 / 1e3,
        })
    }
}
