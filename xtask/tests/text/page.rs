//! Reads a text in Markdown.

use std::fs;
use std::path::{Path, PathBuf};

use markdown::mdast::Node;
use markdown::{ParseOptions, to_mdast};

/// The first words of the comments that stand before a block from a run or a file.
const MARKERS: [&str; 7] = ["code", "prints", "ps", "transcript", "picture", "idea", "output"];

/// A text, and its parts, each with its line. Lines count from 0.
#[derive(Default)]
pub(crate) struct Page {
    /// Its path from the root.
    pub(crate) name: String,
    pub(crate) lines: Vec<String>,
    /// The level, and the text.
    pub(crate) headings: Vec<(usize, u8, String)>,
    /// The comments that say what stands in the next line.
    pub(crate) markers: Vec<(usize, String)>,
    pub(crate) fences: Vec<Fence>,
    pub(crate) links: Vec<Link>,
    /// What stands between backticks.
    pub(crate) codes: Vec<(usize, String)>,
    /// Paragraphs, headings and cells of tables, with an `x` for each code.
    pub(crate) texts: Vec<(usize, String)>,
}

/// A block of code, from the line of its first fence to that of its last.
pub(crate) struct Fence {
    pub(crate) open: usize,
    pub(crate) close: usize,
    pub(crate) language: String,
}

/// A link, or an image.
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) is_image: bool,
    pub(crate) target: String,
}

/// All texts below this folder, in the order of their names.
pub(crate) fn pages(root: &Path) -> Vec<Page> {
    let mut files = files(root, ".md");
    files.sort();
    let page = |file: &PathBuf| {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        Page::new(name, &fs::read_to_string(file).unwrap())
    };
    files.iter().map(page).collect()
}

/// The files whose names end so, without what cargo has built and what is hidden.
pub(crate) fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let is_skipped = name == "target" || (name.starts_with('.') && name != ".github");
        if entry.file_type().unwrap().is_dir() && !is_skipped {
            found.extend(files(&entry.path(), end));
        } else if name.ends_with(end) {
            found.push(entry.path());
        }
    }
    found
}

impl Page {
    fn new(name: String, text: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        let mut page = Self { name, lines, ..Self::default() };
        let whole = to_mdast(text, &ParseOptions::gfm()).unwrap();
        let children = whole.children().map(Vec::as_slice).unwrap_or_default();
        let is_definition = |id: &str| {
            children.iter().find_map(|node| match node {
                Node::Definition(it) if it.identifier == id => Some(it.url.clone()),
                _ => None,
            })
        };
        page.take(&whole, &is_definition);
        page
    }

    fn take(&mut self, node: &Node, url_of: &dyn Fn(&str) -> Option<String>) {
        let place = node.position().unwrap();
        let (line, last) = (place.start.line - 1, place.end.line - 1);
        let mut link = |target: &str, is_image| {
            self.links.push(Link { line, is_image, target: target.to_owned() });
        };
        match node {
            Node::Link(it) => link(&it.url, false),
            Node::Image(it) => link(&it.url, true),
            Node::LinkReference(it) => link(&url_of(&it.identifier).unwrap_or_default(), false),
            Node::Heading(it) => self.headings.push((line, it.depth, words(node, true))),
            Node::InlineCode(it) => self.codes.push((line, it.value.clone())),
            Node::Code(it) => {
                let language = it.lang.clone().unwrap_or_default();
                self.fences.push(Fence { open: line, close: last, language });
            }
            Node::Html(it) => {
                let marker = it.value.strip_prefix("<!-- ").and_then(|it| it.strip_suffix("-->"));
                let is_marker =
                    |it: &&str| it.split(' ').next().is_some_and(|it| MARKERS.contains(&it));
                self.markers
                    .extend(marker.filter(is_marker).map(|it| (line, it.trim().to_owned())));
            }
            _ => {}
        }
        if matches!(node, Node::Paragraph(_) | Node::Heading(_) | Node::TableCell(_)) {
            self.texts.push((line, words(node, false)));
        }
        for child in node.children().into_iter().flatten() {
            self.take(child, url_of);
        }
    }

    pub(crate) fn is_chinese(&self) -> bool {
        self.name.ends_with(".zh-CN.md")
    }

    /// The name of the same text in the other language.
    pub(crate) fn other_language(&self) -> String {
        match self.name.strip_suffix(".zh-CN.md") {
            Some(name) => format!("{name}.md"),
            None => format!("{}.zh-CN.md", self.name.trim_end_matches(".md")),
        }
    }

    /// The block below this line.
    pub(crate) fn fence_after(&self, line: usize) -> Option<&Fence> {
        self.fences.iter().find(|fence| fence.open == line + 1)
    }
}

/// The words of a part.
fn words(node: &Node, with_code: bool) -> String {
    match node {
        Node::Text(it) => it.value.clone(),
        Node::InlineCode(it) if with_code => it.value.clone(),
        Node::InlineCode(_) => "x".to_owned(),
        _ => node.children().into_iter().flatten().map(|it| words(it, with_code)).collect(),
    }
}
