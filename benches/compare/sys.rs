//! The system calls that neither the standard library nor socket2 has, each behind a safe function. All
//! unsafe code of the benchmark is in this file.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

const EVENTS_MAX: libc::c_int = 512;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) use libc::{EPOLLIN, EPOLLOUT};

/// A level-triggered epoll set; a token says whom an event is for.
pub(crate) struct Epoll(OwnedFd);

pub(crate) struct Events {
    list: Vec<libc::epoll_event>,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { list: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX as usize] }
    }

    /// The token of event `index`.
    #[expect(clippy::cast_possible_truncation, reason = "tokens are made from usize")]
    pub(crate) fn token(&self, index: usize) -> usize {
        self.list[index].u64 as usize
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and ours alone.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: usize, events: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events)
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, token: usize, events: libc::c_int) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events)
    }

    fn control(&self, what: libc::c_int, fd: BorrowedFd<'_>, token: usize, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token as u64 };
        // SAFETY: both descriptors are borrowed, thus open; `event` lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), &raw mut event) })?;
        Ok(())
    }

    /// Waits for events; returns how many there are, 0 when the time is over.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Duration) -> io::Result<usize> {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        loop {
            // SAFETY: the list has EVENTS_MAX elements, which live until the call returns.
            let count = check(unsafe {
                libc::epoll_wait(self.0.as_raw_fd(), events.list.as_mut_ptr(), EVENTS_MAX, timeout_ms)
            });
            match count {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                count => return Ok(count?.unsigned_abs() as usize),
            }
        }
    }
}

/// The CPUs that this thread may use.
pub(crate) fn cpus_allowed() -> io::Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is a plain array of bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` is as large as said.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    let count = 8 * size_of_val(&set);
    // SAFETY: every index is below the number of bits.
    Ok((0..count).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// From here on this thread runs on this CPU only.
pub(crate) fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: as in `cpus_allowed`.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    if cpu >= 8 * size_of_val(&set) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the index is below the number of bits; `set` is as large as said.
    check(unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    })?;
    Ok(())
}

/// Makes the child run on one CPU only, and die with this thread.
pub(crate) fn confine(command: &mut Command, cpu: usize) {
    let confine = move || {
        pin_to_cpu(cpu)?;
        // SAFETY: takes no pointer.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(confine) };
}

/// Lets the child keep a descriptor, under its number.
pub(crate) fn hand_on(command: &mut Command, fd: RawFd) {
    // SAFETY: between fork and exec the closure makes one system call, which takes no pointer.
    unsafe { command.pre_exec(move || check(libc::fcntl(fd, libc::F_SETFD, 0)).map(drop)) };
}

/// CPU time, user and system, of all threads of a process, in nanoseconds: what the scheduler counted, not
/// the 10 ms ticks of /proc/PID/stat.
pub(crate) fn process_cpu(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: `clock` lives until the call returns.
    match unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } {
        0 => cpu_clock(clock),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// CPU time of this thread.
pub(crate) fn thread_cpu() -> io::Result<Duration> {
    cpu_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn cpu_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives until the call returns.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    // A clock that counts up from zero: never negative, and less than a second of nanoseconds.
    Ok(Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_nanos(time.tv_nsec.cast_unsigned()))
}

/// Raises the number of files that this process and its children may open to at least `files`, or as far as it is allowed;
/// says how many that are.
pub(crate) fn allow_files(files: u64) -> io::Result<u64> {
    let limit = file_limit()?;
    if limit.rlim_cur < files {
        let raised = libc::rlimit { rlim_cur: files, rlim_max: limit.rlim_max.max(files) };
        set_file_limit(&raised).or_else(|_| set_file_limit(&libc::rlimit { rlim_cur: limit.rlim_max, ..limit }))?;
    }
    Ok(file_limit()?.rlim_cur)
}

fn file_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives until the call returns.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit)
}

fn set_file_limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: the limit lives until the call returns.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) })?;
    Ok(())
}

/// Lets the system choose the port of a bound socket when it connects: only then the port needs to be free
/// for this destination alone.
pub(crate) fn bind_without_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    let one: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of_val(&one)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, thus open; `one` is as large as said.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const one).cast(),
            bytes,
        )
    })?;
    Ok(())
}
