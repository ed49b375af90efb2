//! A peer's address in few words.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A peer's address in one word, or for IPv6 in three, so that any thread can read it out of a connection's slot.
///
/// The first word: the kind in bits 0 to 7, the port in 8 to 23, the IPv4 address, or the scope of an IPv6 address, in
/// 32 to 63. Bits 24 to 31 are always zero: the table of connections keeps something of its own there, and would
/// mistake one peer for another if an address had bits in that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(pub(crate) [u64; 3]);

const FAMILY: u64 = 0b11;
const V4: u64 = 1;
const V6: u64 = 2;
/// Beside the family: the peer of a datagram socket.
const DATAGRAM: u64 = 0b100;

impl Peer {
    /// A peer without an address: the other end of a Unix stream socket.
    pub const UNNAMED: Self = Self([0; 3]);

    /// The other end of a Unix datagram socket.
    pub const UNNAMED_DATAGRAM: Self = Self([DATAGRAM, 0, 0]);

    /// The peer of a stream socket.
    pub fn new(address: SocketAddr) -> Self {
        Self::pack(address, 0)
    }

    /// The peer of a datagram socket.
    pub fn datagram(address: SocketAddr) -> Self {
        Self::pack(address, DATAGRAM)
    }

    fn pack(address: SocketAddr, kind: u64) -> Self {
        let head = kind | u64::from(address.port()) << 8;
        match address {
            SocketAddr::V4(v4) => Self([head | V4 | u64::from(u32::from(*v4.ip())) << 32, 0, 0]),
            SocketAddr::V6(v6) => {
                let bits = u128::from(*v6.ip());
                #[allow(clippy::cast_possible_truncation)] // the two halves
                Self([head | V6 | u64::from(v6.scope_id()) << 32, (bits >> 64) as u64, bits as u64])
            }
        }
    }

    /// Of the same kind, but with no address: for a moment in which it is not known.
    pub(crate) fn without_address(self) -> Self {
        if self.is_datagram() { Self::UNNAMED_DATAGRAM } else { Self::UNNAMED }
    }

    /// Whether a peer with this first word has others.
    pub(crate) fn has_more(head: u64) -> bool {
        head & FAMILY == V6
    }

    /// Whether it is the peer of a datagram socket.
    pub fn is_datagram(self) -> bool {
        self.0[0] & DATAGRAM != 0
    }

    /// The address, where there is one.
    pub fn address(self) -> Option<SocketAddr> {
        let [head, high, low] = self.0;
        let port = (head >> 8 & 0xffff) as u16;
        match head & FAMILY {
            V4 => Some(SocketAddr::from((Ipv4Addr::from(u32::try_from(head >> 32).ok()?), port))),
            V6 => {
                let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
                let scope = u32::try_from(head >> 32).ok()?;
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_datagram(), self.address()) {
            (false, Some(address)) => write!(f, "tcp://{address}"),
            (false, None) => f.write_str("unix:"),
            (true, Some(address)) => write!(f, "udp://{address}"),
            (true, None) => f.write_str("unixgram:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peers_are_shown_as_urls() {
        let address = "1.2.3.4:5".parse().unwrap();
        assert_eq!(Peer::new(address).to_string(), "tcp://1.2.3.4:5");
        assert_eq!(Peer::datagram(address).to_string(), "udp://1.2.3.4:5");
        assert_eq!(Peer::datagram("[::1]:5".parse().unwrap()).to_string(), "udp://[::1]:5");
        assert_eq!(Peer::UNNAMED.to_string(), "unix:");
        assert_eq!(Peer::UNNAMED_DATAGRAM.to_string(), "unixgram:");
        assert!(Peer::UNNAMED_DATAGRAM.is_datagram() && !Peer::UNNAMED.is_datagram());
    }

    proptest! {
        #[test]
        fn a_peer_unpacks_to_what_was_packed(v6: bool, bits: u128, port: u16, scope: u32) {
            #[allow(clippy::cast_possible_truncation)] // any 32 bits
            let address = if v6 {
                SocketAddr::V6(SocketAddrV6::new(bits.into(), port, 0, scope))
            } else {
                SocketAddr::from((Ipv4Addr::from(bits as u32), port))
            };
            let (stream, datagram) = (Peer::new(address), Peer::datagram(address));
            prop_assert_eq!(stream.address(), Some(address));
            prop_assert_eq!(datagram.address(), Some(address));
            prop_assert!(datagram.is_datagram() && !stream.is_datagram());
            prop_assert_ne!(stream, datagram);
            prop_assert_eq!((stream.0[0] | datagram.0[0]) >> 24 & 0xff, 0);
            prop_assert_eq!(Peer::has_more(stream.0[0]), v6);
            prop_assert!(v6 || stream.0[1..] == [0, 0]);
        }
    }
}
