//! Load: every connection has one message in flight, and sends the next when the last has come back whole.

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::sys::{EPOLLIN, EPOLLOUT, Epoll, Events};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
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
    /// The message, stamped for whichever connection is at hand.
    message: Vec<u8>,
    buffer: Vec<u8>,
}

pub(crate) fn run(server: &Server, connections: usize, bytes: usize, duration: Duration) -> io::Result<Sample> {
    let mut echo = Echo::connect(server, connections, bytes)?;
    let mut meter = Meter::start(server, duration)?;
    for index in 0..connections {
        echo.start(index)?;
    }
    let mut events = Events::new();
    loop {
        let count = echo.epoll.wait(&mut events, STALLED)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
        }
        for event in 0..count {
            let index = events.token(event);
            if echo.conns[index].writing {
                echo.send(index)?;
            }
            if let Some(time) = echo.receive(index)? {
                meter.request(time);
                echo.start(index)?;
            }
        }
        if let Some(sample) = meter.turn()? {
            return Ok(sample);
        }
    }
}

impl Echo {
    fn connect(server: &Server, connections: usize, bytes: usize) -> io::Result<Echo> {
        assert!(bytes >= STAMP_BYTES, "a message holds its stamp");
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
        let message = (0..=u8::MAX).cycle().take(bytes).collect();
        Ok(Echo { epoll, conns, message, buffer: vec![0; READ_BYTES] })
    }

    fn start(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        (conn.stamp, conn.sent, conn.received, conn.sent_at) = (conn.stamp + 1, 0, 0, Instant::now());
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let conn = &mut self.conns[index];
        self.message[..STAMP_BYTES].copy_from_slice(&conn.stamp.to_ne_bytes());
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

    /// The time that the message took, when it is back whole.
    fn receive(&mut self, index: usize) -> io::Result<Option<Duration>> {
        let conn = &mut self.conns[index];
        let bytes = match conn.stream.read(&mut self.buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = conn.received + bytes;
        self.message[..STAMP_BYTES].copy_from_slice(&conn.stamp.to_ne_bytes());
        if end > conn.sent || self.message[conn.received..end] != self.buffer[..bytes] {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is not what was sent"));
        }
        conn.received = end;
        Ok((end == self.message.len()).then(|| conn.sent_at.elapsed()))
    }
}
