//! No load: a group of `benches/timers`, run on the CPU of the servers.

use crate::meter::Sample;
use crate::scenarios::Metric;
use crate::sys;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// `group`: with which the names of its benches begin.
pub(crate) fn run(program: &Path, group: &str, cpu: usize) -> io::Result<Sample> {
    let mut command = Command::new(program);
    command.args([group, "--bench"]).stdin(Stdio::null());
    sys::confine(&mut command, cpu);
    let output = command.output()?;
    let [text, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let (start, cancel) = (median_ns(&text, "start"), median_ns(&text, "cancel"));
    match start.zip(cancel).filter(|_| output.status.success()) {
        Some((start, cancel)) => Ok(Sample::of(vec![(Metric::StartTimer, start), (Metric::CancelTimer, cancel)])),
        None => Err(io::Error::other(format!("the bench of the timers: {}\n{text}{said}", output.status))),
    }
}

/// The third column of a line such as "│  ├─ start   51.2 ns │ 98 ns │ 53.1 ns │ 54 ns │ 200 │ 200000".
fn median_ns(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .map(|line| line.trim_start_matches(['│', '├', '╰', '─', ' ']))
        .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') && rest.contains('│')))?;
    let (number, unit) = line.split('│').nth(2)?.trim().split_once(' ')?;
    let ns = match unit {
        "ns" => 1.0,
        "µs" => 1e3,
        "ms" => 1e6,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * ns)
}
