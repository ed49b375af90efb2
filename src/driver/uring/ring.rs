//! The rings themselves: what of io_uring the driver needs, whether this kernel has it, and one system call for orders and
//! completions alike.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::types::{self, CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use super::token::Token;
use crate::fault::{self, Call};
use crate::sys;

/// Orders that one system call takes; with more a second one is made.
const ORDERS: u32 = 1024;
/// Completions that wait without costing the kernel memory.
const COMPLETIONS: u32 = 4096;
/// With so many a turn has enough to do.
const COMPLETIONS_A_TURN: usize = 1024;
/// Of what has come to sockets the kernel works out so much with one call, if it is not to wait for more.
const WORKED_OUT_AT_ONCE: usize = 20;

pub(super) struct Ring {
    ring: IoUring,
    /// Only the thread that makes the first turn may use the rings, and from then on.
    is_enabled: bool,
    /// Orders that were given and have not ended.
    pending: usize,
    /// The kernel does not take orders any more: somebody else in the process has closed the descriptor.
    is_lost: bool,
}

impl Ring {
    pub(super) fn open() -> io::Result<Self> {
        fault::check(Call::IoUringSetup)?;
        let mut builder = IoUring::builder();
        // One thread: no locks in the kernel, and completions are worked out when it asks for them, not in the middle of
        // something else.
        builder.setup_single_issuer().setup_defer_taskrun().setup_r_disabled();
        // What waits for that is seen without a system call.
        builder.setup_taskrun_flag();
        builder.setup_submit_all().setup_cqsize(COMPLETIONS);
        // Their memory is shared: what a child of the process did there would be done to the parent's.
        builder.dontfork();
        Ok(Self { ring: builder.build(ORDERS)?, is_enabled: false, pending: 0, is_lost: false })
    }

    pub(super) fn inner(&self) -> &IoUring {
        &self.ring
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Has an eventfd written to whenever there is something to do, from [`Ring::start_notifying`] on.
    pub(super) fn notify(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        self.stop_notifying();
        Ok(())
    }

    /// Says whether there is nothing to do by now; otherwise it may not have been told.
    pub(super) fn start_notifying(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // The kernel adds what is to be done, and then looks whether to tell; we the other way round. The system call sees what no
        // flag tells: what a call that has worked out as much as it may has left.
        fence(Ordering::SeqCst);
        let has_work = sys::poll([(self.fd(), libc::POLLIN)], Some(0)).map_or(true, |[has_work]| has_work);
        if has_work {
            self.stop_notifying();
        }
        !has_work
    }

    pub(super) fn stop_notifying(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// A second descriptor for it: whoever has it may send messages there.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the call takes numbers and gives a descriptor that is ours alone.
        unsafe { sys::owned(libc::fcntl(self.fd(), libc::F_DUPFD_CLOEXEC, 0)) }
    }

    /// Gives an order.
    ///
    /// # Safety
    ///
    /// Memory that it names has to live until it has ended.
    pub(super) unsafe fn push(&mut self, order: squeue::Entry, token: Token) {
        let order = order.user_data(token.to_raw());
        // SAFETY: as promised by our caller.
        while !self.is_lost && unsafe { self.ring.submission().push(&order) }.is_err() {
            // In the middle of a turn: what has come to streams meanwhile is for the next one, after the orders of other threads.
            if self.submit().is_err() || self.ring.submission().is_full() {
                // It may take none until it has worked out what comes of others.
                let _ = self.enter(0, None);
            }
        }
        self.pending += usize::from(!self.is_lost && token != Token::Cancel);
    }

    /// Ends an order before its time: it completes as cancelled, or as what it has become by then.
    pub(super) fn cancel(&mut self, token: Token) {
        let order = opcode::AsyncCancel::new(token.to_raw()).build();
        // SAFETY: it names no memory.
        unsafe { self.push(order, Token::Cancel) };
    }

    /// From here on the rings are this thread's, and others may wake it. True: they could not, so far.
    pub(super) fn enable(&mut self) -> io::Result<bool> {
        if self.is_enabled {
            return Ok(false);
        }
        self.ring.submitter().register_enable_rings().inspect_err(|error| self.look_at(error))?;
        self.is_enabled = true;
        Ok(true)
    }

    /// Hands the orders over and waits until something is complete, at most for a time (None: for ever).
    pub(super) fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        fault::check(Call::EpollWait).inspect_err(|error| self.look_at(error))?;
        match timeout_ms {
            Some(0) => self.work_out(),
            None => pass(self.enter(1, None)),
            #[allow(clippy::cast_possible_truncation)] // less than a second
            Some(ms) => pass(self.enter(1, Some(Timespec::new().sec(ms / 1000).nsec((ms % 1000 * 1_000_000) as u32)))),
        }
    }

    /// Hands the orders over, and works out all that can be by now. (A wait for no time would set a timer, for more than all else
    /// costs.)
    fn work_out(&mut self) -> io::Result<()> {
        loop {
            let before = self.completions();
            pass(self.enter(0, None))?;
            let now = self.completions();
            if now - before.min(now) < WORKED_OUT_AT_ONCE || now >= COMPLETIONS_A_TURN {
                return Ok(());
            }
        }
    }

    /// Whether there are orders to hand over, or work that the kernel waits to do.
    pub(super) fn has_work(&mut self) -> bool {
        let orders = self.ring.submission();
        !orders.is_empty() || orders.taskrun()
    }

    /// Whether the kernel has all orders, and does not look at anything any more that they name for that moment only.
    pub(super) fn is_handed_over(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Hands the orders over. Nothing is worked out but what comes of them at once.
    fn submit(&mut self) -> io::Result<()> {
        #[allow(clippy::cast_possible_truncation)] // at most ORDERS
        let orders = self.ring.submission().len() as u32;
        // SAFETY: no argument goes with it.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(orders, 0, 0, None) }.map(drop)
    }

    /// Hands the orders over, and works out what comes of them at once.
    pub(super) fn hand_over(&mut self) -> io::Result<()> {
        self.enter(0, None)
    }

    fn enter(&mut self, count: u32, until: Option<Timespec>) -> io::Result<()> {
        #[allow(clippy::cast_possible_truncation)] // at most ORDERS
        let orders = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: the arguments are what the flags say.
        let entered = unsafe {
            match until {
                None => submitter.enter::<libc::sigset_t>(orders, count, flags, None),
                Some(until) => {
                    let arguments = SubmitArgs::new().timespec(&until);
                    submitter.enter(orders, count, flags | EnterFlags::EXT_ARG.bits(), Some(&arguments))
                }
            }
        };
        entered.map(drop).inspect_err(|error| self.look_at(error))
    }

    /// Whether an error will pass; otherwise the rings are lost.
    fn look_at(&mut self, error: &io::Error) {
        let passing = [libc::ETIME, libc::EBUSY, libc::EAGAIN, libc::EINTR, libc::ENOMEM];
        self.is_lost |= !error.raw_os_error().is_some_and(|number| passing.contains(&number));
    }

    /// How many are to be told.
    pub(super) fn completions(&mut self) -> usize {
        if self.is_lost { 0 } else { self.ring.completion().len() }
    }

    /// Whether an order has got something that is yet to be told. Where much is to be told, not all of it is looked at: then it
    /// may have.
    pub(super) fn may_have_got(&self, token: Token) -> bool {
        const LOOKED_AT_MAX: usize = 256;
        // SAFETY: nobody else looks at the completions meanwhile.
        let mut completions = unsafe { self.ring.completion_shared() };
        let is_more = completions.len() > LOOKED_AT_MAX;
        let is_it = |entry: cqueue::Entry| entry.user_data() == token.to_raw() && entry.result() > 0;
        let has_got = completions.by_ref().take(LOOKED_AT_MAX).any(is_it);
        // Dropped, they would be taken.
        std::mem::forget(completions);
        has_got || is_more
    }

    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        // What lost rings have left is nobody's any more: the streams are closed without it.
        let entry = if self.is_lost { None } else { self.ring.completion().next() }?;
        let is_last = !cqueue::more(entry.flags());
        let token = Token::from_raw(entry.user_data());
        if is_last && !matches!(token, Token::Cancel | Token::Wake) {
            self.pending -= 1;
        }
        Some(entry)
    }

    /// Ends all orders, so that nothing that they name is used any more.
    fn end(&mut self) {
        if !self.is_enabled || sys::forked() {
            // Orders that were never handed over; or they are our parent's.
            return;
        }
        // Descriptors of ours elsewhere keep the rings alive: closing this one would not do. What is to be cancelled has to
        // be there first.
        let _ = self.enter(0, None);
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        while self.pending > 0 && self.enter(0, None).is_ok() {
            let before = self.pending;
            while let Some(entry) = self.next() {
                if let (Token::Accept(_), fd @ 0..) = (Token::from_raw(entry.user_data()), entry.result()) {
                    // SAFETY: the descriptor was just given to us.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            if self.pending == before {
                break;
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.end();
    }
}

/// That nothing has come is no error, nor that so much has that it is worked on first; nor a lack of memory that passes.
fn pass(entered: io::Result<()>) -> io::Result<()> {
    const PASSING: [i32; 4] = [libc::ETIME, libc::EBUSY, libc::EAGAIN, libc::ENOMEM];
    entered.or_else(|error| match error.raw_os_error() {
        Some(number) if PASSING.contains(&number) => Ok(()),
        _ => Err(error),
    })
}

/// Sends a message to rings from wherever, also from a thread that has none of its own (Linux 6.13).
pub(crate) fn send_message(rings: BorrowedFd<'_>, message: u64) -> io::Result<()> {
    const IORING_REGISTER_SEND_MSG_RING: libc::c_long = 31;
    let order = opcode::MsgRingData::new(types::Fd(rings.as_raw_fd()), 0, message, None).build();
    // SAFETY: the order is readable, and names no memory.
    match unsafe { libc::syscall(libc::SYS_io_uring_register, -1, IORING_REGISTER_SEND_MSG_RING, &raw const order, 1) }
    {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
