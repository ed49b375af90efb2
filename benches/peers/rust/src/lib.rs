//! What the servers of the benchmark that are written in Rust have in common; `peer.h` says it for all.

use std::io::Write;
use std::process::exit;

pub const GREETING: &[u8] = b"Hello from server";
pub const BACKLOG: u16 = 4096;
pub const READ_BYTES: usize = 65536;
pub const MESSAGE_BYTES_MAX: usize = 16384;

pub struct Arguments {
    pub mode: String,
    pub port: u16,
}

/// `modes`: what this server can be.
pub fn arguments(modes: &[&str], version: &str) -> Arguments {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    if mode == "version" {
        println!("{version}");
        exit(0);
    }
    let port = words.next().map_or(Ok(0), |word| word.parse());
    match port {
        Ok(port) if modes.contains(&mode.as_str()) => Arguments { mode, port },
        _ => {
            eprintln!("usage: MODE [PORT], MODE one of: {} version", modes.join(" "));
            exit(2);
        }
    }
}

pub fn listens(port: u16) {
    println!("port {port}");
    std::io::stdout().flush().expect("somebody wants to know the port");
}
