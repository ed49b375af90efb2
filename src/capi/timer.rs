//! # Timers
//!
//! A timer belongs to a server or to a connection, and ends with it. Its callback runs on a worker: on the
//! connection's, if it has one, and never at the same time as another callback of that connection. The
//! clock is monotonic; a timer is never early, and late only by what its worker is doing. Starting and
//! cancelling take the same short time, however many timers there are.

use std::ffi::c_void;

use super::guard::guard;
use super::handle::{ahoy_conn, ahoy_server, ahoy_timer};
use super::handler::enter_host;
use super::pointer::set_out;
use super::server::ahoy_free_fn;
use crate::conn::handle::ConnId;
use crate::server::ServerId;
use crate::server::timers::{self, Spec, TimerId};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostCall, HostUser};

/// A timer's time has come. `conn` is the connection that it belongs to; `id` 0: it belongs to a server. Any
/// call is legal, also cancelling `timer`.
pub type ahoy_timer_fn = Option<unsafe extern "C" fn(timer: ahoy_timer, conn: ahoy_conn, user: *mut c_void)>;

/// Starts a timer of a server. Called in a callback it runs on the same worker, otherwise on any one.
///
/// @param after_ms  milliseconds until `on_timer` is called first; 0: at the next turn.
/// @param every_ms  milliseconds between later calls; 0: there is one call.
/// @param user      passed to `on_timer`.
/// @param on_free   called exactly once with `user` when the timer is over: it has run for the last time,
///                  was cancelled, or what it belongs to is gone. NULL: nothing to free.
/// @param timer     receives the handle, before `on_timer` can run; NULL if you do not need it.
/// @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL
///         (`on_timer`), AHOY_ERR_MEMORY, AHOY_ERR_AGAIN (the worker's mailbox is full).
///
/// A call that comes late does not lead to two in a row. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_timer_start(
    server: ahoy_server,
    after_ms: u32,
    every_ms: u32,
    on_timer: ahoy_timer_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    timer: *mut ahoy_timer,
) -> Status {
    guard(|| {
        let server = ServerId::from_raw(server.id);
        // SAFETY: the caller gives the functions for this purpose.
        let (spec, finalizer) = unsafe { (spec(after_ms, every_ms, on_timer, user)?, Finalizer::new(on_free, user)) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id: TimerId| unsafe { set_out(timer, ahoy_timer { id: id.raw() }) };
        timers::start(server, spec, finalizer, announce)
    })
}

/// Starts a timer of a connection, as `ahoy_timer_start`: it is cancelled when the connection is over, before
/// on_close.
///
/// @return as `ahoy_timer_start`. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_timer_start(
    conn: ahoy_conn,
    after_ms: u32,
    every_ms: u32,
    on_timer: ahoy_timer_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    timer: *mut ahoy_timer,
) -> Status {
    guard(|| {
        // SAFETY: the caller gives the functions for this purpose.
        let (spec, finalizer) = unsafe { (spec(after_ms, every_ms, on_timer, user)?, Finalizer::new(on_free, user)) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id: TimerId| unsafe { set_out(timer, ahoy_timer { id: id.raw() }) };
        let conn = ConnId::from_raw(conn.id);
        timers::start_for_conn(conn, spec, finalizer, announce)
    })
}

/// Cancels a timer. Called on its worker, in a callback, it will not run again. From another thread it
/// may still run once; its `on_free` says when it is over.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it is over already. AHOY_ERR_AGAIN: the worker's mailbox is full.
///
/// Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_timer_cancel(timer: ahoy_timer) -> Status {
    guard(|| timers::cancel(TimerId::from_raw(timer.id)))
}

/// SAFETY: the function may be called with `user`, on any thread, until the timer is over.
unsafe fn spec(after_ms: u32, every_ms: u32, on_timer: ahoy_timer_fn, user: HostUser) -> Result<Spec> {
    let function = on_timer.ok_or_else(|| Error::new(Status::Null, "on_timer is NULL"))?;
    // SAFETY: as promised by our caller.
    let function = unsafe { HostCall::new(function as *const ()) };
    Ok(Spec { after_ms, every_ms, call, function, user })
}

fn call(function: HostCall, timer: TimerId, conn: Option<ConnId>, user: HostUser) {
    let conn = ahoy_conn { id: conn.map_or(0, ConnId::raw) };
    // SAFETY: `spec` made it of a function of this type, which the program gave for this purpose.
    enter_host(|| unsafe {
        let call: unsafe extern "C" fn(ahoy_timer, ahoy_conn, *mut c_void) = std::mem::transmute(function.get());
        call(ahoy_timer { id: timer.raw() }, conn, user);
    });
}
