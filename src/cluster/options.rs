//! What a node is asked to be: the cluster's URL and the particulars, checked before anything is started.

use super::subject::check_cluster_name;
use crate::status::{Error, Result, Status};

/// How a server joins a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// "nats://a:4222,b:4222/chat".
    pub url: String,
    /// Name of this node; None: host, process and a random number.
    pub node: Option<String>,
    /// What other nodes are told about this one.
    pub meta: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// A token.
    pub token: Option<String>,
    /// A file with credentials.
    pub credentials: Option<String>,
    /// A file with the certificates of who may vouch for servers.
    pub ca_file: Option<String>,
    /// Files with this client's certificate and its key.
    pub client_cert: Option<(String, String)>,
    /// A start fails unless the cluster is joined within so many milliseconds; 0: it starts, and joins when it can.
    pub join_ms: u32,
    /// How long a call waits for its answer.
    pub timeout_ms: u32,
}

/// Where the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterUrl {
    /// "nats://a:4222", "tls://b:4222".
    pub(crate) servers: Vec<String>,
    /// Its name.
    pub(crate) name: String,
}

impl ClusterUrl {
    /// Reads "nats://a:4222,tls://b/chat": the servers, each with the scheme of the one before where it has none, and the
    /// cluster's name.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(Status::Url, format!("\"{url}\": {why}"));
        let first = url.find("://").map(|at| &url[..at]);
        if !first.is_some_and(|scheme| matches!(scheme, "nats" | "tls")) {
            return Err(bad("a cluster's URL begins with nats:// or tls://"));
        }
        let (list, name) = match url.rsplit_once('/') {
            Some((list, name)) if !list.ends_with('/') => (list, name),
            _ => return Err(bad("the name of the cluster is missing: nats://host/name")),
        };
        let mut scheme = "nats";
        let mut servers = Vec::new();
        for server in list.split(',') {
            let server = server.trim();
            let address = match server.split_once("://") {
                Some((own @ ("nats" | "tls"), address)) => {
                    scheme = own;
                    address
                }
                Some(_) => return Err(bad("servers are nats:// or tls://")),
                None => server,
            };
            let host = address.rsplit_once('@').map_or(address, |(_, host)| host);
            if host.is_empty() || host.starts_with(':') || host.contains('/') {
                return Err(bad("a server's host is missing"));
            }
            let port = host.rsplit_once(':').filter(|(before, _)| !before.contains('[') || before.ends_with(']'));
            if port.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(Error::new(Status::Port, format!("\"{url}\": a port is a number from 0 to 65535")));
            }
            servers.push(format!("{scheme}://{address}"));
        }
        Ok(Self { servers, name: check_cluster_name(name)?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_servers_and_a_name() {
        let url = ClusterUrl::parse("nats://10.0.0.1,10.0.0.2:4223,tls://c:1,d,[::1]:5/chat").unwrap();
        assert_eq!(url.name, "chat");
        let servers = ["nats://10.0.0.1", "nats://10.0.0.2:4223", "tls://c:1", "tls://d", "tls://[::1]:5"];
        assert_eq!(url.servers, servers);
        assert_eq!(ClusterUrl::parse("nats://me:secret@h/c").unwrap().servers, ["nats://me:secret@h"]);
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
            ("nats://a/", Status::Invalid),
            ("nats://a/two words", Status::Invalid),
            ("nats://a/x.y", Status::Invalid),
            ("nats://a/x_y", Status::Invalid),
        ] {
            assert_eq!(ClusterUrl::parse(url).unwrap_err().status, status, "{url}");
        }
    }
}
