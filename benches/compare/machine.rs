//! The machine, described at run time.

use crate::plan::Peer;
use crate::run::Bench;
use crate::server;
use std::fs;
use std::io;
use std::process::Command;

/// Names and values, for a table.
pub(crate) fn describe(bench: &Bench, servers: impl Iterator<Item = &'static Peer>) -> Vec<[String; 2]> {
    let mut rows = vec![
        row("date", command("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        row("CPU", cpu()),
        row("server on, load on", Some(format!("CPU {}, CPU {}", bench.server_cpu, bench.load_cpu))),
        row("memory", memory()),
        row("kernel", command("uname", &["-srm"])),
        row("system", field("/etc/os-release", "PRETTY_NAME=").map(|name| name.trim_matches('"').to_owned())),
        row("Rust", command("rustc", &["--version"])),
        row("C", command("cc", &["--version"])),
    ];
    for peer in servers {
        let version = server::version(&bench.program(peer));
        let version = version.unwrap_or_else(|error: io::Error| error.to_string());
        rows.push([peer.name.to_owned(), format!("{version}; {}", peer.note)]);
    }
    rows
}

fn row(name: &str, value: Option<String>) -> [String; 2] {
    [name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned())]
}

fn cpu() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = field("/proc/cpuinfo", "model name")?;
    let model = model.trim_start_matches([' ', '\t', ':']).to_owned();
    let guest = if cpuinfo.split_whitespace().any(|flag| flag == "hypervisor") { ", a virtual machine" } else { "" };
    Some(format!("{model}, {count} CPUs{guest}"))
}

fn memory() -> Option<String> {
    let kib = field("/proc/meminfo", "MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(format!("{} GiB", kib.div_ceil(1 << 20)))
}

/// The rest of the first line that starts with `name`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}

/// The first line that a command prints.
fn command(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()?.lines().next().map(str::to_owned)
}
