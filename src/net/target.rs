//! One URL of a list, with its query.

use std::fmt;

use super::cluster_url::{ClusterTarget, NOTHING_BETWEEN, bad, check_name};
use super::endpoint::Endpoint;
use crate::framing::Framing;
use crate::status::{Error, Result, Status};

/// An address and how messages lie in its streams: "tcp://0.0.0.0:7000?framing=lines".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// What the query says; None: nothing.
    pub framing: Option<Framing>,
    /// What a listener is called in its cluster: `?name=echo`. None: it has no name.
    pub name: Option<String>,
}

impl Target {
    /// Reads one URL. A path may contain no '?': the query begins there.
    pub fn parse(url: &str) -> Result<Self> {
        let Some((address, query)) = url.split_once('?') else {
            return Ok(Self { endpoint: Endpoint::parse(url)?, framing: None, name: None });
        };
        let endpoint = Endpoint::parse(address)?;
        if query.is_empty() {
            return Err(bad(Status::Url, url, "nothing follows the question mark"));
        }
        let in_url = |error: Error| bad(error.status, url, &error.to_string());
        let (names, fields): (Vec<_>, Vec<_>) = query.split('&').partition(|field| field.starts_with(NAME));
        let name = match names.as_slice() {
            [] => None,
            [name] => Some(check_name("listener", &name[NAME.len()..]).map_err(in_url)?.to_owned()),
            _ => return Err(bad(Status::Url, url, "name is there twice")),
        };
        let framing = if name.is_some() && fields.is_empty() {
            None
        } else {
            Framing::from_query(&fields.join("&")).map_err(in_url)?
        };
        if endpoint.is_datagram() && framing.as_ref().is_some_and(|framing| *framing != Framing::Raw) {
            return Err(bad(Status::Url, url, "a datagram is a message by itself: it takes no framing"));
        }
        Ok(Self { endpoint, framing, name })
    }

    /// Reads a list of URLs with commas between.
    pub fn parse_list(urls: &str) -> Result<Vec<Self>> {
        let list = split_list(urls);
        if list.len() > 1 && list.iter().any(|url| url.trim().is_empty()) {
            return Err(bad(Status::Url, urls, NOTHING_BETWEEN));
        }
        let list = list.into_iter().map(|url| Self::parse(url.trim())).collect::<Result<Vec<Self>>>()?;
        // A descriptor is taken over once: taken over twice it would be closed twice, and the second time it may
        // be another's.
        for (at, target) in list.iter().enumerate() {
            let is_same = |other: &Self| other.endpoint == target.endpoint;
            if matches!(target.endpoint, Endpoint::Descriptor(_)) && list[..at].iter().any(is_same) {
                return Err(bad(Status::Invalid, urls, &format!("{} is there twice", target.endpoint)));
            }
        }
        Ok(list)
    }
}

/// The key of a listener's name in a query.
const NAME: &str = "name=";

/// Splits at the commas, but not at those between the servers of a cluster, which end with the slash before its name.
fn split_list(urls: &str) -> Vec<&str> {
    let mut list = Vec::new();
    let mut rest = urls;
    loop {
        let is_cluster = rest.trim_start().starts_with(ClusterTarget::PREFIX);
        let servers = match rest.find("://").filter(|_| is_cluster) {
            Some(at) => rest[at + 3..].find('/').map_or(rest.len(), |slash| at + 3 + slash),
            None => 0,
        };
        match rest[servers..].find(',') {
            Some(comma) => {
                list.push(&rest[..servers + comma]);
                rest = &rest[servers + comma + 1..];
            }
            None => {
                list.push(rest);
                return list;
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        match (&self.name, &self.framing) {
            (None, None) => Ok(()),
            (Some(name), None) => write!(f, "?{NAME}{name}"),
            (None, Some(framing)) => write!(f, "?{framing}"),
            (Some(name), Some(framing)) => write!(f, "?{NAME}{name}&{framing}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_is_taken_off_the_address() {
        let target = Target::parse("tcp://a:1?framing=lines").unwrap();
        assert_eq!(target.endpoint, Endpoint::parse("tcp://a:1").unwrap());
        assert_eq!(target.framing, Some(Framing::Lines));
        assert_eq!(Target::parse("unix:/run/a").unwrap().framing, None);
        let named = Target::parse("tcp://a:1?name=echo&framing=lines").unwrap();
        assert_eq!((named.name.as_deref(), named.framing), (Some("echo"), Some(Framing::Lines)));
        assert_eq!(Target::parse("tcp://a:1?name=echo").unwrap().framing, None);
        assert_eq!(Target::parse("tcp://a:1?name=e cho").unwrap_err().status, Status::Invalid);
        assert_eq!(Target::parse("tcp://a:1?name=a&name=b").unwrap_err().status, Status::Url);
        assert_eq!(Target::parse("fd:3?framing=raw").unwrap().framing, Some(Framing::Raw));
    }

    #[test]
    fn a_fault_of_a_query_names_the_url() {
        let error = Target::parse("tcp://a:1?framing=none-such").unwrap_err();
        assert!(error.detail.contains("tcp://a:1?framing=none-such"), "{error}");
        for url in ["udp://a:1?framing=lines", "unixgram:/a?framing=lines", "x?framing=lines", "tcp://?framing=lines"] {
            assert_eq!(Target::parse(url).unwrap_err().status, Status::Url, "{url}");
        }
        assert_eq!(Target::parse("tcp://a?framing=lines").unwrap_err().status, Status::Port);
        assert!(Target::parse("udp://a:1?framing=raw").is_ok());
    }

    #[test]
    fn lists_are_read() {
        let list = Target::parse_list("tcp://a:1?framing=lines, unix:b , systemd:").unwrap();
        let urls: Vec<String> = list.iter().map(|target| target.endpoint.to_string()).collect();
        assert_eq!(urls, ["tcp://a:1", "unix:b", "systemd:"]);
        let cluster = "cluster+nats://a:1,b:2/chat/echo";
        let list = Target::parse_list(&format!("tcp://a:1,{cluster},{cluster}?framing=lines,unix:b")).unwrap();
        assert_eq!(list.len(), 4);
        assert_eq!(list[1].endpoint.to_string(), "cluster+nats://a:1,nats://b:2/chat/echo");
        for list in ["", " ", "tcp://a:1,", ",tcp://a:1"] {
            assert_eq!(Target::parse_list(list).unwrap_err().status, Status::Url, "{list}");
        }
    }

    #[test]
    fn nothing_between_commas_is_told_as_that() {
        for list in ["tcp://a:1,", ",tcp://a:1", "tcp://a:1, ,unix:b"] {
            assert_eq!(Target::parse_list(list).unwrap_err().detail, format!("\"{list}\": {NOTHING_BETWEEN}"));
        }
        assert!(!Target::parse_list("").unwrap_err().detail.contains(NOTHING_BETWEEN));
    }

    #[test]
    fn a_descriptor_is_taken_over_once() {
        assert_eq!(Target::parse_list("fd:3,tcp://a:1,fd:03").unwrap_err().status, Status::Invalid);
        assert!(Target::parse_list("fd:3,fd:4").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in "(tcp://a:1|unix:/a|udp://a:1|fd:3|.{0,8})(\\?.{0,32})?") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()).unwrap(), target);
            }
        }
    }
}
