//! What NATS says, in our words.

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{ConnectError, ConnectErrorKind};

use crate::status::{Error, Status};

/// Why a connection did not come about.
pub(super) fn of_connect(error: &ConnectError) -> Error {
    let status = match error.kind() {
        ConnectErrorKind::ServerParse => Status::Url,
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Status::Credentials,
        ConnectErrorKind::Tls => Status::Certificate,
        ConnectErrorKind::Io if is_about_certificates(error) => Status::Certificate,
        ConnectErrorKind::Dns => Status::Name,
        ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => Status::Disconnected,
    };
    Error::new(status, format!("join the cluster: {error}"))
}

/// A handshake that fails comes as an error of the stream, with TLS's own error inside.
fn is_about_certificates(error: &ConnectError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let is_tls = |error: &(dyn std::error::Error + 'static)| error.is::<async_nats::rustls::Error>();
        if is_tls(error) || io.is_some_and(|inner| is_tls(inner)) {
            return true;
        }
        source = error.source();
    }
    false
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
