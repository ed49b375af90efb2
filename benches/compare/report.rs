//! The report: Markdown that also reads well on a terminal.

use crate::arguments::Arguments;
use crate::machine;
use crate::meter::{Effort, Sample};
use crate::plan::{PAIRS_FEW, PAIRS_OTHERS, Peer, SUBJECT};
use crate::run::Bench;
use crate::scenarios::{Load, Metric, Scenario};
use crate::stats::{Median, Pair};
use crate::targets::{Bound, TARGETS};
use std::fmt::Write;

/// Above this share of the time a CPU counts as full; above the other one a run counts as disturbed.
const BUSY_FULL: f64 = 0.95;
const WAITED_MAX: f64 = 0.02;

/// All pairs of one scenario against one peer.
pub(crate) struct Comparison {
    pub(crate) scenario: &'static Scenario,
    pub(crate) peer: &'static Peer,
    pub(crate) pairs: Vec<Pair>,
}

impl Comparison {
    pub(crate) fn ratio(&self, metric: Metric) -> Option<Median> {
        Median::of(self.pairs.iter().map(|pair| pair.ratio(metric)))
    }

    pub(crate) fn ours(&self) -> impl Iterator<Item = &Sample> {
        self.pairs.iter().map(|pair| &pair.ours)
    }

    pub(crate) fn theirs(&self) -> impl Iterator<Item = &Sample> {
        self.pairs.iter().map(|pair| &pair.theirs)
    }
}

pub(crate) struct Report<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) bench: &'a Bench,
    pub(crate) comparisons: Vec<Comparison>,
    /// What could not be measured, and why.
    pub(crate) left_out: Vec<String>,
}

/// One line for whoever waits.
pub(crate) fn progress(subject: &Peer, comparison: &Comparison) -> String {
    let Comparison { scenario, peer, pairs } = comparison;
    let mut line = format!("{}: {} / {}, {} pairs:", scenario.name, subject.name, peer.name, pairs.len());
    for &metric in scenario.metrics {
        let ratio = comparison.ratio(metric).map(|ratio| ratio.median).filter(|ratio| ratio.is_finite());
        let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = write!(line, " {} {ratio},", metric.title());
    }
    line.truncate(line.len() - 1);
    line
}

impl Report<'_> {
    pub(crate) fn leave_out(&mut self, what: String) {
        eprintln!("left out: {what}");
        self.left_out.push(what);
    }

    /// `pictures`: Markdown that shows them.
    pub(crate) fn markdown(&self, pictures: &str) -> String {
        joined(&[self.machine(), self.method(), self.missing(), self.targets(), pictures.to_owned(), self.scenarios()])
    }

    /// What was asked, and what there is of it.
    pub(crate) fn summary(&self) -> String {
        joined(&[self.missing(), self.targets()])
    }

    /// The comparisons of one scenario.
    pub(crate) fn of<'a>(&'a self, scenario: &'a Scenario) -> impl Iterator<Item = &'a Comparison> {
        self.comparisons.iter().filter(|comparison| comparison.scenario.name == scenario.name)
    }

    fn missing(&self) -> String {
        let lines: String = self.left_out.iter().map(|what| format!("- {what}\n")).collect();
        if lines.is_empty() { lines } else { format!("## Left out\n\n{lines}") }
    }

    fn machine(&self) -> String {
        let took_part = |peer: &&&Peer| self.comparisons.iter().any(|comparison| comparison.peer.name == peer.name);
        let servers = std::iter::once(&self.arguments.subject).chain(self.arguments.peers.iter().filter(took_part));
        let rows = machine::describe(self.bench, servers.copied());
        format!("## Machine\n\n{}", table(&["what", "on this machine"], rows.into_iter().map(Vec::from)))
    }

    fn method(&self) -> String {
        let subject = self.arguments.subject.name;
        let (pairs, seconds) = (self.arguments.pairs, self.arguments.duration.as_secs_f64());
        let (others, few) = (pairs.min(PAIRS_OTHERS), pairs.min(PAIRS_FEW));
        let paced = match self.bench.paced_rate_found() {
            Some(rate) => format!(
                "- At half load {rate} requests are sent each second, half of what saturated raw_epoll just before, each when it \
                   is due, whether or not those before it have been answered. Its time runs from when it was due, so that a pause \
                   counts for all requests that fall into it (no coordinated omission). The load spins meanwhile; such a run is twice as \
                   long.\n"
            ),
            None => String::new(),
        };
        let runs = || self.comparisons.iter().flat_map(|comparison| comparison.ours().chain(comparison.theirs()));
        let efforts: Vec<Effort> = runs().filter_map(|sample| sample.effort).collect();
        let disturbed = efforts.iter().filter(|effort| effort.waited > WAITED_MAX).count();
        format!(
            "## Method\n\n\
             - Server and load are two processes on two CPUs; they talk over loopback TCP. Each run starts a fresh server, \
               with one thread that serves.\n\
             - A pair is a run of {subject} and one of the other server, one after the other; which is first alternates. A ratio \
               is {subject}'s figure over the other's, within the pair. Shown are the median of {pairs} pairs ({others} where \
               no target is set, {few} where memory or timers are measured) and, in brackets, its 95 % confidence interval from order statistics (under six pairs: all of them). Many short pairs, because the \
               speed of a machine drifts: what drifts slowly falls on both alike.\n\
             - A run measures {seconds} s, after {} s of warming up. The load checks every byte that comes back.\n\
             - Server CPU is the time of all threads of the server process, user and system, as the scheduler counts it.\n\
             - Each connection has one request in flight, if nothing else is said. Times run from before the request is sent until its answer is \
               complete; those of a greeting from before the connect until the end of the stream; those of a publish until the \
               last member has it.\n\
             {paced}\
             - Messages are those of a batch, each with its length in front, or what a publish delivers. One publish is under \
               way at a time, so that no deliveries are joined.\n\
             - Members that read nothing have a receive buffer of 16 KiB and segments of 4 KiB, so that the kernel takes little of \
               the 1 MiB. Afterwards they read all of it.\n\
             - A relay gets its listening socket handed to it; clients and target are the load. Requests go there and back: two \
               messages.\n\
             - Timers: [divan](https://crates.io/crates/divan)'s median of 200 samples of 1,000 calls of `ahoy_timer_start` or \
               `ahoy_timer_cancel` in a callback, with a million timers of a minute to 18 hours pending.\n\
             - Memory is user-space memory: the growth of the server's anonymous resident pages (`Anonymous` in \
               `/proc/PID/smaps_rollup`), divided by the connections. The kernel's sockets come on top, the same for all.\n\
             - Disturbed runs, in which server or load waited over {:.0} % of the time because something else ran on its \
               CPU: {disturbed} of {}.\n",
            seconds / 4.0,
            WAITED_MAX * 100.0,
            efforts.len(),
        )
    }

    fn targets(&self) -> String {
        let mut rows = Vec::new();
        for target in TARGETS {
            let mut of_scenario = self.comparisons.iter().filter(|c| c.scenario.name == target.scenario);
            let reached = match target.peer {
                Some(peer) => of_scenario.find(|c| c.peer.name == peer).and_then(|c| c.ratio(target.metric)),
                None => Median::of(of_scenario.flat_map(Comparison::ours).map(|sample| sample.value(target.metric))),
            };
            let Some(reached) = reached else { continue };
            let (sign, bound) = match target.bound {
                Bound::AtMost(bound) => ("≤", bound),
                Bound::AtLeast(bound) => ("≥", bound),
            };
            let decimals = if target.peer.is_some() { 2 } else { 0 };
            let against = target.peer.map_or(String::new(), |peer| format!(" × {peer}"));
            let holds = if target.bound.holds(reached.median) { "yes" } else { "**no**" };
            rows.push(vec![
                target.scenario.to_owned(),
                target.metric.title().to_owned(),
                format!("{sign} {bound:.decimals$}{against}"),
                interval(reached, decimals),
                holds.to_owned(),
            ]);
        }
        if rows.is_empty() || self.arguments.subject.name != SUBJECT {
            return String::new();
        }
        format!("## Targets\n\n{}", table(&["scenario", "measure", "asked", "median (95 % interval)", "reached"], rows))
    }

    fn scenarios(&self) -> String {
        let mut text = String::new();
        for scenario in &self.arguments.scenarios {
            let of_scenario: Vec<_> = self.of(scenario).collect();
            if !of_scenario.is_empty() {
                let _ = writeln!(text, "## {}: {}\n", scenario.name, scenario.title);
                text += &self.ratios(scenario, &of_scenario);
                text.push('\n');
                text += &self.figures(scenario, &of_scenario);
                text.push('\n');
            }
        }
        text
    }

    fn ratios(&self, scenario: &Scenario, comparisons: &[&Comparison]) -> String {
        let first = format!("{} / …", self.arguments.subject.name);
        let mut head = vec![first.as_str()];
        head.extend(scenario.metrics.iter().map(|metric| metric.title()));
        let rows = comparisons.iter().map(|comparison| {
            let ratios = scenario.metrics.iter().map(|&metric| match comparison.ratio(metric) {
                Some(ratio) if ratio.high.is_finite() && ratio.low >= 0.0 => interval(ratio, 2),
                _ => "–".to_owned(),
            });
            std::iter::once(comparison.peer.name.to_owned()).chain(ratios).collect()
        });
        table(&head, rows)
    }

    /// Each server's own figures, and whose CPU was full.
    fn figures(&self, scenario: &Scenario, comparisons: &[&Comparison]) -> String {
        let ours: Vec<&Sample> = comparisons.iter().flat_map(|comparison| comparison.ours()).collect();
        let mut servers = vec![(self.arguments.subject, ours)];
        servers.extend(comparisons.iter().map(|comparison| (comparison.peer, comparison.theirs().collect())));

        let mut head = vec!["median of all runs"];
        head.extend(scenario.metrics.iter().map(|metric| metric.title()));
        let timed = servers.iter().any(|(_, samples)| samples.iter().any(|sample| sample.effort.is_some()));
        if timed {
            head.extend(["server busy", "load busy"]);
        }
        let mut limited = Vec::new();
        let mut rows = Vec::new();
        for (server, samples) in &servers {
            let mut row = vec![server.name.to_owned()];
            for &metric in scenario.metrics {
                let median = median(samples.iter().map(|sample| sample.value(metric)));
                row.push(format!("{median:.*}", metric.decimals()));
            }
            if timed {
                let efforts = || samples.iter().filter_map(|sample| sample.effort);
                let server_busy = median(efforts().map(|effort| effort.server_busy));
                let load_busy = median(efforts().map(|effort| effort.load_busy));
                row.extend([server_busy, load_busy].map(|busy| format!("{:.0} %", busy * 100.0)));
                let spins = matches!(scenario.load, Load::Paced { .. });
                if load_busy >= BUSY_FULL && server_busy < BUSY_FULL && !spins {
                    limited.push(server.name);
                }
            }
            rows.push(row);
        }
        let mut text = table(&head, rows);
        if !limited.is_empty() {
            let _ = write!(
                text,
                "\nThe load's CPU was full and the server's was not: {}. There requests/s and times say what the load can do; \
                 server CPU per request is the figure to compare.\n",
                limited.join(", ")
            );
        }
        text
    }
}

/// Sections, those that are not empty, with a line between them.
fn joined(sections: &[String]) -> String {
    let texts: Vec<&str> = sections.iter().map(|section| section.trim_end()).filter(|text| !text.is_empty()).collect();
    texts.join("\n\n") + "\n"
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    Median::of(values).map_or(f64::NAN, |of| of.median)
}

fn interval(of: Median, decimals: usize) -> String {
    format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", of.median, of.low, of.high)
}

/// A Markdown table whose columns line up.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut rows: Vec<Vec<String>> = rows.into_iter().collect();
    rows.insert(0, head.iter().map(|&cell| cell.to_owned()).collect());
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3))
        .collect();
    rows.insert(1, widths.iter().map(|&width| "-".repeat(width)).collect());
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
        let _ = writeln!(text, "|{}", cells.collect::<String>());
    }
    text
}
