//! Generates what must never be typed twice: the C header (from the comments and signatures in
//! `src/capi/`) and the status table (from the comments in `src/status.rs`).
//!
//! The header is written beside the build's other outputs; `AHOY_HEADER=write` also writes the
//! committed `include/ahoy.h`. A test fails when the two differ.

use std::path::{Path, PathBuf};
use std::{env, fmt::Write as _, fs};

/// The groups of the C face, in the order in which the header is read.
const GROUPS: [&str; 6] = ["error", "handle", "greeting", "server", "conn", "log"];

fn main() {
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=src/status.rs");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=AHOY_HEADER");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let statuses = parse_statuses(&read("src/status.rs"));
    fs::write(out.join("status_table.rs"), status_table(&statuses)).expect("write status table");

    let header = header(&statuses);
    fs::write(out.join("ahoy.h"), &header).expect("write header");
    if env::var("AHOY_HEADER").is_ok_and(|mode| mode == "write") {
        fs::write("include/ahoy.h", &header).expect("write include/ahoy.h");
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One row of the status table.
struct StatusRow {
    variant: String,
    name: String,
    code: i32,
    sentence: String,
}

/// Reads the rows of `enum Status`: a comment (the sentence) and a line `Variant = code,`.
fn parse_statuses(source: &str) -> Vec<StatusRow> {
    let body = source.split("pub enum Status {").nth(1).expect("enum Status");
    let body = body.split("\n}").next().expect("end of enum Status");
    let mut rows = Vec::new();
    let mut sentence = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(comment.trim());
        } else if let Some((variant, code)) = line.split_once(" = ") {
            rows.push(StatusRow {
                variant: variant.to_owned(),
                name: status_name(variant),
                code: code.trim_end_matches(',').parse().expect("status code"),
                sentence: std::mem::take(&mut sentence),
            });
        }
    }
    rows
}

/// `Ok` is `AHOY_OK`, `TooLong` is `AHOY_ERR_TOO_LONG`.
fn status_name(variant: &str) -> String {
    if variant == "Ok" {
        return "AHOY_OK".to_owned();
    }
    let mut name = String::from("AHOY_ERR");
    for letter in variant.chars() {
        if letter.is_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn status_table(rows: &[StatusRow]) -> String {
    let mut text = String::from("static TABLE: &[Row] = &[\n");
    for row in rows {
        writeln!(
            text,
            "    Row {{ status: Status::{}, name: c{:?}, text: c{:?} }},",
            row.variant, row.name, row.sentence
        )
        .expect("write to a string");
    }
    text.push_str("];\n");
    text
}

fn status_enum(rows: &[StatusRow]) -> String {
    let mut text = String::from(
        "/**\n * What a call came to: 0 is success, every error is negative. The numbers never change.\n \
         * `ahoy_last_error` adds the detail.\n */\ntypedef enum ahoy_status {\n",
    );
    for row in rows {
        for line in wrap(&row.sentence, 90).lines() {
            let _ = writeln!(text, "    /* {line} */");
        }
        let _ = writeln!(text, "    {} = {},", row.name, row.code);
    }
    // Without a trailing comma: C++ before C++11 refuses one.
    text.truncate(text.len() - 2);
    text.push_str("\n} ahoy_status;\n");
    text
}

fn wrap(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        if column > 0 && column + word.len() + 1 > width {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += word.len();
    }
    lines
}

/// Joins the parts: a title comment from each file's module comment, then what cbindgen makes of it.
fn header(statuses: &[StatusRow]) -> String {
    let config = cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets the version");
    let number = |part: &str| env::var(format!("CARGO_PKG_VERSION_{part}")).expect("version part");
    let mut text = read("src/capi/header_top.h")
        .replace("@VERSION@", &version)
        .replace("@MAJOR@", &number("MAJOR"))
        .replace("@MINOR@", &number("MINOR"))
        .replace("@PATCH@", &number("PATCH"));
    for group in GROUPS {
        let path = format!("src/capi/{group}.rs");
        let source = read(&path);
        text.push_str(&title(&source));
        if group == "error" {
            text.push_str(&status_enum(statuses));
            text.push('\n');
        }
        let mut part = Vec::new();
        cbindgen::Builder::new()
            .with_config(config.clone())
            .with_src(&path)
            .generate()
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .write(&mut part);
        let part = String::from_utf8(part).expect("cbindgen writes UTF-8");
        text.push_str(&tidy(part.trim()));
        text.push('\n');
    }
    text.push_str(&read("src/capi/header_end.h"));
    text
}

/// What cbindgen writes, more pleasant to read: comments of one line on one line, no word `struct`
/// where the typedef will do, and no line longer than a screen is wide.
fn tidy(part: &str) -> String {
    let mut text = String::new();
    let mut lines = part.lines().peekable();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "/**" {
            let first = lines.next().unwrap_or_default();
            if lines.next_if(|next| next.trim() == "*/").is_some() {
                let sentence = first.trim_start().trim_start_matches("* ");
                let _ = writeln!(text, "{indent}/** {sentence} */");
            } else {
                let _ = writeln!(text, "{line}\n{first}");
            }
        } else if line.contains('(') && !line.trim_start().starts_with('*') {
            text.push_str(&fold(&line.replace("struct ", "")));
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Breaks a declaration after the last comma that fits, and goes on below its first argument.
fn fold(line: &str) -> String {
    const WIDTH: usize = 100;
    let Some(open) = line.rfind('(').filter(|_| line.len() > WIDTH) else {
        return format!("{line}\n");
    };
    let at = line[..WIDTH].rfind(", ").expect("a long declaration has several arguments") + 1;
    let rest = format!("{:open$} {}", "", line[at..].trim_start());
    format!("{}\n{}", &line[..at], fold(&rest))
}

/// The module comment of a file as the banner of its group.
fn title(source: &str) -> String {
    let mut text = String::from("/* ");
    text.push_str(&"=".repeat(94));
    text.push('\n');
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        let line = line.strip_prefix("# ").unwrap_or(line);
        text.push_str(if line.is_empty() { " *" } else { " * " });
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(" * ");
    text.push_str(&"=".repeat(94));
    text.push_str(" */\n\n");
    text
}
