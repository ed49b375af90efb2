//! Holds as many connections as this machine allows, up to a million, and tells what they cost: `make million`.
//!
//! One server on one CPU; on another several processes of load (`load`), each with its share of the connections, and this
//! one, which conducts them (`conduct`), talks over a hundred connections of its own (`talk`), reads what the system says of
//! memory (`system`), and reports (`report`).

#[path = "../compare/section.rs"]
mod section;
#[path = "../compare/server.rs"]
#[allow(dead_code)] // relays and versions are the comparison's
mod server;
#[path = "../compare/sys.rs"]
#[allow(dead_code, unused_imports)] // as above
mod sys;

mod conduct;
mod load;
mod report;
mod system;
mod talk;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: million --server PROGRAM [options]
  --driver NAME        epoll or uring; default: one after the other
  --steps A,B          so many connections, in growing order; default: 1000,10000,100000,1000000
  --seconds S          how long a hundred of them talk at each step; default: 2
  --output FILE        write the report there; default: docs/benchmarks.md when both drivers reach a million
  --help               print this
";

/// The default of --steps.
const STEPS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

pub(crate) struct Arguments {
    pub(crate) server: PathBuf,
    pub(crate) drivers: Vec<String>,
    pub(crate) steps: Vec<usize>,
    pub(crate) seconds: f64,
    pub(crate) output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = match words.first().map(String::as_str) {
        Some("--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(load::ROLE) => load::run(&words[1..]),
        _ => match parse(words.into_iter()) {
            Ok(arguments) => measure(&arguments),
            Err(message) => {
                eprintln!("{message}\n{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let drivers = ["epoll", "uring"].map(str::to_owned);
    let mut arguments =
        Arguments { server: PathBuf::new(), drivers: drivers.into(), steps: STEPS.into(), seconds: 2.0, output: None };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let wrong = || format!("{word}: not {value}");
        match word.as_str() {
            "--server" => arguments.server = value.into(),
            "--driver" if arguments.drivers.contains(&value) => arguments.drivers = vec![value],
            "--steps" => arguments.steps = steps(&value).ok_or_else(wrong)?,
            "--seconds" => arguments.seconds = value.parse().ok().filter(|s| *s > 0.0).ok_or_else(wrong)?,
            "--output" => arguments.output = Some(value.into()),
            _ => return Err(format!("unknown: {word} {value}")),
        }
    }
    match arguments.server.as_os_str().is_empty() {
        true => Err("--server is missing: see benches/million.sh".to_owned()),
        false => Ok(arguments),
    }
}

fn steps(list: &str) -> Option<Vec<usize>> {
    let steps: Option<Vec<usize>> = list.split(',').map(|step| step.parse().ok()).collect();
    steps.filter(|steps| steps[0] > 0 && steps.is_sorted_by(|a, b| a < b))
}

fn measure(arguments: &Arguments) -> io::Result<()> {
    let cpus = match sys::cpus_allowed()?[..] {
        [server, load, ..] => [server, load],
        _ => return Err(io::Error::other("server and load need a CPU each, and only one is allowed")),
    };
    sys::pin_to_cpu(cpus[1])?;
    let mut climbs = Vec::new();
    for driver in &arguments.drivers {
        climbs.push(conduct::climb(arguments, driver, cpus)?);
    }
    let text = report::markdown(&climbs);
    println!("{text}");
    let is_whole = climbs.len() == 2 && climbs.iter().all(|climb| climb.has_all_of(&STEPS));
    let docs = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    match arguments.output.clone().or_else(|| is_whole.then(docs)) {
        Some(path) => {
            section::write(&path, "make million", &text)?;
            eprintln!("written to {}", path.display());
        }
        None => eprintln!("no file written (--output FILE writes one)"),
    }
    match climbs.into_iter().find_map(|climb| climb.failure) {
        None => Ok(()),
        Some(failure) => Err(io::Error::other(failure)),
    }
}
