//! The question out, one answer in, on a socket that has connected.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use socket2::SockRef;

use super::Failure;
use crate::fault::{self, Call};
use crate::framing::{Framing, Partial, Refused};
use crate::net::Endpoint;
use crate::status::{Error, Result, Status};
use crate::sys;

/// Most bytes that one read takes of a message that has a frame.
const READ_BYTES: usize = 64 << 10;
/// Most bytes that one read takes where it is the whole answer.
const RAW_BYTES_MAX: usize = 1 << 20;

/// One message out and one in.
pub(super) struct Exchange<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) socket: &'a OwnedFd,
    pub(super) framing: &'a Framing,
    pub(super) answer_bytes_max: usize,
    pub(super) until_ms: u64,
    pub(super) may_repeat: bool,
}

/// Why an exchange came to nothing.
enum Broken {
    /// The peer, or the way there.
    Peer(Error),
    /// The answer, or this side: another peer would not mend it.
    Answer(Error),
}

impl Exchange<'_> {
    pub(super) fn run(&self, question: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut is_asked = false;
        self.converse(question, &mut is_asked).map_err(|broken| match broken {
            Broken::Peer(error) => {
                // A datagram that was refused has reached nobody.
                let has_heard = is_asked && !(self.endpoint.is_datagram() && error.status == Status::Refused);
                if has_heard && !self.may_repeat { Failure::Final(error) } else { Failure::Retry(error) }
            }
            Broken::Answer(error) => Failure::Final(error),
        })
    }

    /// Sends while it can and reads while it must: a peer that answers before it has heard all would otherwise wait for
    /// us as we wait for it.
    fn converse(&self, question: &[u8], is_asked: &mut bool) -> Result<Vec<u8>, Broken> {
        let frame = self.framing.frame(question.len()).map_err(Broken::Answer)?;
        let mut parts = [frame.prefix(), question, frame.suffix()].map(IoSlice::new);
        let mut unsent = &mut parts[..];
        IoSlice::advance_slices(&mut unsent, 0);
        // A datagram may be empty.
        let mut is_out = unsent.is_empty() && !self.endpoint.is_datagram();
        let mut reader = Reader::new(self)?;
        // Why the question did not go out. The answer may have come all the same, and says more.
        let mut cut = None;
        loop {
            // Asked here and not left to the poll, which would find a peer ready for ever that sends byte by byte.
            if sys::now_ms() >= self.until_ms {
                let text = format!("{}: no answer in time", self.endpoint);
                return Err(cut.unwrap_or(Broken::Peer(Error::new(Status::Timeout, text))));
            }
            if !is_out {
                match self.send(unsent) {
                    Ok(count) => {
                        *is_asked = true;
                        IoSlice::advance_slices(&mut unsent, count);
                        is_out = unsent.is_empty();
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                        let text =
                            format!("send {}: {} bytes are too long for a datagram", self.endpoint, question.len());
                        return Err(Broken::Answer(Error::new(Status::TooLong, text)));
                    }
                    Err(error) => {
                        cut = Some(Broken::Peer(self.failed("send", &error)));
                        is_out = true;
                        continue;
                    }
                }
            }
            let events = if is_out { libc::POLLIN } else { libc::POLLIN | libc::POLLOUT };
            let ready = sys::poll([(self.socket.as_raw_fd(), events)], Some(self.until_ms));
            let [is_ready] = ready.map_err(|error| Broken::Answer(Error::system("poll", &error)))?;
            if !is_ready {
                continue;
            }
            match reader.read() {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(Broken::Peer(error)) => return Err(cut.unwrap_or(Broken::Peer(error))),
                Err(broken) => return Err(broken),
            }
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = SockRef::from(self.socket);
        loop {
            fault::check(Call::Sendmsg)?;
            match socket.send_vectored_with_flags(parts, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::system(format_args!("{what} {}", self.endpoint), error)
    }
}

/// What has come of the answer.
struct Reader<'a> {
    exchange: &'a Exchange<'a>,
    chunk: Vec<u8>,
    /// What one read takes.
    chunk_bytes: usize,
    partial: Partial,
}

impl<'a> Reader<'a> {
    fn new(exchange: &'a Exchange<'a>) -> Result<Self, Broken> {
        // Where a read is the whole answer, one byte more than may come shows that more has come.
        let is_whole = exchange.framing.is_raw();
        let chunk_bytes = if is_whole { exchange.answer_bytes_max.min(RAW_BYTES_MAX - 1) + 1 } else { READ_BYTES };
        let mut chunk = Vec::new();
        sys::reserve(&mut chunk, chunk_bytes).map_err(|error| Broken::Answer(error.into()))?;
        Ok(Self { exchange, chunk, chunk_bytes, partial: Partial::default() })
    }

    /// Reads once; None: the answer is not whole yet.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let exchange = self.exchange;
        self.chunk.clear();
        match sys::recv_more(exchange.socket.as_fd(), &mut self.chunk) {
            Ok(0) if !exchange.endpoint.is_datagram() => {
                let text = format!("{}: the peer ended without an answer", exchange.endpoint);
                Err(Broken::Peer(Error::new(Status::Eof, text)))
            }
            Ok(_) if exchange.framing.is_raw() => self.whole(),
            Ok(_) => self.framed(),
            // It was only writable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(Broken::Peer(exchange.failed("receive", &error))),
        }
    }

    fn whole(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let count = self.chunk.len();
        // The system has thrown away what of a datagram found no room.
        let is_cut = self.exchange.endpoint.is_datagram() && count >= self.chunk_bytes;
        if is_cut || count > self.exchange.answer_bytes_max {
            return Err(self.too_long());
        }
        Ok(Some(std::mem::take(&mut self.chunk)))
    }

    fn framed(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let mut rest = &self.chunk[..];
        match self.exchange.framing.next(&mut self.partial, &mut rest, self.exchange.answer_bytes_max) {
            Ok(None) => Ok(None),
            Ok(Some(message)) => {
                let mut bytes = Vec::new();
                sys::reserve(&mut bytes, message.len()).map_err(|error| Broken::Answer(error.into()))?;
                bytes.extend_from_slice(message);
                Ok(Some(bytes))
            }
            Err(Refused::TooLong) => Err(self.too_long()),
            Err(Refused::Memory) => Err(Broken::Answer(Status::Memory.into())),
        }
    }

    fn too_long(&self) -> Broken {
        let Exchange { endpoint, answer_bytes_max, .. } = self.exchange;
        let text = format!("{endpoint}: the answer has more than {answer_bytes_max} bytes");
        Broken::Answer(Error::new(Status::TooLong, text))
    }
}
