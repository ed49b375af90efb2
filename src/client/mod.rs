//! Asking one question, blocking, without a server.
//!
//! - `race`: from addresses to a socket that has connected; servers open their outgoing connections with it, too.
//! - `exchange`: the question out, one answer in.

mod exchange;
mod race;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockAddr;

use self::exchange::Exchange;
use crate::cluster;
use crate::framing::Framing;
use crate::net::{ClusterTarget, Endpoint, Target};
use crate::resolver;
use crate::server;
use crate::status::{Error, Result, Status};
use crate::sys;

/// The time for all of it if the program does not say.
const TIMEOUT_MS: u32 = 10_000;
/// Longest answer that the program does not want to see.
const UNSEEN_BYTES_MAX: usize = 1 << 20;

/// How to ask.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    /// Of the question and of the answer, where the URL does not say otherwise.
    pub framing: Framing,
    /// Milliseconds for all of it. 0: 10,000.
    pub timeout_ms: u32,
    /// The question may be asked twice.
    pub idempotent: bool,
}

/// Asks one question at the first of the URLs that can be reached, and waits for the answer. Says how long it is; a zero
/// byte follows it in `buffer`, which is left alone on an error.
pub fn request(
    urls: &str,
    options: &RequestOptions,
    question: &[u8],
    buffer: Option<&mut [MaybeUninit<u8>]>,
) -> Result<usize> {
    server::refuse_in_callback()?;
    let answer_bytes_max = buffer.as_ref().map_or(UNSEEN_BYTES_MAX, |buffer| buffer.len().saturating_sub(1));
    let answer = answer(urls, options, question, answer_bytes_max)?;
    Ok(deliver(&answer, buffer))
}

fn answer(urls: &str, options: &RequestOptions, question: &[u8], answer_bytes_max: usize) -> Result<Vec<u8>> {
    let mut plans = Vec::new();
    for target in Target::parse_list(urls)? {
        plans.push(Plan::new(target, options, question)?);
    }
    let timeout_ms = if options.timeout_ms == 0 { TIMEOUT_MS } else { options.timeout_ms };
    let until_ms = sys::now_ms() + u64::from(timeout_ms);
    let mut failure = Error::from(Status::Url);
    for (at, plan) in plans.iter().enumerate() {
        let now_ms = sys::now_ms();
        let share_until_ms = now_ms + until_ms.saturating_sub(now_ms) / (plans.len() - at) as u64;
        match plan.ask(question, answer_bytes_max, share_until_ms, until_ms) {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Retry(error)) => failure = error,
        }
    }
    Err(failure)
}

/// What stopped one URL, and whether the next may stand in for it.
enum Failure {
    Retry(Error),
    Final(Error),
}

/// One URL, with all that can be known of it before anybody is asked.
struct Plan {
    endpoint: Endpoint,
    /// None: a name has to be looked up.
    addresses: Option<Vec<SockAddr>>,
    framing: Framing,
    /// The question may be asked twice: the program says so, or nothing at all is sent.
    may_repeat: bool,
}

impl Plan {
    fn new(target: Target, options: &RequestOptions, question: &[u8]) -> Result<Self> {
        let Target { endpoint, framing, .. } = target;
        let is_datagram = endpoint.is_datagram();
        let framing = match framing {
            // A datagram is a message by itself.
            _ if is_datagram => Framing::Raw,
            Some(framing) => framing,
            None => options.framing.clone(),
        };
        framing.frame(question.len())?;
        let addresses = endpoint.literal()?;
        let sends_nothing = question.is_empty() && framing.is_raw() && !is_datagram;
        Ok(Self { endpoint, addresses, framing, may_repeat: options.idempotent || sends_nothing })
    }

    /// Asks at one URL, which has to be reached in its share of the time.
    fn ask(
        &self,
        question: &[u8],
        answer_bytes_max: usize,
        share_until_ms: u64,
        until_ms: u64,
    ) -> Result<Vec<u8>, Failure> {
        let found = match &self.addresses {
            Some(addresses) => Ok(addresses.clone()),
            None => look_up(&self.endpoint, share_until_ms),
        };
        // Where no node listens under the name, it may be that of a service.
        if let (Err(error), Endpoint::Cluster(target)) = (&found, &self.endpoint)
            && error.status == Status::NoService
            && target.name.is_some()
        {
            return self.call(target, question, answer_bytes_max, until_ms);
        }
        let mut addresses = VecDeque::from(found.map_err(Failure::Retry)?);
        loop {
            let socket = race::connect(&self.endpoint, &mut addresses, share_until_ms).map_err(Failure::Retry)?;
            let exchange = Exchange {
                endpoint: &self.endpoint,
                socket: &socket,
                framing: &self.framing,
                answer_bytes_max,
                // Who has got the question has all the time that is left, if nobody else may be asked.
                until_ms: if self.may_repeat { share_until_ms } else { until_ms },
                may_repeat: self.may_repeat,
            };
            match exchange.run(question) {
                // A name's other addresses stand in for it before the other URLs do.
                Err(Failure::Retry(_)) if !addresses.is_empty() && sys::now_ms() < share_until_ms => {}
                result => return result,
            }
        }
    }
}

impl Plan {
    /// Calls a service of a cluster; once more if it may be called twice and the answer was lost.
    fn call(
        &self,
        target: &ClusterTarget,
        question: &[u8],
        answer_bytes_max: usize,
        until_ms: u64,
    ) -> Result<Vec<u8>, Failure> {
        let now_ms = sys::now_ms();
        let half_ms = now_ms + until_ms.saturating_sub(now_ms) / 2;
        let first = cluster::call_from_outside(target, question, if self.may_repeat { half_ms } else { until_ms });
        let answer = match first {
            Err(error) if error.status == Status::UnknownOutcome && self.may_repeat => {
                cluster::call_from_outside(target, question, until_ms)
            }
            other => other,
        };
        match answer {
            Ok(answer) if answer.len() > answer_bytes_max => Err(Failure::Final(Status::TooLong.into())),
            Ok(answer) => Ok(answer),
            // Otherwise it was not called, as when an address does not answer: the next one may be.
            Err(error) if matches!(error.status, Status::UnknownOutcome | Status::Failed | Status::TooLong) => {
                Err(Failure::Final(error))
            }
            Err(error) => Err(Failure::Retry(error)),
        }
    }
}

/// Looks a name up on another thread, so that a name server that does not answer cannot hold up this one.
fn look_up(endpoint: &Endpoint, until_ms: u64) -> Result<Vec<SockAddr>> {
    // Of one value and one thread that waits for it a channel would make ten times the code.
    let answer = Arc::new((Mutex::new(None), Condvar::new()));
    let done = {
        let answer = Arc::clone(&answer);
        Box::new(move |found| {
            let (place, has_come) = &*answer;
            // An answer that comes too late finds nobody.
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            has_come.notify_one();
        })
    };
    resolver::resolve(endpoint.clone(), None, until_ms, done)?;
    let (place, has_come) = &*answer;
    let place = place.lock().unwrap_or_else(PoisonError::into_inner);
    let left = Duration::from_millis(until_ms.saturating_sub(sys::now_ms()));
    let (mut place, _) =
        has_come.wait_timeout_while(place, left, |found| found.is_none()).unwrap_or_else(PoisonError::into_inner);
    let late = || Err(Error::new(Status::Timeout, format!("{endpoint}: the name was not resolved in time")));
    place.take().unwrap_or_else(late)
}

/// Copies the answer to where the program wants it, with a zero byte behind.
fn deliver(answer: &[u8], buffer: Option<&mut [MaybeUninit<u8>]>) -> usize {
    if let Some(buffer) = buffer {
        for (to, from) in buffer.iter_mut().zip(answer.iter().chain(&[0])) {
            to.write(*from);
        }
    }
    answer.len()
}
