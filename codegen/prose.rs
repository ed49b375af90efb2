//! Comments: paragraphs, lists, code, and what `@param` and `@return` say.

/// A comment in its parts.
#[derive(Default)]
pub(crate) struct Comment {
    /// What it begins with.
    pub(crate) blocks: Vec<Block>,
    /// Name and text of each `@param`.
    pub(crate) parameters: Vec<(String, String)>,
    /// The text of `@return`.
    pub(crate) result: Option<String>,
    /// What stands behind `@param` and `@return`.
    pub(crate) remarks: Vec<Block>,
}

pub(crate) enum Block {
    Paragraph(String),
    /// Items with a dash in front of each.
    List(Vec<String>),
    /// Lines indented by at least four, without what they have in common.
    Code(Vec<String>),
}

/// What a line without a mark of its own continues.
enum Open {
    Nothing,
    Block,
    Parameter,
    Result,
}

/// Reads the lines of a comment, without the marks of comments.
pub(crate) fn parse(lines: &[String]) -> Comment {
    let mut comment = Comment::default();
    let mut open = Open::Nothing;
    for line in lines {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        let blocks = match comment.result.is_some() || !comment.parameters.is_empty() {
            true => &mut comment.remarks,
            false => &mut comment.blocks,
        };
        if text.is_empty() {
            if let Some(Block::Code(code)) = blocks.last_mut() {
                code.push(String::new());
            }
            open = Open::Nothing;
        } else if let Some(parameter) = text.strip_prefix("@param ") {
            let (name, text) = parameter.trim().split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
            comment.parameters.push((name.to_owned(), text.trim().to_owned()));
            open = Open::Parameter;
        } else if let Some(text) = text.strip_prefix("@return ") {
            comment.result = Some(text.to_owned());
            open = Open::Result;
        } else if let Some(item) = text.strip_prefix("- ").filter(|_| indent > 0) {
            match blocks.last_mut() {
                Some(Block::List(items)) => items.push(item.to_owned()),
                _ => blocks.push(Block::List(vec![item.to_owned()])),
            }
            open = Open::Block;
        } else {
            match (&open, blocks.last_mut()) {
                (Open::Parameter, _) => append(&mut comment.parameters.last_mut().expect("it is open").1, text),
                (Open::Result, _) => append(comment.result.as_mut().expect("it is open"), text),
                (Open::Block, Some(Block::Paragraph(paragraph))) => append(paragraph, text),
                (Open::Block, Some(Block::List(items))) => append(items.last_mut().expect("one at least"), text),
                (_, Some(Block::Code(code))) if indent >= 4 => code.push(line.clone()),
                _ => {
                    blocks.push(match indent {
                        4.. => Block::Code(vec![line.clone()]),
                        _ => Block::Paragraph(text.to_owned()),
                    });
                    open = Open::Block;
                }
            }
        }
    }
    comment.blocks.iter_mut().chain(&mut comment.remarks).for_each(align);
    comment
}

fn append(text: &mut String, more: &str) {
    text.push(' ');
    text.push_str(more);
}

/// Moves code to the left margin.
fn align(block: &mut Block) {
    let Block::Code(lines) = block else { return };
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let indent = |line: &String| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.is_empty()).map(indent).min().unwrap_or(0);
    for line in lines {
        *line = line.get(common..).unwrap_or_default().to_owned();
    }
}

impl Comment {
    /// Takes out the version in which it came: "Since 0.1." at the end of the comment.
    pub(crate) fn take_since(&mut self) -> Option<String> {
        let blocks = match self.remarks.is_empty() && self.result.is_none() {
            true => &mut self.blocks,
            false => &mut self.remarks,
        };
        let last = match (blocks.last_mut(), &mut self.result) {
            (Some(Block::Paragraph(paragraph)), _) => paragraph,
            (None, Some(result)) => result,
            _ => return None,
        };
        let (rest, since) = last.rsplit_once("Since ")?;
        let version = since.strip_suffix('.')?;
        if !version.starts_with(|letter: char| letter.is_ascii_digit()) || version.contains(' ') {
            return None;
        }
        let version = version.to_owned();
        *last = rest.trim_end().to_owned();
        blocks.retain(|block| !matches!(block, Block::Paragraph(paragraph) if paragraph.is_empty()));
        Some(version)
    }
}
