//! What a server is asked to be, checked before anything is started.

use crate::cluster::options::ClusterOptions;
use crate::framing::Framing;
use crate::status::{Error, Result, Status};
use crate::sys::{self, HostUser};

/// When the server greets by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greet {
    /// On the first message, if the program has no `on_message` of its own.
    Auto,
    /// As soon as someone connects.
    OnOpen,
}

/// What happens to a message that finds the queue of its connection full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused.
    #[default]
    Refuse,
    /// The connection is closed.
    Close,
}

/// The bounds of a server. Zero stands for the default in what a program gives; never after [`Limits::checked`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, over all workers.
    pub connections_max: u32,
    /// Longest message, received or sent.
    pub message_bytes_max: u32,
    /// Bytes queued for one connection.
    pub queue_bytes_max: u32,
    /// Bytes queued for all connections together.
    pub queue_total_bytes_max: u64,
    /// Time without traffic after which a connection is closed; 0 stays 0: never.
    pub idle_ms: u32,
    /// Time for what is queued to get out, once a connection closes or the server stops.
    pub drain_ms: u32,
    /// Pending connections that the system keeps for each listener.
    pub backlog: u32,
    /// Time for a message that has begun to be complete; [`NEVER_MS`]: any.
    pub message_ms: u32,
    /// Time in which a peer has to take something of what is queued; [`NEVER_MS`]: any.
    pub write_ms: u32,
    /// Bytes queued for one connection from which `on_writable` is owed.
    pub queue_high_bytes: u32,
    /// Bytes queued at which it comes.
    pub queue_low_bytes: u32,
    /// Time without traffic after which a datagram connection is closed.
    pub datagram_idle_ms: u32,
    /// At `queue_bytes_max`.
    pub overflow: Overflow,
}

/// Everything that a server is started with.
pub struct Options {
    /// Where to listen: URLs with commas between; None: nowhere.
    pub listen: Option<String>,
    /// Worker threads; 0: one for each CPU; [`WORKERS_NONE`]: the program's own loop.
    pub workers: i32,
    /// When to greet.
    pub greet: Greet,
    /// What to greet with.
    pub greeting: Box<[u8]>,
    /// The bounds.
    pub limits: Limits,
    /// Whether several processes may share the port.
    pub reuse_port: bool,
    /// The program has an `on_message`: connections go on after a greeting.
    pub converses: bool,
    /// The program has an `on_end`: a peer that ended its side is not closed.
    pub half_open: bool,
    /// The program has an `on_drain`: connections stay open while the server stops.
    pub drains: bool,
    /// The program has a function that is told of connections, and may ask for their peers.
    pub meets_peers: bool,
    /// Of listeners that do not say otherwise.
    pub framing: Framing,
    /// What the workers run on.
    pub driver: DriverChoice,
    /// The cluster to be a member of; None: none.
    pub cluster: Option<ClusterOptions>,
    /// What callbacks get as user data.
    pub user: HostUser,
}

/// What a program wants its workers to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// Whatever serves best.
    #[default]
    Auto,
    /// Readiness.
    Epoll,
    /// Completion rings.
    Uring,
}

/// As [`Options::workers`]: no thread, the program calls `turn`.
pub const WORKERS_NONE: i32 = -1;
/// As a deadline: none.
pub const NEVER_MS: u32 = u32::MAX;
/// Most workers that one server may have.
pub const WORKERS_MAX: i32 = 1024;
/// Most bytes that may be queued for one connection: counts of both sides of a mailbox stay within 32 bits.
pub const QUEUE_BYTES_MAX: u32 = 1 << 30;

impl Limits {
    /// Whether so many bytes queued for one connection are a mark that the program has set.
    #[inline]
    pub(crate) fn is_high(&self, queued: usize) -> bool {
        queued >= self.queue_high_bytes as usize && self.queue_high_bytes < self.queue_bytes_max
    }

    /// The limits with every zero replaced by its default, or what is wrong with them.
    pub fn checked(self) -> Result<Self> {
        let mut checked = Self {
            connections_max: or(self.connections_max, 10_000),
            message_bytes_max: or(self.message_bytes_max, 1 << 20),
            queue_bytes_max: or(self.queue_bytes_max, 1 << 20),
            queue_total_bytes_max: if self.queue_total_bytes_max == 0 { 256 << 20 } else { self.queue_total_bytes_max },
            idle_ms: self.idle_ms,
            drain_ms: or(self.drain_ms, 5_000),
            backlog: or(self.backlog, 4_096),
            message_ms: or(self.message_ms, 30_000),
            write_ms: or(self.write_ms, 60_000),
            datagram_idle_ms: or(self.datagram_idle_ms, 60_000),
            ..self
        };
        if checked.queue_bytes_max > QUEUE_BYTES_MAX {
            let text = format!("queue_bytes_max is {}; it may be at most {QUEUE_BYTES_MAX}", checked.queue_bytes_max);
            return Err(Error::new(Status::Invalid, text));
        }
        if checked.queue_total_bytes_max > isize::MAX.unsigned_abs() as u64 {
            return Err(Error::new(Status::Invalid, "queue_total_bytes_max is more than memory can be"));
        }
        // What one connection may queue must fit into what all may, beside what workers keep at hand of it; or a send
        // could be refused for ever.
        let share = checked.queue_total_bytes_max - checked.queue_total_bytes_max / 16;
        let high = or(checked.queue_high_bytes, checked.queue_bytes_max);
        if high > checked.queue_bytes_max {
            let text = format!("queue_high_bytes is {high}: more than queue_bytes_max, {}", checked.queue_bytes_max);
            return Err(Error::new(Status::Invalid, text));
        }
        checked.queue_bytes_max = checked.queue_bytes_max.min(u32::try_from(share).unwrap_or(u32::MAX));
        checked.queue_high_bytes = high.min(checked.queue_bytes_max);
        checked.queue_low_bytes = or(checked.queue_low_bytes, checked.queue_high_bytes / 2);
        if checked.queue_low_bytes > checked.queue_high_bytes {
            let text = format!("queue_low_bytes is {}: more than queue_high_bytes, {high}", checked.queue_low_bytes);
            return Err(Error::new(Status::Invalid, text));
        }
        Ok(checked)
    }
}

fn or(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

impl Options {
    /// How many workers to start, and whether they are threads (otherwise the one is the program's loop).
    pub fn worker_count(&self) -> Result<(usize, bool)> {
        match self.workers {
            WORKERS_NONE => Ok((1, false)),
            0 => Ok((std::thread::available_parallelism().map_or(1, usize::from), true)),
            1..=WORKERS_MAX => Ok((self.workers.unsigned_abs() as usize, true)),
            other => Err(Error::new(
                Status::Invalid,
                format!("workers is {other}; it may be 0 to {WORKERS_MAX}, or AHOY_WORKERS_NONE"),
            )),
        }
    }
}

/// A copy that answers for its memory: lengths come from the program.
pub fn copy(bytes: &[u8]) -> Result<Box<[u8]>> {
    let mut copy = Vec::new();
    sys::reserve(&mut copy, bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_the_default() {
        let limits = Limits::default().checked().unwrap();
        assert_eq!(limits.connections_max, 10_000);
        assert_eq!(limits.queue_bytes_max, 1 << 20);
        assert_eq!(limits.idle_ms, 0);
        assert_eq!(limits.drain_ms, 5_000);
        assert_eq!((limits.queue_high_bytes, limits.queue_low_bytes), (1 << 20, 1 << 19));
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for limits in [
            Limits { queue_bytes_max: QUEUE_BYTES_MAX + 1, ..Limits::default() },
            Limits { queue_total_bytes_max: u64::MAX, ..Limits::default() },
            Limits { queue_bytes_max: 100, queue_high_bytes: 101, ..Limits::default() },
            Limits { queue_high_bytes: 100, queue_low_bytes: 101, ..Limits::default() },
        ] {
            assert_eq!(limits.checked().unwrap_err().status, Status::Invalid, "{limits:?}");
        }
    }
}
