//! A job in hand: from when it was taken until the program ends it, on any thread, exactly once.

use std::sync::{Arc, Mutex, PoisonError};

use super::work::Work;
use super::{Cluster, End, Push, Taken, Ticket, count};
use crate::cluster::Hold;
use crate::cluster::handles::Handles;
use crate::status::{Error, Result, Status};

/// One job.
pub(crate) struct Job {
    number: u64,
    work: Arc<Work>,
    payload: Arc<[u8]>,
    tries: u32,
    /// Its number in the queue.
    place: u64,
    /// None: it has ended.
    open: Mutex<Option<Open>>,
}

/// What an end takes.
struct Open {
    ticket: Box<dyn Ticket>,
    hold: Hold,
}

static JOBS: Handles<Job> = Handles::new();

/// Longest reason that a dead job keeps.
const REASON_BYTES_MAX: usize = 255;
/// When a job is to be tried again that could not be given to the program, or not be buried.
const SOON_MS: u32 = 100;
const BURY_AGAIN_MS: u32 = 1_000;

/// A job is in hand from here on.
pub(super) fn keep(work: &Arc<Work>, taken: Taken, hold: Hold) -> Arc<Job> {
    JOBS.insert(|number| Job {
        number,
        work: Arc::clone(work),
        payload: taken.payload,
        tries: taken.tries,
        place: taken.number,
        open: Mutex::new(Some(Open { ticket: taken.ticket, hold })),
    })
}

/// All jobs that a cluster has in hand; nobody else can end them any more.
pub(super) fn take_all_of(cluster: &Cluster) -> Vec<Arc<Job>> {
    // Nothing is locked for it: who has a job locked may wait for the table.
    JOBS.remove_if(|job| job.work.belongs_to(cluster))
}

/// The program needs more time for a job.
pub(crate) fn progress(number: u64) -> Result<()> {
    let job = JOBS.find(number)?;
    let open = job.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.as_ref().ok_or(Status::Stale)?.ticket.progress();
    Ok(())
}

/// The program has done a job, or wants it to be tried again.
pub(crate) fn end_job(number: u64, end: End) -> Result<()> {
    let (job, Open { ticket, hold }) = take(number)?;
    let cluster = Arc::clone(hold.cluster());
    match end {
        End::Gone => count(&cluster.queues.counts.done),
        // One try more would be one too many.
        End::Retry(_) if job.tries >= job.work.tries_max() => {
            let reason = format!("given up after {} tries", job.tries);
            job.bury(&cluster, Open { ticket, hold }, &reason);
            job.work.want_another();
            return Ok(());
        }
        End::Retry(_) => count(&cluster.queues.counts.retried),
    }
    ticket.end(end, Box::new(move || drop(hold)));
    job.work.want_another();
    Ok(())
}

/// The program gives a job up.
pub(crate) fn drop_job(number: u64, reason: &str) -> Result<()> {
    if reason.len() > REASON_BYTES_MAX {
        let text = format!("the reason has {} bytes: at most {REASON_BYTES_MAX}", reason.len());
        return Err(Error::new(Status::TooLong, text));
    }
    let (job, open) = take(number)?;
    let cluster = Arc::clone(open.hold.cluster());
    let plain: String = reason.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    job.bury(&cluster, open, if plain.is_empty() { "dropped" } else { &plain });
    job.work.want_another();
    Ok(())
}

fn take(number: u64) -> Result<(Arc<Job>, Open)> {
    let job = JOBS.remove(number)?;
    let open = job.take_open().ok_or(Status::Stale)?;
    Ok((job, open))
}

impl Job {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn is_in_hand(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_open(&self) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Somebody else gets it, at once.
    pub(super) fn give_back(&self) {
        if let Some(Open { ticket, hold }) = self.take_open() {
            ticket.give_back();
            drop(hold);
        }
    }

    /// The program could not be called.
    pub(super) fn retry_soon(&self) {
        let _ = JOBS.remove(self.number);
        if let Some(Open { ticket, hold }) = self.take_open() {
            ticket.end(End::Retry(SOON_MS), Box::new(move || drop(hold)));
            self.work.want_another();
        }
    }

    fn bury(&self, cluster: &Arc<Cluster>, Open { ticket, hold }: Open, reason: &str) {
        let taken = Taken { payload: Arc::clone(&self.payload), tries: self.tries, number: self.place, ticket };
        bury(cluster, &self.work, taken, reason, hold);
    }
}

/// Pushes a job to the dead ones; then it is gone from where it was. Twice, if need be: its place is its id.
pub(super) fn bury(cluster: &Arc<Cluster>, work: &Work, taken: Taken, reason: &str, hold: Hold) {
    let queue = cluster.queue_name(work.queue());
    let push = Push {
        queue: cluster.queue_name(work.dead_queue()),
        payload: taken.payload,
        id: Some(format!("{}-{}", queue.stream, taken.number)),
        headers: vec![
            ("Ahoy-Dead-Reason", reason.to_owned()),
            ("Ahoy-Dead-Queue", work.queue().to_owned()),
            ("Ahoy-Dead-Tries", taken.tries.to_string()),
            ("Ahoy-Dead-Node", cluster.node.clone()),
        ],
        is_burial: true,
    };
    push_dead(cluster, push, Open { ticket: taken.ticket, hold });
}

fn push_dead(cluster: &Arc<Cluster>, push: Push, open: Open) {
    // A job as long as the servers allow has no room for headers, and is buried without.
    let bare = (!push.headers.is_empty()).then(|| Push {
        queue: push.queue.clone(),
        payload: Arc::clone(&push.payload),
        id: None,
        headers: Vec::new(),
        is_burial: true,
    });
    let burying = Arc::clone(cluster);
    // An error comes back, or through the function.
    let open = Mutex::new(Some((open, bare)));
    let buried = move |result: Result<()>| {
        let taken = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((Open { ticket, hold }, bare)) = taken else { return };
        match (result, bare) {
            (Ok(()), _) => {
                count(&burying.queues.counts.dead);
                ticket.end(End::Gone, Box::new(move || drop(hold)));
            }
            (Err(error), Some(bare)) if error.status == Status::TooLong => {
                log::warn!("a dead job has no room for what is said of it: {error}");
                push_dead(&burying, bare, Open { ticket, hold });
            }
            (Err(error), _) => {
                log::warn!("a dead job stays where it is for now: {error}");
                ticket.end(End::Retry(BURY_AGAIN_MS), Box::new(move || drop(hold)));
            }
        }
    };
    let buried = Arc::new(buried);
    let told = Arc::clone(&buried);
    if let Err(error) = cluster.engine.queues().push(push, cluster.timeout_ms, Box::new(move |result| told(result))) {
        buried(Err(error));
    }
}
