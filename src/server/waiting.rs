//! Waiting for what the cluster answers, on a thread of the program's.

use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use super::{Server, refuse_in_callback};
use crate::cluster::Done;
use crate::status::{Result, Status};

/// How long to rely on a thread that runs the turns of the program's own loop.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Server {
    /// Begins something and waits for its end. With a loop of the program's own this runs the turns meanwhile: the answer
    /// may have to come from a callback.
    pub(crate) fn wait_for<T: Send + 'static>(&self, begin: impl FnOnce(Done<T>) -> Result<()>) -> Result<T> {
        refuse_in_callback()?;
        let (told, answer) = mpsc::sync_channel(1);
        // Only a turn has to be woken; a thread that waits is by the answer itself.
        let team = self.own_loop.is_some().then(|| self.team.clone());
        begin(Box::new(move |result| {
            // Nobody listens any more if the turn that waits for it has panicked.
            let _ = told.send(result);
            team.iter().flat_map(|team| team.iter()).for_each(|worker| worker.mailbox.wake());
        }))?;
        while let Some(own_loop) = &self.own_loop {
            match answer.try_recv() {
                Ok(result) => return result,
                Err(TryRecvError::Disconnected) => return Err(Status::Stopped.into()),
                Err(TryRecvError::Empty) => {}
            }
            let turned = match own_loop.worker.try_lock() {
                Ok(mut worker) => worker.turn(None),
                Err(TryLockError::Poisoned(worker)) => worker.into_inner().turn(None),
                // Another thread runs the turns. It may leave before our answer is there, and nobody would tell us.
                Err(TryLockError::WouldBlock) => match answer.recv_timeout(LOOK_AGAIN) {
                    Ok(result) => return result,
                    Err(_) => continue,
                },
            };
            match self.after_turn(own_loop, turned) {
                Ok(()) => {}
                // In the child nobody has what would answer.
                Err(error) if error.status == Status::Forked => return Err(error),
                Err(_) => break,
            }
        }
        answer.recv().unwrap_or_else(|_| Err(Status::Stopped.into()))
    }

    /// What it belongs to.
    pub(crate) fn cluster(&self) -> Result<&Arc<crate::cluster::Cluster>> {
        self.shared.cluster().ok_or_else(|| Status::Stopped.into())
    }
}
