//! What a node is asked to be.

use crate::net::ClusterUrl;

/// How a server joins a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// "nats://a:4222,b:4222/chat".
    pub url: String,
    /// Name of this node; None: host, process and a random number.
    pub node: Option<String>,
    /// What other nodes are told about this one.
    pub meta: String,
    /// The host at which other machines reach this one; None: as the cluster's servers see it.
    pub advertise: Option<String>,
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

impl ClusterOptions {
    /// Takes the login of the URL where there is none of that kind.
    pub(super) fn add_login(&mut self, url: &ClusterUrl) {
        match &url.login {
            Some((user, Some(password))) => {
                self.user.get_or_insert_with(|| (user.clone(), password.clone()));
            }
            Some((token, None)) => {
                self.token.get_or_insert_with(|| token.clone());
            }
            None => {}
        }
    }

    /// For a client with this URL. A login of its own stands for all of ours, and ours is not shown to servers that are not
    /// ours: they could use it.
    pub(super) fn for_client(&self, url: &ClusterUrl) -> Self {
        let mut options = self.clone();
        let ours = ClusterUrl::parse(&self.url).map(|ours| ours.servers).unwrap_or_default();
        if url.login.is_some() || !url.servers.iter().all(|server| ours.contains(server)) {
            (options.user, options.token, options.credentials) = (None, None, None);
            options.add_login(url);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_last_word_for_a_client() {
        let url = |text| ClusterUrl::parse(text).unwrap();
        let pair = |name: &str| Some((name.to_owned(), "x".to_owned()));
        let ours = ClusterOptions {
            url: "nats://a,b/c".to_owned(),
            user: pair("us"),
            ca_file: Some("ca".to_owned()),
            ..ClusterOptions::default()
        };
        let options = ours.for_client(&url("nats://a/c"));
        assert_eq!((options.user, options.token, options.ca_file.as_deref()), (pair("us"), None, Some("ca")));
        for foreign in ["nats://elsewhere/c", "nats://a,elsewhere/c", "nats://a:4223/c", "tls://a/c"] {
            let options = ours.for_client(&url(foreign));
            assert_eq!((options.user, options.ca_file.as_deref()), (None, Some("ca")), "{foreign}");
        }
        let options = ours.for_client(&url("nats://you:x@a/c"));
        assert_eq!((options.user, options.ca_file.as_deref()), (pair("you"), Some("ca")));
        let options = ours.for_client(&url("nats://token@a/c"));
        assert_eq!((options.user, options.token.as_deref()), (None, Some("token")));
        // A node's options stand before its URL.
        let mut options = ours.clone();
        options.add_login(&url("nats://you:x@a/c"));
        assert_eq!(options.user, pair("us"));
    }
}
