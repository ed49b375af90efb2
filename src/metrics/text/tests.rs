//! A strict reader of the format, and what it finds in the text.

use super::*;
use std::collections::BTreeMap;

/// One family: its kind, and its samples by name and labels.
#[derive(Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<String, f64>,
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.starts_with("ahoy_") && text.bytes().all(plain) && !text.contains("__") && !text.ends_with('_')
}

/// Reads a page, and demands more than the format does: HELP and TYPE before each family, no sample twice, whole numbers
/// but for times, no blank where none belongs.
fn parse(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with('\n') && !page.contains("\n\n"));
    let mut families = BTreeMap::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").expect(line).split_once(' ').expect(line);
        assert!(is_name(name), "{name}");
        assert!(help.ends_with('.') && !help.contains('\\'), "{help}");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(name);
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        let mut samples = BTreeMap::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let bare = series.split_once('{').map_or(series, |(bare, labels)| {
                check_labels(labels.strip_suffix('}').expect(line));
                bare
            });
            let of_histogram = ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
            assert!(bare == name || kind == "histogram" && of_histogram.iter().any(|known| known == bare), "{line}");
            let value: f64 = value.parse().expect(line);
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
        assert!(!samples.is_empty(), "{name} has no sample");
        let family = Family { kind: kind.to_owned(), samples };
        assert!(families.insert(name.to_owned(), family).is_none(), "twice: {name}");
    }
    families
}

fn check_labels(labels: &str) {
    for label in labels.split(',') {
        let (key, value) = label.split_once('=').expect(label);
        assert!(["version", "driver", "state", "reason", "event", "le"].contains(&key), "{label}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(label);
        assert!(!value.is_empty() && !value.contains(['"', '\\', ' ']), "{label}");
    }
}

fn page(fill: impl Fn(&Counters)) -> (String, BTreeMap<String, Family>) {
    let counters = Counters::default();
    fill(&counters);
    let mut stats = Stats::default();
    stats.add(&counters, 10);
    let mut detail = Detail { driver: "epoll", connections_max: 100, log_held_back: 8, ..Detail::default() };
    detail.add(&counters, 7);
    let text = text(&stats, &detail, &[]);
    let families = parse(&text);
    (text, families)
}

#[test]
fn each_number_is_where_it_belongs() {
    let (_, families) = page(|counters| {
        counters.connecting.add(2);
        counters.closing.add(3);
        counters.bytes_in.add(1 << 40);
        counters.bytes_queued.add(17);
        counters.closed_for(Status::Eof);
        counters.closed_for(Status::Eof);
        counters.closed_for(Status::Permission);
    });
    let value = |family: &str, series: &str| families[family].samples[series];
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value("ahoy_info", &format!("ahoy_info{{version=\"{version}\",driver=\"epoll\"}}")), 1.0);
    for (state, count) in [("connecting", 2.0), ("open", 5.0), ("closing", 3.0)] {
        assert_eq!(value("ahoy_connections", &format!("ahoy_connections{{state=\"{state}\"}}")), count);
    }
    for (reason, count) in [("eof", 2.0), ("permission", 1.0), ("too_long", 0.0), ("ok", 0.0)] {
        let series = format!("ahoy_connections_closed_total{{reason=\"{reason}\"}}");
        assert_eq!(value("ahoy_connections_closed_total", &series), count);
    }
    let plain = [
        ("ahoy_received_bytes_total", (1u64 << 40) as f64),
        ("ahoy_queued_bytes", 17.0),
        ("ahoy_mailbox_commands", 7.0),
        ("ahoy_connections_limit", 100.0),
        ("ahoy_log_held_back_total", 8.0),
    ];
    for (name, count) in plain {
        assert_eq!(value(name, name), count, "{name}");
    }
}

#[test]
fn the_histogram_is_cumulative_and_exact() {
    let (text, families) = page(|counters| [1, 1024, 1025, 3 << 30].into_iter().for_each(|time| counters.turn(time)));
    let turns = &families["ahoy_turn_seconds"];
    assert_eq!(turns.kind, "histogram");
    let buckets: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ahoy_turn_seconds_bucket{le=\"")?.split_once("\"} "))
        .map(|(bound, count)| (bound, count.parse().unwrap()))
        .collect();
    assert_eq!(buckets[..3], [("0.000001024", 2), ("0.000002048", 3), ("0.000004096", 3)]);
    assert_eq!(buckets[buckets.len() - 2..], [("1.073741824", 3), ("+Inf", 4)]);
    let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| bound.parse().unwrap()).collect();
    assert!(bounds.is_sorted_by(|one, next| one < next) && buckets.is_sorted_by_key(|(_, count)| *count));
    assert_eq!(turns.samples["ahoy_turn_seconds_count"], 4.0);
    assert!(text.contains("\nahoy_turn_seconds_sum 3.221227522\n"), "{text}");
}

#[test]
fn the_series_are_the_same_from_the_start_and_fit_the_buffer_that_the_header_names() {
    let series = |families: &BTreeMap<String, Family>| -> Vec<String> {
        families.values().flat_map(|family| family.samples.keys().cloned()).collect()
    };
    let (_, before) = page(|_| {});
    let (text, after) = page(|counters| {
        EXPECTED.into_iter().for_each(|reason| counters.closed_for(reason));
        counters.bytes_out.add(u64::MAX);
        counters.turn(u64::MAX);
    });
    assert_eq!(series(&before), series(&after));
    assert!(text.len() < 12 << 10, "{} bytes", text.len());
}
