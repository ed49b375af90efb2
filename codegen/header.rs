//! `include/ahoy.h`: for each group a title from its file's module comment, then what cbindgen makes of the file.

use std::env;
use std::fmt::Write as _;

use crate::{read, status};

/// One group of the header.
pub(crate) struct Group {
    /// Its file in `src/capi/`, without the ending.
    pub(crate) name: &'static str,
    /// Its module comment, line by line, the title first.
    pub(crate) comment: Vec<String>,
    /// Its declarations in C, with their comments.
    pub(crate) declarations: String,
}

/// What stands before the groups, version filled in.
pub(crate) fn top() -> String {
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets the version");
    let number = |part: &str| env::var(format!("CARGO_PKG_VERSION_{part}")).expect("version part");
    read("src/capi/header_top.h")
        .replace("@VERSION@", &version)
        .replace("@MAJOR@", &number("MAJOR"))
        .replace("@MINOR@", &number("MINOR"))
        .replace("@PATCH@", &number("PATCH"))
}

pub(crate) fn group(name: &'static str, statuses: &[status::Row]) -> Group {
    let path = format!("src/capi/{name}.rs");
    let mut declarations = String::new();
    if name == "error" {
        declarations.push_str(&status::enumeration(statuses));
        declarations.push('\n');
    }
    let mut part = Vec::new();
    cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file("cbindgen.toml").expect("cbindgen.toml"))
        .with_src(&path)
        .generate()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .write(&mut part);
    let part = String::from_utf8(part).expect("cbindgen writes UTF-8");
    declarations.push_str(&tidy(part.trim()));
    Group { name, comment: module_comment(&read(&path)), declarations }
}

/// The whole header.
pub(crate) fn join(top: &str, groups: &[Group]) -> String {
    let mut text = top.to_owned();
    for group in groups {
        text.push_str(&banner(&group.comment));
        text.push_str(&group.declarations);
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
            text.push_str(&fold(&line.replace("struct ", ""), 100));
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// Breaks a declaration after the last comma that fits, and goes on below its first argument.
pub(crate) fn fold(line: &str, columns: usize) -> String {
    let below = " ".repeat(line.rfind('(').map_or(0, |open| open + 1));
    let mut text = String::new();
    let mut rest = line.to_owned();
    while let Some(comma) = rest.get(..columns).and_then(|fits| fits.rfind(", ")) {
        let _ = writeln!(text, "{}", &rest[..=comma]);
        rest = format!("{below}{}", &rest[comma + 2..]);
    }
    text + &rest + "\n"
}

fn module_comment(source: &str) -> Vec<String> {
    source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned())
        .collect()
}

/// The module comment of a file as the banner of its group.
fn banner(comment: &[String]) -> String {
    let rule = "=".repeat(94);
    let mut text = format!("/* {rule}\n");
    for line in comment {
        text.push_str(if line.is_empty() { " *" } else { " * " });
        text.push_str(line);
        text.push('\n');
    }
    let _ = writeln!(text, " * {rule} */\n");
    text
}
