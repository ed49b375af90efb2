//! Calls that are under way: a server that stops waits for them, and their ends are told on the workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Cluster, Done};
use crate::status::{Error, Result, Status};

/// Calls under way at once; more are refused.
const CALLS_MAX: usize = 65_536;

/// A call, or a job, is under way until this is dropped.
pub(crate) struct Hold {
    cluster: Arc<Cluster>,
    /// It counts against [`CALLS_MAX`]: the program has begun it.
    is_begun_here: bool,
}

impl Hold {
    /// Whose it is.
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_begun_here {
            self.cluster.begun_here.fetch_sub(1, Ordering::SeqCst);
        }
        if self.cluster.in_hand.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cluster.leave_if_idle();
        }
    }
}

impl Cluster {
    /// Begins a call, unless the engine is let go. While the server only drains what is in hand may still need others.
    pub(crate) fn hold(self: &Arc<Self>) -> Result<Hold> {
        let before = self.begun_here.fetch_add(1, Ordering::SeqCst);
        let mut hold = self.hold_on();
        hold.is_begun_here = true;
        if self.is_over() {
            return Err(Status::Stopped.into());
        }
        if before >= CALLS_MAX {
            return Err(Error::new(Status::Again, format!("{CALLS_MAX} calls are under way")));
        }
        Ok(hold)
    }

    /// The same, but not while the server drains: what begins anew then would only hold it up.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Hold> {
        let hold = self.hold()?;
        if self.is_leaving() { Err(Status::Stopped.into()) } else { Ok(hold) }
    }

    /// For what has begun already, and is to come to its end whatever happens. It has a bound of its own.
    pub(super) fn hold_on(self: &Arc<Self>) -> Hold {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        Hold { cluster: Arc::clone(self), is_begun_here: false }
    }

    /// The same end, told on the worker of a lane; never inside of the call that it is the end of.
    pub(crate) fn on_worker<T: Send + 'static>(self: &Arc<Self>, lane: u64, done: Done<T>) -> Result<Done<T>> {
        let hold = self.hold()?;
        Ok(Box::new(move |result| {
            let host = Arc::clone(&hold.cluster.host);
            let told = host.run(
                lane,
                Box::new(move || {
                    done(result);
                    drop(hold);
                }),
            );
            if let Err((_, task)) = told {
                // There is no memory to post it. Rather here than never.
                task();
            }
        }))
    }
}
