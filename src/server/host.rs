//! What the cluster asks of its server: calls of the program's, on the workers; now, or in a while.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::commands;
use super::context::Context;
use super::mailbox::Command;
use super::roster::{self, Due, Roster};
use super::shared::{Team, WorkerShared};
use super::topics;
use crate::cluster::{Host, Member, State, Task, Vitals};
use crate::conn::handle::ConnId;
use crate::status::{Error, Result, Status};
use crate::sys;

/// A server, for its cluster. It does not keep the server alive.
pub(super) struct ServerHost(Weak<[Arc<WorkerShared>]>);

impl ServerHost {
    pub(super) fn new(team: &Team) -> Arc<Self> {
        Arc::new(Self(team.downgrade()))
    }

    /// Posts to the worker of a lane, or, once that has ended, to another.
    fn post(&self, lane: u64, command: Command) -> Result<(), (Error, Command)> {
        let Some(team) = self.0.upgrade() else { return Err((Status::Stopped.into(), command)) };
        let count = team.len();
        #[allow(clippy::cast_possible_truncation)] // any number will do
        let first = lane as usize % count.max(1);
        let mut command = command;
        for worker in team.iter().cycle().skip(first).take(count) {
            match worker.mailbox.post(command) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.status == Status::Stale => command = back,
                Err(refused) => return Err(refused),
            }
        }
        Err((Status::Stopped.into(), command))
    }
}

impl Host for ServerHost {
    fn run(&self, lane: u64, task: Task) -> Result<(), (Error, Task)> {
        self.post(lane, Command::Run(task)).map_err(|(error, command)| match command {
            Command::Run(task) => (error, task),
            _ => unreachable!("it was a task"),
        })
    }

    fn after(&self, delay_ms: u32, task: Task) -> Result<()> {
        self.post(0, Command::RunAt { deadline_ms: sys::deadline_ms(delay_ms), task }).map_err(|(error, _)| error)
    }

    fn deliver(&self, topic: &str, payload: &[u8]) {
        let Some(team) = self.0.upgrade().map(Team::from) else { return };
        let Some(shared) = team.iter().next().map(|worker| Arc::clone(&worker.server)) else { return };
        if let Err(error) = topics::publish_here(&team, &shared, topic, payload) {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            log::debug!("a message of another node was dropped: {error}");
        }
    }

    fn wake(&self) {
        if let Some(team) = self.0.upgrade() {
            team.iter().for_each(|worker| worker.mailbox.wake());
        }
    }

    fn send(&self, conn: u64, message: &[u8]) -> Result<()> {
        let id = ConnId::from_raw(conn);
        let team = self.0.upgrade().ok_or(Status::Stopped)?;
        if !team.first().is_some_and(|worker| commands::server(id) == Some(worker.server.id)) {
            return Err(Status::Stale.into());
        }
        commands::send(id, message).map_err(|error| match error.status {
            // It will be gone in a moment.
            Status::Closed => Status::Stale.into(),
            _ => error,
        })
    }

    fn vitals(&self) -> Vitals {
        let mut vitals = Vitals::default();
        for worker in self.0.upgrade().iter().flat_map(|team| team.iter()) {
            vitals.workers += 1;
            vitals.connections += worker.slots.taken() as u64;
            vitals.busy_ns += worker.counters.busy_ns();
        }
        vitals
    }

    fn on_cluster_state(&self, state: State, why: Option<&Error>) {
        if let Some(worker) = self.0.upgrade().and_then(|team| team.first().cloned()) {
            worker.server.handler.on_cluster_state(worker.server.id, state, why);
        }
    }

    fn on_member(&self, member: &Member) {
        if let Some(worker) = self.0.upgrade().and_then(|team| team.first().cloned()) {
            worker.server.handler.on_member(worker.server.id, member);
        }
    }
}

/// Tasks that wait for their time, by their number in the wheel.
#[derive(Default)]
pub(super) struct Later {
    tasks: Vec<Option<Task>>,
    /// Its capacity always suffices for all places.
    free: Vec<u32>,
}

impl Later {
    fn insert(&mut self, task: Task) -> Result<u32, Task> {
        if let Some(at) = self.free.pop() {
            self.tasks[at as usize] = Some(task);
            return Ok(at);
        }
        let (Ok(at), Ok(()), Ok(())) = (
            u32::try_from(self.tasks.len()),
            self.tasks.try_reserve(1),
            self.free.try_reserve(self.tasks.len() + 1 - self.free.len()),
        ) else {
            return Err(task);
        };
        self.tasks.push(Some(task));
        Ok(at)
    }

    fn take(&mut self, at: u32) -> Option<Task> {
        let task = self.tasks.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(task)
    }
}

impl Roster {
    /// On an error (there is no memory) the task comes back.
    fn run_at(&mut self, deadline_ms: u64, task: Task) -> Result<(), Task> {
        let at = self.later.insert(task)?;
        if self.wheel.start(deadline_ms, Due::Task(at)).is_err() {
            return self.later.take(at).map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// The tasks that will not be run any more; to be dropped with nothing borrowed.
    pub(super) fn take_tasks(&mut self) -> Vec<Option<Task>> {
        std::mem::take(&mut self.later.tasks)
    }
}

impl Context {
    /// A task whose time will come.
    pub(super) fn take_task(&self, deadline_ms: u64, task: Task) {
        let mut task = Some(task);
        let taken = roster::with(|roster| task.take().map_or(Ok(()), |task| roster.run_at(deadline_ms, task)));
        if let Some(Err(task)) = taken {
            // At once rather than never.
            task();
        }
    }

    /// The time of a task has come.
    pub(super) fn run_task(&self, at: u32) {
        if let Some(task) = roster::with(|roster| roster.later.take(at)).flatten() {
            task();
        }
    }
}
