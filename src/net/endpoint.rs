//! What a URL names, and the socket addresses behind it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::path::PathBuf;

use socket2::SockAddr;

use super::cluster_url::{ClusterTarget, bad};
use crate::status::{Error, Result, Status};
use crate::sys;

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `tcp://host:port`
    Tcp {
        /// An IP address (without brackets) or a name.
        host: String,
        /// 0: any free one.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
    /// `unix:@name`: Linux's abstract names, which no file stands for.
    UnixAbstract(String),
    /// `udp://host:port`
    Udp {
        /// As of `Tcp`.
        host: String,
        /// As of `Tcp`.
        port: u16,
    },
    /// `unixgram:/path`
    UnixGram(PathBuf),
    /// `unixgram:@name`
    UnixGramAbstract(String),
    /// `fd:3`: a socket that the program has.
    Descriptor(RawFd),
    /// `systemd:` or `systemd:name`: sockets that systemd passes, all or those of a name.
    Systemd(Option<String>),
    /// `cluster+nats://host/cluster/name`: whichever node of a cluster listens under that name.
    Cluster(Box<ClusterTarget>),
}

/// Why a URL is none.
const SCHEMES: &str =
    "the scheme is none of tcp://, udp://, unix:, unixgram:, fd:, systemd:, cluster+nats:// and cluster+tls://";

/// Most bytes of a Unix socket's path or abstract name.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// Most bytes of a name that systemd gives to descriptors.
const SYSTEMD_NAME_BYTES_MAX: usize = 255;

impl Endpoint {
    /// Whether nobody has to be asked for its address.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_literal(&self) -> bool {
        match self {
            Self::Tcp { host, .. } | Self::Udp { host, .. } => host.parse::<IpAddr>().is_ok(),
            _ => true,
        }
    }

    /// Reads one URL.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        match (scheme, rest.strip_prefix("//")) {
            ("tcp", Some(rest)) => host_port(url, rest).map(|(host, port)| Self::Tcp { host, port }),
            ("udp", Some(rest)) => host_port(url, rest).map(|(host, port)| Self::Udp { host, port }),
            ("unix", _) => unix_name(url, rest, Self::Unix, Self::UnixAbstract),
            ("unixgram", _) => unix_name(url, rest, Self::UnixGram, Self::UnixGramAbstract),
            ("fd", _) => descriptor(url, rest),
            ("systemd", _) => systemd_name(url, rest),
            ("cluster+nats" | "cluster+tls", Some(_)) => Ok(Self::Cluster(sys::boxed(ClusterTarget::parse(url)?)?)),
            _ => Err(bad(Status::Url, url, SCHEMES)),
        }
    }

    /// Whether it names a datagram socket. (What `fd:` and `systemd:` name shows only when it is opened.)
    pub fn is_datagram(&self) -> bool {
        matches!(self, Self::Udp { .. } | Self::UnixGram(_) | Self::UnixGramAbstract(_))
    }

    /// The host and the port, where it has them.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Udp { host, port } => Some((host, *port)),
            _ => None,
        }
    }

    /// The socket addresses that it stands for, if no name has to be looked up for them.
    pub fn literal(&self) -> Result<Option<Vec<SockAddr>>> {
        let unix = |address: std::io::Result<SockAddr>| match address {
            Ok(address) => Ok(Some(vec![address])),
            Err(error) => Err(Error::system(self, &error)),
        };
        match self {
            Self::Tcp { host, port } | Self::Udp { host, port } => {
                let ip = host.parse::<IpAddr>().ok();
                Ok(ip.map(|ip| vec![SocketAddr::new(ip, *port).into()]))
            }
            Self::Unix(path) | Self::UnixGram(path) => unix(SockAddr::unix(path)),
            Self::UnixAbstract(name) | Self::UnixGramAbstract(name) => unix(SockAddr::unix(format!("\0{name}"))),
            Self::Cluster(_) => Ok(None),
            Self::Descriptor(_) | Self::Systemd(_) => {
                Err(bad(Status::Url, &self.to_string(), "one can listen there, but not connect to it"))
            }
        }
    }

    /// The socket addresses that it stands for, in the order in which to try them; at least one. Looks a name up,
    /// and waits for name servers. (Who knows the nodes of clusters is above this module: see `resolver`.)
    pub fn look_up(&self) -> Result<Vec<SockAddr>> {
        match (self.literal()?, self.host_port()) {
            (None, Some(host_port)) => {
                let failed = |why: &str| Error::new(Status::Name, format!("{self}: {why}"));
                let found = host_port.to_socket_addrs().map_err(|error| failed(&error.to_string()))?;
                let addresses = in_turn(found);
                if addresses.is_empty() {
                    return Err(failed("the name has no address"));
                }
                Ok(addresses.into_iter().map(SockAddr::from).collect())
            }
            (None, None) => Err(bad(Status::Url, &self.to_string(), "one can connect to it, but not listen there")),
            (Some(literal), _) => Ok(literal),
        }
    }
}

/// The order of "happy eyeballs" (RFC 8305, section 4): the two families in turn, beginning with that of the first
/// address, each in the order in which the system prefers them; none twice.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut families: [Vec<SocketAddr>; 2] = Default::default();
    let mut first_is_v6 = None;
    for address in found {
        let first_is_v6 = *first_is_v6.get_or_insert(address.is_ipv6());
        let family = &mut families[usize::from(address.is_ipv6() != first_is_v6)];
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let [first, second] = families;
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|at| [first.get(at), second.get(at)]).flatten().copied().collect()
}

/// What follows `tcp://`.
fn host_port(url: &str, rest: &str) -> Result<(String, u16)> {
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) =
                bracketed.split_once(']').ok_or_else(|| bad(Status::Url, url, "the bracket is not closed"))?;
            host.parse::<Ipv6Addr>().map_err(|_| bad(Status::Url, url, "no IPv6 address is in the brackets"))?;
            (host, after.strip_prefix(':').ok_or_else(|| bad(Status::Port, url, "the port is missing"))?)
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    if host.is_empty() {
        return Err(bad(Status::Url, url, "there is no host (0.0.0.0 stands for every address)"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if !host.bytes().all(plain) || port.contains(['/', '?', '#', '@', ':']) {
        return Err(bad(Status::Url, url, "it is not of the form tcp://host:port or udp://host:port"));
    }
    if port.is_empty() {
        return Err(bad(Status::Port, url, "the port is missing"));
    }
    // parse() alone would take "+1".
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(Status::Port, url, "the port is not a number"));
    }
    let port = port.parse().map_err(|_| bad(Status::Port, url, "the port is more than 65535"))?;
    Ok((host.to_owned(), port))
}

/// The URL of a listener as other machines find it: with this host where its own stands for every address. A name stands for
/// addresses of both kinds, an address for its own.
#[cfg(feature = "cluster")]
pub(crate) fn reached_at(url: &str, host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip = host.parse::<IpAddr>();
    let (is_v4, is_v6) = (matches!(ip, Ok(IpAddr::V4(_))), matches!(ip, Ok(IpAddr::V6(_))));
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match (rest.strip_prefix("0.0.0.0:"), rest.strip_prefix("[::]:")) {
        (None, Some(port)) if is_v6 => format!("{scheme}://[{host}]:{port}"),
        (None, Some(port)) if !is_v4 => format!("{scheme}://{host}:{port}"),
        (Some(port), None) if !is_v6 => format!("{scheme}://{host}:{port}"),
        _ => url.to_owned(),
    }
}

/// Refuses what is no host that others could reach this machine at.
#[cfg(feature = "cluster")]
pub(crate) fn check_reached_at(host: &str) -> Result<()> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = match bare.parse::<IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        // What has digits and dots alone was meant as an address.
        Err(_) => !bare.starts_with('-') && !bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
    };
    let is_parsed = |url: &str| Endpoint::parse(&reached_at(url, host)).is_ok();
    if is_host && is_parsed("tcp://0.0.0.0:1") && is_parsed("tcp://[::]:1") {
        return Ok(());
    }
    Err(Error::new(
        Status::Invalid,
        format!("advertise: {host:?} is no host: a name, or an address, without scheme and port"),
    ))
}

/// What follows `unix:`.
fn unix_name(
    url: &str,
    rest: &str,
    path: fn(PathBuf) -> Endpoint,
    abstract_name: fn(String) -> Endpoint,
) -> Result<Endpoint> {
    let (name, is_abstract) = match rest.strip_prefix('@') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    // A '?' begins the query: it can be no part of the name.
    if name.is_empty() || name.starts_with("//") || name.contains('?') {
        return Err(bad(Status::Url, url, "it is not of the form unix:/path or unix:@name (or unixgram:)"));
    }
    if name.len() > UNIX_PATH_BYTES_MAX {
        let text = format!("{} bytes are too long for a Unix socket: at most {UNIX_PATH_BYTES_MAX}", name.len());
        return Err(bad(Status::PathTooLong, url, &text));
    }
    Ok(if is_abstract { abstract_name(name.to_owned()) } else { path(PathBuf::from(name)) })
}

/// What follows `fd:`.
fn descriptor(url: &str, rest: &str) -> Result<Endpoint> {
    // parse() alone would take "+3".
    let number = rest.bytes().all(|byte| byte.is_ascii_digit()).then(|| rest.parse().ok()).flatten();
    number.map(Endpoint::Descriptor).ok_or_else(|| bad(Status::Url, url, "no descriptor's number is behind fd:"))
}

/// What follows `systemd:`; systemd.socket(5) says what a FileDescriptorName may be.
fn systemd_name(url: &str, rest: &str) -> Result<Endpoint> {
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b':' && byte != b'?';
    if rest.len() > SYSTEMD_NAME_BYTES_MAX || !rest.bytes().all(plain) {
        return Err(bad(Status::Url, url, "no name that systemd could give to a socket is behind systemd:"));
    }
    Ok(Endpoint::Systemd((!rest.is_empty()).then(|| rest.to_owned())))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if matches!(self, Self::Udp { .. }) { "udp" } else { "tcp" };
        match self {
            Self::Tcp { host, port } | Self::Udp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Udp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => write!(f, "unix:@{name}"),
            Self::UnixGram(path) => write!(f, "unixgram:{}", path.display()),
            Self::UnixGramAbstract(name) => write!(f, "unixgram:@{name}"),
            Self::Cluster(target) => target.fmt(f),
            Self::Descriptor(fd) => write!(f, "fd:{fd}"),
            Self::Systemd(name) => write!(f, "systemd:{}", name.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(url: &str) -> Status {
        Endpoint::parse(url).expect_err(url).status
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_listener_on_every_address_is_reached_at_one() {
        for (url, host, reached) in [
            ("tcp://0.0.0.0:80?name=a", "10.0.0.7", "tcp://10.0.0.7:80?name=a"),
            ("tcp://[::]:80", "fe80::1", "tcp://[fe80::1]:80"),
            ("udp://[::]:80", "[::1]", "udp://[::1]:80"),
            ("tcp://0.0.0.0:80", "a.example", "tcp://a.example:80"),
            ("tcp://[::]:80", "a.example", "tcp://a.example:80"),
            ("tcp://[::]:80", "10.0.0.7", "tcp://[::]:80"),
            ("tcp://0.0.0.0:80", "fe80::1", "tcp://0.0.0.0:80"),
            ("tcp://10.0.0.1:80", "10.0.0.7", "tcp://10.0.0.1:80"),
            ("tcp://10.0.0.0:80", "10.0.0.7", "tcp://10.0.0.0:80"),
            ("unix:/run/0.0.0.0:", "10.0.0.7", "unix:/run/0.0.0.0:"),
        ] {
            assert_eq!(reached_at(url, host), reached);
        }
    }

    #[test]
    fn urls_are_read() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.to_owned(), port };
        assert_eq!(Endpoint::parse("tcp://0.0.0.0:8888").unwrap(), tcp("0.0.0.0", 8888));
        assert_eq!(Endpoint::parse("tcp://[::1]:0").unwrap(), tcp("::1", 0));
        assert_eq!(Endpoint::parse("tcp://localhost:65535").unwrap(), tcp("localhost", 65535));
        assert_eq!(Endpoint::parse("udp://[::]:53").unwrap(), Endpoint::Udp { host: "::".to_owned(), port: 53 });
        assert_eq!(Endpoint::parse("unix:/run/a.sock").unwrap(), Endpoint::Unix("/run/a.sock".into()));
        assert_eq!(Endpoint::parse("unix:@name").unwrap(), Endpoint::UnixAbstract("name".into()));
        assert_eq!(Endpoint::parse("unixgram:b.sock").unwrap(), Endpoint::UnixGram("b.sock".into()));
        assert_eq!(Endpoint::parse("unixgram:@name").unwrap(), Endpoint::UnixGramAbstract("name".into()));
        assert_eq!(Endpoint::parse("fd:3").unwrap(), Endpoint::Descriptor(3));
        assert_eq!(Endpoint::parse("systemd:").unwrap(), Endpoint::Systemd(None));
        assert_eq!(Endpoint::parse("systemd:web 1").unwrap(), Endpoint::Systemd(Some("web 1".into())));
    }

    #[test]
    fn each_fault_of_a_url_has_its_status() {
        for url in ["", "8888", "http://a:1", "tcp:/a:1", "tcp://:1", "tcp://[::1:1", "tcp://[x]:1", "tcp://a b:1"] {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in ["tcp://a:1/path", "tcp://a:1?x=y", "tcp://u@a:1", "unix:", "unix:@", "unix://tmp/x", "tcp://a:1:2"]
        {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in
            ["tcp", "udp", "unix", "fd", "systemd", "udp:a:1", "udp://:1", "udp://a:1/", "udp://a:1?x", ":", "://"]
        {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in ["unixgram:", "unixgram:@", "unixgram://a", "unix:/a?b", "unixgram:/a?b", "unix:@a?b", "Unix:/a"] {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for url in
            ["fd:", "fd:-1", "fd:+1", "fd: 1", "fd:x", "fd:3x", "fd:2147483648", "fd://3", "systemd:a:b", "systemd:\n"]
        {
            assert_eq!(status(url), Status::Url, "{url}");
        }
        for host_port in ["a", "a:", "a:65536", "a:-1", "a:+1", "a:x", "[::1]", "a: 1"] {
            assert_eq!(status(&format!("tcp://{host_port}")), Status::Port, "{host_port}");
            assert_eq!(status(&format!("udp://{host_port}")), Status::Port, "{host_port}");
        }
        for scheme in ["unix:", "unixgram:"] {
            assert_eq!(status(&format!("{scheme}/{}", "x".repeat(107))), Status::PathTooLong);
            assert_eq!(status(&format!("{scheme}@{}", "x".repeat(108))), Status::PathTooLong);
            assert!(Endpoint::parse(&format!("{scheme}/{}", "x".repeat(106))).is_ok());
        }
        assert_eq!(status(&format!("systemd:{}", "x".repeat(256))), Status::Url);
    }

    #[test]
    fn a_port_is_missing_or_is_none() {
        let why = |url: &str| Endpoint::parse(url).unwrap_err().detail.into_owned();
        for url in ["tcp://a", "tcp://a:", "udp://[::1]", "udp://[::1]:"] {
            assert_eq!(why(url), format!("\"{url}\": the port is missing"));
        }
        assert_eq!(why("tcp://a:x"), "\"tcp://a:x\": the port is not a number");
        assert_eq!(why("tcp://a:65536"), "\"tcp://a:65536\": the port is more than 65535");
    }

    #[test]
    fn addresses_that_need_no_name_server() {
        let literal = |url: &str| Endpoint::parse(url).unwrap().literal();
        let address: SocketAddr = "[::1]:53".parse().unwrap();
        assert_eq!(literal("udp://[::1]:53").unwrap(), Some(vec![address.into()]));
        assert_eq!(literal("unixgram:/a").unwrap(), Some(vec![SockAddr::unix("/a").unwrap()]));
        assert!(literal("unix:@a").unwrap().is_some());
        assert_eq!(literal("tcp://localhost:1").unwrap(), None);
        for url in ["fd:3", "systemd:", "systemd:a"] {
            assert_eq!(literal(url).unwrap_err().status, Status::Url);
            assert_eq!(Endpoint::parse(url).unwrap().look_up().unwrap_err().status, Status::Url);
        }
    }

    #[test]
    fn names_are_looked_up() {
        let look_up = |url: &str| Endpoint::parse(url).unwrap().look_up();
        assert!(look_up("tcp://localhost:7").unwrap().iter().all(|found| found.as_socket().unwrap().port() == 7));
        assert!(!look_up("udp://localhost:7").unwrap().is_empty());
        assert_eq!(look_up("unix:/a").unwrap().len(), 1);
        let error = look_up("tcp://no-such-host.invalid:7").unwrap_err();
        assert_eq!(error.status, Status::Name);
        assert!(error.detail.contains("no-such-host.invalid"), "{error}");
    }

    fn some_address() -> impl Strategy<Value = SocketAddr> {
        (any::<bool>(), 0..4u8).prop_map(|(v6, last)| match v6 {
            true => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last.into()], 1)),
            false => SocketAddr::from(([127, 0, 0, last], 1)),
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in "((tcp|udp|unix|unixgram|fd|systemd):(//)?)?.{0,64}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string()).unwrap(), endpoint);
            }
        }

        #[test]
        fn families_take_turns(found in proptest::collection::vec(some_address(), 0..12)) {
            let mut expected = Vec::new();
            for address in &found {
                if !expected.contains(address) {
                    expected.push(*address);
                }
            }
            let ordered = in_turn(found.iter().copied());
            prop_assert_eq!(ordered.first(), found.first());
            // Nothing is lost or added, and within a family the order stays.
            for is_v6 in [true, false] {
                let of_family = |list: &[SocketAddr]| -> Vec<SocketAddr> {
                    list.iter().filter(|address| address.is_ipv6() == is_v6).copied().collect()
                };
                prop_assert_eq!(of_family(&ordered), of_family(&expected));
            }
            // Two of a family are neighbours only where nothing is left of the other.
            for (at, pair) in ordered.windows(2).enumerate() {
                if pair[0].is_ipv6() == pair[1].is_ipv6() {
                    prop_assert!(ordered[at..].iter().all(|address| address.is_ipv6() == pair[0].is_ipv6()));
                }
            }
        }
    }
}
