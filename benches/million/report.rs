//! The report: Markdown that also reads well on a terminal.

use crate::conduct::{Climb, Step};
use crate::talk::TALKERS;
use std::fmt::Write;

/// A column: its title, and what it shows of a step.
type Column = (&'static str, fn(&Step) -> String);

const OPENING: &[Column] = &[
    ("connections", |step| step.connections.to_string()),
    ("opened and greeted in s", |step| format!("{:.2}", step.opened_s)),
    ("µs each", |step| format!("{:.1}", step.opened_each.time_us)),
    ("server's CPU, µs each", |step| format!("{:.1}", step.opened_each.cpu_us)),
    ("longest turn, up to ms", |step| bound(step.longest_opening_turn_ms)),
    ("bytes each, quiet", |step| format!("{:.0}", step.quiet_bytes)),
    ("in a topic", |step| format!("{:.0}", step.member_bytes)),
    ("after a publish", |step| format!("{:.0}", step.published_bytes)),
    ("kernel, both ends", |step| format!("{:.0}", step.kernel_bytes)),
];

const PUBLISHING: &[Column] = &[
    ("connections", |step| step.connections.to_string()),
    ("published to all in s", |step| format!("{:.3}", step.published_s)),
    ("µs each", |step| format!("{:.2}", step.published_each.time_us)),
    ("server's CPU, µs each", |step| format!("{:.2}", step.published_each.cpu_us)),
    ("longest turn, up to ms", |step| bound(step.longest_publishing_turn_ms)),
    ("talk: CPU µs a request", |step| format!("{:.2}", step.talked.cpu_us)),
    ("µs a turn", |step| format!("{:.1}", step.talked.turn_us)),
    ("requests a turn", |step| format!("{:.1}", step.talked.requests_per_turn)),
    ("p50 µs", |step| format!("{:.0}", step.talked.p50_us)),
    ("p99 µs", |step| format!("{:.0}", step.talked.p99_us)),
];

fn bound(ms: f64) -> String {
    if ms.is_finite() { format!("{ms:.2}") } else { "more than 1074".to_owned() }
}

/// A step in one line, for whoever waits.
pub(crate) fn line(step: &Step) -> String {
    let cells = OPENING.iter().chain(&PUBLISHING[1..]).map(|(title, cell)| format!("{title} {}", cell(step)));
    cells.collect::<Vec<_>>().join("; ")
}

pub(crate) fn markdown(climbs: &[Climb]) -> String {
    let mut text = format!(
        "## A million connections\n\n\
        For each step a server with one worker on one CPU, its load on another, over loopback. Memory is the server's anonymous \
        memory, for each connection; the kernel's is what it cannot give back (SUnreclaim), sockets and files of both ends. A publish reaches every connection and is over when the last has heard \
        it. Then {TALKERS} of all talk, each with one byte in flight, while the others are silent.\n",
    );
    for climb in climbs {
        let _ = write!(text, "\n### {}\n", climb.driver);
        for columns in [OPENING, PUBLISHING] {
            let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
            let _ = write!(text, "\n| {} |\n|{}\n", titles.join(" | "), "---|".repeat(columns.len()));
            for step in &climb.steps {
                let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(step)).collect();
                let _ = writeln!(text, "| {} |", cells.join(" | "));
            }
        }
        if let Some(limit) = &climb.limit {
            let _ = write!(text, "\nWhat limited it: {limit}.\n");
        }
        if let Some(failure) = &climb.failure {
            let _ = write!(text, "\nIt failed: {failure}.\n");
        }
    }
    text
}
