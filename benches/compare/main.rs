//! Measures our server against its peers, pair by pair, on this machine: `make bench`.
//!
//! `plan`, `scenarios` and `targets` hold the tables. A run (`run`) starts one server on one CPU (`server`) and puts one
//! load on it from another (`echo`, `paced`, `greet`, `idle`, `publish`, `relay`); timers have no load (`timers`). Pairs of
//! runs become ratios (`stats`), and ratios a report (`report`) with its pictures (`plots`).

mod arguments;
mod echo;
mod greet;
mod idle;
mod machine;
mod meter;
mod paced;
mod plan;
mod plots;
mod publish;
mod relay;
mod report;
mod run;
mod scenarios;
mod section;
mod server;
mod stats;
mod sys;
mod targets;
mod timers;

use arguments::{Arguments, Command};
use report::{Comparison, Report};
use run::Bench;
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
    // Not at the end of half an hour.
    if let Some(folder) = arguments.output.as_ref().and_then(|path| path.parent()).filter(|folder| !folder.is_dir()) {
        return Err(io::Error::other(format!("no such folder: {}", folder.display())));
    }
    let bench = Bench::new(arguments)?;
    let subject = arguments.subject;
    let mut report = Report { arguments, bench: &bench, comparisons: Vec::new(), left_out: Vec::new() };
    for peer in arguments.peers.iter().filter(|peer| !bench.has(peer)) {
        report.leave_out(format!("{}: its program is not there", peer.name));
    }
    for scenario in &arguments.scenarios {
        for peer in arguments.peers_in(scenario).into_iter().filter(|peer| bench.has(peer)) {
            match bench.pairs(scenario, subject, peer, plan::pairs(scenario, peer, arguments.pairs)) {
                Ok(pairs) => {
                    let comparison = Comparison { scenario, peer, pairs };
                    eprintln!("{}", report::progress(subject, &comparison));
                    report.comparisons.push(comparison);
                }
                // The others go on: what was measured is worth its report.
                Err(error) => report.leave_out(format!("{}, {} / {}: {error}", scenario.name, subject.name, peer.name)),
            }
        }
    }
    if report.comparisons.is_empty() {
        return Err(io::Error::other("nothing was measured"));
    }
    match &arguments.output {
        Some(path) => {
            let pictures = plots::write(path, &report)?;
            let text = report.markdown(&pictures);
            println!("{text}");
            section::write(path, "make bench", &text)?;
            eprintln!("written to {}", path.display());
        }
        None if arguments.quick => println!("{}", report.summary()),
        None => {
            println!("{}", report.markdown(""));
            eprintln!("part of the plan only: no file written (--output FILE writes one)");
        }
    }
    Ok(())
}
