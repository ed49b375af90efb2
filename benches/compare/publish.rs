//! Load: members of one topic. One of them says something, and all of them, it included, are to hear it.

use crate::meter::{Meter, Sample};
use crate::scenarios::Metric;
use crate::server::Server;
use crate::sys::{EPOLLIN, Epoll, Events};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const STALLED: Duration = Duration::from_secs(5);

/// As PEER_LARGE_BYTES in peer.h.
const LARGE_BYTES: usize = 1 << 20;

/// A segment and a receive buffer so small that the kernel takes little for a member that does not read.
const SLOW_SEGMENT_BYTES: u32 = 4 << 10;
const SLOW_BUFFER_BYTES: usize = 16 << 10;

/// Publishes one message after the other, each when all have heard the one before.
pub(crate) fn run(server: &Server, members: usize, bytes: usize, duration: Duration) -> io::Result<Sample> {
    let epoll = Epoll::new()?;
    let mut conns = Vec::with_capacity(members);
    for index in 0..members {
        let conn = connect(server)?;
        epoll.add(conn.as_fd(), index, EPOLLIN)?;
        conns.push(conn);
    }
    let publisher = conns.last().ok_or(ErrorKind::InvalidInput)?;
    ping(publisher)?;
    for conn in &conns {
        conn.set_nonblocking(true)?;
    }
    let mut meter = Meter::start(server, duration, members)?;
    let mut message = vec![0; bytes];
    let mut heard = vec![0; members];
    let mut events = Events::new();
    for number in 1_u64.. {
        message[..size_of::<u64>()].copy_from_slice(&number.to_ne_bytes());
        heard.fill(0);
        let started = Instant::now();
        (&mut &*publisher).write_all(&message)?;
        hear(&epoll, &mut events, &conns, &message, &mut heard)?;
        meter.request(started.elapsed());
        if let Some(sample) = meter.turn()? {
            return Ok(sample);
        }
    }
    Err(ErrorKind::Other.into())
}

/// Returns when every member has the whole message.
fn hear(
    epoll: &Epoll,
    events: &mut Events,
    conns: &[TcpStream],
    message: &[u8],
    heard: &mut [usize],
) -> io::Result<()> {
    let mut buffer = vec![0; message.len()];
    let mut waiting = conns.len();
    while waiting > 0 {
        let count = epoll.wait(events, STALLED)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{waiting} members heard nothing")));
        }
        for event in 0..count {
            let index = events.token(event);
            let rest = &message[heard[index]..];
            // A member that has the whole message and more to read got something twice.
            let bytes = (&mut &conns[index]).read(&mut buffer[..rest.len().max(1)])?;
            if bytes == 0 || bytes > rest.len() || buffer[..bytes] != rest[..bytes] {
                return Err(io::Error::new(ErrorKind::InvalidData, "a member heard what nobody said"));
            }
            heard[index] += bytes;
            if heard[index] == message.len() {
                waiting -= 1;
            }
        }
    }
    Ok(())
}

/// The server's memory while one large message waits for members that read nothing, less that one message; for each
/// member. Then they read, to show that it was there for all of them.
pub(crate) fn run_slow(server: &Server, members: usize) -> io::Result<Sample> {
    let publisher = connect(server)?;
    let mut conns = Vec::with_capacity(members);
    // What is set up once, for a message of that size, is in both readings.
    publish_large(&publisher)?;
    for _ in 0..members {
        conns.push(connect_slow(server)?);
    }
    ping(&connect(server)?)?;
    let before = server.memory()?;
    publish_large(&publisher)?;
    ping(&publisher)?;
    let after = server.memory()?;
    let mut received = vec![0; LARGE_BYTES];
    for conn in &mut conns {
        SockRef::from(&*conn).set_recv_buffer_size(LARGE_BYTES)?;
        conn.read_exact(&mut received)?;
        if received.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(ErrorKind::InvalidData, "a member heard what nobody said"));
        }
    }
    let bytes = (after as f64 - before as f64 - LARGE_BYTES as f64) / members as f64;
    Ok(Sample::of(vec![(Metric::BytesPerMember, bytes)]))
}

/// The publisher is a member, too, and reads: it is not one of those for whom the message waits.
fn publish_large(mut publisher: &TcpStream) -> io::Result<()> {
    let mut received = vec![0; LARGE_BYTES];
    publisher.write_all(b"now")?;
    publisher.read_exact(&mut received)
}

/// A single byte comes back. Connections are accepted in their order, by one thread, and what they say is heard
/// in its order: all before this have joined, and got what was published before.
fn ping(mut conn: &TcpStream) -> io::Result<()> {
    let mut answer = [0];
    conn.write_all(b"?")?;
    conn.read_exact(&mut answer)?;
    if answer == *b"?" { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidData, "this is not what was sent")) }
}

fn connect(server: &Server) -> io::Result<TcpStream> {
    prepared(TcpStream::connect(server.address)?)
}

fn connect_slow(server: &Server) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Both before the connect: they are part of what the two sides agree on.
    socket.set_tcp_mss(SLOW_SEGMENT_BYTES)?;
    socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    socket.connect(&server.address.into())?;
    prepared(socket.into())
}

fn prepared(conn: TcpStream) -> io::Result<TcpStream> {
    conn.set_read_timeout(Some(STALLED))?;
    conn.set_nodelay(true)?;
    SockRef::from(&conn).set_linger(Some(Duration::ZERO))?;
    Ok(conn)
}
