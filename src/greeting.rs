//! Greeting one client, blocking, without a server: what the well-known tutorial server does.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::net::{Deadline, Endpoint, ListenMode, Listener, check_stream};
use crate::server;
use crate::status::{Error, Result, Status};
use crate::sys;

/// Where to listen if the program does not say.
pub const DEFAULT_URL: &str = "tcp://0.0.0.0:8888";
/// What to say if the program does not.
pub const DEFAULT_GREETING: &[u8] = b"Hello from server";

/// The tutorial's own queue of pending clients.
const BACKLOG: u32 = 3;
/// How long a client that sends more than is read may take to end its side.
const LINGER_MS: u64 = 1_000;
/// As much as the tutorial reads, where the program wants to see none of it.
const UNSEEN_BYTES: usize = 1024;

/// Listens on `url`, greets the first client and closes everything. Says how many bytes the client sent.
pub fn greet_once(url: &str, greeting: &[u8], buffer: Option<&mut [MaybeUninit<u8>]>) -> Result<usize> {
    server::refuse_in_callback()?;
    let endpoint = Endpoint::parse(url)?;
    let mode = ListenMode { backlog: BACKLOG, reuse_port: true, blocking: true, copies: 1 };
    let listeners = Listener::open(&endpoint, mode)?;
    if listeners.iter().any(Listener::is_datagram) {
        return Err(Error::new(Status::Url, format!("\"{url}\": nobody connects to a datagram socket")));
    }
    listeners.iter().for_each(Listener::commit);
    // A name may have several addresses; the first is enough for one client.
    let listener = listeners.first().expect("an endpoint has an address");
    let client = listener.accept().map_err(|error| Error::system(format_args!("accept {endpoint}"), &error))?;
    let count = greet(client.as_fd(), greeting, buffer)?;
    linger(client.as_fd());
    Ok(count)
}

/// Closing a socket with unread bytes in it resets the connection, and the client may lose the greeting. So our
/// side is ended first, and what the client still sends is thrown away for a moment.
fn linger(client: BorrowedFd<'_>) {
    if !sys::unread(client) {
        return;
    }
    sys::finish(client);
    let until_ms = sys::now_ms() + LINGER_MS;
    let mut unseen = [MaybeUninit::uninit(); UNSEEN_BYTES];
    loop {
        let [is_ready] = sys::poll([(client.as_raw_fd(), libc::POLLIN)], Some(until_ms)).unwrap_or([false]);
        if !is_ready || sys::recv(client, &mut unseen).unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Greets the client of a connected socket that stays the program's.
pub fn greet_fd(socket: BorrowedFd<'_>, greeting: &[u8], buffer: Option<&mut [MaybeUninit<u8>]>) -> Result<usize> {
    server::refuse_in_callback()?;
    check_stream(socket)?;
    greet(socket, greeting, buffer)
}

/// Reads the first bytes, sends the greeting. A zero byte follows what is read.
fn greet(socket: BorrowedFd<'_>, greeting: &[u8], buffer: Option<&mut [MaybeUninit<u8>]>) -> Result<usize> {
    let mut unseen = [MaybeUninit::uninit(); UNSEEN_BYTES];
    let count = match buffer {
        Some(buffer) => {
            let (end, room) = buffer.split_last_mut().expect("a buffer has at least one byte");
            // Without room the bytes are read all the same: the greeting answers them.
            let count = if room.is_empty() { read(socket, &mut unseen).map(|_| 0) } else { read(socket, room) }?;
            room.get_mut(count).unwrap_or(end).write(0);
            count
        }
        None => read(socket, &mut unseen)?,
    };
    let deadline = Deadline::new(socket, libc::POLLOUT)?;
    let mut rest = greeting;
    while !rest.is_empty() {
        match sys::send(socket, rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) => deadline.wait_or_fail(error)?,
        }
    }
    Ok(count)
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [MaybeUninit<u8>]) -> Result<usize> {
    let deadline = Deadline::new(socket, libc::POLLIN)?;
    loop {
        match sys::recv(socket, buffer) {
            Ok(count) => return Ok(count),
            Err(error) => deadline.wait_or_fail(error)?,
        }
    }
}
