//! Text as mdoc(7), the language of manual pages: what has a meaning there is escaped, and code gets its fonts.

use std::fmt::Write as _;

/// The longest line that is written, where it can be broken.
const WIDTH: usize = 78;

/// Running text: each sentence begins a line, `code` is set in italics, or in bold if `is_function` says so.
pub(crate) fn text(text: &str, is_function: impl Fn(&str) -> bool) -> String {
    let mut marked = String::new();
    // Every second part lies between backquotes.
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 0 {
            marked.push_str(&escape(part));
        } else if is_function(part) {
            let _ = write!(marked, "\\fB{}\\fP()", escape_code(part));
        } else {
            // Several words are one: they are not broken.
            let _ = write!(marked, "\\fI{}\\fP", escape_code(part).replace(' ', "\\~"));
        }
    }
    fill(&marked)
}

/// One word as the argument of a macro.
pub(crate) fn argument(text: &str) -> String {
    format!("\"{}\"", escape_code(text))
}

/// Code in lines.
pub(crate) fn literal(lines: &[String]) -> String {
    lines.iter().map(|line| guarded(&escape_code(line)) + "\n").collect()
}

/// What a macro would see in the first column is not for it.
fn guarded(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

fn fill(text: &str) -> String {
    let mut filled = String::new();
    let mut line = String::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(filled, "{}", guarded(&line));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // Names and addresses are not hyphenated.
        if word.contains('_') || word.contains("://") {
            line.push_str("\\%");
        }
        line.push_str(word);
        let ends = word.trim_end_matches(')').ends_with(['.', '?', '!']);
        if ends && words.peek().is_none_or(|next| next.starts_with(|c: char| !c.is_lowercase())) {
            let _ = writeln!(filled, "{}", guarded(&line));
            line.clear();
        }
    }
    if !line.is_empty() {
        let _ = writeln!(filled, "{}", guarded(&line));
    }
    filled
}

/// A hyphen stays one, but the sign of a number is a minus.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let sign = !before.is_alphanumeric() && letters.peek().is_some_and(char::is_ascii_digit);
        match letter {
            '-' if sign => escaped.push_str("\\-"),
            _ => escape_letter(letter, &mut escaped),
        }
        before = letter;
    }
    escaped
}

fn escape_code(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            _ => escape_letter(letter, &mut escaped),
        }
    }
    escaped
}

fn escape_letter(letter: char, escaped: &mut String) {
    match letter {
        '\\' => escaped.push_str("\\e"),
        '"' => escaped.push_str("\\(dq"),
        '~' => escaped.push_str("\\(ti"),
        '^' => escaped.push_str("\\(ha"),
        _ if letter.is_ascii() => escaped.push(letter),
        _ => {
            let _ = write!(escaped, "\\[u{:04X}]", u32::from(letter));
        }
    }
}
