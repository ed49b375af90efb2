//! The seam where tests make calls fail. Without the feature `test-hooks` it is nothing at all.

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
#[allow(missing_docs)]
pub(crate) enum Call {
    Accept4,
    Recv,
    Sendmsg,
    EpollCtl,
    EpollWait,
    EpollCreate1,
    Eventfd,
    Timerfd,
    Socket,
    Bind,
    Listen,
    Spawn,
    Memory,
    Poll,
    Connect,
    Recvmmsg,
    Sendmmsg,
    #[cfg_attr(not(feature = "uring"), allow(dead_code))]
    IoUringSetup,
}

/// Asks whether a test wants this call to fail, just before it is made.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn check(_: Call) -> std::io::Result<()> {
    Ok(())
}

/// Whether a test wants the engine to panic at this message.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub(crate) fn check_panic() {}

#[cfg(feature = "test-hooks")]
pub(crate) use hooks::{calls, check, check_panic, fail, panic_after};

#[cfg(feature = "test-hooks")]
mod hooks {
    use super::Call as CallKind;
    use std::io;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Names in the order of the enumeration.
    const NAMES: [&str; 18] = [
        "accept4",
        "recv",
        "sendmsg",
        "epoll_ctl",
        "epoll_wait",
        "epoll_create1",
        "eventfd",
        "timerfd",
        "socket",
        "bind",
        "listen",
        "spawn",
        "memory",
        "poll",
        "connect",
        "recvmmsg",
        "sendmmsg",
        "io_uring_setup",
    ];

    #[derive(Clone, Copy)]
    struct Plan {
        error: i32,
        skip: i32,
        times: i32,
        calls: i32,
    }

    static PLANS: Mutex<[Plan; NAMES.len()]> =
        Mutex::new([Plan { error: 0, skip: 0, times: 0, calls: 0 }; NAMES.len()]);

    /// Messages until the panic; negative: none.
    static PANIC_AFTER: AtomicI64 = AtomicI64::new(-1);

    fn plans() -> std::sync::MutexGuard<'static, [Plan; NAMES.len()]> {
        PLANS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes the named call fail with `error`, `times` times (-1: always) after `skip` good ones.
    /// False: no call has that name.
    pub(crate) fn fail(name: &str, error: i32, skip: i32, times: i32) -> bool {
        let Some(at) = NAMES.iter().position(|known| *known == name) else { return false };
        plans()[at] = Plan { error, skip, times, calls: 0 };
        true
    }

    /// How often the named call was made since the last [`fail`] for it.
    pub(crate) fn calls(name: &str) -> i32 {
        NAMES.iter().position(|known| *known == name).map_or(-1, |at| plans()[at].calls)
    }

    pub(crate) fn check(call: CallKind) -> io::Result<()> {
        let mut plans = plans();
        let plan = &mut plans[call as usize];
        plan.calls = plan.calls.saturating_add(1);
        if plan.times == 0 {
            return Ok(());
        }
        if plan.skip > 0 {
            plan.skip -= 1;
            return Ok(());
        }
        if plan.times > 0 {
            plan.times -= 1;
        }
        Err(io::Error::from_raw_os_error(plan.error))
    }

    /// Lets the message after `skip` further ones panic.
    pub(crate) fn panic_after(skip: i32) {
        PANIC_AFTER.store(i64::from(skip), Ordering::SeqCst);
    }

    pub(crate) fn check_panic() {
        if PANIC_AFTER.load(Ordering::SeqCst) >= 0 && PANIC_AFTER.fetch_sub(1, Ordering::SeqCst) == 0 {
            panic!("a test asked for this");
        }
    }
}
