//! The part of docs/benchmarks.md that a command writes.

use std::path::Path;
use std::{fs, io};

/// Puts the text between the command's marks in the file; what stands around it stays.
pub(crate) fn write(path: &Path, command: &str, text: &str) -> io::Result<()> {
    let begin = format!("<!-- begin: written by `{command}`; what is changed here is lost -->");
    let end = format!("<!-- end: written by `{command}` -->");
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "# Benchmarks".to_owned(),
        Err(error) => return Err(error),
    };
    let (before, rest) = old.split_once(&begin).unwrap_or((&old, ""));
    let before = before.trim_end();
    let after = rest.split_once(&end).map_or("\n", |(_, after)| after);
    fs::write(path, format!("{before}\n\n{begin}\n\n{text}\n{end}{after}"))
}
