//! Code in fences of Markdown (CommonMark 0.31, section 4.5).

/// A fenced block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence<'a> {
    /// First word of what stands behind the opening fence, as it is written; empty when nothing does.
    pub language: &'a str,
    /// What is inside.
    pub code: &'a str,
}

struct Open<'a> {
    mark: char,
    length: usize,
    language: &'a str,
    begin: usize,
}

/// The blocks that are closed, in order.
#[must_use]
pub fn fences(text: &str) -> Vec<Fence<'_>> {
    read(text).0
}

/// Whether the last block is not closed.
#[must_use]
pub fn has_open_fence(text: &str) -> bool {
    read(text).1
}

fn read(text: &str) -> (Vec<Fence<'_>>, bool) {
    let mut found = Vec::new();
    let mut open: Option<Open<'_>> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (begin, end) = (at, at + line.len());
        at = end;
        let Some((mark, length, rest)) = fence_line(line) else { continue };
        match &open {
            None if mark == '`' && rest.contains('`') => {}
            None => {
                let language = rest.split_whitespace().next().unwrap_or_default();
                open = Some(Open { mark, length, language, begin: end });
            }
            Some(block) if block.mark == mark && length >= block.length && rest.trim().is_empty() => {
                let code = text.get(block.begin..begin).unwrap_or_default();
                found.push(Fence { language: block.language, code });
                open = None;
            }
            Some(_) => {}
        }
    }
    (found, open.is_some())
}

/// Mark, length and what follows, of a line that may open or close a block.
fn fence_line(line: &str) -> Option<(char, usize, &str)> {
    let inner = line.trim_start_matches(' ');
    // deeper inside of a list fences are indented further than CommonMark's three spaces
    let mark = inner.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = inner.chars().take_while(|other| *other == mark).count();
    (length >= 3).then(|| (mark, length, inner.get(length..).unwrap_or_default()))
}
