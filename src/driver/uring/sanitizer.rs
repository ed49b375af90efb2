//! For the thread sanitizer: it takes from system calls on sockets that who has sent something did so before who receives it,
//! and knows nothing of the kind about rings, nor the sockets that they have accepted. It is told with calls that do nothing
//! else. In every other build this is nothing at all.

use std::io;
use std::os::fd::RawFd;

/// What it is told with. A part of the driver, so that its descriptors come and go with the server.
#[derive(Debug)]
pub(super) struct Sanitizer {
    /// Any socket: to the sanitizer all that connect and are accepted are one.
    #[cfg(thread_sanitizer)]
    any: std::os::unix::net::UnixDatagram,
    #[cfg(thread_sanitizer)]
    listener: (std::os::unix::net::UnixListener, std::os::unix::net::SocketAddr),
}

#[cfg_attr(not(thread_sanitizer), allow(clippy::unnecessary_wraps, clippy::unused_self, unused_variables))]
impl Sanitizer {
    pub(super) fn open() -> io::Result<Self> {
        #[cfg(thread_sanitizer)]
        {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
            use std::sync::atomic::{AtomicU32, Ordering};
            static OPENED: AtomicU32 = AtomicU32::new(0);
            let name = format!("ahoy-sanitizer-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed));
            let address = SocketAddr::from_abstract_name(name)?;
            return Ok(Self { any: UnixDatagram::unbound()?, listener: (UnixListener::bind_addr(&address)?, address) });
        }
        #[cfg(not(thread_sanitizer))]
        Ok(Self {})
    }

    /// Someone has come: what they did before they connected is done. The sanitizer learns that from accepting alone.
    #[inline(always)]
    pub(super) fn accepted(&self) {
        #[cfg(thread_sanitizer)]
        if let Ok(_peer) = std::os::unix::net::UnixStream::connect_addr(&self.listener.1) {
            let _ = self.listener.0.accept();
        }
    }

    /// Something has come to this socket: what was done before it was sent is done.
    #[inline(always)]
    pub(super) fn received(&self, socket: RawFd) {
        #[cfg(thread_sanitizer)]
        for socket in [socket, std::os::fd::AsRawFd::as_raw_fd(&self.any)] {
            // SAFETY: it reads no bytes.
            unsafe { libc::read(socket, std::ptr::null_mut(), 0) };
        }
    }

    /// Something goes to this socket: what was done so far is done before that is received.
    #[inline(always)]
    pub(super) fn sends(&self, socket: RawFd) {
        #[cfg(thread_sanitizer)]
        for socket in [socket, std::os::fd::AsRawFd::as_raw_fd(&self.any)] {
            // SAFETY: it sends no messages.
            unsafe { libc::sendmmsg(socket, std::ptr::null_mut(), 0, 0) };
        }
    }
}
