//! Measures our server against its peers, pair by pair, on this machine: `make bench`.
//!
//! `plan` holds the tables: which servers, which scenarios, which targets. A run (`run`) starts one server on
//! one CPU (`server`) and puts one load on it from another (`echo`, `greet`, `idle`, `publish`, `relay`); timers
//! have no load (`timers`). Pairs of runs become ratios (`stats`), and ratios a report (`report`).

mod arguments;
mod echo;
mod greet;
mod idle;
mod machine;
mod meter;
mod plan;
mod publish;
mod relay;
mod report;
mod run;
mod section;
mod server;
mod stats;
mod sys;
mod timers;

use arguments::{Arguments, Command};
use report::{Comparison, Report};
use run::Bench;
use stats::Pair;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Compare(arguments)) => arguments,
        Ok(Command::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match compare(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> io::Result<()> {
    let bench = Bench::new(arguments)?;
    let subject = arguments.subject;
    let mut comparisons = Vec::new();
    for scenario in &arguments.scenarios {
        for peer in &arguments.peers {
            if !(peer.takes_part_in(scenario) && subject.takes_part_in(scenario)) {
                continue;
            }
            let count = plan::pairs(scenario, peer, arguments.pairs);
            let mut pairs = Vec::with_capacity(count);
            for number in 0..count {
                // Ours, theirs; theirs, ours; and so on: what drifts slowly falls on both alike.
                let pair = if number % 2 == 0 {
                    let ours = bench.run(scenario, subject)?;
                    Pair { ours, theirs: bench.run(scenario, peer)? }
                } else {
                    let theirs = bench.run(scenario, peer)?;
                    Pair { ours: bench.run(scenario, subject)?, theirs }
                };
                pairs.push(pair);
            }
            let comparison = Comparison { scenario, peer, pairs };
            eprintln!("{}", report::progress(subject, &comparison));
            comparisons.push(comparison);
        }
    }
    let report = Report { arguments, bench: &bench, comparisons };
    let text = report.markdown();
    println!("{text}");
    match &arguments.output {
        Some(path) => {
            section::write(path, "make bench", &text)?;
            eprintln!("written to {}", path.display());
        }
        None => eprintln!("part of the plan only: no file written (--output FILE writes one)"),
    }
    Ok(())
}
