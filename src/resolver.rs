//! Name resolution off the workers: the system's resolver blocks, and a name server that is gone blocks it for long.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use socket2::SockAddr;

use crate::cluster;
use crate::cluster::options::ClusterOptions;
use crate::fault::{self, Call};
use crate::log::Inside;
use crate::net::Endpoint;
use crate::status::{Error, Result, Status};
use crate::sys;

/// Gets what a name stands for, or why nobody knows. Runs on a thread of the resolver's.
pub(crate) type Done = Box<dyn FnOnce(Result<Vec<SockAddr>>) + Send>;

/// Threads at once. A name server that does not answer holds up one of them; the others go on.
const THREADS_MAX: usize = 4;
/// Names that wait.
const JOBS_MAX: usize = 1024;

/// Looks a name up and calls `done` with what came of it, at most until `until_ms`: after that a name that still waits is
/// no longer looked up (`Status::Timeout`), so that a client that tries again and again does not fill the queue
/// with what nobody waits for. A lookup that has begun cannot be ended; `done` is called when it is over.
///
/// Nodes of a cluster are asked as `options` say; None: as somebody who has nothing but the URL.
///
/// On an error `done` is dropped without a call: `Status::Again` when too many names wait, `Status::Thread` when the
/// system gives no thread.
pub(crate) fn resolve(
    endpoint: Endpoint,
    options: Option<Arc<ClusterOptions>>,
    until_ms: u64,
    done: Done,
) -> Result<()> {
    /// One for the process: threads that wait for a name server belong to no server, and one that is freed does not
    /// have to wait for them. What `done` then finds gone is its own affair.
    static RESOLVER: Resolver = Resolver::new(&look_up);
    if sys::forked() {
        // The lock may be held for ever: by a thread that the child does not have.
        return Err(Status::Forked.into());
    }
    RESOLVER.add(Job { endpoint, options: options.unwrap_or_default(), until_ms, done })
}

/// Whatever has to be waited for: name servers, or the nodes of a cluster.
fn look_up(endpoint: &Endpoint, options: &ClusterOptions) -> Result<Vec<SockAddr>> {
    match endpoint {
        Endpoint::Cluster(target) => cluster::look_up(target, options),
        other => other.look_up(),
    }
}

struct Job {
    endpoint: Endpoint,
    options: Arc<ClusterOptions>,
    until_ms: u64,
    done: Done,
}

type LookUp = dyn Fn(&Endpoint, &ClusterOptions) -> Result<Vec<SockAddr>> + Sync;

struct Resolver {
    look_up: &'static LookUp,
    state: Mutex<State>,
}

/// Whenever the lock is free: if jobs wait, there are threads, and each thread looks for a job before it ends. So no
/// job is left behind, and no thread outlives the work by more than its own end.
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
}

impl Resolver {
    const fn new(look_up: &'static LookUp) -> Self {
        Self { look_up, state: Mutex::new(State { jobs: VecDeque::new(), threads: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, job: Job) -> Result<()> {
        let mut state = self.lock();
        if state.jobs.len() >= JOBS_MAX {
            return Err(Error::new(Status::Again, format!("{JOBS_MAX} names wait to be resolved")));
        }
        state.jobs.try_reserve(1)?;
        state.jobs.push_back(job);
        if state.threads < THREADS_MAX {
            match self.spawn() {
                Ok(()) => state.threads += 1,
                // Those that there are will come to it.
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    let job = state.jobs.pop_back();
                    // What the program gave is dropped outside: it may call us again.
                    drop(state);
                    drop(job);
                    return Err(Error {
                        status: Status::Thread,
                        ..Error::system("start a thread to resolve names", &error)
                    });
                }
            }
        }
        Ok(())
    }

    fn spawn(&'static self) -> std::io::Result<()> {
        fault::check(Call::Spawn)?;
        let thread = thread::Builder::new().name("ahoy-resolver".to_owned());
        // It is never joined: it may wait for a name server when the process has long done with it.
        sys::with_signals_blocked(|| thread.spawn(|| self.run())).map(drop)
    }

    fn run(&self) {
        let _inside = Inside::enter();
        while let Some(job) = self.next() {
            self.carry_out(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.threads -= 1;
            // The memory of a burst is not kept either.
            state.jobs = VecDeque::new();
        }
        job
    }

    /// Panics are reported by the hook, and cost no thread.
    fn carry_out(&self, Job { endpoint, options, until_ms, done }: Job) {
        let found = if sys::now_ms() < until_ms {
            let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&endpoint, &options)));
            found.unwrap_or_else(|_| Err(Status::Panic.into()))
        } else {
            Err(Error::new(Status::Timeout, format!("{endpoint}: other names were to be resolved first")))
        };
        let _ = catch_unwind(AssertUnwindSafe(|| done(found)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);
    const NEVER_MS: u64 = u64::MAX;

    /// Names that are held up until they are let go, and how many are looked up just now.
    #[derive(Default)]
    struct Gate {
        state: Mutex<GateState>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct GateState {
        is_open: bool,
        waiting: usize,
        most: usize,
        passed: usize,
    }

    impl Gate {
        fn pass(&self) {
            let mut state = self.state.lock().unwrap();
            state.waiting += 1;
            state.most = state.most.max(state.waiting);
            self.changed.notify_all();
            let (mut state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.is_open).unwrap();
            state.waiting -= 1;
            state.passed += 1;
        }

        fn open(&self) {
            self.state.lock().unwrap().is_open = true;
            self.changed.notify_all();
        }

        fn await_waiting(&self, count: usize) {
            let state = self.state.lock().unwrap();
            let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.waiting < count).unwrap();
            assert_eq!(state.waiting, count);
        }
    }

    /// A resolver whose names of the host "slow" wait at the gate.
    fn gated() -> (&'static Resolver, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let look_up = {
            let gate = Arc::clone(&gate);
            move |endpoint: &Endpoint, _: &ClusterOptions| {
                let (host, port) = endpoint.host_port().unwrap();
                match host {
                    "slow" => gate.pass(),
                    "none" => return Err(Status::Name.into()),
                    "bug" => panic!("a test"),
                    _ => {}
                }
                Ok(vec![std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()])
            }
        };
        let look_up: &'static LookUp = Box::leak(Box::new(look_up));
        (Box::leak(Box::new(Resolver::new(look_up))), gate)
    }

    type Answer = Result<Vec<SockAddr>>;

    fn ask(resolver: &'static Resolver, host: &str, port: u16, until_ms: u64, answers: &Sender<Answer>) -> Result<()> {
        let answers = answers.clone();
        let endpoint = Endpoint::Tcp { host: host.to_owned(), port };
        // The receiver may have all it wants.
        let done = Box::new(move |found| drop(answers.send(found)));
        resolver.add(Job { endpoint, options: Arc::default(), until_ms, done })
    }

    fn port(answers: &Receiver<Answer>) -> u16 {
        let found = answers.recv_timeout(PATIENCE).expect("an answer").unwrap();
        found[0].as_socket().unwrap().port()
    }

    fn await_end(resolver: &Resolver) {
        let until_ms = sys::now_ms() + 60_000;
        while resolver.lock().threads > 0 {
            assert!(sys::now_ms() < until_ms, "threads are left");
            thread::yield_now();
        }
    }

    #[test]
    fn names_that_hold_a_thread_up_do_not_hold_up_the_others() {
        let (resolver, gate) = gated();
        let (answers, found) = mpsc::channel();
        for port in 1..4 {
            ask(resolver, "slow", port, NEVER_MS, &answers).unwrap();
        }
        gate.await_waiting(3);
        for port in 10..200 {
            ask(resolver, "quick", port, NEVER_MS, &answers).unwrap();
        }
        assert_eq!((10..200).map(|_| self::port(&found)).collect::<Vec<_>>(), (10..200).collect::<Vec<_>>());
        gate.open();
        let mut slow = [(); 3].map(|()| port(&found));
        slow.sort_unstable();
        assert_eq!(slow, [1, 2, 3]);
        await_end(resolver);
    }

    #[test]
    fn threads_and_the_queue_are_bounded() {
        let (resolver, gate) = gated();
        let (answers, found) = mpsc::channel();
        for port in 0..4 {
            ask(resolver, "slow", port, NEVER_MS, &answers).unwrap();
        }
        gate.await_waiting(4);
        for _ in 0..JOBS_MAX {
            ask(resolver, "slow", 9, NEVER_MS, &answers).unwrap();
        }
        assert_eq!(ask(resolver, "quick", 1, NEVER_MS, &answers).unwrap_err().status, Status::Again);
        gate.open();
        for _ in 0..4 + JOBS_MAX {
            port(&found);
        }
        let (most, passed) = {
            let state = gate.state.lock().unwrap();
            (state.most, state.passed)
        };
        assert_eq!((most, passed), (THREADS_MAX, 4 + JOBS_MAX));
        await_end(resolver);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_looked_up() {
        let (resolver, gate) = gated();
        let (answers, found) = mpsc::channel();
        ask(resolver, "slow", 1, 0, &answers).unwrap();
        assert_eq!(found.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::Timeout);
        ask(resolver, "none", 1, NEVER_MS, &answers).unwrap();
        assert_eq!(found.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::Name);
        assert_eq!(gate.state.lock().unwrap().passed, 0);
        await_end(resolver);
    }

    #[test]
    fn a_panic_of_one_job_does_not_cost_the_next() {
        let (resolver, _) = gated();
        crate::log::silence_panics();
        let endpoint = || Endpoint::Tcp { host: "quick".to_owned(), port: 1 };
        for _ in 0..10 {
            resolver
                .add(Job {
                    endpoint: endpoint(),
                    options: Arc::default(),
                    until_ms: NEVER_MS,
                    done: Box::new(|_| panic!("a test")),
                })
                .unwrap();
        }
        let (answers, found) = mpsc::channel();
        ask(resolver, "bug", 1, NEVER_MS, &answers).unwrap();
        assert_eq!(found.recv_timeout(PATIENCE).unwrap().unwrap_err().status, Status::Panic);
        ask(resolver, "quick", 7, NEVER_MS, &answers).unwrap();
        assert_eq!(port(&found), 7);
        await_end(resolver);
    }

    #[test]
    fn real_names_are_resolved_on_a_thread_of_our_own() {
        let (answers, found) = mpsc::channel();
        let done = move |addresses| answers.send((addresses, thread::current().name().map(str::to_owned))).unwrap();
        resolve(Endpoint::parse("tcp://localhost:7").unwrap(), None, NEVER_MS, Box::new(done)).unwrap();
        let (addresses, thread) = found.recv_timeout(PATIENCE).unwrap();
        assert!(addresses.unwrap().iter().all(|address| address.as_socket().unwrap().ip().is_loopback()));
        assert_eq!(thread.as_deref(), Some("ahoy-resolver"));
    }
}
