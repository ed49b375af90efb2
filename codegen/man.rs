//! The manual pages, in mdoc(7): one for each group of the header, one that says what holds for all of them, and for
//! every other name a page that leads to its group's.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;

use crate::declarations::{self, Declaration, Field, Kind};
use crate::header::{self, Group};
use crate::prose::{self, Block};
use crate::{date, read, roff, status};

/// What fits into a terminal of 80 columns, indented.
const COLUMNS: usize = 66;

pub(crate) struct Page {
    /// Of its file, without the section.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What every page is written with.
struct Writer<'a> {
    date: String,
    version: String,
    functions: BTreeSet<String>,
    statuses: &'a [status::Row],
}

/// A group with its declarations understood.
struct Chapter {
    page: String,
    title: String,
    about: Vec<Block>,
    declarations: Vec<Declaration>,
}

pub(crate) fn pages(top: &str, groups: &[Group], statuses: &[status::Row]) -> Vec<Page> {
    let mut chapters: Vec<Chapter> = groups.iter().map(chapter).collect();
    let functions = chapters.iter().flat_map(Chapter::functions).map(|function| function.name.clone()).collect();
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets the version");
    let date = date::of_release(&read("CHANGELOG.md"), &version);
    let writer = Writer { date, version, functions, statuses };

    let mut names: BTreeSet<String> = chapters.iter().map(|chapter| chapter.page.clone()).collect();
    let mut pages = vec![Page { name: "ahoy".to_owned(), text: writer.overview(top, &chapters) }];
    let all: Vec<String> = names.iter().cloned().collect();
    for chapter in &mut chapters {
        let text = writer.page(chapter, &all);
        pages.push(Page { name: chapter.page.clone(), text });
        for declaration in chapter.declarations.iter().filter(|one| !matches!(one.kind, Kind::Constant { .. })) {
            // A type may have the name of a page.
            if names.insert(declaration.name.clone()) {
                let text = format!(".so man3/{}.3\n", chapter.page);
                pages.push(Page { name: declaration.name.clone(), text });
            }
        }
    }
    pages
}

fn chapter(group: &Group) -> Chapter {
    let (title, about) = group.comment.split_first().unwrap_or_else(|| panic!("{}: no module comment", group.name));
    Chapter {
        page: format!("ahoy_{}", group.name),
        title: title.clone(),
        about: prose::parse(about).blocks,
        declarations: declarations::parse(&group.declarations),
    }
}

impl Chapter {
    fn functions(&self) -> impl Iterator<Item = &Declaration> {
        self.declarations.iter().filter(|one| matches!(one.kind, Kind::Function { .. }))
    }
}

impl Writer<'_> {
    fn overview(&self, top: &str, chapters: &[Chapter]) -> String {
        let comment = top.split("*/").next().unwrap_or_default();
        let lines: Vec<String> =
            comment.lines().map(|line| line.get(3..).unwrap_or_default().trim_end().to_owned()).collect();
        let about = lines.iter().position(|line| line.starts_with("ahoy.h: ")).expect("the title of the header");
        let subject = lines[about]["ahoy.h: ".len()..].split(".  ").next().unwrap_or_default();
        let mut blocks = prose::parse(&lines[about + 1..]).blocks;
        // That the header is generated does not concern the reader of a page.
        blocks.pop();

        let mut text = self.head("ahoy", &["ahoy"], subject);
        text.push_str(".In ahoy.h\n.Sh DESCRIPTION\n");
        self.blocks(&blocks, &mut text);
        text.push_str(".Sh PAGES\n.Bl -tag -width \"ahoy_handover(3)\"\n");
        for chapter in chapters {
            let _ = write!(text, ".It Xr {} 3\n{}", chapter.page, self.text(&format!("{}.", chapter.title)));
            let names: Vec<String> = chapter.functions().map(|one| format!("`{}`", one.name)).collect();
            if !names.is_empty() {
                text.push_str(&self.text(&format!("{}.", names.join(", "))));
            }
        }
        text.push_str(
            ".El\n.Pp\nEvery function, structure and type of a callback has a page under its own name, too.\n",
        );
        text.push_str(".Sh SEE ALSO\n.Xr pkg-config 1 ,\n.Xr epoll 7 ,\n.Xr socket 7\n");
        text
    }

    fn page(&self, chapter: &mut Chapter, pages: &[String]) -> String {
        let since = take_since(&mut chapter.declarations);
        let mut names = vec![chapter.page.as_str()];
        names.extend(chapter.functions().map(|one| one.name.as_str()).filter(|name| *name != chapter.page));
        let mut text = self.head(&chapter.page, &names, &format!("Ahoy: {}", lower_first(&chapter.title)));
        text.push_str(".In ahoy.h\n");
        for function in chapter.functions() {
            prototype(function, &mut text);
        }
        text.push_str(".Sh DESCRIPTION\n");
        self.blocks(&chapter.about, &mut text);
        for function in chapter.functions() {
            self.function(function, &mut text);
        }
        let all = |part: &dyn Fn(&Declaration) -> Option<String>| -> String {
            chapter.declarations.iter().filter_map(part).collect()
        };
        for (title, parts) in
            [("CALLBACKS", all(&|one| self.callback(one))), ("TYPES", all(&|one| self.data_type(one)))]
        {
            if !parts.is_empty() {
                let _ = write!(text, ".Sh {title}\n{parts}");
            }
        }
        let constants = all(&|one| self.constant(one));
        if !constants.is_empty() {
            let _ = write!(text, ".Sh CONSTANTS\n.Bl -tag -width Ds\n{constants}.El\n");
        }
        if chapter.functions().next().is_some() {
            text.push_str(".Sh RETURN VALUES\n");
            text.push_str(&self.text(
                "What each function returns is said with it. An ahoy_status is AHOY_OK, which is 0, or a negative \
                 error: ahoy_error(3) lists them, and `ahoy_last_error` has the detail.",
            ));
        }
        text.push_str(".Sh SEE ALSO\n.Xr ahoy 3");
        for page in pages.iter().filter(|page| **page != chapter.page) {
            let _ = write!(text, " ,\n.Xr {page} 3");
        }
        text.push('\n');
        if !since.is_empty() {
            text.push_str(".Sh HISTORY\n");
            for (version, names) in since {
                text.push_str(&self.text(&format!("{} came with Ahoy {version}.", listed(&names))));
            }
        }
        text
    }

    /// Up to the heading of the synopsis.
    fn head(&self, page: &str, names: &[&str], subject: &str) -> String {
        let mut text = String::from(".\\\" Generated from the comments in the library's source: do not edit.\n");
        let _ = writeln!(text, ".Dd {}\n.Dt {} 3\n.Os libahoy {}", self.date, page.to_uppercase(), self.version);
        let _ = writeln!(text, ".Sh NAME\n.Nm {}\n.Nd {subject}", names.join(" ,\n.Nm "));
        text.push_str(".Sh LIBRARY\nAhoy (libahoy, \\-lahoy)\n.Sh SYNOPSIS\n");
        text
    }

    fn text(&self, text: &str) -> String {
        roff::text(text, |name| self.functions.contains(name))
    }

    fn blocks(&self, blocks: &[Block], text: &mut String) {
        for (at, block) in blocks.iter().enumerate() {
            match block {
                Block::Paragraph(paragraph) => {
                    text.push_str(if at > 0 { ".Pp\n" } else { "" });
                    text.push_str(&self.text(paragraph));
                }
                Block::List(items) => {
                    text.push_str(".Bl -bullet\n");
                    for item in items {
                        let _ = write!(text, ".It\n{}", self.text(item));
                    }
                    text.push_str(".El\n");
                }
                Block::Code(lines) => {
                    let _ = write!(text, ".Bd -literal -offset indent\n{}.Ed\n", roff::literal(lines));
                }
            }
        }
    }

    fn function(&self, function: &Declaration, text: &mut String) {
        let Kind::Function { arguments, .. } = &function.kind else { return };
        let comment = &function.comment;
        let _ = writeln!(text, ".Ss {}", function.name);
        self.blocks(&comment.blocks, text);
        if !comment.parameters.is_empty() {
            text.push_str(".Bl -tag -width Ds\n");
            for (name, about) in &comment.parameters {
                let argument = arguments.iter().find(|one| one.rsplit([' ', '*']).next() == Some(name));
                let argument = argument.unwrap_or_else(|| panic!("{} has no argument {name}", function.name));
                let _ = write!(text, ".It Fa {}\n{}", roff::argument(argument), self.text(about));
            }
            text.push_str(".El\n");
        }
        if let Some(result) = &comment.result {
            let _ = write!(text, ".Pp\n{}", self.text(&format!("Returns: {result}")));
        }
        if !comment.remarks.is_empty() {
            text.push_str(".Pp\n");
            self.blocks(&comment.remarks, text);
        }
    }

    fn callback(&self, one: &Declaration) -> Option<String> {
        let Kind::Callback { line } = &one.kind else { return None };
        let lines: Vec<String> = header::fold(line, COLUMNS).lines().map(str::to_owned).collect();
        let mut text = format!(".Ss {}\n.Bd -literal -offset indent\n{}.Ed\n.Pp\n", one.name, roff::literal(&lines));
        self.blocks(&one.comment.blocks, &mut text);
        Some(text)
    }

    fn data_type(&self, one: &Declaration) -> Option<String> {
        let word = match &one.kind {
            Kind::Struct { .. } => "struct",
            Kind::Enum => "enum",
            _ => return None,
        };
        let mut text = format!(".Ss {word} {}\n", one.name);
        self.blocks(&one.comment.blocks, &mut text);
        text.push_str(".Bl -tag -width Ds\n");
        if let Kind::Struct { fields } = &one.kind {
            for Field { declaration, comment } in fields {
                let _ = writeln!(text, ".It Fa {}", roff::argument(declaration));
                self.blocks(&comment.blocks, &mut text);
            }
        } else {
            for row in self.statuses {
                let code = row.code.to_string().replace('-', "\\-");
                let _ = write!(text, ".It Dv {} No = {code}\n{}", row.name, self.text(&row.sentence));
            }
        }
        text.push_str(".El\n");
        Some(text)
    }

    fn constant(&self, one: &Declaration) -> Option<String> {
        let Kind::Constant { value } = &one.kind else { return None };
        let mut text = format!(".It Dv {} No = {}\n", one.name, value.replace('-', "\\-"));
        self.blocks(&one.comment.blocks, &mut text);
        Some(text)
    }
}

/// What came with which version, taken out of the comments.
fn take_since(declarations: &mut [Declaration]) -> BTreeMap<String, Vec<String>> {
    let mut since: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in declarations.iter_mut().filter(|one| matches!(one.kind, Kind::Function { .. })) {
        if let Some(version) = one.comment.take_since() {
            since.entry(version).or_default().push(format!("`{}`", one.name));
        }
    }
    since
}

fn prototype(function: &Declaration, text: &mut String) {
    let Kind::Function { result, arguments } = &function.kind else { return };
    let _ = writeln!(text, ".Ft {}\n.Fo {}", roff::argument(result), function.name);
    for argument in arguments {
        let _ = writeln!(text, ".Fa {}", roff::argument(argument));
    }
    text.push_str(".Fc\n");
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// "a, b and c".
fn listed(names: &[String]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
