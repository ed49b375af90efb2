//! The URLs of clusters: the servers that carry one, its name, and what is meant of it.

use std::borrow::Cow;
use std::fmt;

use crate::status::{Error, Result, Status};

/// Where a cluster is: "nats://a:4222,b:4222/chat".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterUrl {
    /// "nats://a:4222", "tls://b:4222".
    pub servers: Vec<String>,
    /// Its name.
    pub name: String,
    /// Who we are, as a server's URL says it, for all of them: a user and a password, or a token alone.
    pub login: Option<(String, Option<String>)>,
}

impl ClusterUrl {
    /// Reads "nats://a:4222,tls://b/chat": the servers, each with the scheme of the one before where it has none, and the
    /// cluster's name.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let bad = |why: &str| bad(Status::Url, url, why);
        let first = url.find("://").map(|at| &url[..at]);
        if !first.is_some_and(|scheme| matches!(scheme, "nats" | "tls")) {
            return Err(bad("a cluster's URL begins with nats:// or tls://"));
        }
        let (list, name) = match url.rsplit_once('/') {
            Some((list, _)) if list.ends_with("://") => return Err(bad("a server's host is missing")),
            Some((list, name)) if !list.ends_with('/') && !name.is_empty() => (list, name),
            _ => return Err(bad("the name of the cluster is missing: nats://host/name")),
        };
        let mut scheme = "nats";
        let mut servers = Vec::new();
        let mut login = None;
        for server in list.split(',') {
            let server = server.trim();
            if server.is_empty() {
                return Err(bad(NOTHING_BETWEEN));
            }
            let address = match server.split_once("://") {
                Some((own @ ("nats" | "tls"), address)) => {
                    scheme = own;
                    address
                }
                Some(_) => return Err(bad("servers are nats:// or tls://")),
                None => server,
            };
            let host = match address.rsplit_once('@') {
                Some((said, host)) => {
                    login = Some(read_login(said).ok_or_else(|| bad("a % is not followed by two digits"))?);
                    host
                }
                None => address,
            };
            if host.contains('/') {
                return Err(bad("a cluster's name, without a /, is all that follows the servers: nats://host/name"));
            }
            if host.is_empty() || host.starts_with(':') {
                return Err(bad("a server's host is missing"));
            }
            let port = host.rsplit_once(':').filter(|(before, _)| !before.contains('[') || before.ends_with(']'));
            // It is not shown: it may be a password whose host was forgotten.
            if let Some((host, _)) = port.filter(|(_, port)| port.parse::<u16>().is_err()) {
                let text = format!("\"{scheme}://{host}\": the port behind it is not a number from 0 to 65535");
                return Err(Error::new(Status::Port, text));
            }
            servers.push(format!("{scheme}://{host}"));
        }
        Ok(Self { servers, name: check_cluster_name(name)?.to_owned(), login })
    }
}

/// What a list of URLs must not have.
pub(super) const NOTHING_BETWEEN: &str = "there is nothing before, behind or between commas";

/// A fault of a URL. Its text goes to logs: it never has what may be a password in it.
pub(super) fn bad(status: Status, url: &str, why: &str) -> Error {
    Error::new(status, format!("\"{}\": {why}", without_login(url)))
}

/// A URL, or what is left of one, with a "…" for all that may be a login. (`unix:@name` has none.)
fn without_login(url: &str) -> Cow<'_, str> {
    let begin = match url.find("://") {
        Some(at) => at + 3,
        None if url.starts_with("unix") => url.len(),
        None => 0,
    };
    match url[begin..].rfind('@') {
        Some(end) => format!("{}…{}", &url[..begin], &url[begin + end..]).into(),
        None => url.into(),
    }
}

/// "user:password" or "token", with percent-encoding.
fn read_login(said: &str) -> Option<(String, Option<String>)> {
    let decode = |text: &str| String::from_utf8(percent_decoded(text)?).ok();
    match said.split_once(':') {
        Some((user, password)) => Some((decode(user)?, Some(decode(password)?))),
        None => Some((decode(said)?, None)),
    }
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        decoded.push(if byte == b'%' { digit()? << 4 | digit()? } else { byte });
    }
    Some(decoded)
}

impl fmt::Display for ClusterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.servers.join(","), self.name)
    }
}

/// Who is meant in a cluster: "cluster+nats://a:4222/chat/echo", whichever node listens under that name, or offers such
/// a service; or "cluster+nats://a:4222/chat", whichever listens at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTarget {
    /// The cluster.
    pub cluster: ClusterUrl,
    /// The name; None: any.
    pub name: Option<String>,
}

impl ClusterTarget {
    /// What such a URL begins with.
    pub(crate) const PREFIX: &str = "cluster+";

    /// Reads one.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix(Self::PREFIX).unwrap_or(url);
        // Behind the servers: the cluster, and maybe the name.
        let path = rest.rfind("://").map_or(0, |at| at + 3);
        match rest[path..].matches('/').count() {
            2 => {
                let (cluster, name) = rest.rsplit_once('/').unwrap_or((rest, ""));
                let name = check_name("listener or service", name)?.to_owned();
                Ok(Self { cluster: ClusterUrl::parse(cluster)?, name: Some(name) })
            }
            _ => Ok(Self { cluster: ClusterUrl::parse(rest)?, name: None }),
        }
    }
}

impl fmt::Display for ClusterTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.cluster)?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

/// Longest name of a cluster, a node, a service, a bucket, a queue.
const NAME_BYTES_MAX: usize = 64;

/// Holds a name to what is allowed everywhere on a server.
pub(crate) fn check_name<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    check_plain(what, name, b"-_", ", - and _")
}

/// The name of a cluster has no `_`: with one the names of cluster and bucket are put together, and apart again.
fn check_cluster_name(name: &str) -> Result<&str> {
    check_plain("cluster", name, b"-", " and -")
}

/// Letters, digits and what else there may be, which is `in_words`.
fn check_plain<'a>(what: &str, name: &'a str, others: &[u8], in_words: &str) -> Result<&'a str> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !is_plain {
        let why = format!("the name of a {what} is 1 to {NAME_BYTES_MAX} letters, digits{in_words}");
        return Err(bad(Status::Invalid, name, &why));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;

    #[test]
    fn a_list_of_servers_and_a_name() {
        let url = ClusterUrl::parse("nats://10.0.0.1,10.0.0.2:4223,tls://c:1,d,[::1]:5/chat").unwrap();
        assert_eq!(url.name, "chat");
        let servers = ["nats://10.0.0.1", "nats://10.0.0.2:4223", "tls://c:1", "tls://d", "tls://[::1]:5"];
        assert_eq!(url.servers, servers);
        let url = ClusterUrl::parse("nats://me:s%40crt@h,i/c").unwrap();
        assert_eq!(url.servers, ["nats://h", "nats://i"]);
        assert_eq!(url.login, Some(("me".to_owned(), Some("s@crt".to_owned()))));
        assert_eq!(ClusterUrl::parse("nats://token@h/c").unwrap().login, Some(("token".to_owned(), None)));
        assert_eq!(ClusterUrl::parse("nats://%4@h/c").unwrap_err().status, Status::Url);
    }

    #[test]
    fn what_is_no_cluster_is_refused() {
        for (url, status) in [
            ("", Status::Url),
            ("chat", Status::Url),
            ("http://a/chat", Status::Url),
            ("nats://a", Status::Url),
            ("nats:///chat", Status::Url),
            ("nats://a,/chat", Status::Url),
            ("nats://a,http://b/chat", Status::Url),
            ("nats://:4222/chat", Status::Url),
            ("nats://a:70000/chat", Status::Port),
            ("nats://a:b/chat", Status::Port),
            ("nats://a/", Status::Url),
            ("nats://a/two words", Status::Invalid),
            ("nats://a/x.y", Status::Invalid),
            ("nats://a/x_y", Status::Invalid),
        ] {
            assert_eq!(ClusterUrl::parse(url).unwrap_err().status, status, "{url}");
        }
    }

    #[test]
    fn each_fault_is_called_by_its_name() {
        let text = |url: &str| ClusterUrl::parse(url).unwrap_err().to_string();
        for (url, expected) in [
            ("nats://a/x_y", "\"x_y\": the name of a cluster is 1 to 64 letters, digits and -"),
            ("nats://a/", "\"nats://a/\": the name of the cluster is missing: nats://host/name"),
            ("nats:///c", "\"nats:///c\": a server's host is missing"),
            (
                "nats://a/b/c",
                "\"nats://a/b/c\": a cluster's name, without a /, is all that follows the servers: nats://host/name",
            ),
            ("nats://a,,b/c", "\"nats://a,,b/c\": there is nothing before, behind or between commas"),
            ("nats://:4222/c", "\"nats://:4222/c\": a server's host is missing"),
            ("nats://a,b:x/c", "\"nats://b\": the port behind it is not a number from 0 to 65535"),
        ] {
            assert_eq!(text(url), expected);
        }
        let error = check_name("bucket", "a b").unwrap_err();
        assert_eq!(error.detail, "\"a b\": the name of a bucket is 1 to 64 letters, digits, - and _");
    }

    #[test]
    fn no_password_is_in_an_error() {
        for url in [
            "http://me:secret@a/c",
            "me:secret@a/c",
            "nats://me:secret@a",
            "nats://me:secret@/c",
            "nats://me:secret@:1/c",
            "nats://me:secret@a:x/c",
            "nats://me:secret@a,,b/c",
            "nats://a,me:secret@b,http://d/c",
            "nats://me:secret@a,you:secret@b:x/c",
            "nats://me:%secret@a/c",
            "nats://me:sec/secret@a/b/c",
            "nats://me:x/secret@a",
        ] {
            let errors = [
                ClusterUrl::parse(url).err(),
                ClusterTarget::parse(&format!("cluster+{url}")).err(),
                Endpoint::parse(url).err(),
                Endpoint::parse(&format!("cluster+{url}")).err(),
            ];
            assert!(errors.iter().any(Option::is_some), "{url}");
            for error in errors.into_iter().flatten() {
                assert!(!error.detail.contains("secret"), "{url}: {error}");
            }
        }
    }

    #[test]
    fn who_is_meant_in_a_cluster() {
        let target = ClusterTarget::parse("cluster+nats://a:1,b/chat/echo").unwrap();
        assert_eq!((target.cluster.name.as_str(), target.name.as_deref()), ("chat", Some("echo")));
        assert_eq!(target.to_string(), "cluster+nats://a:1,nats://b/chat/echo");
        assert_eq!(ClusterTarget::parse(&target.to_string()).unwrap(), target);
        assert_eq!(ClusterTarget::parse("cluster+tls://a/chat").unwrap().name, None);
        for (url, status) in [
            ("cluster+nats://a", Status::Url),
            ("cluster+nats://a/chat/e cho", Status::Invalid),
            ("cluster+nats://a/chat/", Status::Invalid),
            ("cluster+nats://a/b/c/d", Status::Url),
            ("cluster+tcp://a/b", Status::Url),
        ] {
            assert_eq!(ClusterTarget::parse(url).unwrap_err().status, status, "{url}");
        }
    }
}
