//! Load: connect, send, read the greeting, see the end; so many conversations at a time.

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::sys::{self, EPOLLIN, EPOLLOUT, Epoll, Events};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const GREETING: &[u8] = b"Hello from server";
const REQUEST: &[u8] = b"Hello from client";
const STALLED: Duration = Duration::from_secs(5);

/// Source addresses 127.0.0.1 and so on, in turn: each has its own ports.
const SOURCES: u8 = 64;

struct Conversation {
    socket: Socket,
    started: Instant,
    sent: bool,
    received: usize,
}

struct Greet {
    epoll: Epoll,
    server: SocketAddrV4,
    source: u8,
}

pub(crate) fn run(server: &Server, concurrency: usize, duration: Duration) -> io::Result<Sample> {
    let mut greet = Greet { epoll: Epoll::new()?, server: server.address, source: 0 };
    let mut meter = Meter::start(server, duration, 1)?;
    let mut conversations = Vec::with_capacity(concurrency);
    for index in 0..concurrency {
        conversations.push(greet.begin(index)?);
    }
    let mut events = Events::new();
    loop {
        let count = greet.epoll.wait(&mut events, STALLED)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped greeting"));
        }
        for event in 0..count {
            let index = events.token(event);
            let conversation = &mut conversations[index];
            if greet.go_on(index, conversation)? {
                meter.request(conversation.started.elapsed());
                *conversation = greet.begin(index)?;
            }
        }
        if let Some(sample) = meter.turn()? {
            return Ok(sample);
        }
    }
}

impl Greet {
    fn begin(&mut self, index: usize) -> io::Result<Conversation> {
        let started = Instant::now();
        self.source = self.source % SOURCES + 1;
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        sys::bind_without_port(socket.as_fd())?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, self.source), 0).into())?;
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut conversation = Conversation { socket, started, sent: false, received: 0 };
        // On loopback the connection stands by now. Where it does not, epoll tells when.
        conversation.send()?;
        let events = if conversation.sent { EPOLLIN } else { EPOLLIN | EPOLLOUT };
        self.epoll.add(conversation.socket.as_fd(), index, events)?;
        Ok(conversation)
    }

    /// Whether the greeting has come, whole and right, and the end after it.
    fn go_on(&self, index: usize, conversation: &mut Conversation) -> io::Result<bool> {
        if !conversation.sent {
            conversation.send()?;
            if conversation.sent {
                self.epoll.modify(conversation.socket.as_fd(), index, EPOLLIN)?;
            }
            return Ok(false);
        }
        conversation.receive()
    }
}

impl Conversation {
    fn send(&mut self) -> io::Result<()> {
        match (&self.socket).write(REQUEST) {
            Ok(bytes) if bytes == REQUEST.len() => self.sent = true,
            Ok(_) => return Err(io::Error::new(ErrorKind::WriteZero, "a new connection took a part only")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 2 * GREETING.len()];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(0) if self.received == GREETING.len() => return Ok(true),
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the greeting was cut off")),
                Ok(bytes) => {
                    let expected = GREETING.get(self.received..self.received + bytes);
                    if expected != Some(&buffer[..bytes]) {
                        return Err(io::Error::new(ErrorKind::InvalidData, "this is not the greeting"));
                    }
                    self.received += bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
