//! What a node is asked to be.

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
