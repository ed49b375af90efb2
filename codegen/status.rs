//! The status codes: rows of `enum Status`, as a table for Rust and as an enumeration for C.

use std::fmt::Write as _;

/// One row of the status table.
pub(crate) struct Row {
    variant: String,
    pub(crate) name: String,
    pub(crate) code: i32,
    pub(crate) sentence: String,
}

/// Reads the rows of `enum Status`: a comment (the sentence) and a line `Variant = code,`.
pub(crate) fn parse(source: &str) -> Vec<Row> {
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
            rows.push(Row {
                variant: variant.to_owned(),
                name: name(variant),
                code: code.trim_end_matches(',').parse().expect("status code"),
                sentence: std::mem::take(&mut sentence),
            });
        }
    }
    rows
}

/// `Ok` is `AHOY_OK`, `TooLong` is `AHOY_ERR_TOO_LONG`.
fn name(variant: &str) -> String {
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

/// The table that `src/status.rs` includes.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from("static TABLE: &[Row] = &[\n");
    for row in rows {
        let _ = writeln!(
            text,
            "    Row {{ status: Status::{}, name: c{:?}, text: c{:?} }},",
            row.variant, row.name, row.sentence
        );
    }
    text.push_str("];\n");
    text
}

/// The enumeration for the header.
pub(crate) fn enumeration(rows: &[Row]) -> String {
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
