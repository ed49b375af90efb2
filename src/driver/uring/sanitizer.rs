//! For the thread sanitizer: it takes from system calls on sockets that who has sent something did so before who receives it,
//! and knows nothing of the kind about rings, nor the sockets that they have accepted. It is told with calls that do nothing
//! else. In every other build this is nothing at all.

#[cfg(thread_sanitizer)]
use std::io;
use std::os::fd::RawFd;

/// Any socket: to the sanitizer all that connect and are accepted are one. Each thread has its own, for as long as it lives.
#[cfg(thread_sanitizer)]
fn any() -> RawFd {
    use std::os::fd::{AsRawFd, OwnedFd};
    thread_local! {
        // SAFETY: the call takes numbers and gives a descriptor that is ours alone.
        static ANY: Option<OwnedFd> = unsafe { crate::sys::owned(libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)) }.ok();
    }
    ANY.with(|any| any.as_ref().map_or(-1, AsRawFd::as_raw_fd))
}

/// Opens what it needs on this thread, now: who counts descriptors later is not to find more of them.
#[inline(always)]
pub(super) fn begin() {
    #[cfg(thread_sanitizer)]
    {
        any();
        accepted();
    }
}

/// Someone has come: what they did before they connected is done. The sanitizer learns that from accepting alone.
#[inline(always)]
pub(super) fn accepted() {
    #[cfg(thread_sanitizer)]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
        thread_local! {
            static LISTENER: io::Result<(UnixListener, SocketAddr)> = {
                let name = format!("ahoy-sanitizer-{}-{:?}", std::process::id(), std::thread::current().id());
                SocketAddr::from_abstract_name(name)
                    .and_then(|address| Ok((UnixListener::bind_addr(&address)?, address)))
            };
        }
        LISTENER.with(|listener| {
            if let Ok((listener, address)) = listener
                && let Ok(_peer) = UnixStream::connect_addr(address)
            {
                let _ = listener.accept();
            }
        });
    }
}

/// Something has come to this socket: what was done before it was sent is done.
#[inline(always)]
#[cfg_attr(not(thread_sanitizer), allow(unused_variables))]
pub(super) fn received(socket: RawFd) {
    #[cfg(thread_sanitizer)]
    for socket in [socket, any()] {
        // SAFETY: it reads no bytes.
        unsafe { libc::read(socket, std::ptr::null_mut(), 0) };
    }
}

/// Something goes to this socket: what was done so far is done before that is received.
#[inline(always)]
#[cfg_attr(not(thread_sanitizer), allow(unused_variables))]
pub(super) fn sends(socket: RawFd) {
    #[cfg(thread_sanitizer)]
    for socket in [socket, any()] {
        // SAFETY: it sends no messages.
        unsafe { libc::sendmmsg(socket, std::ptr::null_mut(), 0, 0) };
    }
}
