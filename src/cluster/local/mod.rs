//! The engine inside the process, for a server without a cluster: the same calls, no server, no thread. What takes time is
//! done by the timers of the server's workers.
//!
//! - `bus`: messages; `kv`: buckets, whose keys are in a `table` each; `file`: those that survive the server.

mod bus;
#[cfg(feature = "store")]
mod file;
mod kv;
mod queues;
mod table;

use std::sync::Arc;

use super::Host;
use super::bucket::{Bucket, BucketOptions, Buckets};
use super::engine::{Answer, Done, Echo, Engine, EngineCounts, Failure, Hear, Link, ReplyTo, Sink, SubscriptionKey};
use super::queues::Queues;
use crate::status::Result;

/// The engine.
pub(crate) struct Local {
    bus: Arc<bus::Bus>,
    queues: Arc<queues::LocalQueues>,
    store: kv::Store,
    host: Arc<dyn Host>,
}

impl Local {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        let (queues, store) = (queues::LocalQueues::new(Arc::clone(&host)), kv::Store::new(Arc::clone(&host)));
        Self { bus: Arc::default(), queues, store, host }
    }
}

impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn link(&self) -> Link {
        Link::Up
    }

    fn payload_bytes_max(&self) -> Option<usize> {
        None
    }

    fn publish(&self, subject: &str, payload: &[u8], echo: Echo) -> Result<()> {
        if echo == Echo::Yes {
            self.bus.publish(subject, payload, None);
        }
        Ok(())
    }

    fn subscribe(&self, subject: &str, group: Option<&str>, _echo: Echo, sink: Sink) -> Result<SubscriptionKey> {
        Ok(self.bus.subscribe(subject, group, sink))
    }

    fn unsubscribe(&self, key: SubscriptionKey) {
        self.bus.unsubscribe(key);
    }

    fn retire(&self, key: SubscriptionKey, ended: Box<dyn FnOnce() + Send>) {
        self.bus.unsubscribe(key);
        ended();
    }

    fn request(&self, subject: &str, payload: &[u8], timeout_ms: u32, done: Done<Answer>) -> Result<()> {
        let request = self.bus.await_answer(done)?;
        let bus = Arc::clone(&self.bus);
        let number = request.number;
        let timed_out = self.host.after(timeout_ms, Box::new(move || bus.time_out(number)));
        if let Err(error) = timed_out {
            self.bus.forget(number);
            return Err(error);
        }
        self.bus.ask(subject, payload, request);
        Ok(())
    }

    fn ask_all(&self, subject: &str, payload: &[u8], timeout_ms: u32, hear: Hear, done: Done<()>) -> Result<()> {
        let request = self.bus.await_answers(hear, done)?;
        let bus = Arc::clone(&self.bus);
        let number = request.number;
        if let Err(error) = self.host.after(timeout_ms, Box::new(move || bus.close_gathering(number))) {
            self.bus.forget(number);
            return Err(error);
        }
        self.bus.ask_all(subject, payload, request);
        Ok(())
    }

    fn ask(&self, subject: &str, payload: &[u8], reply: &ReplyTo) -> Result<()> {
        self.bus.ask_for(subject, payload, reply);
        Ok(())
    }

    fn respond(&self, to: &ReplyTo, payload: &[u8], failure: Option<Failure<'_>>) -> Result<()> {
        self.bus.answer(to, payload, failure);
        Ok(())
    }

    fn every(&self, interval_ms: u32, tick: Box<dyn FnMut() -> bool + Send>) -> Result<()> {
        every(&self.host, interval_ms, tick)
    }

    fn counts(&self) -> EngineCounts {
        EngineCounts::default()
    }

    fn queues(&self) -> &dyn Queues {
        &self.queues
    }

    fn stop(&self, _timeout_ms: u32, gone: Box<dyn FnOnce() + Send>) {
        self.bus.close();
        self.queues.close();
        self.store.stop(gone);
    }
}

impl Buckets for Local {
    fn open_bucket(&self, name: &str, options: &BucketOptions, done: Done<Arc<dyn Bucket>>) -> Result<()> {
        self.store.open(name, options, done)
    }
}

/// Each call starts the timer for the next.
fn every(host: &Arc<dyn Host>, interval_ms: u32, mut tick: Box<dyn FnMut() -> bool + Send>) -> Result<()> {
    let again = Arc::clone(host);
    host.after(
        interval_ms,
        Box::new(move || {
            if tick()
                && let Err(error) = every(&again, interval_ms, tick)
            {
                log::error!("nobody looks at the clock any more: calls may be without an end: {error}");
            }
        }),
    )
}
