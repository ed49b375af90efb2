//! Addresses: the URLs that programs write, and the sockets that listen on them.
//!
//! - `target`: one URL of a list, with its query; `endpoint`: what a URL names, and the addresses behind it.
//! - `listener`: sockets that listen, opened here or adopted; `file`: the files of Unix sockets.
//! - [`systemd`]: the descriptors that systemd passes, and what it wants to be told.
//! - `toward`: sockets that connect.
//! - `cluster_url`: the URLs of clusters.
//! - `peer`: a peer's address in three words; `deadline`: waiting for a socket as its own timeouts allow.

mod cluster_url;
mod deadline;
mod endpoint;
mod file;
mod listener;
mod peer;
pub mod systemd;
mod target;
#[cfg(test)]
mod tests;
mod toward;

use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockRef, Type};

use crate::status::{Error, Result, Status};

pub(crate) use cluster_url::check_name;
pub use cluster_url::{ClusterTarget, ClusterUrl};
pub(crate) use deadline::Deadline;
pub use endpoint::Endpoint;
#[cfg(feature = "cluster")]
pub(crate) use endpoint::{check_reached_at, reached_at};
pub use listener::{ListenMode, Listener};
pub use peer::Peer;
pub use target::Target;
pub(crate) use toward::{ATTEMPT_DELAY_MS, open_toward, outcome};

/// Refuses what is no stream socket.
pub fn check_stream(socket: BorrowedFd<'_>) -> Result<()> {
    match SockRef::from(&socket).r#type() {
        Ok(Type::STREAM) => Ok(()),
        _ => Err(Error::new(Status::BadDescriptor, format!("{} is not a stream socket", socket.as_raw_fd()))),
    }
}

/// The peer of a connected stream socket.
pub fn peer_of_stream(socket: BorrowedFd<'_>) -> Result<Peer> {
    check_stream(socket)?;
    let bad = |_| Error::new(Status::BadDescriptor, format!("{} is not connected", socket.as_raw_fd()));
    let address = SockRef::from(&socket).peer_addr().map_err(bad)?;
    Ok(address.as_socket().map_or(Peer::UNNAMED, Peer::new))
}
