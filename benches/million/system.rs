//! What the system says of its memory.

use std::fs;
use std::io;
use std::time::Duration;

/// The kernel's memory counts as settled when it changes by less in such a time.
const SETTLED_BYTES: u64 = 1 << 20;
const SETTLE_TIME: Duration = Duration::from_millis(300);
const SETTLE_TRIES: u32 = 30;

/// One number of /proc/meminfo, in bytes.
pub(crate) fn memory(name: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("/proc/meminfo has no line {name}")))
}

/// What the kernel cannot give back: sockets and files, of both ends.
pub(crate) fn kernel_memory() -> io::Result<u64> {
    memory("SUnreclaim")
}

/// Waits until the kernel has given back what was closed: it takes its time. Where others keep it busy, not for ever.
pub(crate) fn settle() -> io::Result<()> {
    let mut before = kernel_memory()?;
    for _ in 0..SETTLE_TRIES {
        std::thread::sleep(SETTLE_TIME);
        let now = kernel_memory()?;
        if now.abs_diff(before) < SETTLED_BYTES {
            break;
        }
        before = now;
    }
    Ok(())
}
