//! Reads a text in Markdown, as far as the checks need it.

use std::fs;
use std::path::{Path, PathBuf};

/// The first words of the comments that stand before a block from a run or a file.
const MARKERS: [&str; 6] = ["code", "prints", "ps", "transcript", "picture", "output"];

/// A text. Its lines count from 0.
pub(crate) struct Page {
    /// Its path from the root.
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
    pub(crate) fences: Vec<Fence>,
}

/// A block of code: the lines with the fences, and what follows the first.
pub(crate) struct Fence {
    pub(crate) open: usize,
    pub(crate) close: usize,
    pub(crate) language: String,
}

/// All texts below this folder, in the order of their names.
pub(crate) fn pages(root: &Path) -> Vec<Page> {
    let mut files = files(root, ".md");
    files.sort();
    let page = |file: PathBuf| {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        Page::new(name, &fs::read_to_string(&file).unwrap())
    };
    files.into_iter().map(page).collect()
}

/// The files whose names end so, without what cargo has built and what is hidden.
pub(crate) fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let is_skipped = name == "target" || (name.starts_with('.') && name != ".github");
            if !is_skipped {
                found.extend(files(&entry.path(), end));
            }
        } else if name.ends_with(end) {
            found.push(entry.path());
        }
    }
    found
}

impl Page {
    pub(crate) fn new(name: String, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut fences: Vec<Fence> = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (index, line) in lines.iter().map(|line| line.trim()).enumerate() {
            match &open {
                None if line.starts_with("```") => {
                    open = Some((index, line.trim_start_matches('`').trim().to_owned()));
                }
                Some((start, language)) if line == "```" => {
                    fences.push(Fence { open: *start, close: index, language: language.clone() });
                    open = None;
                }
                _ => {}
            }
        }
        Self { name, lines, fences }
    }

    /// The text in the other language, if this one has a name for that.
    pub(crate) fn other_language(&self) -> String {
        match self.name.strip_suffix(".zh-CN.md") {
            Some(name) => format!("{name}.md"),
            None => format!("{}.zh-CN.md", self.name.trim_end_matches(".md")),
        }
    }

    pub(crate) fn is_chinese(&self) -> bool {
        self.name.ends_with(".zh-CN.md")
    }

    pub(crate) fn is_in_fence(&self, line: usize) -> bool {
        self.fences.iter().any(|fence| (fence.open..=fence.close).contains(&line))
    }

    /// The lines outside fences.
    pub(crate) fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().map(String::as_str).enumerate();
        lines.filter(|(index, _)| !self.is_in_fence(*index))
    }

    /// The paragraphs outside fences, each with its first line; comments and blank lines separate them.
    pub(crate) fn paragraphs(&self) -> Vec<(usize, String)> {
        let mut paragraphs: Vec<(usize, String)> = Vec::new();
        let mut next = usize::MAX;
        for (index, line) in self.prose() {
            if line.trim().is_empty() || line.trim_start().starts_with("<!--") {
                continue;
            }
            match paragraphs.last_mut() {
                Some((_, text)) if index == next => *text += &format!("\n{line}"),
                _ => paragraphs.push((index, line.to_owned())),
            }
            next = index + 1;
        }
        paragraphs
    }

    /// Line, level and text of each heading.
    pub(crate) fn headings(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.prose().filter_map(|(index, line)| {
            let text = line.trim_start_matches('#');
            let level = line.len() - text.len();
            (level > 0 && text.starts_with(' ')).then(|| (index, level, text.trim()))
        })
    }

    /// The comments that say what stands in the next line.
    pub(crate) fn markers(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose().filter_map(|(index, line)| {
            let marker = line.strip_prefix("<!-- ")?.strip_suffix("-->")?.trim();
            MARKERS.contains(&marker.split(' ').next()?).then_some((index, marker))
        })
    }

    pub(crate) fn fence_after(&self, line: usize) -> Option<&Fence> {
        self.fences.iter().find(|fence| fence.open == line + 1)
    }
}

/// The code between backticks in a paragraph, each with its place.
pub(crate) fn code_spans(text: &str) -> Vec<(usize, &str)> {
    let mut spans = Vec::new();
    let mut place = 0;
    while let Some(start) = text[place..].find('`').map(|found| place + found) {
        let ticks = text[start..].chars().take_while(|c| *c == '`').count();
        let inner = start + ticks;
        place = match text[inner..].find(&text[start..inner]) {
            Some(length) => {
                spans.push((inner, &text[inner..inner + length]));
                inner + length + ticks
            }
            None => inner,
        };
    }
    spans
}

/// The paragraph with each letter of code replaced by `x`, so that code is taken for nothing else.
pub(crate) fn without_code(text: &str) -> String {
    let mut out = text.to_owned();
    for (start, code) in code_spans(text) {
        let replaced = |c: char| if c == '\n' { "\n".to_owned() } else { "x".repeat(c.len_utf8()) };
        out.replace_range(
            start..start + code.len(),
            &code.chars().map(replaced).collect::<String>(),
        );
    }
    out
}

/// The line of this place in a paragraph that begins in `first`.
pub(crate) fn line_at(first: usize, text: &str, place: usize) -> usize {
    first + text[..place].matches('\n').count()
}
