//! # Topics
//!
//! A topic is a name. Whoever publishes to it reaches every connection that has joined it and every function
//! that has subscribed to it. It is there as long as somebody is in it. Names are 1 to 255 bytes of UTF-8.
//!
//! One publish copies the data once, however many connections get it. What one thread publishes to a topic
//! reaches each connection in that order. A connection whose queue is full does not hold up the others: it
//! misses the message (counted in `ahoy_stats`; on_writable tells when there is room), or it is closed, as the
//! server's `overflow` says.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::guard::guard;
use super::handle::{ahoy_conn, ahoy_server, ahoy_subscription};
use super::handler::enter_host;
use super::pointer::{bytes, require, set_out, text};
use super::server::{ahoy_free_fn, find};
use crate::cluster::Count;
use crate::conn::handle::ConnId;
use crate::server::ServerId;
use crate::server::topics::{self, SubscriptionId};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostUser, HostWord};

/// Someone has published: `len` bytes at `data`, which live until this returns, as does `topic`. Runs on a
/// worker; calls of one subscription never overlap and keep their order. Any call is legal.
pub type ahoy_topic_fn = Option<
    unsafe extern "C" fn(server: ahoy_server, topic: *const c_char, data: *const c_void, len: usize, user: *mut c_void),
>;

/// A count of a topic is done: `connections` are in it. `status` is AHOY_OK; AHOY_ERR_TIMEOUT: `silent` nodes have not
/// answered in time, and theirs are missing; AHOY_ERR_DISCONNECTED, AHOY_ERR_STOPPED: nothing was counted. Runs on a
/// worker. Any call is legal.
pub type ahoy_topic_count_fn = Option<
    unsafe extern "C" fn(server: ahoy_server, status: Status, connections: u64, silent: usize, user: *mut c_void),
>;

/// Lets a connection join a topic: from here on it is sent what is published there, with its own framing.
///
/// @return AHOY_OK, also when it has joined already. AHOY_ERR_STALE. AHOY_ERR_CLOSED: it is closing.
///         AHOY_ERR_INVALID: the name is empty or not UTF-8. AHOY_ERR_TOO_LONG: it is longer than 255 bytes.
///         AHOY_ERR_AGAIN: the connection is in 1,024 topics (from another thread that is only logged), or the
///         worker's mailbox is full. AHOY_ERR_NULL, AHOY_ERR_MEMORY.
///
/// It leaves every topic when it closes. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_join(conn: ahoy_conn, topic: *const c_char) -> Status {
    // SAFETY: the caller passes a string that ends with a zero byte.
    guard(|| topics::join(ConnId::from_raw(conn.id), unsafe { text(topic, "topic")? }))
}

/// Lets a connection leave a topic.
///
/// @return AHOY_OK, also when it is not in it. Errors as `ahoy_conn_join`. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_conn_leave(conn: ahoy_conn, topic: *const c_char) -> Status {
    // SAFETY: the caller passes a string that ends with a zero byte.
    guard(|| topics::leave(ConnId::from_raw(conn.id), unsafe { text(topic, "topic")? }))
}

/// Sends `len` bytes to everybody in a topic, on every node of the cluster: connections and subscribers. Does not wait
/// for them.
///
/// @return AHOY_OK: on its way, also when nobody is in the topic. On an error nobody gets it: AHOY_ERR_STALE,
///         AHOY_ERR_STOPPED, AHOY_ERR_NULL. AHOY_ERR_MEMORY: but other nodes may. AHOY_ERR_INVALID,
///         AHOY_ERR_TOO_LONG: the name (see `ahoy_conn_join`), or the data is longer than `message_bytes_max`.
///         AHOY_ERR_AGAIN: `queue_total_bytes_max` is reached, or too much waits to be sent to the cluster.
///         AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present; those of this node get it all the same.
///
/// Between nodes it is delivered at most once. Until the last has sent it, it counts once in `queue_total_bytes_max`,
/// with its name and some hundred bytes more. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_publish(
    server: ahoy_server,
    topic: *const c_char,
    data: *const c_void,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte, and `len` readable bytes.
        let (topic, data) = unsafe { (text(topic, "topic")?, bytes(data, len)?) };
        topics::publish(ServerId::from_raw(server.id), topic, data)
    })
}

/// Lets a function of the program hear what is published to a topic.
///
/// @param on_message    called for each message from here on.
/// @param user          passed to `on_message`.
/// @param on_free       called exactly once with `user` when the subscription is over: unsubscribed, or the
///                      server has stopped. NULL: nothing to free.
/// @param subscription  receives the handle; NULL if you do not need it.
/// @return AHOY_OK. On an error `user` stays the program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL
///         (`topic`, `on_message`), AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG, AHOY_ERR_MEMORY, AHOY_ERR_AGAIN.
///
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_subscribe(
    server: ahoy_server,
    topic: *const c_char,
    on_message: ahoy_topic_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    subscription: *mut ahoy_subscription,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let topic = unsafe { text(topic, "topic")? };
        let call = on_message.ok_or_else(|| Error::new(Status::Null, "on_message is NULL"))?;
        let call = move |server: ServerId, topic: &std::ffi::CStr, data: &[u8], user: HostUser| {
            let server = ahoy_server { id: server.raw() };
            // SAFETY: the program gave this function for this purpose.
            enter_host(|| unsafe { call(server, topic.as_ptr(), data.as_ptr().cast(), data.len(), user) });
        };
        let server = find(server)?;
        // SAFETY: the caller gives the function for this purpose.
        let finalizer = unsafe { Finalizer::new(on_free, user) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id: SubscriptionId| unsafe { set_out(subscription, ahoy_subscription { id: id.raw() }) };
        topics::subscribe(&server, topic, Arc::new(call), user, finalizer, announce)
    })
}

/// Ends a subscription. Called on its worker, in a callback, it is not called again. From another thread it may
/// still be called; its `on_free` says when it is over.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it is over already. AHOY_ERR_AGAIN: the worker's mailbox is full.
///
/// Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_unsubscribe(subscription: ahoy_subscription) -> Status {
    guard(|| topics::unsubscribe(SubscriptionId::from_raw(subscription.id)))
}

/// Counts the connections that are in a topic, on every node of the cluster: each node is asked for its own.
///
/// @param on_count  told what it came to, exactly once, after this has returned AHOY_OK.
/// @param user      passed to `on_count`.
/// @return AHOY_OK: `on_count` will be called, a second from now at the latest. On an error it will not be:
///         AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG (the name),
///         AHOY_ERR_DISCONNECTED: the cluster cannot be reached at present. AHOY_ERR_AGAIN: too many calls are under way.
///
/// Functions that have subscribed do not count. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_topic_count(
    server: ahoy_server,
    topic: *const c_char,
    on_count: ahoy_topic_count_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let topic = unsafe { text(topic, "topic")? };
        let call = on_count.ok_or_else(|| Error::new(Status::Null, "on_count is NULL"))?;
        topics::checked(topic)?;
        let found = find(server)?;
        let cluster = found.cluster()?;
        let user = HostWord::new(user);
        let done = move |result: Result<Count>| {
            let (status, count) = match result {
                Ok(count) => (status_of(count), count),
                Err(error) => (error.status, Count::default()),
            };
            // SAFETY: the program gave this function for this purpose.
            enter_host(|| unsafe { call(server, status, count.connections, count.silent, user.get()) });
        };
        cluster.topic_count(topic, cluster.on_worker(0, Box::new(done))?)
    })
}

/// Counts the connections that are in a topic, on every node of the cluster, and waits for it.
///
/// @param connections  receives how many there are.
/// @return AHOY_OK. AHOY_ERR_TIMEOUT: some nodes have not answered within a second; `connections` are those of the
///         others. AHOY_ERR_DEADLOCK: inside a callback. AHOY_ERR_STOPPED: also when the server stops meanwhile.
///         Other errors as `ahoy_topic_count`. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_topic_count_wait(
    server: ahoy_server,
    topic: *const c_char,
    connections: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let topic = unsafe { text(topic, "topic")? };
        require(connections, "connections")?;
        topics::checked(topic)?;
        let found = find(server)?;
        let cluster = found.cluster()?;
        let count = found.wait_for(|done| cluster.topic_count(topic, done))?;
        // SAFETY: not NULL, and the caller owns what it points to.
        unsafe { set_out(connections, count.connections) };
        match status_of(count) {
            Status::Ok => Ok(()),
            status => Err(Error::new(status, format!("{} nodes have not answered", count.silent))),
        }
    })
}

/// A count that is not whole is not passed off as one.
fn status_of(count: Count) -> Status {
    if count.silent > 0 { Status::Timeout } else { Status::Ok }
}
