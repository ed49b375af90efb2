//! Addresses: a connection's name in the whole cluster. It is the life of the node that has it, and its handle there, so that it
//! is never another's. Whoever may publish to the cluster's subjects can send to a connection.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::calls::Kept;
use super::engine::with;
use super::engine::{Answer, Echo, Message};
use super::hold::Hold;
use super::{Cluster, Done};
use crate::status::{Error, Result, Status};

/// Names a connection of any node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// The incarnation.
    pub(crate) node: u64,
    /// The handle there.
    pub(crate) conn: u64,
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}{:016x}", self.node, self.conn)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Status::Invalid, "an address has 32 hexadecimal digits");
        // A sign would be taken for a part of the number.
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let half = |text| u64::from_str_radix(text, 16).map_err(|_| bad());
        Ok(Self { node: half(&text[..16])?, conn: half(&text[16..])? })
    }
}

/// A message for a connection of another node, until it is known what has become of it.
struct Parcel {
    cluster: Arc<Cluster>,
    address: Address,
    data: Kept,
    until: Instant,
    /// None: it was told, or nobody is to be.
    done: Option<Done<()>>,
    _hold: Hold,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.tell(Err(Status::Stopped.into()));
    }
}

/// How long to wait before a node that changes its server is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Cluster {
    fn conn_subject(&self, address: Address) -> String {
        format!("{}.conn.{:016x}.{:016x}", self.name, address.node, address.conn)
    }

    /// Takes messages for our connections from here on.
    pub(super) fn begin_addresses(self: &Arc<Self>) -> Result<()> {
        let sink = with(&Arc::downgrade(self), |cluster, message| cluster.deliver(message));
        let subject = format!("{}.conn.{:016x}.*", self.name, self.members.incarnation);
        self.engine.subscribe(&subject, None, Echo::Yes, sink).map(drop)
    }

    fn deliver(&self, message: &Message<'_>) {
        let sent = address_of(message.subject).and_then(|address| self.host.send(address.conn, message.payload));
        if let Err(error) = &sent {
            log::debug!("{:?}: {error}", message.subject);
        }
        let Some(reply) = &message.reply else { return };
        let status = sent.map_or_else(|error| error.status, |()| Status::Ok);
        if let Err(error) = self.engine.respond(reply, status.name().to_bytes(), None) {
            log::debug!("an answer was not sent: {error}");
        }
    }

    /// The address of a connection of ours.
    pub(crate) fn address(&self, conn: u64) -> Address {
        Address { node: self.members.incarnation, conn }
    }

    fn is_ours(&self, address: Address) -> bool {
        address.node == self.members.incarnation
    }

    /// Sends a message to a connection of any node, at most once.
    pub(crate) fn send_to(&self, address: Address, data: &[u8]) -> Result<()> {
        if self.is_ours(address) {
            return self.host.send(address.conn, data);
        }
        if self.is_local() {
            return Err(Status::Stale.into());
        }
        self.engine.publish(&self.conn_subject(address), data, Echo::No)
    }

    /// The same, and tells what has become of it. `done` may be called before this returns.
    pub(crate) fn send_to_confirmed(self: &Arc<Self>, address: Address, data: &[u8], done: Done<()>) -> Result<()> {
        let _inside = self.enter()?;
        let hold = self.hold()?;
        if self.is_ours(address) || self.is_local() {
            done(self.send_to(address, data));
            return Ok(());
        }
        self.check_payload(data.len())?;
        let data = self.calls.keep(data)?;
        let until = Instant::now() + Duration::from_millis(u64::from(self.timeout_ms));
        let done = Some(done);
        let parcel = Box::new(Parcel { cluster: Arc::clone(self), address, data, until, done, _hold: hold });
        parcel.send().map_err(|(error, mut parcel)| {
            parcel.done = None;
            error
        })
    }
}

/// A parcel that two may want to have; the first one gets it.
#[derive(Clone)]
struct Shelf(Arc<Mutex<Option<Box<Parcel>>>>);

impl Shelf {
    fn new(parcel: Box<Parcel>) -> Self {
        Self(Arc::new(Mutex::new(Some(parcel))))
    }

    fn take(&self) -> Option<Box<Parcel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Parcel {
    /// Sends it. On an error it was not sent, and comes back.
    fn send(self: Box<Self>) -> Result<(), (Error, Box<Self>)> {
        let (cluster, data) = (Arc::clone(&self.cluster), Arc::clone(&self.data.payload));
        let subject = cluster.conn_subject(self.address);
        let left = self.until.saturating_duration_since(Instant::now()).as_millis();
        let left_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        let shelf = Shelf::new(self);
        let answered = {
            let shelf = shelf.clone();
            move |answer| {
                if let Some(parcel) = shelf.take() {
                    parcel.answered(answer);
                }
            }
        };
        cluster.engine.request(&subject, &data, left_ms, Box::new(answered)).or_else(|error| {
            // It was not accepted: nobody else takes it.
            shelf.take().map_or(Ok(()), |parcel| Err((error, parcel)))
        })
    }

    fn answered(mut self: Box<Self>, answer: Result<Answer>) {
        let result = match answer {
            Ok(answer) => read(&answer.payload),
            // Nobody has heard it. A member that is not there for a moment changes its server.
            Err(error) if error.status == Status::NoService => {
                if !self.cluster.members.others().contains(&self.address.node) {
                    Err(Status::Stale.into())
                } else if Instant::now() + RETRY < self.until {
                    return self.send_later();
                } else {
                    Err(Error::new(Status::Disconnected, "the connection's node cannot be reached at present"))
                }
            }
            Err(error) if matches!(error.status, Status::Timeout | Status::Disconnected) => {
                Err(Error::new(Status::UnknownOutcome, "the connection's node has not answered"))
            }
            Err(error) => Err(error),
        };
        self.tell(result);
    }

    fn send_later(self: Box<Self>) {
        let host = Arc::clone(&self.cluster.host);
        let shelf = Shelf::new(self);
        let task = {
            let shelf = shelf.clone();
            move || {
                let sent = shelf.take().map_or(Ok(()), Parcel::send);
                sent.unwrap_or_else(|(error, mut parcel)| parcel.tell(Err(error)));
            }
        };
        #[allow(clippy::cast_possible_truncation)] // it is short
        if let Err(error) = host.after(RETRY.as_millis() as u32, Box::new(task))
            && let Some(mut parcel) = shelf.take()
        {
            parcel.tell(Err(error));
        }
    }

    fn tell(&mut self, result: Result<()>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

/// The last two tokens of a subject. Nothing else names a connection, however much it looks like a number.
fn address_of(subject: &str) -> Result<Address> {
    let mut tokens = subject.rsplitn(3, '.');
    let (conn, node) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
    let address = if conn.len() == 16 { format!("{node}{conn}").parse() } else { Err(Status::Stale.into()) };
    address.map_err(|_| Status::Stale.into())
}

/// The answer is the name of a status.
fn read(answer: &[u8]) -> Result<()> {
    match Status::all().find(|status| status.name().to_bytes() == answer) {
        Some(Status::Ok) => Ok(()),
        Some(status) => Err(status.into()),
        None => Err(Error::new(Status::UnknownOutcome, "the answer is none of ours")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_address_is_refused() {
        let good = "0123456789abcdefFEDCBA9876543210";
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good.to_lowercase());
        let long = format!("{good}0");
        let signed = good.replacen('0', "+", 1);
        let wide = format!("{}é", &good[..30]);
        for text in ["", "0", &good[1..], &long, &signed, &wide, &good.replace('a', "g"), &good.replace('a', " ")] {
            assert_eq!(text.parse::<Address>().unwrap_err().status, Status::Invalid, "{text}");
        }
    }

    #[test]
    fn a_subject_has_an_address() {
        let subject = "chat.conn.0000000000000001.00000000000000ff";
        assert_eq!(address_of(subject).unwrap(), Address { node: 1, conn: 255 });
        for subject in
            ["", "a", "chat.conn.1.2", "c.0000000000000001.+0000000000000ff", "c.1000000000000000100.000000000000f"]
        {
            assert_eq!(address_of(subject).unwrap_err().status, Status::Stale, "{subject}");
        }
    }

    #[test]
    fn an_answer_is_a_status() {
        assert!(read(b"AHOY_OK").is_ok());
        assert_eq!(read(b"AHOY_ERR_AGAIN").unwrap_err().status, Status::Again);
        assert_eq!(read(b"").unwrap_err().status, Status::UnknownOutcome);
        assert_eq!(read(b"AHOY_OK ").unwrap_err().status, Status::UnknownOutcome);
    }

    proptest! {
        #[test]
        fn an_address_comes_back(node in any::<u64>(), conn in any::<u64>()) {
            let address = Address { node, conn };
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }
}
