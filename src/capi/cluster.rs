//! # Cluster
//!
//! Several servers, on one machine or many, that act as one. `.cluster` in a server's options is all that it takes:
//!
//!     .cluster = "nats://10.0.0.1,10.0.0.2:4222/chat"
//!
//! names the NATS servers that carry it, and the cluster itself (letters, digits and -). Topics then reach every
//! node; members, addresses, services, buckets and queues are shared. Without `.cluster` all the same calls
//! work, inside the process. Servers may be nats:// or tls://, and only one of them has to be reached; later ones
//! take the place of one that is lost. docs/CLUSTER.md says what is promised, and what is not.

use std::ffi::{CString, c_char, c_void};

use super::guard::guard;
use super::handle::ahoy_server;
use super::handler::enter_host;
use super::pointer::{Sized, optional_text, read_sized, require, set_out};
use super::server::find;
use crate::cluster::options::ClusterOptions;
use crate::cluster::{Member, Presence, State};
use crate::server::ServerId;
use crate::status::{Error, Result, Status};
use crate::sys::HostUser;

/// The server has no cluster: what it shares stays in the process.
pub const AHOY_CLUSTER_LOCAL: i32 = 0;
/// The cluster was not joined yet since the start.
pub const AHOY_CLUSTER_JOINING: i32 = 1;
/// The cluster is joined.
pub const AHOY_CLUSTER_JOINED: i32 = 2;
/// The cluster is lost, and will be joined again: what needs it answers AHOY_ERR_DISCONNECTED.
pub const AHOY_CLUSTER_DISCONNECTED: i32 = 3;
/// The cluster is joined again after a loss.
pub const AHOY_CLUSTER_REJOINED: i32 = 4;
/// The server stops, and has left the cluster: what `ahoy_cluster_state` tells then.
pub const AHOY_CLUSTER_LEFT: i32 = 5;

/// How a server stands to its cluster has changed: `state` is one of AHOY_CLUSTER_.... `reason` says why, where
/// it is not joined: AHOY_ERR_DISCONNECTED, AHOY_ERR_CREDENTIALS, AHOY_ERR_CERTIFICATE, AHOY_ERR_NAME ...;
/// AHOY_ERR_NODE_TAKEN: another live node has this one's name; it joins when that one has gone. Where it is not
/// AHOY_OK `ahoy_last_error` says more: "nats://10.0.0.1/chat: Connection refused". Never told of AHOY_CLUSTER_LEFT:
/// the program has stopped the server itself. Runs on a worker, one call after the other. Any call is legal.
pub type ahoy_cluster_state_fn =
    Option<unsafe extern "C" fn(server: ahoy_server, state: i32, reason: Status, user: *mut c_void)>;

/// The member is there: it is new, or was heard again.
pub const AHOY_MEMBER_JOINED: i32 = 0;
/// The member was silent for 0.9 seconds, and is asked whether it is there.
pub const AHOY_MEMBER_SUSPECT: i32 = 1;
/// The member has said goodbye, or is dead. It is not listed any more. One that only stood still joins again.
pub const AHOY_MEMBER_LEFT: i32 = 2;
/// This node is cut off itself: it cannot know. Of itself: it waits for its name (AHOY_ERR_NODE_TAKEN).
pub const AHOY_MEMBER_UNKNOWN: i32 = 3;

/// A member of the cluster, as this node knows it. Strings live until the function that was given it returns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_member {
    /// sizeof(ahoy_member), as the library knows it.
    pub size: usize,
    /// Its name.
    pub node: *const c_char,
    /// Where it listens: URLs with commas between, as it names them itself; "" for nowhere. A listener on every address
    /// is at the node's `advertise`.
    pub addresses: *const c_char,
    /// What its options call `meta`; "" for nothing.
    pub meta: *const c_char,
    /// When it joined: milliseconds since 1970, by its own clock.
    pub since_ms: u64,
    /// Connections that it had when it was last heard.
    pub connections: u64,
    /// Which part of their time its workers were busy then, in thousandths.
    pub load: u32,
    /// AHOY_MEMBER_JOINED, _SUSPECT, _LEFT or _UNKNOWN.
    pub state: i32,
    /// Not 0: it is this very node.
    pub is_self: i32,
    /// Which life of the node this is: the `node` in the addresses of its connections. Never 0.
    pub incarnation: u64,
}

/// As on_member: another member has come, gone, or changed its state; in the order in which this node has learnt of
/// it, one call after the other, on a worker. As an argument of `ahoy_members`: one of all. Any call is legal.
pub type ahoy_member_fn =
    Option<unsafe extern "C" fn(server: ahoy_server, member: *const ahoy_member, user: *mut c_void)>;

/// The particulars of `.cluster`. Leave zero what you do not need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_cluster_options {
    /// sizeof(ahoy_cluster_options).
    pub size: usize,
    /// Name of this node: 1 to 64 letters, digits, - and _; no two nodes of a cluster have the same. NULL: made of
    /// the host's name, the process and a random number.
    pub node: *const c_char,
    /// What the other nodes are told about this one: any text, up to 1,024 bytes. NULL: nothing.
    pub meta: *const c_char,
    /// User and password for the NATS servers. NULL: none.
    pub user: *const c_char,
    /// The password.
    pub password: *const c_char,
    /// A token for the NATS servers. NULL: none.
    pub token: *const c_char,
    /// A file with NATS credentials (JWT and nkey), or with the seed of an nkey alone. NULL: none.
    pub credentials: *const c_char,
    /// A file with the certificates that may vouch for the servers. NULL: those of the system.
    pub ca_file: *const c_char,
    /// A file with the certificate of this client. NULL: none.
    pub cert_file: *const c_char,
    /// A file with the key of that certificate.
    pub key_file: *const c_char,
    /// Milliseconds that `ahoy_server_start` waits for the cluster, and fails without it (AHOY_ERR_NODE_TAKEN: another
    /// live node has had this one's name all the time). A login or a certificate that is refused fails it at once. 0: it
    /// does not wait, and the cluster is joined as soon as it can be reached.
    pub join_ms: u32,
    /// Milliseconds that calls wait for the cluster's answer. 0: 5,000.
    pub timeout_ms: u32,
    /// Name or address at which other machines reach this one: told in place of 0.0.0.0 (not if it is an IPv6 address)
    /// and of [::] (not if it is an IPv4 address), so that clients that move find it there. NULL: the address that
    /// this node's NATS server sees it at, which is 127.0.0.1 if that server is on this machine.
    pub advertise: *const c_char,
}

// SAFETY: a plain C struct for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_cluster_options {
    const SIZE_MIN: usize = size_of::<usize>();
}

/// Longest `meta`.
const META_BYTES_MAX: usize = 1_024;

/// SAFETY: `url` is NULL or a string, `options` is NULL or points to a struct that starts with its size; its strings end
/// with a zero byte.
pub(super) unsafe fn convert(
    url: *const c_char,
    options: *const ahoy_cluster_options,
) -> Result<Option<ClusterOptions>> {
    // SAFETY: as promised by our caller.
    let Some(url) = (unsafe { optional_text(url, "cluster")? }) else { return Ok(None) };
    let url = url.to_owned();
    if options.is_null() {
        return Ok(Some(ClusterOptions { url, ..ClusterOptions::default() }));
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    // SAFETY: as promised by our caller.
    let text = |pointer, name| unsafe { Ok::<_, Error>(optional_text(pointer, name)?.map(str::to_owned)) };
    let meta = text(given.meta, "meta")?.unwrap_or_default();
    if meta.len() > META_BYTES_MAX {
        return Err(Error::new(Status::TooLong, format!("meta has {} bytes: at most {META_BYTES_MAX}", meta.len())));
    }
    let pair = |first: Option<String>, second: Option<String>, what: &'static str| match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        _ => Err(Error::new(Status::Null, what)),
    };
    Ok(Some(ClusterOptions {
        url,
        node: text(given.node, "node")?,
        meta,
        user: pair(text(given.user, "user")?, text(given.password, "password")?, "user and password go together")?,
        token: text(given.token, "token")?,
        credentials: text(given.credentials, "credentials")?,
        ca_file: text(given.ca_file, "ca_file")?,
        client_cert: pair(
            text(given.cert_file, "cert_file")?,
            text(given.key_file, "key_file")?,
            "cert_file and key_file go together",
        )?,
        join_ms: given.join_ms,
        timeout_ms: given.timeout_ms,
        advertise: text(given.advertise, "advertise")?,
    }))
}

/// The number of a state.
pub(super) fn number(state: State) -> i32 {
    match state {
        State::Local => AHOY_CLUSTER_LOCAL,
        State::Joining => AHOY_CLUSTER_JOINING,
        State::Joined => AHOY_CLUSTER_JOINED,
        State::Disconnected => AHOY_CLUSTER_DISCONNECTED,
        State::Rejoined => AHOY_CLUSTER_REJOINED,
        State::Left => AHOY_CLUSTER_LEFT,
    }
}

/// Tells how a server stands to its cluster.
///
/// @param state  receives one of AHOY_CLUSTER_....
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_NULL. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_cluster_state(server: ahoy_server, state: *mut i32) -> Status {
    guard(|| {
        require(state, "state")?;
        let now = find(server)?.cluster_state();
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { set_out(state, number(now)) };
        Ok(())
    })
}

/// Tells who is in the cluster, as far as this node knows: itself first. Others are known a moment after it has
/// joined. Without a cluster there is one member, "local".
///
/// @param each   called for each member, in this thread, before this returns. NULL: only the count is wanted.
/// @param user   passed to `each`.
/// @param count  receives how many there are; NULL if you do not need it.
/// @return AHOY_OK. AHOY_ERR_STALE, AHOY_ERR_STOPPED.
///
/// Nothing is locked while `each` runs. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_members(
    server: ahoy_server,
    each: ahoy_member_fn,
    user: *mut c_void,
    count: *mut usize,
) -> Status {
    guard(|| {
        let found = find(server)?;
        let members = found.cluster()?.members();
        for member in members.iter().filter(|_| each.is_some()) {
            tell(each, found.id(), member, user);
        }
        // SAFETY: the caller passes NULL or a pointer to what it owns.
        unsafe { set_out(count, members.len()) };
        Ok(())
    })
}

/// Calls the program's function with a member.
pub(super) fn tell(call: ahoy_member_fn, server: ServerId, member: &Member, user: HostUser) {
    let Some(call) = call else { return };
    // What others say has no zero byte in it, or it would not have been heard.
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let (node, addresses, meta) = (text(&member.node), text(&member.addresses), text(&member.meta));
    let told = ahoy_member {
        size: size_of::<ahoy_member>(),
        node: node.as_ptr(),
        addresses: addresses.as_ptr(),
        meta: meta.as_ptr(),
        since_ms: member.since_ms,
        connections: member.connections,
        load: member.load,
        state: match member.presence {
            Presence::Up => AHOY_MEMBER_JOINED,
            Presence::Suspect => AHOY_MEMBER_SUSPECT,
            Presence::Left => AHOY_MEMBER_LEFT,
            Presence::Unknown => AHOY_MEMBER_UNKNOWN,
        },
        is_self: i32::from(member.is_self),
        incarnation: member.incarnation,
    };
    // SAFETY: the program gave this function for this purpose; what it is given lives until it returns.
    enter_host(|| unsafe { call(ahoy_server { id: server.raw() }, &raw const told, user) });
}
