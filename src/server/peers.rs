//! Peers of datagram listeners: each address is a connection, from its first datagram on until it was silent for too
//! long.

use super::context::{Context, Follow};
use super::roster::{self, Roster};
use super::shared::FRAMING_DATAGRAM;
use super::worker::Worker;
use crate::conn::handle::ConnId;
use crate::conn::{Flags, Phase};
use crate::driver::{Driver, Origin};
use crate::net::Peer;
use crate::status::{Error, Result};
use crate::sys;

/// Where the datagrams of a connection come from: to which listener, and from which address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerKey {
    listener: usize,
    origin: Origin,
}

/// The first datagram of a peer that is new.
pub(super) struct NewPeer {
    key: PeerKey,
    data: Vec<u8>,
}

impl Context {
    /// A datagram came to a listener.
    pub(super) fn datagram(&self, listener: usize, origin: Origin, data: &[u8], is_cut: bool) -> Follow {
        if is_cut || data.len() > self.server.limits.message_bytes_max as usize {
            self.me.counters.datagrams_dropped.add(1);
            return Follow::Nothing;
        }
        let key = PeerKey { listener, origin };
        match roster::with(|roster| roster.peers.get(&key).copied()).flatten() {
            Some(id) => {
                self.datagram_of(id, data);
                Follow::Nothing
            }
            None if self.server.stop_at_ms().is_some() => {
                self.me.counters.datagrams_dropped.add(1);
                Follow::Nothing
            }
            None => Follow::Meet(NewPeer { key, data: data.to_vec() }),
        }
    }

    /// A datagram of a peer that is a connection. Those of one that is paused or closing are lost: its socket is not
    /// its own.
    pub(super) fn datagram_of(&self, id: ConnId, data: &[u8]) {
        let is_heard = |conn: &mut roster::Conn| conn.phase == Phase::Open && !conn.flags.has(Flags::PAUSED);
        if roster::with(|roster| roster.conn(id).is_some_and(is_heard)) == Some(true) {
            self.received(id, None, data);
        } else {
            self.me.counters.datagrams_dropped.add(1);
        }
    }
}

impl<D: Driver> Worker<D> {
    /// A peer is new: it becomes a connection of this worker, which is the only one that reads from the listener.
    pub(super) fn meet(&mut self, new: NewPeer) {
        let NewPeer { key, data } = new;
        match self.open_peer(&key) {
            Ok(id) => {
                self.call_opened(id);
                self.settle();
                self.context.datagram_of(id, &data);
            }
            Err(error) => {
                self.context.me.counters.datagrams_dropped.add(1);
                log::warn!("a datagram was dropped: {error}");
            }
        }
    }

    fn open_peer(&mut self, key: &PeerKey) -> Result<ConnId> {
        let (me, server) = (&self.context.me, &self.context.server);
        let peer = match &key.origin {
            Origin::Ip(address) => Peer::datagram(*address),
            Origin::Path(_) | Origin::Unnamed => Peer::UNNAMED_DATAGRAM,
        };
        if !server.admit() {
            return Err(Error::new(crate::status::Status::Again, format!("{peer}: connections_max is reached")));
        }
        let id = me.slots.reserve(peer, FRAMING_DATAGRAM, server.user()).inspect_err(|_| server.dismiss())?;
        let driver = &mut self.driver;
        let attached = roster::with(|roster| roster.insert_peer(id, key)).unwrap_or(Ok(())).and_then(|()| {
            let attached = driver.attach_peer(id, key.listener, &key.origin);
            attached.map_err(|error| Error::system("attach a peer", &error))?;
            roster::with(|roster| roster.announce(id)).unwrap_or(Ok(()))
        });
        if let Err(error) = attached {
            self.driver.close(id, false);
            self.context.lose(id, error.status, false);
            return Err(error);
        }
        Ok(id)
    }
}

impl Roster {
    fn insert_peer(&mut self, id: ConnId, key: &PeerKey) -> Result<()> {
        self.insert(id)?;
        self.peers.try_reserve(1)?;
        self.extra_mut(id)?.peer = Some(sys::boxed(key.clone())?);
        self.peers.insert(key.clone(), id);
        Ok(())
    }
}
