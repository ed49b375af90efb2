//! Status codes, and the error that carries one through the library.
//!
//! `Status` is the one table of codes: `build.rs` reads its comments and makes of them the C enum, the
//! names and the sentences. A code, once released, keeps its number and its meaning.

use std::borrow::Cow;
use std::ffi::CStr;
use std::{fmt, io};

/// What a call came to. Each comment is the sentence that `ahoy_status_text` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Success; as the reason of a close: this program closed the connection.
    Ok = 0,
    /// The handle is stale: what it named is gone, or never was.
    Stale = -1,
    /// A limit is reached for now: try again later; for a send, on_writable tells when.
    Again = -2,
    /// A pointer is NULL that must not be.
    Null = -3,
    /// A value is outside its range.
    Invalid = -4,
    /// The size field of a struct is not one that this library knows.
    Size = -5,
    /// A number is none of the enumeration's.
    Enum = -6,
    /// The data is longer than the limit or the buffer allows.
    TooLong = -7,
    /// The address is not a URL of a form that this library knows.
    Url = -8,
    /// The port is not a number from 0 to 65535.
    Port = -9,
    /// The path is too long for a Unix socket.
    PathTooLong = -10,
    /// The address is in use.
    AddressInUse = -11,
    /// The address or the name is not one that this machine has.
    AddressUnavailable = -12,
    /// The system does not permit it.
    Permission = -13,
    /// The file or folder does not exist.
    NotFound = -14,
    /// Out of memory.
    Memory = -15,
    /// Out of file descriptors.
    Descriptors = -16,
    /// The descriptor is not an open socket of the kind that is needed.
    BadDescriptor = -17,
    /// The system gave no thread.
    Thread = -18,
    /// This call would wait for itself: it was made inside a callback.
    Deadlock = -19,
    /// This process is a child after fork: the object belongs to the parent.
    Forked = -20,
    /// A bug inside the library was caught; it cost at most one connection.
    Panic = -21,
    /// The server stops or has stopped.
    Stopped = -22,
    /// The connection is closing: nothing more can be sent.
    Closed = -23,
    /// The peer ended the conversation.
    Eof = -24,
    /// The peer reset the connection.
    Reset = -25,
    /// The time allowed has passed.
    Timeout = -26,
    /// Another thread is in this call.
    Busy = -27,
    /// This build or this system does not support it.
    Unsupported = -28,
    /// The system call failed for another reason: see ahoy_last_error.
    System = -29,
    /// A queue is full, and the server closes such connections.
    Overflow = -30,
    /// The name does not resolve to an address.
    Name = -31,
    /// The peer refused the connection: nobody listens there.
    Refused = -32,
    /// The network or the host cannot be reached.
    Unreachable = -33,
    /// The cluster cannot be reached at present.
    Disconnected = -34,
    /// The cluster's server refuses the user, the password, the token or the credentials.
    Credentials = -35,
    /// The certificate of the cluster's server is not one to trust, or ours cannot be used.
    Certificate = -36,
    /// Another node of the cluster has this name.
    NodeTaken = -37,
    /// Nobody offers the service.
    NoService = -38,
    /// It may have been done or not: the answer is lost.
    UnknownOutcome = -39,
    /// The service has answered that it failed.
    Failed = -40,
    /// There is no such key.
    NoKey = -41,
    /// The key is there already.
    KeyExists = -42,
    /// The key has another revision than the one named.
    Revision = -43,
    /// The cluster's server keeps nothing: it runs without JetStream.
    NoStore = -44,
    /// The cluster has too few servers for so many replicas.
    Replicas = -45,
}

struct Row {
    status: Status,
    name: &'static CStr,
    text: &'static CStr,
}

include!(concat!(env!("OUT_DIR"), "/status_table.rs"));

impl Status {
    /// Every status, `Ok` first.
    pub fn all() -> impl Iterator<Item = Status> {
        TABLE.iter().map(|row| row.status)
    }

    /// The status of a number that came from outside, if it is one.
    pub fn from_code(code: i32) -> Option<Status> {
        Self::all().find(|status| *status as i32 == code)
    }

    /// The C name, such as `AHOY_ERR_STALE`.
    pub fn name(self) -> &'static CStr {
        self.row().name
    }

    /// One sentence for people.
    pub fn text(self) -> &'static CStr {
        self.row().text
    }

    fn row(self) -> &'static Row {
        // The codes run 0, -1, -2 … without a hole (a test holds them to it).
        &TABLE[(self as i32).unsigned_abs() as usize]
    }
}

/// The status that an error of the operating system comes to.
impl From<&io::Error> for Status {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::AddressInUse,
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Self::AddressUnavailable,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::Permission,
            Some(libc::ENOENT | libc::ENOTDIR) => Self::NotFound,
            Some(libc::ENAMETOOLONG) => Self::PathTooLong,
            Some(libc::ENOMEM | libc::ENOBUFS) => Self::Memory,
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors,
            Some(libc::EBADF | libc::ENOTSOCK | libc::ENOTCONN) => Self::BadDescriptor,
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Self::Reset,
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN) => Self::Unreachable,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            _ if error.kind() == io::ErrorKind::OutOfMemory => Self::Memory,
            _ => Self::System,
        }
    }
}

/// A status and what it was about, for `ahoy_last_error`.
#[derive(Debug)]
pub struct Error {
    /// The code: authoritative.
    pub status: Status,
    /// The detail: for people. Empty where the status says it all.
    pub detail: Cow<'static, str>,
}

/// What fallible functions of the library return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with its detail.
    #[cold]
    pub fn new(status: Status, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// The same once more.
    pub fn again(&self) -> Self {
        Self { status: self.status, detail: self.detail.clone() }
    }

    /// An error of the operating system in `what` ("bind tcp://0.0.0.0:80").
    pub fn system(what: impl fmt::Display, error: &io::Error) -> Self {
        // One function, whatever it is about.
        #[cold]
        #[inline(never)]
        fn of(what: &dyn fmt::Display, error: &io::Error) -> Error {
            Error::new(Status::from(error), format!("{what}: {}", system_text(error)))
        }
        of(&what, error)
    }
}

/// The system's sentence without std's " (os error 13)".
fn system_text(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    text
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self { status, detail: Cow::Borrowed("") }
    }
}

impl From<std::collections::TryReserveError> for Error {
    fn from(_: std::collections::TryReserveError) -> Self {
        Status::Memory.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(self.status.text().to_str().unwrap_or_default())
        } else {
            f.write_str(&self.detail)
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_run_down_from_zero_without_a_hole() {
        for (position, status) in Status::all().enumerate() {
            assert_eq!(status as i32, -i32::try_from(position).unwrap());
            assert_eq!(Status::from_code(status as i32), Some(status));
        }
        assert_eq!(Status::from_code(1), None);
        assert_eq!(Status::from_code(i32::MIN), None);
    }

    #[test]
    fn names_and_sentences_come_from_the_enum() {
        assert_eq!(Status::Ok.name(), c"AHOY_OK");
        assert_eq!(Status::TooLong.name(), c"AHOY_ERR_TOO_LONG");
        assert_eq!(Status::Memory.text(), c"Out of memory.");
    }

    #[test]
    fn the_systems_errors_keep_their_sentence() {
        let error = Error::system("bind tcp://0.0.0.0:80", &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(error.status, Status::Permission);
        assert_eq!(error.to_string(), "bind tcp://0.0.0.0:80: Permission denied");
    }
}
