//! The declarations of a group, read back from the C that goes into the header.

use crate::prose::{self, Comment};

/// One declaration and its comment.
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) comment: Comment,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// `#define NAME value`
    Constant { value: String },
    /// `typedef struct NAME { … } NAME;`
    Struct { fields: Vec<Field> },
    /// `typedef enum NAME { … } NAME;`
    Enum,
    /// `typedef result (*NAME)(arguments);`, in one line
    Callback { line: String },
    /// `result NAME(arguments);`
    Function { result: String, arguments: Vec<String> },
}

pub(crate) struct Field {
    /// Type and name, as in C.
    pub(crate) declaration: String,
    pub(crate) comment: Comment,
}

/// Reads what stands between two banners. What it does not understand ends the build, so that nothing is left out.
pub(crate) fn parse(text: &str) -> Vec<Declaration> {
    let mut declarations = Vec::new();
    let mut lines = text.lines();
    let mut comment = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if line.starts_with("/**") {
            comment = comment_lines(line, &mut lines);
            continue;
        }
        let (name, kind) = declaration(line, &mut lines);
        declarations.push(Declaration { name, comment: prose::parse(&comment), kind });
        comment.clear();
    }
    declarations
}

/// The text of a comment that begins in `first`.
fn comment_lines<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let first = first.trim_start().trim_start_matches("/**");
    if let Some(only) = first.strip_suffix("*/") {
        return vec![only.trim().to_owned()];
    }
    lines
        .map(str::trim_start)
        .take_while(|line| *line != "*/")
        .map(|line| line.strip_prefix("* ").unwrap_or(line.trim_start_matches('*')).to_owned())
        .collect()
}

fn declaration<'a>(first: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> (String, Kind) {
    if let Some(constant) = first.strip_prefix("#define ") {
        let (name, value) = constant.split_once(' ').unwrap_or_else(|| panic!("no value: {first}"));
        return (name.to_owned(), Kind::Constant { value: value.to_owned() });
    }
    if let Some(name) = first.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {")) {
        return (name.to_owned(), Kind::Struct { fields: fields(lines) });
    }
    if let Some(name) = first.strip_prefix("typedef enum ").and_then(|rest| rest.strip_suffix(" {")) {
        lines.take_while(|line| !line.starts_with('}')).for_each(drop);
        return (name.to_owned(), Kind::Enum);
    }
    let mut all = vec![first.to_owned()];
    while !all.last().is_some_and(|last| last.ends_with(");")) {
        all.push(lines.next().unwrap_or_else(|| panic!("no end: {first}")).to_owned());
    }
    let joined = all.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let (head, arguments) = joined.trim_end_matches(");").rsplit_once('(').unwrap_or_else(|| panic!("{first}"));
    if let Some(name) = head.strip_suffix(')').and_then(|head| Some(head.split_once("(*")?.1)) {
        return (name.to_owned(), Kind::Callback { line: joined.clone() });
    }
    // `const char *name`: the asterisk belongs to the result.
    let at = head.rfind([' ', '*']).unwrap_or_else(|| panic!("no result: {first}")) + 1;
    let arguments = arguments.split(", ").map(str::to_owned).collect();
    (head[at..].to_owned(), Kind::Function { result: head[..at].trim().to_owned(), arguments })
}

fn fields<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut comment = Vec::new();
    while let Some(line) = lines.next().filter(|line| !line.starts_with('}')) {
        if line.trim_start().starts_with("/**") {
            comment = comment_lines(line, lines);
        } else {
            let declaration = line.trim().strip_suffix(';').unwrap_or_else(|| panic!("no field: {line}"));
            fields.push(Field { declaration: declaration.to_owned(), comment: prose::parse(&comment) });
            comment.clear();
        }
    }
    fields
}
