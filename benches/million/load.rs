//! A process of load: it holds connections, and does with them what it is told, a line at a time.

use crate::sys::{self, EPOLLIN, Epoll, Events};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The first argument of such a process.
pub(crate) const ROLE: &str = "load";

/// Bytes of what is published.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// Connections that have asked and have no answer yet: fewer than the queue of any listener.
const WINDOW: usize = 256;
/// Connections from one source address: each has its own ports, of which a part is used, so that a free one is found at once.
const PER_SOURCE: usize = 8_000;
/// The server is busy with others for long; but not for that long.
const STALLED: Duration = Duration::from_secs(60);

/// What is published under this number.
pub(crate) fn message(number: u64) -> [u8; MESSAGE_BYTES] {
    let mut message = [b'.'; MESSAGE_BYTES];
    message[..size_of::<u64>()].copy_from_slice(&number.to_ne_bytes());
    message
}

/// Such a process, from outside.
pub(crate) struct Load {
    child: Child,
    orders: ChildStdin,
    answers: io::BufReader<ChildStdout>,
}

impl Load {
    pub(crate) fn start(number: usize, port: u16, cpu: usize) -> io::Result<Load> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, &number.to_string(), &port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        sys::confine(&mut command, cpu);
        let mut child = command.spawn()?;
        let (orders, answers) = child.stdin.take().zip(child.stdout.take()).ok_or(ErrorKind::BrokenPipe)?;
        Ok(Load { child, orders, answers: io::BufReader::new(answers) })
    }

    pub(crate) fn order(&mut self, order: &str) -> io::Result<()> {
        writeln!(self.orders, "{order}")
    }

    /// Waits until the order is carried out.
    pub(crate) fn done(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim_end() {
            "done" => Ok(()),
            "" => Err(io::Error::other("a process of load is gone")),
            error => Err(io::Error::other(error.to_owned())),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself. Arguments: its number, the server's port.
pub(crate) fn run(arguments: &[String]) -> io::Result<()> {
    let numbers: Option<Vec<u16>> = arguments.iter().map(|argument| argument.parse().ok()).collect();
    let Some(&[number, port]) = numbers.as_deref() else { return Err(ErrorKind::InvalidInput.into()) };
    let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut held = Held { number, server, epoll: Epoll::new()?, events: Events::new(), sockets: Vec::new() };
    for line in io::stdin().lines() {
        let line = line?;
        let (order, value) = line.split_once(' ').unwrap_or((&line, "0"));
        let value = value.parse().map_err(io::Error::other)?;
        let done = match order {
            "open" => held.open(usize::try_from(value).map_err(io::Error::other)?),
            "join" => held.ask_all(*b"+"),
            "hear" => held.hear(value),
            _ => Err(ErrorKind::InvalidInput.into()),
        };
        match done {
            Ok(()) => println!("done"),
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

struct Held {
    number: u16,
    server: SocketAddrV4,
    epoll: Epoll,
    events: Events,
    sockets: Vec<Socket>,
}

impl Held {
    /// Opens so many connections more, and lets each say something and hear the answer.
    fn open(&mut self, count: usize) -> io::Result<()> {
        self.sockets.reserve(count);
        self.each_answered(count, *b"?", |held, _| {
            let socket = held.connect(held.sockets.len())?;
            held.epoll.add(socket.as_fd(), held.sockets.len(), EPOLLIN)?;
            held.sockets.push(socket);
            Ok(held.sockets.len() - 1)
        })
    }

    fn connect(&self, index: usize) -> io::Result<Socket> {
        #[allow(clippy::cast_possible_truncation)] // the bytes of a small number
        let [a, b] = ((index / PER_SOURCE) as u16).to_be_bytes();
        #[allow(clippy::cast_possible_truncation)] // there are few processes
        let source = Ipv4Addr::new(127, 1 + self.number as u8, a, b);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        sys::bind_without_port(socket.as_fd())?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.connect(&self.server.into())?;
        // Ends in a reset: nothing is left waiting behind it.
        socket.set_linger(Some(Duration::ZERO))?;
        Ok(socket)
    }

    /// Lets every connection say something and hear the answer.
    fn ask_all(&mut self, word: [u8; 1]) -> io::Result<()> {
        self.each_answered(self.sockets.len(), word, |_, number| Ok(number))
    }

    /// So many times: takes a connection, lets it say something, and hears the same again; some at a time.
    fn each_answered(
        &mut self,
        count: usize,
        word: [u8; 1],
        mut take: impl FnMut(&mut Self, usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        let (mut asked, mut answered) = (0, 0);
        while answered < count {
            while asked < count && asked - answered < WINDOW {
                let index = take(self, asked)?;
                (&self.sockets[index]).write_all(&word)?;
                asked += 1;
            }
            answered += self.read_ready(&word)?;
        }
        Ok(())
    }

    /// Returns when every connection has heard what was published under this number.
    fn hear(&mut self, number: u64) -> io::Result<()> {
        let message = message(number);
        let mut heard = 0;
        while heard < self.sockets.len() {
            heard += self.read_ready(&message)?;
        }
        Ok(())
    }

    /// Waits, and reads from each connection that has something: exactly this. Says how many those were.
    fn read_ready(&mut self, expected: &[u8]) -> io::Result<usize> {
        let mut buffer = [0; 2 * MESSAGE_BYTES];
        let count = self.epoll.wait(&mut self.events, STALLED)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "the server stopped answering"));
        }
        for event in 0..count {
            let bytes = (&self.sockets[self.events.token(event)]).read(&mut buffer)?;
            if buffer[..bytes] != *expected {
                return Err(io::Error::new(ErrorKind::InvalidData, "a connection heard what nobody said"));
            }
        }
        Ok(count)
    }
}
