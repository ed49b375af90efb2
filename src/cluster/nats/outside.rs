//! A client that is no member: it connects to the cluster's servers for one question. Blocking; on a thread that may wait.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Request};
use bytes::Bytes;
use futures_util::StreamExt;
use socket2::SockAddr;
use tokio::runtime::Builder;

use super::bus::{mark_of, send_within};
use super::error;
use super::link::identified;
use crate::cluster::engine::Mark;
use crate::cluster::find::{find_subject, service_subject};
use crate::cluster::members::Heartbeat;
use crate::cluster::options::ClusterOptions;
use crate::fault::{self, Call};
use crate::log::Inside;
use crate::net::{ClusterTarget, Endpoint, Target};
use crate::status::{Error, Result, Status};
use crate::sys;

/// How long the first answer may take, and each after the one before it.
const FIRST: Duration = Duration::from_millis(800);
const NEXT: Duration = Duration::from_millis(60);
const CONNECT: Duration = Duration::from_secs(1);
/// So many answers, and addresses in them, are enough to choose from.
const ANSWERS_MAX: usize = 4_096;
const ADDRESSES_MAX: usize = 256;
/// Nodes' names that are looked up, and for how long no further one is begun.
const NAMES_MAX: usize = 16;
const NAMES: Duration = Duration::from_secs(2);

/// The addresses of the nodes that listen under the target's name now, in an order of chance: many clients spread.
/// `NoService`: none does.
pub(crate) fn look_up(target: &ClusterTarget, options: &ClusterOptions) -> Result<Vec<SockAddr>> {
    let random = RandomState::new();
    let mut answers = block_on(gather(target, options))?;
    answers.sort_by_cached_key(|heartbeat| random.hash_one(&heartbeat.addresses));
    // Names take their time, and whoever publishes to the cluster may tell any number of them.
    let (began, mut names) = (Instant::now(), 0);
    let mut is_worth_it = |endpoint: &Endpoint| {
        let is_name = !endpoint.is_literal();
        names += usize::from(is_name);
        !is_name || names <= NAMES_MAX && began.elapsed() < NAMES
    };
    let mut addresses = Vec::new();
    for heartbeat in &answers {
        let endpoints = listening(&heartbeat.addresses, target.name.as_deref());
        addresses.extend(endpoints.filter(&mut is_worth_it).filter_map(|endpoint| endpoint.look_up().ok()).flatten());
        if addresses.len() >= ADDRESSES_MAX {
            break;
        }
    }
    if addresses.is_empty() {
        return Err(Error::new(Status::NoService, format!("{target}: no node listens there")));
    }
    addresses.sort_by_cached_key(|address| random.hash_one(address.as_socket()));
    Ok(addresses)
}

/// Calls a service of the cluster once. `NoService`: nobody offers it; `UnknownOutcome`: the answer is lost. With any other
/// error it was not called, but for `Failed`, which the service says.
pub(crate) fn call(target: &ClusterTarget, question: &[u8], until_ms: u64) -> Result<Vec<u8>> {
    // On a thread of its own, with all signals blocked: a broken pipe would end the host otherwise, and what the runtime starts
    // would get its handlers.
    std::thread::scope(|scope| {
        let thread = fault::check(Call::Spawn).and_then(|()| {
            sys::with_signals_blocked(|| {
                let builder = std::thread::Builder::new().name("ahoy-ask".to_owned());
                builder.spawn_scoped(scope, || {
                    let _inside = Inside::enter();
                    block_on(ask(target, question, until_ms))
                })
            })
        });
        let thread =
            thread.map_err(|error| Error { status: Status::Thread, ..Error::system("start a thread", &error) })?;
        // The question may be out already.
        thread.join().unwrap_or_else(|_| Err(Status::UnknownOutcome.into()))
    })
}

async fn ask(target: &ClusterTarget, question: &[u8], until_ms: u64) -> Result<Vec<u8>> {
    let left = || Duration::from_millis(until_ms.saturating_sub(sys::now_ms()));
    let late = |_| Error::new(Status::Timeout, format!("{target}: not connected in time"));
    let client = tokio::time::timeout(left(), connect(target, &ClusterOptions::default())).await.map_err(late)??;
    let service = target.name.as_deref().unwrap_or_default();
    let request = Request::new().payload(Bytes::copy_from_slice(question));
    let answer = send_within(&client, &service_subject(&target.cluster.name, service), request, left()).await;
    let answer = answer.map_err(|kind| {
        let error = error::of_request(kind, &target.to_string());
        let is_lost = matches!(error.status, Status::Timeout | Status::Disconnected);
        if is_lost { Error { status: Status::UnknownOutcome, ..error } } else { error }
    })?;
    match mark_of(&answer) {
        Mark::Failure(failure) => Err(failure.error()),
        Mark::Unheard => Err(Error::new(Status::NoService, format!("{target}: nobody offers it"))),
        Mark::None => Ok(answer.payload.to_vec()),
    }
}

/// Runs it on this thread. What the runtime needs is gone afterwards, the connection included.
fn block_on<T>(body: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Error::system("open a runtime", &error))?;
    let result = runtime.block_on(body);
    runtime.shutdown_background();
    result
}

async fn connect(target: &ClusterTarget, options: &ClusterOptions) -> Result<Client> {
    let url = &target.cluster;
    let connect = ConnectOptions::new().connection_timeout(CONNECT).max_reconnects(url.servers.len());
    let connect = identified(connect, &options.for_client(url))?;
    connect.connect(url.servers.as_slice()).await.map_err(|failed| error::of_connect(&failed, url))
}

/// What everybody answers who is there. Nobody knows how many that are: those who are slower than the others by far are
/// left out, and would not be a good choice either.
async fn gather(target: &ClusterTarget, options: &ClusterOptions) -> Result<Vec<Heartbeat>> {
    let client = connect(target, options).await?;
    let gone = || Error::new(Status::Disconnected, "the cluster's server is gone");
    let inbox = client.new_inbox();
    let mut subscriber = client.subscribe(inbox.clone()).await.map_err(|_| gone())?;
    let subject = find_subject(&target.cluster.name);
    client.publish_with_reply(subject, inbox, Bytes::new()).await.map_err(|_| gone())?;
    let mut answers = Vec::new();
    let until = Instant::now() + FIRST;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let patience = if answers.is_empty() { left } else { left.min(NEXT) };
        match tokio::time::timeout(patience, subscriber.next()).await {
            Ok(Some(message)) if message.status.is_none() => answers.extend(Heartbeat::read(&message.payload)),
            Ok(_) | Err(_) => return Ok(answers),
        }
        // Whoever answers again and again is not heard for ever.
        if left.is_zero() || answers.len() >= ANSWERS_MAX {
            return Ok(answers);
        }
    }
}

/// Those of a node's addresses that a stream can be opened to, under a name or any.
fn listening<'a>(addresses: &'a str, name: Option<&'a str>) -> impl Iterator<Item = Endpoint> + 'a {
    let targets = addresses.split(',').filter_map(|url| Target::parse(url).ok());
    let meant = targets.filter(move |target| name.is_none() || target.name.as_deref() == name);
    meant.map(|target| target.endpoint).filter(|endpoint| matches!(endpoint, Endpoint::Tcp { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_of_the_name_are_meant() {
        let addresses = "tcp://127.0.0.1:1?name=echo,tcp://127.0.0.1:2,udp://127.0.0.1:3?name=echo,nonsense,unix:/a";
        let ports = |name| -> Vec<u16> {
            let addresses = listening(addresses, name).filter_map(|endpoint| endpoint.look_up().ok()).flatten();
            addresses.filter_map(|address| Some(address.as_socket()?.port())).collect()
        };
        assert_eq!(ports(Some("echo")), [1]);
        assert_eq!(ports(None), [1, 2]);
        assert!(ports(Some("other")).is_empty());
    }
}
