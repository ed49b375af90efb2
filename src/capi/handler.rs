//! A server's options out of C's struct, and the program's callbacks behind the engine's trait.

use std::ffi::CStr;

use super::cluster;
use super::driver::{AHOY_DRIVER_AUTO, AHOY_DRIVER_EPOLL, AHOY_DRIVER_URING};
use super::framing::framing;
use super::guard::fail;
use super::handle::{ahoy_conn, ahoy_server};
use super::pointer::{bytes, optional_text};
use super::server::{
    AHOY_GREET_AUTO, AHOY_GREET_ON_OPEN, AHOY_OVERFLOW_CLOSE, AHOY_OVERFLOW_REFUSE, ahoy_server_options,
};
use crate::cluster::{Member, State};
use crate::conn::handle::ConnId;
use crate::framing::Framing;
use crate::options::{self, DriverChoice, Greet, Limits, Options, Overflow};
use crate::server::{self, Handler, ServerId};
use crate::status::{Error, Result, Status};
use crate::sys::{self, HostUser};

/// SAFETY: strings end with a zero byte, `greeting` has `greeting_bytes` bytes, and the callbacks may be
/// called with `user` from any thread until `on_free` has been.
pub(super) unsafe fn convert(given: &ahoy_server_options) -> Result<(Options, CHandler)> {
    let greet = match given.greet {
        AHOY_GREET_AUTO => Greet::Auto,
        AHOY_GREET_ON_OPEN => Greet::OnOpen,
        other => return Err(Error::new(Status::Enum, format!("greet: no mode has the number {other}"))),
    };
    let overflow = match given.overflow {
        AHOY_OVERFLOW_REFUSE => Overflow::Refuse,
        AHOY_OVERFLOW_CLOSE => Overflow::Close,
        other => return Err(Error::new(Status::Enum, format!("overflow: no policy has the number {other}"))),
    };
    let driver = match given.driver {
        AHOY_DRIVER_AUTO => DriverChoice::Auto,
        AHOY_DRIVER_EPOLL => DriverChoice::Epoll,
        AHOY_DRIVER_URING => DriverChoice::Uring,
        other => return Err(Error::new(Status::Enum, format!("driver: no driver has the number {other}"))),
    };
    // SAFETY: as promised by our caller.
    let (listen, greeting) = unsafe {
        let greeting = match given.greeting_bytes {
            0 if !given.greeting.is_null() => CStr::from_ptr(given.greeting.cast()).to_bytes(),
            length => bytes(given.greeting, length)?,
        };
        (optional_text(given.listen, "listen")?, greeting)
    };
    let options = Options {
        listen: listen.map(str::to_owned),
        workers: given.workers,
        greet,
        greeting: match given.greeting.is_null() {
            true => options::copy(crate::greeting::DEFAULT_GREETING)?,
            false => options::copy(greeting)?,
        },
        limits: Limits {
            connections_max: given.connections_max,
            message_bytes_max: given.message_bytes_max,
            queue_bytes_max: given.queue_bytes_max,
            queue_total_bytes_max: given.queue_total_bytes_max,
            idle_ms: given.idle_ms,
            drain_ms: given.drain_ms,
            backlog: given.backlog,
            message_ms: given.message_ms,
            write_ms: given.write_ms,
            queue_high_bytes: given.queue_high_bytes,
            queue_low_bytes: given.queue_low_bytes,
            datagram_idle_ms: given.datagram_idle_ms,
            overflow,
        },
        reuse_port: given.reuse_port != 0,
        converses: given.on_message.is_some(),
        half_open: given.on_end.is_some(),
        drains: given.on_drain.is_some(),
        meets_peers: given.on_open.is_some()
            || given.on_message.is_some()
            || given.on_writable.is_some()
            || given.on_end.is_some()
            || given.on_drain.is_some()
            || given.on_close.is_some(),
        // SAFETY: as promised by our caller.
        framing: unsafe { framing(given.framing, given.framing_options)? }.unwrap_or(Framing::Raw),
        driver,
        // SAFETY: as promised by our caller.
        cluster: unsafe { cluster::convert(given.cluster, given.cluster_options)? },
        user: given.user,
    };
    Ok((options, CHandler { callbacks: *given }))
}

/// Calls a function of the program's out of a worker. Should it come back in a child (it has forked), nothing more of the
/// program's may run there: a worker's thread ends with its process, and a loop of the program's own gets no further
/// callback.
#[inline]
pub(super) fn enter_host(call: impl FnOnce()) {
    if sys::forked() {
        return;
    }
    call();
    if sys::forked() {
        server::leave_child();
    }
}

/// The program's callbacks.
pub(super) struct CHandler {
    callbacks: ahoy_server_options,
}

// SAFETY: the header demands callbacks that may run on any thread; the pointers are only passed on to them.
unsafe impl Send for CHandler {}
// SAFETY: as above.
unsafe impl Sync for CHandler {}

impl Handler for CHandler {
    fn on_open(&self, conn: ConnId, user: HostUser) {
        if let Some(call) = self.callbacks.on_open {
            // SAFETY: the program gave this function for this purpose.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, user) })
        }
    }

    fn on_message(&self, conn: ConnId, data: &[u8], user: HostUser) {
        if let Some(call) = self.callbacks.on_message {
            // SAFETY: as above; `data` lives until the call returns.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, data.as_ptr().cast(), data.len(), user) })
        }
    }

    fn on_writable(&self, conn: ConnId, user: HostUser) {
        if let Some(call) = self.callbacks.on_writable {
            // SAFETY: as above.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, user) })
        }
    }

    fn on_end(&self, conn: ConnId, user: HostUser) {
        if let Some(call) = self.callbacks.on_end {
            // SAFETY: as above.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, user) })
        }
    }

    fn on_drain(&self, conn: ConnId, user: HostUser) {
        if let Some(call) = self.callbacks.on_drain {
            // SAFETY: as above.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, user) })
        }
    }

    fn on_close(&self, conn: ConnId, reason: Status, user: HostUser) {
        if let Some(call) = self.callbacks.on_close {
            // SAFETY: as above.
            enter_host(|| unsafe { call(ahoy_conn { id: conn.raw() }, reason, user) })
        }
    }

    fn on_cluster_state(&self, server: ServerId, state: State, why: Option<&Error>) {
        if let Some(call) = self.callbacks.on_cluster_state {
            let reason = why.map_or(Status::Ok, |why| fail(why.again()));
            let server = ahoy_server { id: server.raw() };
            // SAFETY: as above.
            enter_host(|| unsafe { call(server, cluster::number(state), reason, self.callbacks.user) })
        }
    }

    fn on_member(&self, server: ServerId, member: &Member) {
        cluster::tell(self.callbacks.on_member, server, member, self.callbacks.user);
    }

    fn on_free(&self) {
        if let Some(call) = self.callbacks.on_free {
            // SAFETY: as above; the server calls this once, after the last callback.
            enter_host(|| unsafe { call(self.callbacks.user) })
        }
    }
}
