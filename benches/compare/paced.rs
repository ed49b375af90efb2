//! Load: an echo whose requests are sent when they are due, so many each second, whether or not those before have been
//! answered.
//!
//! A request's time runs from the moment when it was due. So one that is sent late, because the server or this load was held up,
//! has waited all the same: no pause hides the requests that fell into it (coordinated omission). This thread spins between two
//! requests: a sleep would end too late.

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::sys::{EPOLLIN, Epoll, Events};
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 << 10;
const STALLED: Duration = Duration::from_secs(5);

/// After so many requests that are due it looks for answers, however late it is.
const BURST: usize = 32;

struct Conn {
    stream: TcpStream,
    /// The numbers of the requests that are under way.
    asked: VecDeque<usize>,
    /// How much of the first one's answer is there.
    received: usize,
}

struct Pace {
    begin: Instant,
    interval_ns: u64,
}

impl Pace {
    fn due(&self, number: usize) -> Instant {
        self.begin + Duration::from_nanos(number as u64 * self.interval_ns)
    }
}

/// `rate`: requests each second.
pub(crate) fn run(
    server: &Server,
    connections: usize,
    bytes: usize,
    rate: u64,
    duration: Duration,
) -> io::Result<Sample> {
    let epoll = Epoll::new()?;
    let mut conns = Vec::with_capacity(connections);
    for index in 0..connections {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // Ends in a reset: no port is left waiting behind a run.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        epoll.add(stream.as_fd(), index, EPOLLIN)?;
        conns.push(Conn { stream, asked: VecDeque::new(), received: 0 });
    }
    let mut message = vec![0; bytes];
    let mut buffer = vec![0; READ_BYTES];
    let mut events = Events::new();
    let mut meter = Meter::start(server, duration, 1)?;
    let pace = Pace { begin: Instant::now(), interval_ns: 1_000_000_000 / rate };
    let mut number = 0;
    let mut waiting = 0;
    let mut heard = Instant::now();
    loop {
        // What was due by the end is waited for: the slowest answers are those that count.
        let is_over = meter.is_over()?;
        if is_over && waiting == 0 {
            return meter.finish();
        }
        for _ in 0..BURST {
            if is_over || pace.due(number) > Instant::now() {
                break;
            }
            conns[number % connections].ask(number, &mut message)?;
            number += 1;
            waiting += 1;
        }
        for event in 0..epoll.wait(&mut events, Duration::ZERO)? {
            heard = Instant::now();
            waiting -= conns[events.token(event)].hear(&mut message, &mut buffer, |number| {
                meter.request_due(pace.due(number), heard);
            })?;
        }
        if waiting > 0 && heard.elapsed() > STALLED {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
        }
    }
}

/// The content of a request: its number, and the rest from that.
fn fill(message: &mut [u8], number: usize) {
    for (chunk, word) in message.chunks_mut(size_of::<u64>()).zip(number as u64..) {
        chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
    }
}

impl Conn {
    fn ask(&mut self, number: usize, message: &mut [u8]) -> io::Result<()> {
        fill(message, number);
        match self.stream.write(message) {
            Ok(bytes) if bytes == message.len() => self.asked.push_back(number),
            Ok(_) => {
                return Err(io::Error::new(ErrorKind::WriteZero, "the server is behind by more than a socket holds"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Calls `answered` for each request whose answer is whole, and right; returns how many they were.
    fn hear(&mut self, message: &mut [u8], buffer: &mut [u8], mut answered: impl FnMut(usize)) -> io::Result<usize> {
        let bytes = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let mut answer = &buffer[..bytes];
        let mut count = 0;
        while !answer.is_empty() {
            let number = *self.asked.front().ok_or_else(wrong)?;
            fill(message, number);
            let expected = &message[self.received..];
            let (piece, rest) = answer.split_at(expected.len().min(answer.len()));
            if piece != &expected[..piece.len()] {
                return Err(wrong());
            }
            answer = rest;
            self.received += piece.len();
            if self.received == message.len() {
                self.received = 0;
                self.asked.pop_front();
                answered(number);
                count += 1;
            }
        }
        Ok(count)
    }
}

fn wrong() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is not what was sent")
}
