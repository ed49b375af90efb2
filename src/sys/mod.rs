//! System calls that belong to no driver, and memory that belongs to the host program.
//!
//! With `capi` and `driver` the only place with unsafe code.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{self, Error};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::fault::{self, Call};

mod descriptors;
pub(crate) mod direct;
mod memory;
mod sockets;
#[cfg(feature = "uring")]
mod valgrind;

pub use descriptors::{
    DESCRIPTORS_MAX, Received, close, close_on_exec, duplicate, receive_descriptors, send_descriptors,
};
pub use memory::{boxed, reserve};
pub use sockets::{finish, recv, recv_datagram, recv_more, send, unread, unsent};
#[cfg(feature = "uring")]
pub(crate) use valgrind::is_under_valgrind;

/// A word of the host program's that the library passes back to it and never looks into.
pub type HostUser = *mut c_void;

/// Such a word on its way to another thread, which only passes it on as well.
#[derive(Clone, Copy, Debug)]
pub struct HostWord(HostUser);

// SAFETY: the library never looks into it; the header says on which threads the host gets it back.
unsafe impl Send for HostWord {}
// SAFETY: as above.
unsafe impl Sync for HostWord {}

impl HostWord {
    /// The word, to be passed on.
    pub fn new(user: HostUser) -> Self {
        Self(user)
    }

    /// The word.
    pub fn get(self) -> HostUser {
        self.0
    }
}

/// A function of the host program's that takes back what it lent.
pub type FreeFn = unsafe extern "C" fn(user: *mut c_void);

/// Calls a function of the host's exactly once: when it is dropped.
#[derive(Debug)]
pub struct Finalizer {
    call: Option<FreeFn>,
    user: HostUser,
}

// SAFETY: the header demands that such functions may be called from any thread; `user` is only passed on.
unsafe impl Send for Finalizer {}

impl Finalizer {
    /// Does nothing.
    pub const NONE: Self = Self { call: None, user: std::ptr::null_mut() };

    /// Will call `call(user)`, or nothing if there is no such function.
    ///
    /// # Safety
    ///
    /// The function may be called so, once, from any thread.
    pub unsafe fn new(call: Option<FreeFn>, user: HostUser) -> Self {
        Self { call, user }
    }

    /// Gives it up without a call: the host keeps what it offered.
    pub fn disarm(mut self) {
        self.call = None;
    }
}

impl Drop for Finalizer {
    fn drop(&mut self) {
        // In a child after a fork it is the parent's to give back.
        if let Some(call) = self.call.take()
            && !forked()
        {
            // SAFETY: the host gave this function for this purpose, and this is the only call.
            unsafe { call(self.user) }
        }
    }
}

/// Bytes that the host lends until its function is called, which is when this is dropped.
#[derive(Debug)]
pub struct LentBytes {
    start: *const u8,
    length: usize,
    finalizer: Finalizer,
}

// SAFETY: nobody writes the bytes while they are lent, and the finalizer may run on any thread.
unsafe impl Send for LentBytes {}

impl LentBytes {
    /// Takes bytes over.
    ///
    /// # Safety
    ///
    /// The bytes stay readable and unchanged until the finalizer is run or disarmed.
    pub unsafe fn new(bytes: &[u8], finalizer: Finalizer) -> Self {
        Self { start: bytes.as_ptr(), length: bytes.len(), finalizer }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `new` was promised that they live until the finalizer runs, which is after `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }

    /// Gives them back without a call: the host keeps what it offered.
    pub fn disarm(self) {
        self.finalizer.disarm();
    }
}

/// Bytes that outlive everything, as if the host had lent them.
#[cfg(test)]
pub(crate) fn lend_static(bytes: &'static [u8], finalizer: Finalizer) -> LentBytes {
    // SAFETY: they are never freed and never change.
    unsafe { LentBytes::new(bytes, finalizer) }
}

/// A function of the host program's, of a type that only the C face knows.
#[derive(Clone, Copy, Debug)]
pub struct HostCall(*const ());

// SAFETY: the header demands that such functions may be called from any thread.
unsafe impl Send for HostCall {}

impl HostCall {
    /// Remembers a function.
    ///
    /// # Safety
    ///
    /// Whoever takes it out knows its type, and may call it as the header says.
    pub unsafe fn new(function: *const ()) -> Self {
        Self(function)
    }

    /// The function.
    pub fn get(self) -> *const () {
        self.0
    }
}

/// Nanoseconds on a clock that never jumps.
pub fn now_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock exists on every Linux and the call fills the struct.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Milliseconds on that clock.
pub fn now_ms() -> u64 {
    now_ns() / NANOSECONDS
}

/// What this host calls itself; "" where it has no name.
pub fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: there are so many writable bytes; the last one stays zero.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    if failed { String::new() } else { String::from_utf8_lossy(&name[..end]).into_owned() }
}

/// The first millisecond of that clock that is not before `after_ms` milliseconds have passed.
pub fn deadline_ms(after_ms: u32) -> u64 {
    now_ns().div_ceil(NANOSECONDS) + u64::from(after_ms)
}

/// In a millisecond.
pub const NANOSECONDS: u64 = 1_000_000;

/// Whether this process is a child of the one that loaded the library.
///
/// Two loads: the kernel hands a child this page filled with zeros (`MADV_WIPEONFORK`). Where it cannot, the
/// process id tells, at the price of a system call.
#[inline]
pub fn forked() -> bool {
    // Acquire: whoever sees the page sees what `Owner::new` wrote there.
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return ask_owner();
    }
    // SAFETY: it was put there by `ask_owner`, and is never unmapped.
    unsafe { (*page).load(Ordering::Relaxed) == 0 }
}

/// Null until the first question, and where there is no such page.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

#[cold]
fn ask_owner() -> bool {
    match OWNER.get_or_init(Owner::new) {
        Owner::Page(page) => {
            PAGE.store(std::ptr::from_ref(*page).cast_mut(), Ordering::Release);
            page.load(Ordering::Relaxed) == 0
        }
        Owner::Process(id) => *id != std::process::id(),
    }
}

static OWNER: OnceLock<Owner> = OnceLock::new();

enum Owner {
    Page(&'static AtomicU32),
    Process(u32),
}

impl Owner {
    fn new() -> Self {
        if cfg!(miri) {
            // It knows no madvise.
            return Self::Process(std::process::id());
        }
        let length = 4096;
        // SAFETY: a fresh private mapping that is never unmapped; aligned to a page, so also for the atomic.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if page == libc::MAP_FAILED {
                return Self::Process(std::process::id());
            }
            if libc::madvise(page, length, libc::MADV_WIPEONFORK) != 0 {
                libc::munmap(page, length);
                return Self::Process(std::process::id());
            }
            let page = &*page.cast::<AtomicU32>();
            page.store(1, Ordering::Relaxed);
            Self::Page(page)
        }
    }
}

/// Ends a child process at once.
pub fn exit_child() -> ! {
    // SAFETY: it does not return, and runs nothing of the host's.
    unsafe { libc::_exit(0) }
}

/// Runs `body` with every signal blocked in this thread, but for those that say that the thread itself has made a
/// fault: a thread that it starts inherits that, so that the host's handlers run on the host's own threads only,
/// and its crash handlers run where the crash is.
pub fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both calls only touch the sets given and this thread's mask.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        for fault in FAULT_SIGNALS {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = body();
    // SAFETY: the mask was read just now.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

const FAULT_SIGNALS: [libc::c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// SIGINT and SIGTERM as a descriptor, and blocked in this thread until it is dropped.
pub struct StopSignals {
    descriptor: OwnedFd,
    before: libc::sigset_t,
}

impl StopSignals {
    /// Blocks the two signals in this thread and those that it starts.
    pub fn block() -> io::Result<Self> {
        // SAFETY: the sets are filled before they are used; signalfd gives a descriptor that is ours alone.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            let mut before = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            let descriptor = owned(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
            Ok(Self { descriptor, before: before.assume_init() })
        }
    }

    /// Takes one signal, if one has come.
    pub fn take(&self) -> bool {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has room for one record.
        unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) > 0 }
    }
}

impl AsRawFd for StopSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        // A signal that came and was not taken ended this call, too: it must not end the process afterwards.
        while self.take() {}
        // SAFETY: the mask was read from this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Waits until one of the descriptors is ready for its events, or until a time (None: for ever); signal handlers
/// do not end it. Says for each whether it is ready.
pub fn poll<const N: usize>(wanted: [(RawFd, i16); N], until_ms: Option<u64>) -> io::Result<[bool; N]> {
    let mut list = wanted.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
    poll_entries(&mut list, until_ms)?;
    Ok(list.map(|entry| entry.revents != 0))
}

/// As [`poll`], for any number of descriptors.
pub fn poll_list(wanted: &[(RawFd, i16)], until_ms: Option<u64>) -> io::Result<Vec<bool>> {
    let mut list: Vec<_> =
        wanted.iter().map(|(fd, events)| libc::pollfd { fd: *fd, events: *events, revents: 0 }).collect();
    poll_entries(&mut list, until_ms)?;
    Ok(list.iter().map(|entry| entry.revents != 0).collect())
}

fn poll_entries(list: &mut [libc::pollfd], until_ms: Option<u64>) -> io::Result<()> {
    retry(Call::Poll, || {
        let left_ms =
            until_ms.map_or(-1, |until_ms| i32::try_from(until_ms.saturating_sub(now_ms())).unwrap_or(i32::MAX));
        // SAFETY: the list has so many entries.
        unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, left_ms) as isize }
    })
    .map(drop)
}

/// Whether a number is an open descriptor.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: asking for the flags changes nothing, and is an error for what is not open.
    fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0
}

/// Writes a line to the standard error, and does not mind if it cannot.
pub fn write_stderr(line: &str) {
    // SAFETY: the bytes are readable for their whole length.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

/// The result of a call that gives a descriptor.
///
/// # Safety
///
/// `fd` is such a result: an error, or a descriptor that nobody else owns.
pub unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: as promised by our caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a call again as long as signal handlers interrupt it.
#[inline]
pub(crate) fn retry(call: Call, mut make: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        let made = fault::check(call).and_then(|()| usize::try_from(make()).map_err(|_| Error::last_os_error()));
        match made {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            made => return made,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static FREED: AtomicUsize = AtomicUsize::new(0);

    unsafe extern "C" fn count(user: *mut c_void) {
        FREED.fetch_add(user as usize, Ordering::SeqCst);
    }

    #[test]
    fn a_finalizer_runs_once_unless_disarmed() {
        let user = std::ptr::without_provenance_mut(1);
        // SAFETY: the function only counts.
        let finalizer = |call| unsafe { Finalizer::new(call, user) };
        drop(finalizer(Some(count)));
        assert_eq!(FREED.load(Ordering::SeqCst), 1);
        finalizer(Some(count)).disarm();
        drop(finalizer(None));
        let bytes = *b"lent";
        // SAFETY: the bytes outlive what borrows them here.
        let lent = unsafe { LentBytes::new(&bytes, finalizer(Some(count))) };
        assert_eq!(lent.as_slice(), b"lent");
        drop(lent);
        assert_eq!(FREED.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn this_process_is_no_child() {
        assert!(!forked());
    }

    #[test]
    fn the_clock_runs_forward() {
        let before = now_ms();
        assert!(now_ms() >= before);
    }
}
