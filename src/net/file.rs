//! The files that stand for Unix sockets.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a Unix socket: removed with the listener, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    kept: AtomicBool,
}

impl SocketFile {
    /// The file that a bind has just made.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let (path, identity) = (std::path::absolute(path).ok()?, identity(path)?);
        Some(Self { path, identity, kept: AtomicBool::new(false) })
    }

    /// Leaves it where it is: from now on it is another's.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = !*self.kept.get_mut() && identity(&self.path) == Some(self.identity);
        if is_ours && !self.path.as_os_str().as_bytes().is_empty() {
            // Nobody is left to hear of a failure: the folder may be gone as well.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Removes the file of a process that has died, and no other. `in_use` is why a bind failed: what is answered if
/// it is not such a file.
pub(super) fn remove_stale(address: &SockAddr, kind: Type, path: &Path, in_use: io::Error) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket || !nobody_listens(address, kind) {
        return Err(in_use);
    }
    std::fs::remove_file(path)
}

/// Connecting tells. (To a living socket of another kind it fails, too, but otherwise.)
fn nobody_listens(address: &SockAddr, kind: Type) -> bool {
    let Ok(probe) = Socket::new(Domain::UNIX, kind.nonblocking().cloexec(), None) else { return false };
    probe.connect(address).is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}
