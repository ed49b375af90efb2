//! What a node says of itself, again and again: lines of text, which any language reads without a library. docs/CLUSTER.md
//! describes them for others.

use std::fmt::Write;

use crate::cluster::subject::check_name;

/// The first line: the version of the format.
const FIRST: &str = "ahoy 1";
/// Longest list of addresses; what is beyond it is not told.
pub(super) const ADDRESSES_BYTES_MAX: usize = 4_096;
/// Longest `meta`.
const META_BYTES_MAX: usize = 1_024;

/// One heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) struct Heartbeat {
    pub(super) node: String,
    /// Which life of the node this is.
    pub(super) incarnation: u64,
    /// URLs with commas between.
    pub(in crate::cluster) addresses: String,
    pub(super) meta: String,
    /// When it joined: milliseconds since 1970, by its own clock.
    pub(super) since_ms: u64,
    pub(super) connections: u64,
    /// Which part of their time its workers are busy, in thousandths.
    pub(super) load: u32,
    /// Milliseconds until the next one.
    pub(super) interval_ms: u32,
    /// The last one.
    pub(super) is_leaving: bool,
}

impl Heartbeat {
    pub(super) fn write(&self) -> String {
        let mut text = format!("{FIRST}\n");
        let state = if self.is_leaving { "left" } else { "up" };
        // Nothing fails that is written to a string.
        let _ = write!(
            text,
            "state {state}\nnode {}\nincarnation {:016x}\naddresses {}\nsince {}\nconnections {}\nload {}\ninterval {}\n\n{}",
            self.node,
            self.incarnation,
            self.addresses,
            self.since_ms,
            self.connections,
            self.load,
            self.interval_ms,
            self.meta,
        );
        text
    }

    /// None: it is no heartbeat, or one that no node of ours would send.
    pub(in crate::cluster) fn read(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok().filter(|text| !text.contains('\0'))?;
        let (head, meta) = text.split_once("\n\n")?;
        let mut lines = head.lines();
        if lines.next()? != FIRST || meta.len() > META_BYTES_MAX {
            return None;
        }
        let mut heartbeat = Self { meta: meta.to_owned(), ..Self::default() };
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "state" => heartbeat.is_leaving = value == "left",
                "node" => heartbeat.node = check_name("node", value).ok()?.to_owned(),
                "incarnation" => heartbeat.incarnation = u64::from_str_radix(value, 16).ok()?,
                "addresses" if value.len() <= ADDRESSES_BYTES_MAX => heartbeat.addresses = value.to_owned(),
                "since" => heartbeat.since_ms = value.parse().ok()?,
                "connections" => heartbeat.connections = value.parse().ok()?,
                "load" => heartbeat.load = value.parse().ok()?,
                "interval" => heartbeat.interval_ms = value.parse().ok()?,
                // A later version may say more.
                _ => {}
            }
        }
        (heartbeat.incarnation != 0 && !heartbeat.node.is_empty()).then_some(heartbeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            node: "a-1".to_owned(),
            incarnation: 0xfedc_ba98_7654_3210,
            addresses: "tcp://10.0.0.1:9000,unix:/run/a b".to_owned(),
            meta: "any text:\n\nlines, too\n".to_owned(),
            since_ms: 1_764_130_000_000,
            connections: 12,
            load: 37,
            interval_ms: 300,
            is_leaving: false,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for heartbeat in
            [heartbeat(), Heartbeat { addresses: String::new(), meta: String::new(), is_leaving: true, ..heartbeat() }]
        {
            assert_eq!(Heartbeat::read(heartbeat.write().as_bytes()), Some(heartbeat));
        }
    }

    #[test]
    fn what_is_no_heartbeat_is_passed_over() {
        let text = heartbeat().write();
        let with = |from: &str, to: &str| Heartbeat::read(text.replacen(from, to, 1).as_bytes());
        assert_eq!(with("ahoy 1", "ahoy 2"), None);
        assert_eq!(with("node a-1", "node a.1"), None);
        assert_eq!(with("fedc", "gedc"), None);
        assert_eq!(with("fedcba9876543210", "0"), None);
        assert_eq!(with("any", "an\0y"), None);
        assert_eq!(with("load 37", "load much"), None);
        assert_eq!(with("load 37", "load 37\nweather fine"), Some(heartbeat()));
        assert_eq!(Heartbeat::read(b"ahoy 1\n\n"), None);
        assert_eq!(Heartbeat::read(format!("{text}{}", "x".repeat(2_000)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn strangers_may_say_anything(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            Heartbeat::read(&payload);
            let mut text = b"ahoy 1\n".to_vec();
            text.extend(payload);
            Heartbeat::read(&text);
        }
    }
}
