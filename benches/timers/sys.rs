//! The C interface behind safe functions: exactly what a C program calls, its checks of pointers and panics included.
//! All unsafe code of the bench is in this file.
#![allow(unsafe_code)]

use ahoy::capi::{
    AHOY_WORKERS_NONE, ahoy_conn, ahoy_server, ahoy_server_free, ahoy_server_options, ahoy_server_start,
    ahoy_server_stats, ahoy_server_turn, ahoy_stats, ahoy_timer, ahoy_timer_cancel, ahoy_timer_start,
};
use ahoy::status::Status;
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// A server inside its callback.
pub(crate) struct Worker(ahoy_server);

#[derive(Clone, Copy)]
pub(crate) struct Timer(ahoy_timer);

impl Worker {
    pub(crate) fn start(&self, delay_ms: u32) -> Timer {
        let mut timer = ahoy_timer { id: 0 };
        // SAFETY: the handle lives until the call returns; the callback uses nothing.
        let status =
            unsafe { ahoy_timer_start(self.0, delay_ms, 0, Some(ignore), std::ptr::null_mut(), None, &raw mut timer) };
        assert_eq!(status, Status::Ok);
        Timer(timer)
    }

    pub(crate) fn cancel(&self, timer: Timer) {
        assert_eq!(ahoy_timer_cancel(timer.0), Status::Ok);
    }

    /// How many are running.
    pub(crate) fn timers(&self) -> u64 {
        // SAFETY: numbers, for which zero is a value.
        let mut stats: ahoy_stats = unsafe { MaybeUninit::zeroed().assume_init() };
        stats.size = size_of::<ahoy_stats>();
        // SAFETY: the struct is as large as it says.
        assert_eq!(unsafe { ahoy_server_stats(self.0, &raw mut stats) }, Status::Ok);
        stats.timers
    }
}

unsafe extern "C" fn ignore(_: ahoy_timer, _: ahoy_conn, _: *mut c_void) {}

/// What a callback is to do, and whether it has.
struct Task<F> {
    worker: Worker,
    call: Cell<Option<F>>,
    done: Cell<bool>,
}

/// Runs `call` in a callback of a server without threads, and frees the server.
pub(crate) fn in_callback<F: FnOnce(&Worker)>(call: F) {
    // SAFETY: numbers, pointers and optional functions, for all of which zero is a value.
    let mut options: ahoy_server_options = unsafe { MaybeUninit::zeroed().assume_init() };
    options.size = size_of::<ahoy_server_options>();
    options.workers = AHOY_WORKERS_NONE;
    let mut server = ahoy_server { id: 0 };
    // SAFETY: the options are valid, and both live until the call returns.
    assert_eq!(unsafe { ahoy_server_start(&raw const options, &raw mut server) }, Status::Ok);
    let task = Task { worker: Worker(server), call: Cell::new(Some(call)), done: Cell::new(false) };
    let user = (&raw const task).cast_mut().cast();
    // SAFETY: `task` outlives the server; `run` shares it with this function, on this thread.
    let started = unsafe { ahoy_timer_start(server, 0, 0, Some(run::<F>), user, None, std::ptr::null_mut()) };
    assert_eq!(started, Status::Ok);
    while !task.done.get() {
        assert_eq!(ahoy_server_turn(server, -1), Status::Ok);
    }
    ahoy_server_free(server);
}

unsafe extern "C" fn run<F: FnOnce(&Worker)>(_: ahoy_timer, _: ahoy_conn, user: *mut c_void) {
    // SAFETY: this is what `in_callback` has lent.
    let task = unsafe { &*user.cast::<Task<F>>() };
    if let Some(call) = task.call.take() {
        call(&task.worker);
    }
    task.done.set(true);
}
