//! What NATS says, in our words.

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{ConnectError, ConnectErrorKind, rustls};

use crate::net::ClusterUrl;
use crate::status::{Error, Status};

/// Why a connection to a cluster did not come about.
pub(super) fn of_connect(error: &ConnectError, url: &ClusterUrl) -> Error {
    let tls = tls_error(error);
    // What is no TLS at all is no question of certificates.
    if let Some(rustls::Error::InvalidMessage(_)) = tls {
        return Error::new(Status::Disconnected, format!("{url}: the server does not speak TLS"));
    }
    let status = match error.kind() {
        ConnectErrorKind::ServerParse => Status::Url,
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Status::Credentials,
        ConnectErrorKind::Tls => Status::Certificate,
        ConnectErrorKind::Io if tls.is_some() => Status::Certificate,
        ConnectErrorKind::Dns => Status::Name,
        ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => Status::Disconnected,
    };
    let text = match error.kind() {
        // The source says it again.
        kind @ ConnectErrorKind::AuthorizationViolation => kind.to_string(),
        _ => error.to_string(),
    };
    Error::new(status, format!("{url}: {}", reason(&text)))
}

/// The reason in what the client says: without its kind, which says less, and without std's " (os error 111)".
pub(super) fn reason(text: &str) -> &str {
    let text = text.find(" (os error").map_or(text, |at| &text[..at]);
    match text.strip_prefix("IO error") {
        Some("") => "no server answers",
        Some(reason) => reason.trim_start_matches(": "),
        None => text,
    }
}

/// A handshake that fails comes as an error of the stream, with TLS's own error inside.
fn tls_error(error: &ConnectError) -> Option<&rustls::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error.downcast_ref().or_else(|| io?.downcast_ref());
        if tls.is_some() {
            return tls;
        }
        source = error.source();
    }
    None
}

/// Why a message was not taken.
pub(super) fn of_publish(kind: PublishErrorKind, subject: &str) -> Error {
    match kind {
        PublishErrorKind::MaxPayloadExceeded => {
            Error::new(Status::TooLong, format!("{subject}: longer than the cluster's servers allow"))
        }
        PublishErrorKind::InvalidSubject => Error::new(Status::Invalid, format!("\"{subject}\" is no subject")),
        PublishErrorKind::Send => super::disconnected(),
    }
}

/// Why a request has no answer.
pub(super) fn of_request(kind: RequestErrorKind, subject: &str) -> Error {
    match kind {
        RequestErrorKind::TimedOut => Error::new(Status::Timeout, format!("{subject}: no answer in time")),
        RequestErrorKind::NoResponders => Error::new(Status::NoService, format!("{subject}: nobody is there")),
        RequestErrorKind::InvalidSubject => Error::new(Status::Invalid, format!("\"{subject}\" is no subject")),
        RequestErrorKind::MaxPayloadExceeded => {
            Error::new(Status::TooLong, format!("{subject}: longer than the cluster's servers allow"))
        }
        RequestErrorKind::Other => super::disconnected(),
    }
}

/// Why a change with a revision is refused: "wrong last sequence: 5": that of a deletion, too; 0 is that of a key that there never was.
pub(super) fn of_revision(text: &str, expected: u64) -> Error {
    let text = match text.rsplit_once(": ").map(|(_, is)| is) {
        Some("0") => "there is no such key".to_owned(),
        Some(is) => format!("it has revision {is}, not {expected}"),
        None => text.to_owned(),
    };
    Error::new(Status::Revision, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_is_kept() {
        assert_eq!(reason("IO error: Connection refused (os error 111)"), "Connection refused");
        assert_eq!(reason("IO error"), "no server answers");
        assert_eq!(reason("authorization violation"), "authorization violation");
        let url = ClusterUrl::parse("nats://me:secret@a:1,b/chat").unwrap();
        let refused = std::io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let error = of_connect(&ConnectError::with_source(ConnectErrorKind::Io, refused), &url);
        assert_eq!(error.status, Status::Disconnected);
        assert_eq!(error.detail, "nats://a:1,nats://b/chat: Connection refused");
    }

    #[test]
    fn a_wrong_revision_is_told_in_our_words() {
        let text = |text| of_revision(text, 3).to_string();
        assert_eq!(text("wrong last sequence: 5"), "it has revision 5, not 3");
        assert_eq!(text("wrong last sequence: 0"), "there is no such key");
        assert_eq!(text("wrong last sequence"), "wrong last sequence");
    }
}
