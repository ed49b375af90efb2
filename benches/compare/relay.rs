//! Load: clients in front of a relay, and the target behind it. Both are this process.

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::sys::{EPOLLIN, EPOLLOUT, Epoll, Events};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const STALLED: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 256 << 10;

/// What is sent repeats itself after so many bytes, a prime: a piece that is lost or moved shows.
const PERIOD_BYTES: usize = 251;

/// A client and the connection that the relay has opened for it.
struct Pair {
    client: TcpStream,
    target: TcpStream,
    sent: usize,
    received: usize,
    sent_at: Instant,
}

/// One after the other, so that it is known whose connection the relay opens.
fn connect(server: &Server, target: &TcpListener, connections: usize) -> io::Result<Vec<Pair>> {
    // As `accept` is told: a relay that does not come is an error, not a wait without end.
    SockRef::from(target).set_read_timeout(Some(STALLED))?;
    let mut pairs = Vec::with_capacity(connections);
    for _ in 0..connections {
        let client = TcpStream::connect(server.address)?;
        let (target, _) = target.accept()?;
        for stream in [&client, &target] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            // Ends in a reset: no port is left waiting behind a run.
            SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        pairs.push(Pair { client, target, sent: 0, received: 0, sent_at: Instant::now() });
    }
    Ok(pairs)
}

/// The clients write `bytes` at a time, as much as goes.
pub(crate) fn run_bulk(
    server: &Server,
    target: &TcpListener,
    connections: usize,
    bytes: usize,
    duration: Duration,
) -> io::Result<Sample> {
    let mut pairs = connect(server, target, connections)?;
    let epoll = Epoll::new()?;
    for (index, pair) in pairs.iter().enumerate() {
        epoll.add(pair.client.as_fd(), index, EPOLLOUT)?;
        epoll.add(pair.target.as_fd(), connections + index, EPOLLIN)?;
    }
    let content = content(bytes.max(READ_BYTES) + PERIOD_BYTES);
    let at = |position: usize| &content[position % PERIOD_BYTES..];
    let mut buffer = vec![0; READ_BYTES];
    let mut meter = Meter::start(server, duration, 1)?;
    let mut events = Events::new();
    loop {
        for event in 0..wait(&epoll, &mut events)? {
            let index = events.token(event);
            if let Some(pair) = pairs.get_mut(index) {
                pair.sent += taken((&pair.client).write(&at(pair.sent)[..bytes]))?;
                continue;
            }
            let pair = &mut pairs[index - connections];
            let bytes = given((&pair.target).read(&mut buffer))?;
            if buffer[..bytes] != at(pair.received)[..bytes] {
                return Err(io::Error::new(ErrorKind::InvalidData, "what came is not what was sent"));
            }
            pair.received += bytes;
            meter.received(bytes);
        }
        if let Some(sample) = meter.turn()? {
            return Ok(sample);
        }
    }
}

/// Each client has one message in flight; the target sends it back.
pub(crate) fn run_echo(
    server: &Server,
    target: &TcpListener,
    connections: usize,
    bytes: usize,
    duration: Duration,
) -> io::Result<Sample> {
    let mut pairs = connect(server, target, connections)?;
    let epoll = Epoll::new()?;
    let content = content(bytes + PERIOD_BYTES);
    // Each message begins where the last one ended: an answer to another one is noticed.
    let start = |pair: &mut Pair| {
        pair.sent_at = Instant::now();
        (&pair.client).write_all(&content[pair.sent % PERIOD_BYTES..][..bytes])?;
        pair.sent += bytes;
        io::Result::Ok(())
    };
    for (index, pair) in pairs.iter_mut().enumerate() {
        epoll.add(pair.client.as_fd(), index, EPOLLIN)?;
        epoll.add(pair.target.as_fd(), connections + index, EPOLLIN)?;
        start(pair)?;
    }
    let mut buffer = vec![0; bytes];
    let mut meter = Meter::start(server, duration, 2)?;
    let mut events = Events::new();
    loop {
        for event in 0..wait(&epoll, &mut events)? {
            let index = events.token(event);
            let Some(pair) = pairs.get_mut(index) else {
                let mut target = &pairs[index - connections].target;
                let bytes = given(target.read(&mut buffer))?;
                target.write_all(&buffer[..bytes])?;
                continue;
            };
            let bytes = given((&pair.client).read(&mut buffer))?;
            let expected = &content[pair.received % PERIOD_BYTES..][..bytes];
            if pair.received + bytes > pair.sent || buffer[..bytes] != *expected {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer is not what was sent"));
            }
            pair.received += bytes;
            if pair.received == pair.sent {
                meter.request(pair.sent_at.elapsed());
                start(pair)?;
            }
        }
        if let Some(sample) = meter.turn()? {
            return Ok(sample);
        }
    }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).take(PERIOD_BYTES).cycle().take(bytes).collect()
}

fn wait(epoll: &Epoll, events: &mut Events) -> io::Result<usize> {
    match epoll.wait(events, STALLED)? {
        0 => Err(io::Error::new(ErrorKind::TimedOut, "the relay stopped")),
        count => Ok(count),
    }
}

/// How much a socket took; that it has no room is no error.
fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// How much a socket gave.
fn given(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the relay hung up")),
        read => taken(read),
    }
}
