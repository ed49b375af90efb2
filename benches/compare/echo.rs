//! Load: every connection has one message in flight, or one batch of messages, and sends the next when the last has
//! come back whole.

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::sys::{EPOLLIN, EPOLLOUT, Epoll, Events};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 << 10;
const STALLED: Duration = Duration::from_secs(5);

/// Every message starts with a number of its own, so that an answer to another one is noticed.
const STAMP_BYTES: usize = size_of::<u64>();

struct Conn {
    stream: TcpStream,
    stamp: u64,
    sent: usize,
    received: usize,
    sent_at: Instant,
    /// The socket took a part only: epoll tells when it takes more.
    writing: bool,
}

struct Echo {
    epoll: Epoll,
    conns: Vec<Conn>,
    /// What is sent at a time, stamped for whichever connection is at hand.
    message: Vec<u8>,
    stamp_at: Range<usize>,
    buffer: Vec<u8>,
}

pub(crate) fn run(server: &Server, connections: usize, bytes: usize, duration: Duration) -> io::Result<Sample> {
    Echo::connect(server, connections, content(bytes), 0)?.run(server, duration, 1)
}

/// `batch` messages at a time, each with its length in front.
pub(crate) fn run_framed(
    server: &Server,
    connections: usize,
    batch: usize,
    bytes: usize,
    duration: Duration,
) -> io::Result<Sample> {
    let head = u32::try_from(bytes).map_err(io::Error::other)?.to_be_bytes();
    let messages = [&head[..], &content(bytes)].concat().repeat(batch);
    Echo::connect(server, connections, messages, head.len())?.run(server, duration, batch)
}

fn content(bytes: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(bytes).collect()
}

impl Echo {
    fn connect(server: &Server, connections: usize, message: Vec<u8>, stamp_at: usize) -> io::Result<Echo> {
        let stamp_at = stamp_at..stamp_at + STAMP_BYTES;
        assert!(message.len() >= stamp_at.end, "a message holds its stamp");
        let epoll = Epoll::new()?;
        let mut conns = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = TcpStream::connect(server.address)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            // Ends in a reset: no port is left waiting behind a run.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            epoll.add(stream.as_fd(), index, EPOLLIN)?;
            let stamp = (index as u64) << 40;
            conns.push(Conn { stream, stamp, sent: 0, received: 0, sent_at: Instant::now(), writing: false });
        }
        Ok(Echo { epoll, conns, message, stamp_at, buffer: vec![0; READ_BYTES] })
    }

    fn run(mut self, server: &Server, duration: Duration, messages: usize) -> io::Result<Sample> {
        let mut meter = Meter::start(server, duration, messages)?;
        for index in 0..self.conns.len() {
            self.start(index)?;
        }
        let mut events = Events::new();
        loop {
            let count = self.epoll.wait(&mut events, STALLED)?;
            if count == 0 {
                return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
            }
            for event in 0..count {
                let index = events.token(event);
                if self.conns[index].writing {
                    self.send(index)?;
                }
                let (bytes, time) = self.receive(index)?;
                meter.received(bytes);
                if let Some(time) = time {
                    meter.request(time);
                    self.start(index)?;
                }
            }
            if let Some(sample) = meter.turn()? {
                return Ok(sample);
            }
        }
    }

    fn start(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        (conn.stamp, conn.sent, conn.received, conn.sent_at) = (conn.stamp + 1, 0, 0, Instant::now());
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        self.message[self.stamp_at.clone()].copy_from_slice(&conn.stamp.to_ne_bytes());
        while conn.sent < self.message.len() {
            match conn.stream.write(&self.message[conn.sent..]) {
                Ok(bytes) => conn.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let writing = conn.sent < self.message.len();
        if writing != conn.writing {
            conn.writing = writing;
            let events = if writing { EPOLLIN | EPOLLOUT } else { EPOLLIN };
            self.epoll.modify(conn.stream.as_fd(), index, events)?;
        }
        Ok(())
    }

    /// How many bytes came; and the time that the message took, when it is back whole.
    fn receive(&mut self, index: usize) -> io::Result<(usize, Option<Duration>)> {
        let conn = &mut self.conns[index];
        let bytes = match conn.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((0, None)),
            Err(error) => return Err(error),
        };
        let end = conn.received + bytes;
        self.message[self.stamp_at.clone()].copy_from_slice(&conn.stamp.to_ne_bytes());
        if end > conn.sent || self.message[conn.received..end] != self.buffer[..bytes] {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is not what was sent"));
        }
        conn.received = end;
        Ok((bytes, (end == self.message.len()).then(|| conn.sent_at.elapsed())))
    }
}
