//! Opening a bucket: that its stream is there, and is what it is asked to be.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{NO_STREAM, Names, NatsBucket, Refusal, Shared};
use crate::cluster::bucket::BucketOptions;
use crate::status::{Error, Result, Status};

/// How long a key that has gone by itself is known as gone: as long as a watch may be cut off and still hear of it.
const MARKER_MS: u64 = 3_600_000;
/// JetStream's number.
const NAME_IN_USE: u64 = 10_058;

/// Opens a bucket; or makes it, if nobody has.
pub(super) async fn open(shared: Arc<Shared>, names: Names, options: &BucketOptions) -> Result<NatsBucket> {
    let deadline = shared.deadline();
    let what = format!("bucket {}", names.bucket);
    let config = loop {
        match shared.api("STREAM.INFO", &names.stream, &json!({}), deadline).await? {
            Ok(info) => {
                let config = info["config"].clone();
                check(&config, &names, options)?;
                break config;
            }
            Err(refusal) if refusal.number == NO_STREAM => {}
            Err(refusal) => return Err(refusal.error(&what)),
        }
        let made = match options.replicas {
            0 => match create(&shared, &names, options, 3, deadline).await? {
                Err(refusal) if refusal.error("").status == Status::Replicas => {
                    log::warn!("{what} is on one server: the cluster has no three");
                    create(&shared, &names, options, 1, deadline).await?
                }
                made => made,
            },
            replicas => create(&shared, &names, options, replicas, deadline).await?,
        };
        match made {
            Ok(info) => break info["config"].clone(),
            // Another node was first.
            Err(refusal) if refusal.number == NAME_IN_USE => {}
            Err(refusal) => return Err(refusal.error(&what)),
        }
    };
    // An old server leaves out what it does not know.
    let is = |name: &str| config[name].as_bool().unwrap_or(false);
    // As many as there are, where it is -1.
    let history = config["max_msgs_per_subject"].as_u64().unwrap_or(u64::MAX);
    let (has_ttl, is_direct) = (is("allow_msg_ttl"), options.stale_ok && is("allow_direct"));
    Ok(NatsBucket { shared, names, history, has_ttl, is_direct })
}

async fn create(
    shared: &Shared,
    names: &Names,
    options: &BucketOptions,
    replicas: u32,
    deadline: Instant,
) -> Result<Result<Value, Refusal>> {
    let age_ns = options.ttl_ms.saturating_mul(1_000_000);
    let minutes_ns = 120_000_000_000_u64;
    let mut config = json!({
        "name": names.stream,
        "subjects": [format!("{}>", names.keys)],
        "retention": "limits",
        "storage": "file",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": options.history.max(1),
        "max_age": age_ns,
        "max_bytes": -1,
        "max_msg_size": -1,
        "num_replicas": replicas,
        "duplicate_window": if age_ns == 0 { minutes_ns } else { age_ns.min(minutes_ns) },
        // A full bucket refuses; it does not forget.
        "discard": "new",
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "allow_direct": options.stale_ok,
        "republish": republish(names),
        // Since 2.11.
        "allow_msg_ttl": true,
        "subject_delete_marker_ttl": MARKER_MS * 1_000_000,
    });
    if options.bytes_max > 0 {
        config["max_bytes"] = json!(options.bytes_max);
    }
    shared.api("STREAM.CREATE", &names.stream, &config, deadline).await
}

fn republish(names: &Names) -> Value {
    json!({ "src": format!("{}>", names.keys), "dest": format!("{}>", names.feed) })
}

/// Whether a bucket that is there is what it is asked to be; 0 asks for nothing.
fn check(config: &Value, names: &Names, options: &BucketOptions) -> Result<()> {
    let other = |what: &str| {
        let text = format!("bucket {} is there already: {what}", names.bucket);
        Err(Error::new(Status::Invalid, text))
    };
    if config["subjects"] != json!([format!("{}>", names.keys)]) {
        return other("its subjects are not those of a bucket");
    }
    let is = &config["republish"];
    let wanted = republish(names);
    if is["src"] != wanted["src"] || is["dest"] != wanted["dest"] {
        return other("it does not publish its changes again, because another program has made it");
    }
    let settings = [
        ("history", "max_msgs_per_subject", u64::from(options.history), 1),
        ("ttl_ms", "max_age", options.ttl_ms, 1_000_000),
        ("bytes_max", "max_bytes", options.bytes_max, 1),
        ("replicas", "num_replicas", u64::from(options.replicas), 1),
    ];
    for (name, field, asked, unit) in settings {
        let is = config[field].as_i64().and_then(|is| u64::try_from(is).ok()).unwrap_or(0) / unit;
        if asked != 0 && asked != is {
            return other(&format!("its {name} is {is}, not {asked}"));
        }
    }
    Ok(())
}
