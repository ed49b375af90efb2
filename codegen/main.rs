//! Generates what must never be typed twice: the C header and the manual pages (from the comments and signatures in
//! `src/capi/`), and the status table (from the comments in `src/status.rs`).
//!
//! All of it is written to the build's output folder; `AHOY_HEADER=write` also writes the committed
//! `include/ahoy.h`. A test fails when the two differ.

mod date;
mod declarations;
mod header;
mod man;
mod prose;
mod roff;
mod status;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The groups of the C face, in the order in which the header is read.
const GROUPS: [&str; 19] = [
    "error", "handle", "greeting", "framing", "cluster", "driver", "server", "conn", "timer", "topic", "address",
    "service", "kv", "watch", "queue", "client", "handover", "metrics", "log",
];

fn main() {
    for path in ["src/capi", "src/status.rs", "cbindgen.toml", "codegen", "CHANGELOG.md"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=AHOY_HEADER");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let statuses = status::parse(&read("src/status.rs"));
    write(out.join("status_table.rs"), &status::table(&statuses));

    let top = header::top();
    let groups = GROUPS.map(|name| header::group(name, &statuses));
    let header = header::join(&top, &groups);
    write(out.join("ahoy.h"), &header);
    if env::var("AHOY_HEADER").is_ok_and(|mode| mode == "write") {
        write("include/ahoy.h", &header);
    }

    let section = out.join("man/man3");
    // A page of a function that is gone must not stay.
    let _ = fs::remove_dir_all(&section);
    fs::create_dir_all(&section).unwrap_or_else(|error| panic!("{}: {error}", section.display()));
    for page in man::pages(&top, &groups, &statuses) {
        write(section.join(format!("{}.3", page.name)), &page.text);
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
