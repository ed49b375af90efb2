//! # Addresses
//!
//! An address names a connection in the whole cluster, for good: with it any node can send to the connection, whichever node
//! has it. As text it can be stored, or passed on; there any NATS client can use it, too (docs/CLUSTER.md). It is good
//! until the connection is over, and never another's.

use std::ffi::{c_char, c_void};

use super::guard::guard;
use super::handle::{ahoy_conn, ahoy_server};
use super::handler::enter_host;
use super::pointer::{bytes, out_text, require, set_out, text};
use super::server::find;
use crate::cluster::Address;
use crate::conn::handle::ConnId;
use crate::server::commands;
use crate::status::{Error, Result, Status};
use crate::sys::HostWord;

/// Size of an address as text: 32 digits and a zero byte.
pub const AHOY_ADDRESS_TEXT_BYTES: usize = 33;

/// A connection of any node. All zero: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ahoy_address {
    /// Opaque: which life of which node has it (`incarnation` in `ahoy_member`).
    pub node: u64,
    /// Opaque: which of that node's.
    pub conn: u64,
}

impl From<ahoy_address> for Address {
    fn from(address: ahoy_address) -> Self {
        Self { node: address.node, conn: address.conn }
    }
}

impl From<Address> for ahoy_address {
    fn from(address: Address) -> Self {
        Self { node: address.node, conn: address.conn }
    }
}

/// It is known what became of a message: AHOY_OK, or why it was not queued; see `ahoy_send_to_confirmed`. Runs on a worker.
/// Any call is legal.
pub type ahoy_sent_fn = Option<unsafe extern "C" fn(server: ahoy_server, status: Status, user: *mut c_void)>;

/// Tells the address of a connection of this process.
///
/// @param address  receives it.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_address(conn: ahoy_conn, address: *mut ahoy_address) -> Status {
    guard(|| {
        require(address, "address")?;
        let server = commands::server(ConnId::from_raw(conn.id)).ok_or(Status::Stale)?;
        let server = crate::server::find(server)?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { set_out(address, server.cluster()?.address(conn.id).into()) };
        Ok(())
    })
}

/// Writes an address as 32 hexadecimal digits and a zero byte.
///
/// @param text      receives them.
/// @param capacity  size of `text` in bytes: at least AHOY_ADDRESS_TEXT_BYTES.
/// @return AHOY_OK. AHOY_ERR_NULL. AHOY_ERR_TOO_LONG: `text` is too small, and unchanged. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_address_text(address: ahoy_address, text: *mut c_char, capacity: usize) -> Status {
    // SAFETY: the caller passes `capacity` writable bytes.
    guard(|| unsafe { out_text(text, capacity, &Address::from(address).to_string()) })
}

/// Reads an address that `ahoy_address_text` has written. Whether there is such a connection is not asked.
///
/// @param address  receives it; written on success only.
/// @return AHOY_OK. AHOY_ERR_INVALID: it is none. AHOY_ERR_NULL. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_address_parse(text: *const c_char, address: *mut ahoy_address) -> Status {
    guard(|| {
        require(address, "address")?;
        // SAFETY: the caller passes a string that ends with a zero byte.
        let parsed: Address = unsafe { self::text(text, "text")? }.parse()?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { set_out(address, parsed.into()) };
        Ok(())
    })
}

/// Sends one message of `len` bytes to a connection of any node, at most once: in the frame that the connection's framing
/// demands, as `ahoy_send` there. It is copied.
///
/// @return AHOY_OK: queued, if it is a connection of this server; otherwise on its way, and whether it arrives is not
///         told. For one of this server's own: what `ahoy_send` says, but AHOY_ERR_STALE also where it is closing.
///         Otherwise AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present. AHOY_ERR_AGAIN: too much waits
///         to be sent to the cluster. AHOY_ERR_TOO_LONG: longer than the NATS servers allow. AHOY_ERR_STALE: the
///         server has no cluster, or is none. AHOY_ERR_NULL, AHOY_ERR_STOPPED.
///
/// What one thread sends to one address arrives in that order. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send_to(
    server: ahoy_server,
    address: ahoy_address,
    data: *const c_void,
    len: usize,
) -> Status {
    // SAFETY: the caller passes `len` readable bytes.
    guard(|| find(server)?.cluster()?.send_to(address.into(), unsafe { bytes(data, len)? }))
}

/// The same, and tells what became of it. It has no order with what `ahoy_send_to` sends.
///
/// @param on_done  told exactly once, after this has returned AHOY_OK: AHOY_OK: the message is queued on the connection, at
///                 its node. AHOY_ERR_STALE: the connection is closing or gone, or its node is.
///                 AHOY_ERR_UNKNOWN_OUTCOME: the answer is lost; it may be queued or not. Else it is not:
///                 AHOY_ERR_AGAIN, AHOY_ERR_OVERFLOW: its queue is full; AHOY_ERR_TOO_LONG, AHOY_ERR_MEMORY: what
///                 `ahoy_send` says there; AHOY_ERR_DISCONNECTED: its node, or this one, could not reach the cluster
///                 for the whole time; AHOY_ERR_STOPPED: this server has stopped before it was known.
/// @param user     passed to `on_done`.
/// @return AHOY_OK: `on_done` will be called, within `timeout_ms` of the cluster's options. On an error it will not be, and
///         nothing was sent: AHOY_ERR_STALE (the server), AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_DISCONNECTED,
///         AHOY_ERR_MEMORY. AHOY_ERR_AGAIN: too many calls are under way.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send_to_confirmed(
    server: ahoy_server,
    address: ahoy_address,
    data: *const c_void,
    len: usize,
    on_done: ahoy_sent_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        let call = on_done.ok_or_else(|| Error::new(Status::Null, "on_done is NULL"))?;
        // SAFETY: the caller passes `len` readable bytes.
        let data = unsafe { bytes(data, len)? };
        let found = find(server)?;
        let cluster = found.cluster()?;
        let user = HostWord::new(user);
        let done = move |result: Result<()>| {
            let status = result.map_or_else(|error| error.status, |()| Status::Ok);
            // SAFETY: the program gave this function for this purpose.
            enter_host(|| unsafe { call(server, status, user.get()) });
        };
        cluster.send_to_confirmed(address.into(), data, cluster.on_worker(address.conn, Box::new(done))?)
    })
}

/// The same, and waits for it.
///
/// @return What `ahoy_send_to_confirmed` returns, or else what `on_done` would be told. AHOY_ERR_DEADLOCK: inside a
///         callback; nothing was sent.
///
/// Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_send_to_confirmed_wait(
    server: ahoy_server,
    address: ahoy_address,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes `len` readable bytes.
        let data = unsafe { bytes(data, len)? };
        let found = find(server)?;
        let cluster = found.cluster()?;
        found.wait_for(|done| cluster.send_to_confirmed(address.into(), data, done))
    })
}
