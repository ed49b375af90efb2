//! What NATS tools ask about services, and what they are told: `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, to all, to
//! those of a name, or to one, as NATS' own services answer.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{GROUP, Offer};
use crate::cluster::Cluster;
use crate::cluster::engine::Message;
use crate::status::{Error, Result, Status};
use crate::sys;

/// What a service is, and what it has done.
pub(super) struct Identity {
    name: String,
    id: String,
    subject: String,
    version: String,
    description: String,
    cluster: String,
    node: String,
    started: String,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    requests: u64,
    errors: u64,
    error_last: String,
    time_ns: u64,
}

impl Identity {
    pub(super) fn new(
        cluster: &Cluster,
        number: u64,
        name: &str,
        subject: String,
        version: String,
        description: String,
    ) -> Self {
        Self {
            name: name.to_owned(),
            id: format!("{:016x}{number:06x}", cluster.members.incarnation),
            subject,
            version,
            description,
            cluster: cluster.name.clone(),
            node: cluster.node.clone(),
            started: rfc_3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            done: Mutex::default(),
        }
    }

    /// Where it is offered.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Where it is asked about.
    pub(super) fn question_subjects(&self) -> [String; 3] {
        ["$SRV.*".to_owned(), format!("$SRV.*.{}", self.name), format!("$SRV.*.{}.{}", self.name, self.id)]
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that is answered.
    pub(super) fn count(&self, since_ns: u64, failure: Option<&str>) {
        let mut done = self.done();
        done.requests += 1;
        done.time_ns += sys::now_ns().saturating_sub(since_ns);
        if let Some(failure) = failure {
            done.errors += 1;
            failure.clone_into(&mut done.error_last);
        }
    }

    fn ping(&self) -> String {
        format!("{}}}", self.head("ping"))
    }

    fn info(&self) -> String {
        let endpoint = format!("{},\"metadata\":{{}}}}", self.endpoint());
        format!("{},\"description\":{},\"endpoints\":[{endpoint}]}}", self.head("info"), quoted(&self.description))
    }

    fn stats(&self, in_hand: u32) -> String {
        let done = self.done();
        let endpoint = format!(
            "{},\"num_requests\":{},\"num_errors\":{},\"last_error\":{},\"processing_time\":{},\
             \"average_processing_time\":{},\"data\":{{\"in_hand\":{in_hand}}}}}",
            self.endpoint(),
            done.requests,
            done.errors,
            quoted(&done.error_last),
            done.time_ns,
            done.time_ns / done.requests.max(1),
        );
        format!("{},\"started\":\"{}\",\"endpoints\":[{endpoint}]}}", self.head("stats"), self.started)
    }

    /// The beginning of each answer, without its last brace.
    fn head(&self, kind: &str) -> String {
        format!(
            "{{\"type\":\"io.nats.micro.v1.{kind}_response\",\"name\":{},\"id\":\"{}\",\"version\":{},\
             \"metadata\":{{\"cluster\":{},\"node\":{}}}",
            quoted(&self.name),
            self.id,
            quoted(&self.version),
            quoted(&self.cluster),
            quoted(&self.node),
        )
    }

    fn endpoint(&self) -> String {
        let (name, subject) = (quoted(&self.name), quoted(&self.subject));
        format!("{{\"name\":{name},\"subject\":{subject},\"queue_group\":\"{GROUP}\"")
    }
}

impl Offer {
    /// Answers a question about the service.
    pub(super) fn tell_about(&self, message: &Message<'_>) {
        let Some(reply) = &message.reply else { return };
        let answer = match message.subject.split('.').nth(1) {
            Some("PING") => self.identity.ping(),
            Some("INFO") => self.identity.info(),
            Some("STATS") => self.identity.stats(self.in_hand.load(std::sync::atomic::Ordering::Relaxed)),
            _ => return,
        };
        if let Err(error) = self.cluster.engine.respond(reply, answer.as_bytes(), None) {
            log::debug!("a question about {} was not answered: {error}", self.identity.name);
        }
    }
}

/// Holds a version to what NATS tools take: three numbers with dots, and what semantic versioning allows behind them.
pub(super) fn check_version(version: &str) -> Result<()> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| {
        let has_zeros = part.len() > 1 && part.starts_with('0');
        !part.is_empty() && !has_zeros && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let rest = &version[numbers.len()..];
    let is_plain = rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte));
    let is_version = numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
    if !is_version || !is_plain || rest.len() == 1 || version.len() > 64 {
        return Err(Error::new(Status::Invalid, format!("\"{version}\" is no version: three numbers, as in 1.2.0")));
    }
    Ok(())
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            // Writing to a string does not fail.
            '\0'..='\x1f' => drop(write!(quoted, "\\u{:04x}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// "2026-03-05T10:20:30.123Z".
fn rfc_3339(since_1970: std::time::Duration) -> String {
    let seconds = since_1970.as_secs();
    // Years from March on have their leap day at the end; four centuries have 146,097 days.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let year = 400 * era + year;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_1970.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_772_706_030, "2026-03-05T10:20:30.007Z"),
            (4_102_444_799, "2099-12-31T23:59:59.007Z"),
        ] {
            assert_eq!(rfc_3339(Duration::from_secs(seconds) + Duration::from_millis(7)), text);
        }
    }

    #[test]
    fn text_is_quoted_for_json() {
        assert_eq!(quoted("a \"b\" \\ \n é"), r#""a \"b\" \\ \u000a é""#);
    }

    #[test]
    fn versions_are_semantic() {
        for version in ["0.0.0", "1.20.3", "1.0.0-rc.1", "1.0.0+build-7"] {
            check_version(version).unwrap();
        }
        for version in ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.x", "1.0.0-", "1.0.0 beta", "a.b.c"] {
            assert_eq!(check_version(version).unwrap_err().status, Status::Invalid, "{version}");
        }
    }
}
