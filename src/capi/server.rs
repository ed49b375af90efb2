//! # Server
//!
//! Listeners, workers and connections, from start to free. A worker is one thread with its share of
//! the connections; or, with AHOY_WORKERS_NONE, the program's own loop is the worker.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use super::cluster::{ahoy_cluster_options, ahoy_cluster_state_fn, ahoy_member_fn};
use super::framing::ahoy_framing_options;
use super::guard::{guard, guard_or};
use super::handle::{ahoy_conn, ahoy_server};
use super::handler::convert;
use super::pointer::{Sized, borrow, out_text, read_sized, require, set_out, write_sized};
use crate::conn::handle::ConnId;
use crate::server::{self, Server, ServerId, Stats};
use crate::status::{Error, Result, Status};
use crate::sys::FreeFn;

/// As `workers`: no thread at all. The program's loop waits on `ahoy_server_fd` and calls
/// `ahoy_server_turn`; the callbacks run inside that call.
pub const AHOY_WORKERS_NONE: i32 = -1;

/// As `greet`: greet on the first message if there is no on_message, otherwise not at all.
pub const AHOY_GREET_AUTO: i32 = 0;
/// As `greet`: greet as soon as someone connects. Without an on_message the connection is then closed.
pub const AHOY_GREET_ON_OPEN: i32 = 1;

/// As `drain_ms` of `ahoy_server_stop`: as long as the server's options say.
pub const AHOY_DRAIN_DEFAULT: i32 = -1;

/// As `overflow`: a message that finds a queue full is refused: sends answer AHOY_ERR_AGAIN, a publish
/// passes the connection by (and is counted).
pub const AHOY_OVERFLOW_REFUSE: i32 = 0;
/// As `overflow`: the connection whose queue is full is closed (AHOY_ERR_OVERFLOW), as by
/// `ahoy_conn_abort`.
pub const AHOY_OVERFLOW_CLOSE: i32 = 1;

/// As a deadline in milliseconds: none.
pub const AHOY_MS_NEVER: u32 = u32::MAX;

/// A connection is open: somebody connected, a connection was adopted, or `ahoy_connect` has connected.
/// Runs on the connection's worker, before every other callback of `conn`. Any call is legal, also
/// closing `conn`.
pub type ahoy_open_fn = Option<unsafe extern "C" fn(conn: ahoy_conn, user: *mut c_void)>;

/// A message arrived: `len` bytes at `data`, which live until this returns. Without framing a message
/// is what one read gave, and never 0 bytes (but for an empty datagram): TCP may split and join what
/// the peer sent. Runs on the connection's worker. Any call is legal; after `ahoy_conn_close(conn)` no
/// further message comes.
pub type ahoy_message_fn =
    Option<unsafe extern "C" fn(conn: ahoy_conn, data: *const c_void, len: usize, user: *mut c_void)>;

/// There is room again: a message for `conn` was refused, or `queue_high_bytes` was reached, and the bytes
/// queued for it have since fallen to `queue_low_bytes` or less. Once for each such time. Runs on the
/// connection's worker.
pub type ahoy_writable_fn = Option<unsafe extern "C" fn(conn: ahoy_conn, user: *mut c_void)>;

/// The peer has ended its side (a half-close): no further message will come, but it may still read. With
/// this callback the connection stays open until the program closes it; without it, it is closed when
/// what was queued is out. Runs on the connection's worker.
pub type ahoy_end_fn = Option<unsafe extern "C" fn(conn: ahoy_conn, user: *mut c_void)>;

/// The server stops: finish the conversation. With this callback a connection stays open, messages still come
/// and sends are still taken, until the program closes it or the time to drain is over; without it, it is
/// closed when what was queued is out. Once, for each connection that is open then. Runs on the connection's
/// worker.
pub type ahoy_drain_fn = Option<unsafe extern "C" fn(conn: ahoy_conn, user: *mut c_void)>;

/// The connection is over: its last callback, exactly once, on its worker. `reason` is
///
///  - AHOY_OK: this program closed it, and all that was queued was handed to the system;
///  - AHOY_ERR_EOF: the peer ended it; AHOY_ERR_RESET: the peer, or the network, broke it;
///  - AHOY_ERR_TIMEOUT: nothing was received or sent for `idle_ms`; a message that had begun was not complete
///    in `message_ms`; the peer took nothing for `write_ms`; a close was not done in `drain_ms`; or
///    `ahoy_connect` had no answer;
///  - AHOY_ERR_TOO_LONG: the peer began a message longer than `message_bytes_max`;
///  - AHOY_ERR_OVERFLOW: its queue was full, and `overflow` is AHOY_OVERFLOW_CLOSE;
///  - AHOY_ERR_NAME, AHOY_ERR_REFUSED, AHOY_ERR_UNREACHABLE: `ahoy_connect` could not open it;
///  - AHOY_ERR_STOPPED: the server stopped;
///  - AHOY_ERR_MEMORY, AHOY_ERR_PANIC, AHOY_ERR_SYSTEM: what their sentences say.
///
/// `conn` may still be asked for its peer, user and server; sends answer AHOY_ERR_CLOSED.
pub type ahoy_close_fn = Option<unsafe extern "C" fn(conn: ahoy_conn, reason: Status, user: *mut c_void)>;

/// Gives something back to the program: called exactly once, from any thread, after the last use. free(3)
/// will do.
pub type ahoy_free_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// What `ahoy_server_start` needs to know. Set `size`, leave the rest zero for the defaults:
///
///     ahoy_server_options options = { .size = sizeof options, .listen = "tcp://127.0.0.1:9000" };
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_server_options {
    /// sizeof(ahoy_server_options).
    pub size: usize,
    /// Where to listen: one URL, or several with commas between. NULL: nowhere (see `ahoy_server_adopt` and
    /// `ahoy_connect`).
    pub listen: *const c_char,
    /// Number of worker threads, at most 1024. 0: as many as the CPUs that this process may use.
    /// AHOY_WORKERS_NONE: none, see `ahoy_server_turn`.
    pub workers: i32,
    /// AHOY_GREET_AUTO or AHOY_GREET_ON_OPEN.
    pub greet: i32,
    /// The greeting. NULL: "Hello from server".
    pub greeting: *const c_void,
    /// Length of the greeting in bytes. 0: `greeting` is a string that ends with a zero byte.
    pub greeting_bytes: usize,

    /// Someone connected. May be NULL, as may every callback.
    pub on_open: ahoy_open_fn,
    /// A message arrived. NULL: connections are greeted and closed.
    pub on_message: ahoy_message_fn,
    /// There is room again after AHOY_ERR_AGAIN.
    pub on_writable: ahoy_writable_fn,
    /// The peer ended its side. NULL: the connection is closed when what was queued is out.
    pub on_end: ahoy_end_fn,
    /// The connection is over.
    pub on_close: ahoy_close_fn,
    /// The server is over: called with `user` after the last callback of the last connection. Not called
    /// when `ahoy_server_start` fails.
    pub on_free: ahoy_free_fn,
    /// Passed to every callback, unless `ahoy_conn_set_user` gave the connection its own.
    pub user: *mut c_void,

    /// Connections at once, over all workers. More are accepted, closed and counted. The peers of
    /// datagram sockets are among them: where strangers can send datagrams, give those a server of
    /// their own. 0: 10,000.
    pub connections_max: u32,
    /// Longest message in bytes, received (with framing a longer one closes the connection, as soon as it
    /// shows; without, longer reads come in parts) or sent (AHOY_ERR_TOO_LONG). 0: 1 MiB.
    pub message_bytes_max: u32,
    /// Bytes queued for one connection; then sends answer AHOY_ERR_AGAIN. At most 1 GiB, and never more than
    /// 15/16 of `queue_total_bytes_max`. Sends of several threads at the same moment may pass it by a message
    /// each. 0: 1 MiB.
    pub queue_bytes_max: u32,
    /// Pending connections that the system keeps for each listener. 0: 4096 (the system may allow fewer).
    pub backlog: u32,
    /// Bytes queued for all connections together, partial messages received included; then sends answer
    /// AHOY_ERR_AGAIN, and a connection that needs more for its partial message is closed (AHOY_ERR_OVERFLOW).
    /// 0: 256 MiB.
    pub queue_total_bytes_max: u64,
    /// Milliseconds without traffic in either direction after which a connection is closed
    /// (AHOY_ERR_TIMEOUT). 0: none, connections may be silent forever.
    pub idle_ms: u32,
    /// Milliseconds that a closing connection, or a stopping server, has to get what is queued out.
    /// 0: 5,000.
    pub drain_ms: u32,
    /// Not 0: set SO_REUSEPORT, so that several processes of one user can share a port.
    pub reuse_port: i32,
    /// AHOY_FRAMING_RAW, _LINES, _LENGTH or _DELIMITER; of listeners whose URL does not say otherwise.
    /// 0: RAW.
    pub framing: i32,

    /// The server stops. NULL: connections are closed when what was queued is out. Since 0.2, as all that
    /// follows.
    pub on_drain: ahoy_drain_fn,
    /// The particulars of `framing`; NULL: none.
    pub framing_options: *const ahoy_framing_options,
    /// Milliseconds within which a message that has begun must be complete (AHOY_ERR_TIMEOUT); not
    /// counted while the connection is paused. 0: 30,000. AHOY_MS_NEVER: none.
    pub message_ms: u32,
    /// Milliseconds that a peer may take nothing of what is queued for it (AHOY_ERR_TIMEOUT). 0: 60,000.
    /// AHOY_MS_NEVER: none.
    pub write_ms: u32,
    /// Bytes queued for one connection from which on_writable is owed, though sends are still taken. 0,
    /// or as much as `queue_bytes_max`: only from a refusal on.
    pub queue_high_bytes: u32,
    /// Bytes queued at which on_writable comes. 0: half of `queue_high_bytes`.
    pub queue_low_bytes: u32,
    /// AHOY_OVERFLOW_REFUSE or AHOY_OVERFLOW_CLOSE.
    pub overflow: i32,
    /// `idle_ms` of datagram connections, which end in no other way. 0: 60,000. (A datagram has at most
    /// 65,507 bytes when it is sent, and 64 KiB when it is received, whatever `message_bytes_max`
    /// says.)
    pub datagram_idle_ms: u32,

    /// The cluster to be a member of: "nats://host:port,.../name", see `ahoy_cluster_options`. NULL: none; what
    /// clusters share is shared within the process. Since 0.3, as all that follows.
    pub cluster: *const c_char,
    /// The particulars of `cluster`; NULL: none.
    pub cluster_options: *const ahoy_cluster_options,
    /// The cluster was joined, lost, or joined again.
    pub on_cluster_state: ahoy_cluster_state_fn,
    /// Another member of the cluster has come, gone, or changed its state.
    pub on_member: ahoy_member_fn,

    /// What the workers run on: AHOY_DRIVER_AUTO, AHOY_DRIVER_EPOLL or AHOY_DRIVER_URING. Since 0.4, as all that
    /// follows.
    pub driver: i32,
}

/// Starts a server: all its listeners listen and all its workers run when this returns.
///
/// @param options  copied, with the strings in it, before this returns.
/// @param server   receives the handle; written on success only.
/// @return AHOY_OK. AHOY_ERR_NULL, _SIZE, _ENUM, _INVALID: what is wrong with the options.
///         AHOY_ERR_URL, _PORT, _PATH_TOO_LONG: with an address. AHOY_ERR_ADDRESS_IN_USE,
///         _ADDRESS_UNAVAILABLE, _PERMISSION, _NOT_FOUND: what the system says to it.
///         AHOY_ERR_DESCRIPTORS, _MEMORY, _THREAD: what ran out. After an error nothing is left: no thread,
///         no descriptor, no socket file, and `user` is still the program's.
///
/// It does not wait for the cluster: that is joined as soon as it can be (on_cluster_state tells). With `join_ms` in
/// `ahoy_cluster_options` it does wait, and AHOY_ERR_DISCONNECTED, _CREDENTIALS, _CERTIFICATE, _NAME, _NODE_TAKEN
/// say why it was in vain.
///
/// A socket file that a dead process left behind is replaced; one where somebody still listens is not
/// (AHOY_ERR_ADDRESS_IN_USE). Callbacks may run before this returns.
///
/// "fd:N" takes over a socket that listens already, or a bound datagram socket: on success it belongs
/// to the server. "systemd:" listens on what systemd passes (LISTEN_FDS; "systemd:NAME": those of that
/// FileDescriptorName), on copies, and then tells it READY=1 and, at the stop, STOPPING=1, if it asks
/// for that (NOTIFY_SOCKET). AHOY_ERR_NOT_FOUND: systemd passed no such socket. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_start(options: *const ahoy_server_options, server: *mut ahoy_server) -> Status {
    guard(|| {
        require(options, "options")?;
        require(server, "server")?;
        // SAFETY: the caller's struct starts with its own size, and its strings end with a zero byte.
        let (options, handler) = unsafe { convert(&read_sized(options)?)? };
        let id = server::start(options, Box::new(handler))?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { server.write(ahoy_server { id: id.raw() }) };
        Ok(())
    })
}

/// Stops a server: it accepts no more, what is queued for each connection is sent, and each connection
/// is closed as soon as its queue is empty (on_close: AHOY_ERR_STOPPED). With an on_drain it is called
/// instead, and the program closes each connection when it is done with it. What is left after
/// `drain_ms` is cut off, and counted (see `ahoy_stats`).
///
/// @param drain_ms  milliseconds; 0: cut at once what the system does not take; AHOY_DRAIN_DEFAULT: the
///                  server's `drain_ms`. A later stop can shorten the time, never lengthen it.
/// @return AHOY_OK, also when it stops already. AHOY_ERR_STALE, AHOY_ERR_INVALID.
///
/// Does not wait: see `ahoy_server_wait`. Legal in every callback. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_server_stop(server: ahoy_server, drain_ms: i32) -> Status {
    guard(|| {
        let drain_ms = match drain_ms {
            AHOY_DRAIN_DEFAULT => None,
            given => Some(u32::try_from(given).map_err(|_| Error::new(Status::Invalid, "drain_ms is negative"))?),
        };
        find(server)?.stop(drain_ms);
        Ok(())
    })
}

/// Waits until a server has stopped: every on_close and on_free has returned. It does not stop it: some
/// other thread, a callback or a signal handler's thread does. With AHOY_WORKERS_NONE this call runs the
/// turns meanwhile.
///
/// @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_DEADLOCK inside a callback.
///
/// Signal handlers that run meanwhile do not end it. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_server_wait(server: ahoy_server) -> Status {
    guard(|| find(server)?.wait())
}

/// Frees a server: its handle is stale from here on. If it runs, it is stopped as by `ahoy_server_stop`
/// with 0. Outside of callbacks this waits until every on_close and on_free has returned and the threads
/// have ended; inside a callback it returns at once and the rest follows.
/// A stale or zero handle: does nothing. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_server_free(server: ahoy_server) {
    guard_or((), || {
        server::free(ServerId::from_raw(server.id));
        Some(())
    });
}

/// Writes the URL of a listener, with the port that it really has: "tcp://127.0.0.1:41873".
///
/// @param index     0 for the first listener, in the order of the options (a name with several addresses
///                  counts as several).
/// @param text      receives the URL and a zero byte.
/// @param capacity  size of `text` in bytes; 128 suffice.
/// @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_INVALID: no such listener. AHOY_ERR_NULL.
///         AHOY_ERR_TOO_LONG: `text` is too small, and unchanged.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_address(
    server: ahoy_server,
    index: usize,
    text: *mut c_char,
    capacity: usize,
) -> Status {
    guard(|| {
        let server = find(server)?;
        let address = server.address(index)?;
        // SAFETY: the caller passes `capacity` writable bytes.
        unsafe { out_text(text, capacity, address) }
    })
}

/// Hands a connected stream socket over to a server: from here on it is one of the server's connections.
///
/// @param fd    the socket. On success it belongs to the server, which makes it non-blocking and
///              close-on-exec; on an error it stays the program's.
/// @param conn  receives the handle, at once, before on_open; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_STALE. AHOY_ERR_BAD_DESCRIPTOR: not a connected stream socket.
///         AHOY_ERR_AGAIN: `connections_max` is reached. AHOY_ERR_STOPPED. AHOY_ERR_MEMORY.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_adopt(server: ahoy_server, fd: c_int, conn: *mut ahoy_conn) -> Status {
    guard(|| {
        let server = find(server)?;
        // SAFETY: the caller hands it over: it is the only owner from here on.
        let socket = unsafe {
            borrow(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id: ConnId| unsafe { set_out(conn, ahoy_conn { id: id.raw() }) };
        server.adopt(socket, announce).map_err(|(error, socket)| {
            // It stays the program's.
            let _ = socket.into_raw_fd();
            error
        })
    })
}

/// What a server has done so far. Every count runs from the start; bytes are payload.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ahoy_stats {
    /// sizeof(ahoy_stats); set it before the call.
    pub size: usize,
    /// Worker threads (1 with AHOY_WORKERS_NONE).
    pub workers: u64,
    /// Connections now, those that are being opened or closed included.
    pub connections: u64,
    /// Connections open now on the worker that has most of them.
    pub connections_worker_max: u64,
    /// Connections opened so far: accepted, adopted, met as peers of a datagram socket, or begun by
    /// `ahoy_connect`.
    pub opened: u64,
    /// Connections closed so far: on_close has returned.
    pub closed: u64,
    /// Accepted and closed at once, because `connections_max` was reached.
    pub refused: u64,
    /// Given up by the peer before they could be accepted (ECONNABORTED and the like).
    pub aborted: u64,
    /// Times that a listener rested 100 ms, because descriptors or memory ran out.
    pub rests: u64,
    /// Messages received: calls of on_message, or first bytes that were greeted.
    pub messages_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the system.
    pub bytes_out: u64,
    /// Bytes queued now.
    pub bytes_queued: u64,
    /// Bytes that were queued but never handed to the system: the connection was over first.
    pub bytes_cut: u64,
    /// Connections that had such bytes.
    pub connections_cut: u64,
    /// Bugs of the library that were caught.
    pub panics: u64,

    /// Messages taken for sending: by sends, greetings, and publishes (for each connection). Since 0.2, as all
    /// that follows.
    pub messages_out: u64,
    /// Messages that were refused because a queue was full: sends that answered AHOY_ERR_AGAIN or
    /// AHOY_ERR_OVERFLOW.
    pub messages_refused: u64,
    /// Messages published.
    pub published: u64,
    /// Publishes that passed a connection by (for each connection): its queue was full, its frame cannot hold so
    /// much, or there was no memory.
    pub published_dropped: u64,
    /// Datagrams dropped: of a paused connection, of a new peer over `connections_max`, longer than
    /// `message_bytes_max`, or refused by the system when sent.
    pub datagrams_dropped: u64,
    /// Outgoing connections that are being opened now.
    pub connecting: u64,
    /// Tries to open one that failed.
    pub connects_failed: u64,
    /// Bytes of partial messages kept now.
    pub bytes_partial: u64,
    /// Timers of the program that are running now.
    pub timers: u64,
    /// Turns of the workers.
    pub turns: u64,
}

/// Tells what a server has done so far, also after it has stopped.
///
/// @param stats  its `size` says how much of it is written.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL, AHOY_ERR_SIZE.
///
/// Each number is exact; numbers of different workers may be moments apart. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_stats(server: ahoy_server, stats: *mut ahoy_stats) -> Status {
    guard(|| {
        let server = find(server)?;
        require(stats, "stats")?;
        // SAFETY: the caller's struct starts with its own size and is writable up to it.
        unsafe { write_sized(stats, server.stats().into()) }
    })
}

/// The descriptor to wait on (poll, select, epoll: readable) when the program's own loop is the worker.
/// When it is readable, call `ahoy_server_turn`. It belongs to the server: do not read or close it.
///
/// @param fd  receives the descriptor; written on success only.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. AHOY_ERR_UNSUPPORTED: the server has worker threads.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_server_fd(server: ahoy_server, fd: *mut c_int) -> Status {
    guard(|| {
        let number = find(server)?.loop_fd()?;
        require(fd, "fd")?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { fd.write(number) };
        Ok(())
    })
}

/// One turn of a server without worker threads: waits at most `timeout_ms` for something to happen, and
/// runs the callbacks of all that has happened.
///
/// @param timeout_ms  0: do not wait. -1: wait without limit.
/// @return AHOY_OK, also when nothing happened or a signal handler ran. AHOY_ERR_STOPPED: the server has
///         stopped and every callback has run; there will be no further turn. AHOY_ERR_STALE.
///         AHOY_ERR_UNSUPPORTED: the server has worker threads. AHOY_ERR_BUSY: another thread is in a
///         turn. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_INVALID: `timeout_ms` is less than -1.
///
/// Not for two threads at a time; they may take turns. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_server_turn(server: ahoy_server, timeout_ms: i32) -> Status {
    guard(|| {
        let timeout_ms = match timeout_ms {
            -1 => None,
            given => Some(u32::try_from(given).map_err(|_| Error::new(Status::Invalid, "timeout_ms is negative"))?),
        };
        find(server)?.turn(timeout_ms)
    })
}

pub(super) fn find(server: ahoy_server) -> Result<std::sync::Arc<Server>> {
    server::find(ServerId::from_raw(server.id))
}

// SAFETY: plain C structs for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_server_options {
    const SIZE_MIN: usize = std::mem::offset_of!(ahoy_server_options, on_drain);
}
// SAFETY: as above.
unsafe impl Sized for ahoy_stats {
    const SIZE_MIN: usize = std::mem::offset_of!(ahoy_stats, messages_out);
}

impl From<Stats> for ahoy_stats {
    fn from(stats: Stats) -> Self {
        Self {
            size: 0,
            workers: stats.workers,
            connections: stats.connections,
            connections_worker_max: stats.connections_worker_max,
            opened: stats.opened,
            closed: stats.closed,
            refused: stats.refused,
            aborted: stats.aborted,
            rests: stats.rests,
            messages_in: stats.messages_in,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            bytes_queued: stats.bytes_queued,
            bytes_cut: stats.bytes_cut,
            connections_cut: stats.connections_cut,
            panics: stats.panics,
            messages_out: stats.messages_out,
            messages_refused: stats.messages_refused,
            published: stats.published,
            published_dropped: stats.published_dropped,
            datagrams_dropped: stats.datagrams_dropped,
            connecting: stats.connecting,
            connects_failed: stats.connects_failed,
            bytes_partial: stats.bytes_partial,
            timers: stats.timers,
            turns: stats.turns,
        }
    }
}

// `FreeFn` is spelled `ahoy_free_fn` in the header; the two must stay one type.
const _: fn(ahoy_free_fn) -> Option<FreeFn> = |given| given;
