//! What a server has counted, in Prometheus' text format (version 0.0.4).

use std::fmt::{self, Display, Write};

use super::{Counters, REASONS, Stats, TurnSums, place};
use crate::status::Status;

/// What the text says beyond [`Stats`]. Fill it in for a server, and `add` each of its workers:
///
/// ```ignore
/// let mut detail = Detail { driver: "epoll", connections_max, queued_bytes_max, ..Detail::default() };
/// for worker in workers {
///     detail.add(&worker.counters, worker.mailbox.len());
/// }
/// text(&stats, &detail)
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// The driver's name: a plain word.
    pub driver: &'static str,
    /// The limit on connections at once.
    pub connections_max: u64,
    /// The limit on bytes queued for all connections.
    pub queued_bytes_max: u64,
    /// Messages that the log's callback was spared: see `log::held_back`.
    pub log_held_back: u64,
    mailbox_commands: u64,
    closed_by: [u64; REASONS],
    turns: TurnSums,
}

impl Default for Detail {
    fn default() -> Self {
        Self {
            driver: "",
            connections_max: 0,
            queued_bytes_max: 0,
            log_held_back: 0,
            mailbox_commands: 0,
            closed_by: [0; REASONS],
            turns: TurnSums::default(),
        }
    }
}

impl Detail {
    /// Adds one worker's counters, and the commands that wait in its mailbox.
    pub fn add(&mut self, counters: &Counters, mailbox_commands: usize) {
        self.mailbox_commands += mailbox_commands as u64;
        for (sum, counter) in self.closed_by.iter_mut().zip(&counters.closed_by.0) {
            *sum += counter.get();
        }
        self.turns.add(&counters.turn_times);
    }
}

/// The reasons that the header names for a close. They are always shown, so that a rate is known from the first one on;
/// any other only if there was one.
const EXPECTED: [Status; 13] = [
    Status::Ok,
    Status::Memory,
    Status::Panic,
    Status::Stopped,
    Status::Eof,
    Status::Reset,
    Status::Timeout,
    Status::TooLong,
    Status::System,
    Status::Overflow,
    Status::Name,
    Status::Refused,
    Status::Unreachable,
];

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One more metric, of those that only some servers have.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name, without the ending of counters.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// Labels (`a="b",c="d"`, or none) and values.
    pub samples: Vec<(String, u64)>,
}

/// Writes all of it.
pub fn text(stats: &Stats, detail: &Detail, more: &[Family]) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    // Writing to a string cannot fail.
    let _ = page.write(stats, detail);
    let _ = more.iter().try_for_each(|family| page.more(family));
    page.0
}

struct Page(String);

impl Page {
    fn write(&mut self, stats: &Stats, detail: &Detail) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        self.family("ahoy_info", "gauge", "The library's version and the driver of the workers; always 1.")?;
        self.sample("ahoy_info", format_args!("version=\"{version}\",driver=\"{}\"", detail.driver), 1)?;
        self.gauge("ahoy_workers", "Workers.", stats.workers)?;
        self.connections(stats, detail)?;
        self.messages(stats)?;
        self.queues(stats, detail)?;
        self.gauge("ahoy_timers", "Timers of the program that are running.", stats.timers)?;
        self.counter("ahoy_panics", "Bugs of the library that were caught.", stats.panics)?;
        self.counter(
            "ahoy_log_held_back",
            "Messages that the rate limit kept from the log, in the whole process.",
            detail.log_held_back,
        )?;
        self.turns(&detail.turns)
    }

    fn more(&mut self, family: &Family) -> fmt::Result {
        let (kind, ending) = match family.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
        };
        self.family(format_args!("{}{ending}", family.name), kind, family.help)?;
        for (labels, value) in &family.samples {
            match labels.as_str() {
                "" => writeln!(self.0, "{}{ending} {value}", family.name)?,
                labels => writeln!(self.0, "{}{ending}{{{labels}}} {value}", family.name)?,
            }
        }
        Ok(())
    }

    fn connections(&mut self, stats: &Stats, detail: &Detail) -> fmt::Result {
        // The three are read at different moments.
        let open = stats.connections.saturating_sub(stats.connecting + stats.closing);
        self.family("ahoy_connections", "gauge", "Connections by state.")?;
        for (state, count) in [("connecting", stats.connecting), ("open", open), ("closing", stats.closing)] {
            self.sample("ahoy_connections", format_args!("state=\"{state}\""), count)?;
        }
        self.gauge(
            "ahoy_connections_worker_max",
            "Connections of the worker that has most.",
            stats.connections_worker_max,
        )?;
        self.gauge("ahoy_connections_limit", "Most connections at once.", detail.connections_max)?;
        self.counter("ahoy_connections_opened", "Connections opened.", stats.opened)?;
        self.family("ahoy_connections_closed_total", "counter", "Connections closed, by reason.")?;
        for reason in Status::all() {
            let count = detail.closed_by[place(reason)];
            if count > 0 || EXPECTED.contains(&reason) {
                let label = Reason(reason);
                self.sample("ahoy_connections_closed_total", format_args!("reason=\"{label}\""), count)?;
            }
        }
        self.counter(
            "ahoy_connections_refused",
            "Connections accepted and closed at once, because there were too many.",
            stats.refused,
        )?;
        self.counter(
            "ahoy_connections_aborted",
            "Connections given up by the peer before they could be accepted.",
            stats.aborted,
        )?;
        self.counter(
            "ahoy_connects_failed",
            "Tries to open an outgoing connection that failed.",
            stats.connects_failed,
        )?;
        self.counter(
            "ahoy_listener_rests",
            "Times that a listener rested because descriptors or memory ran out.",
            stats.rests,
        )
    }

    fn messages(&mut self, stats: &Stats) -> fmt::Result {
        self.counter("ahoy_received_messages", "Messages received.", stats.messages_in)?;
        self.counter("ahoy_received_bytes", "Bytes received.", stats.bytes_in)?;
        self.counter("ahoy_sent_messages", "Messages taken for sending.", stats.messages_out)?;
        self.counter("ahoy_sent_bytes", "Bytes handed to the system.", stats.bytes_out)?;
        self.counter(
            "ahoy_refused_messages",
            "Messages not taken for sending, because a queue was full.",
            stats.messages_refused,
        )?;
        self.counter("ahoy_published_messages", "Messages published.", stats.published)?;
        self.counter("ahoy_publish_drops", "Messages published that passed a connection by.", stats.published_dropped)?;
        self.counter("ahoy_dropped_datagrams", "Datagrams dropped.", stats.datagrams_dropped)
    }

    fn queues(&mut self, stats: &Stats, detail: &Detail) -> fmt::Result {
        self.gauge("ahoy_queued_bytes", "Bytes queued for all connections.", stats.bytes_queued)?;
        self.gauge("ahoy_queued_bytes_limit", "Most bytes queued for all connections.", detail.queued_bytes_max)?;
        self.gauge("ahoy_partial_bytes", "Bytes of partial messages received.", stats.bytes_partial)?;
        self.gauge(
            "ahoy_mailbox_commands",
            "What other threads have asked of the workers and is not carried out.",
            detail.mailbox_commands,
        )?;
        self.counter("ahoy_cut_bytes", "Bytes queued and never handed to the system.", stats.bytes_cut)?;
        self.counter("ahoy_cut_connections", "Connections that had such bytes.", stats.connections_cut)
    }

    fn turns(&mut self, turns: &TurnSums) -> fmt::Result {
        self.family("ahoy_turn_seconds", "histogram", "Time that a worker's turn takes, without its wait.")?;
        let mut count = 0;
        for (bound, up_to) in turns.cumulative() {
            match bound {
                Some(bound) => self.bucket(Seconds(bound), up_to)?,
                None => self.bucket("+Inf", up_to)?,
            }
            count = up_to;
        }
        writeln!(self.0, "ahoy_turn_seconds_sum {}", Seconds(turns.nanoseconds()))?;
        writeln!(self.0, "ahoy_turn_seconds_count {count}")
    }

    fn bucket(&mut self, bound: impl Display, count: u64) -> fmt::Result {
        self.sample("ahoy_turn_seconds_bucket", format_args!("le=\"{bound}\""), count)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, "gauge", help)?;
        writeln!(self.0, "{name} {value}")
    }

    /// `name` is without the "_total" that every counter ends with.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(format_args!("{name}_total"), "counter", help)?;
        writeln!(self.0, "{name}_total {value}")
    }

    fn family(&mut self, name: impl Display, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    /// The values of labels are words of ours: there is nothing in them to escape.
    fn sample(&mut self, name: &str, labels: fmt::Arguments<'_>, value: u64) -> fmt::Result {
        writeln!(self.0, "{name}{{{labels}}} {value}")
    }
}

/// Nanoseconds as seconds, exactly.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A reason as a label: "ok", "too_long".
struct Reason(Status);

impl Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name().to_str().unwrap_or_default();
        let word = name.trim_start_matches("AHOY_").trim_start_matches("ERR_");
        f.write_str(&word.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests;
