//! # Work queues
//!
//! A queue keeps jobs until somebody has done them. Any node pushes, and any node works: each job goes to one of those who work,
//! and to another one if that node dies, or does not say within `ack_ms` that it is done or goes on. So a job is done at
//! least once, and may be done twice; order is not promised. A job that was tried `tries_max` times without success goes
//! to the queue of dead jobs, which is a queue like any other. A queue is there as soon as somebody uses it.
//!
//! With `.cluster` jobs are in NATS JetStream (any NATS client may push to the subject CLUSTER.queue.QUEUE), and an
//! acknowledged job survives the crash of one server. Without, they are in memory, and end with the server.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::guard::guard;
use super::handle::{ahoy_job, ahoy_server, ahoy_work};
use super::handler::enter_host;
use super::pointer::{Sized, bytes, read_sized, set_out, text};
use super::server::{ahoy_free_fn, find};
use crate::cluster::Done;
use crate::cluster::queues::{self, End, WorkOptions};
use crate::status::{Error, Result, Status};
use crate::sys::{Finalizer, HostWord};

/// Something that was begun has come to its end: AHOY_OK, or why not. Runs on a worker, exactly once for each call that has
/// answered AHOY_OK. Any call is legal.
pub type ahoy_done_fn = Option<unsafe extern "C" fn(server: ahoy_server, status: Status, user: *mut c_void)>;

/// Jobs of a queue: those that wait; those that are in hand (or wait for their `delay_ms`); and those that wait in its queue
/// of dead jobs. They are 0 unless `status` is AHOY_OK. Runs on a worker, exactly once.
pub type ahoy_queue_counts_fn = Option<
    unsafe extern "C" fn(server: ahoy_server, status: Status, waiting: u64, in_hand: u64, dead: u64, user: *mut c_void),
>;

/// A job is to be done: `len` bytes at `data`, which live until this returns. `tries` says which try it is: 1 is the
/// first. End it with `ahoy_job_done`, `ahoy_job_retry` or `ahoy_job_drop`, here or later, on any thread; until then it
/// counts against `in_hand_max`. Runs on a worker; calls are spread over the workers, and overlap. Any call is legal.
pub type ahoy_job_fn =
    Option<unsafe extern "C" fn(job: ahoy_job, data: *const c_void, len: usize, tries: u32, user: *mut c_void)>;

/// How jobs are taken. Leave zero what you do not need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ahoy_work_options {
    /// sizeof(ahoy_work_options).
    pub size: usize,
    /// Jobs that this server has in hand at once, at most 65,536. 0: one for each worker.
    pub in_hand_max: u32,
    /// Milliseconds after which a job goes to somebody else if it has not ended and there was no
    /// `ahoy_job_progress`. In a cluster those of whoever has begun last hold for all. 0: 30,000.
    pub ack_ms: u32,
    /// How often a job is tried; then it is dead. What a crash interrupts is a try. 0: 5.
    pub tries_max: u32,
    /// Servers that keep a copy of each job, at most 5. 0: three, or one where there are less than three servers.
    pub replicas: u32,
    /// The queue of dead jobs. NULL: the queue's name with "-dead" behind it.
    pub dead_queue: *const c_char,
}

// SAFETY: a plain C struct for which all bytes zero are the defaults; `size` comes first.
unsafe impl Sized for ahoy_work_options {
    const SIZE_MIN: usize = size_of::<usize>();
}

/// Pushes a job. It is kept when `on_done` says AHOY_OK, and not before.
///
/// @param queue    its name: 1 to 64 letters, digits, - and _.
/// @param data     the job: `len` bytes, which are copied. NULL if there are none.
/// @param id       what makes it this job: a second push with the same id within 2 minutes is merged with the first.
///                 1 to 255 bytes without control characters. NULL: it has none, and two pushes are two jobs.
/// @param on_done  called when the job is kept, or is not. NULL: nobody wants to know.
/// @param user     passed to `on_done`.
/// @return AHOY_OK. On an error `on_done` is not called: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL,
///         AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG (longer than the cluster's servers allow: 1 MiB, if they are not told
///         otherwise), AHOY_ERR_AGAIN (65,536 jobs or 64 MiB are being pushed; or jobs that wait in memory have 256 MiB),
///         AHOY_ERR_DISCONNECTED, AHOY_ERR_MEMORY; without a cluster AHOY_ERR_REPLICAS.
///
/// `on_done` gets AHOY_OK; AHOY_ERR_UNKNOWN_OUTCOME: there was no answer within the cluster's `timeout_ms`, in which it was
/// tried again and again, and the job may be kept or not (push it again with its `id`, and it is not there twice);
/// AHOY_ERR_DISCONNECTED: it is certainly not kept; AHOY_ERR_AGAIN: nor is it, because the queue, or its servers, were full
/// for all that time; AHOY_ERR_NO_STORE, AHOY_ERR_REPLICAS, AHOY_ERR_TOO_LONG,
/// AHOY_ERR_FAILED (the stream is not one of ours); AHOY_ERR_STOPPED: the server has ended first, and the job may be kept
/// or not. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_queue_push(
    server: ahoy_server,
    queue: *const c_char,
    data: *const c_void,
    len: usize,
    id: *const c_char,
    on_done: ahoy_done_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes strings that end with a zero byte, and `len` readable bytes.
        let (queue, data, id) = unsafe { (text(queue, "queue")?, bytes(data, len)?, job_id(id)?) };
        let cluster = Arc::clone(find(server)?.cluster()?);
        let user = HostWord::new(user);
        let done: Done<()> = match on_done {
            Some(call) => cluster.on_worker(
                cluster.next_lane(),
                Box::new(move |result: Result<()>| {
                    let status = status_of(&result);
                    // SAFETY: the program gave this function for this purpose.
                    enter_host(|| unsafe { call(server, status, user.get()) });
                }),
            )?,
            None => Box::new(|_| {}),
        };
        cluster.queue_push(queue, data, id, done)
    })
}

/// Pushes a job, as `ahoy_queue_push`, and waits until it is kept.
///
/// @return AHOY_OK: it is. Otherwise what `ahoy_queue_push` returns or tells its `on_done`; AHOY_ERR_DEADLOCK: called
///         inside a callback. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_queue_push_wait(
    server: ahoy_server,
    queue: *const c_char,
    data: *const c_void,
    len: usize,
    id: *const c_char,
) -> Status {
    guard(|| {
        // SAFETY: as for `ahoy_queue_push`.
        let (queue, data, id) = unsafe { (text(queue, "queue")?, bytes(data, len)?, job_id(id)?) };
        let server = find(server)?;
        let cluster = server.cluster()?;
        server.wait_for(|done| cluster.queue_push(queue, data, id, done))
    })
}

/// Works on a queue: its jobs come to `handler` from here on, with those of all other nodes that do the same.
///
/// @param queue    its name: 1 to 64 letters, digits, - and _.
/// @param options  NULL: all defaults.
/// @param handler  called for each job.
/// @param user     passed to `handler`.
/// @param on_free  called exactly once with `user` when no further call of `handler` comes: after `ahoy_work_stop`, or when
///                 the server stops. NULL: nothing to free.
/// @param work     receives the handle, before `handler` can run; NULL if you do not need it.
/// @return AHOY_OK: also while the cluster cannot be reached; jobs come as soon as it can. On an error `user` stays the
///         program's: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL, AHOY_ERR_SIZE, AHOY_ERR_INVALID.
///
/// When the server stops, no further job is taken. Those in hand may end until its time to drain is over; the rest is then
/// given back, so that another node gets it at once, and their handles are stale. What keeps the cluster from keeping
/// such a queue (AHOY_ERR_NO_STORE, AHOY_ERR_REPLICAS) is logged, and is what pushes to it answer. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_queue_work(
    server: ahoy_server,
    queue: *const c_char,
    options: *const ahoy_work_options,
    handler: ahoy_job_fn,
    user: *mut c_void,
    on_free: ahoy_free_fn,
    work: *mut ahoy_work,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let queue = unsafe { text(queue, "queue")? };
        let call = handler.ok_or_else(|| Error::new(Status::Null, "handler is NULL"))?;
        // SAFETY: the caller passes NULL or options that start with their size.
        let mut options = unsafe { work_options(options)? };
        let server = find(server)?;
        if options.in_hand_max == 0 {
            options.in_hand_max = u32::try_from(server.worker_count()).unwrap_or(1);
        }
        let word = HostWord::new(user);
        let call = move |job: u64, data: &[u8], tries: u32| {
            let job = ahoy_job { id: job };
            // SAFETY: the program gave this function for this purpose.
            enter_host(|| unsafe { call(job, data.as_ptr().cast(), data.len(), tries, word.get()) });
        };
        // SAFETY: the caller gives the function for this purpose.
        let finalizer = unsafe { Finalizer::new(on_free, user) };
        // SAFETY: the caller passes NULL or a pointer to a handle it owns.
        let announce = |id| unsafe { set_out(work, ahoy_work { id }) };
        match server.cluster() {
            Ok(cluster) => cluster.queue_work(queue, options, Box::new(call), finalizer, announce),
            Err(error) => {
                finalizer.disarm();
                Err(error)
            }
        }
    })
}

/// Takes no further job. Those in hand stay, and are to be ended as ever. A call of the handler that is on its way to a
/// worker is still made; `on_free` says when there is none.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it has stopped already. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_work_stop(work: ahoy_work) -> Status {
    guard(|| queues::stop_work(work.id))
}

/// A job is done: it is kept no longer. It is sent until the cluster confirms it; should that fail, the job is done again.
///
/// @return AHOY_OK. AHOY_ERR_STALE: it has ended already, or was given back when its server stopped. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_job_done(job: ahoy_job) -> Status {
    guard(|| queues::end_job(job.id, End::Gone))
}

/// A job is to be tried again, by whoever takes it then; unless that was its last try: then it is dead.
///
/// @param delay_ms  milliseconds until then; 0: at once.
/// @return as `ahoy_job_done`. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_job_retry(job: ahoy_job, delay_ms: u32) -> Status {
    guard(|| queues::end_job(job.id, End::Retry(delay_ms)))
}

/// A job takes longer: its `ack_ms` begin anew.
///
/// @return as `ahoy_job_done`. Since 0.3.
#[unsafe(no_mangle)]
pub extern "C" fn ahoy_job_progress(job: ahoy_job) -> Status {
    guard(|| queues::progress(job.id))
}

/// Gives a job up: it goes to the dead jobs at once.
///
/// @param reason  what its header Ahoy-Dead-Reason says: up to 255 bytes of UTF-8. NULL: "dropped". (A job that is
///                so long that the servers take no headers with it has none.)
/// @return as `ahoy_job_done`. AHOY_ERR_INVALID, AHOY_ERR_TOO_LONG: the reason is none, and the job has not ended.
///         Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_job_drop(job: ahoy_job, reason: *const c_char) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL or a string that ends with a zero byte.
        let reason = if reason.is_null() { "" } else { unsafe { text(reason, "reason")? } };
        queues::drop_job(job.id, reason)
    })
}

/// Counts the jobs of a queue.
///
/// @param queue      its name. One that there is not has no jobs.
/// @param on_counts  gets the counts.
/// @param user       passed to `on_counts`.
/// @return AHOY_OK. On an error `on_counts` is not called: AHOY_ERR_STALE, AHOY_ERR_STOPPED, AHOY_ERR_NULL,
///         AHOY_ERR_INVALID, AHOY_ERR_DISCONNECTED.
///
/// The counts are those of a moment, and not all of the same one. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_queue_counts(
    server: ahoy_server,
    queue: *const c_char,
    on_counts: ahoy_queue_counts_fn,
    user: *mut c_void,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let queue = unsafe { text(queue, "queue")? };
        let call = on_counts.ok_or_else(|| Error::new(Status::Null, "on_counts is NULL"))?;
        let cluster = Arc::clone(find(server)?.cluster()?);
        let user = HostWord::new(user);
        let done = cluster.on_worker(
            cluster.next_lane(),
            Box::new(move |result: Result<[u64; 3]>| {
                let status = status_of(&result);
                let [waiting, in_hand, dead] = result.unwrap_or_default();
                // SAFETY: the program gave this function for this purpose.
                enter_host(|| unsafe { call(server, status, waiting, in_hand, dead, user.get()) });
            }),
        )?;
        cluster.queue_counts(queue, done)
    })
}

/// Counts the jobs of a queue, and waits for that.
///
/// @param waiting  receives the jobs that wait; NULL if you do not need it, as with the others.
/// @param in_hand  receives those in hand, or waiting for their `delay_ms`.
/// @param dead     receives those in its queue of dead jobs.
/// @return AHOY_OK. As `ahoy_queue_counts`; AHOY_ERR_TIMEOUT, AHOY_ERR_NO_STORE; AHOY_ERR_DEADLOCK: called inside a
///         callback. Since 0.3.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ahoy_queue_counts_wait(
    server: ahoy_server,
    queue: *const c_char,
    waiting: *mut u64,
    in_hand: *mut u64,
    dead: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the caller passes a string that ends with a zero byte.
        let queue = unsafe { text(queue, "queue")? };
        let server = find(server)?;
        let cluster = server.cluster()?;
        let counts = server.wait_for(|done| cluster.queue_counts(queue, done))?;
        for (place, count) in [waiting, in_hand, dead].into_iter().zip(counts) {
            // SAFETY: the caller passes NULL or a pointer to a number it owns.
            unsafe { set_out(place, count) };
        }
        Ok(())
    })
}

fn status_of<T>(result: &Result<T>) -> Status {
    result.as_ref().map_or_else(|error| error.status, |_| Status::Ok)
}

/// SAFETY: `id` is NULL or a string that ends with a zero byte.
unsafe fn job_id<'a>(id: *const c_char) -> Result<Option<&'a str>> {
    if id.is_null() {
        return Ok(None);
    }
    // SAFETY: as promised by our caller.
    unsafe { text(id, "id") }.map(Some)
}

/// SAFETY: `options` is NULL or points to a struct that starts with its size, whose string ends with a zero byte.
unsafe fn work_options(options: *const ahoy_work_options) -> Result<WorkOptions> {
    if options.is_null() {
        return Ok(WorkOptions::default());
    }
    // SAFETY: not NULL, and as promised by our caller.
    let given = unsafe { read_sized(options)? };
    let dead_queue = match given.dead_queue.is_null() {
        true => None,
        // SAFETY: as promised by our caller.
        false => Some(unsafe { text(given.dead_queue, "dead_queue")? }.to_owned()),
    };
    Ok(WorkOptions {
        in_hand_max: given.in_hand_max,
        ack_ms: given.ack_ms,
        tries_max: given.tries_max,
        dead_queue,
        replicas: given.replicas,
    })
}
