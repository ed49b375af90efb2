//! One server under test: a process of its own on a CPU of its own, until it is dropped.

use crate::sys;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddrV4,
}

impl Server {
    /// Returns when it listens.
    pub(crate) fn start(program: &Path, mode: &str, cpu: usize) -> io::Result<Server> {
        let mut command = Command::new(program);
        command.arg(mode).stdin(Stdio::null()).stdout(Stdio::piped());
        sys::confine(&mut command, cpu);
        let child = command.spawn().map_err(|error| named(program, &error))?;
        let mut server = Server { child, address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0) };
        let mut line = String::new();
        if let Some(stdout) = server.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.trim_end().strip_prefix("port ").and_then(|port| port.parse().ok());
        server.address.set_port(port.ok_or_else(|| named(program, &format!("told no port but {line:?}")))?);
        Ok(server)
    }

    /// A relay in front of `target_port`. Its listening socket is handed to it: whoever connects is in the queue until it
    /// accepts.
    pub(crate) fn start_relay(program: &Path, mode: &str, target_port: u16, cpu: usize) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port());
        let mut command = Command::new(program);
        command.arg(mode).arg(listener.as_raw_fd().to_string()).arg(target_port.to_string());
        // What it says is worth a look only if it fails.
        let said = File::create(program.with_extension("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        sys::confine(&mut command, cpu);
        sys::hand_on(&mut command, listener.as_raw_fd());
        let child = command.spawn().map_err(|error| named(program, &error))?;
        Ok(Server { child, address })
    }

    /// CPU time used so far, user and system, of all its threads.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        sys::process_cpu(self.child.id())
    }

    /// Time that its threads were ready to run but waited for the CPU.
    pub(crate) fn waited(&self) -> io::Result<Duration> {
        let mut waited = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            waited += waited_for_cpu(&task?.path())?;
        }
        Ok(waited)
    }

    /// User-space memory in bytes: resident pages that are its own (heap, stacks, written data), not those
    /// of the program files.
    pub(crate) fn memory(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("smaps_rollup has no line Anonymous"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is gone already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The version line of a server's program.
pub(crate) fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program).arg("version").output().map_err(|error| named(program, &error))?;
    if !output.status.success() {
        return Err(named(program, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The second number of a task's schedstat.
pub(crate) fn waited_for_cpu(task: &Path) -> io::Result<Duration> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    let waited = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    waited.map(Duration::from_nanos).ok_or_else(|| io::Error::other("schedstat has no second number"))
}

fn named(program: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", program.display()))
}
