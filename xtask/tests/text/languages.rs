//! A text and the same in Chinese: both have the same parts in the same order.

use std::collections::BTreeSet;

use crate::Fault;
use crate::page::{Link, Page};

/// In how many lines the link to the other language must stand.
const FIRST_LINES: usize = 5;

/// The parts of one kind, each with its line.
type Parts = Vec<(usize, String)>;
type PartsOf = fn(&Page) -> Parts;

pub(crate) fn check(pages: &[Page]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in pages {
        let name = page.other_language();
        let file = name.rsplit('/').next().unwrap_or_default();
        match pages.iter().find(|other| other.name == name) {
            Some(other) => {
                let is_it = |link: &Link| link.line < FIRST_LINES && link.target == file;
                if !page.links.iter().any(is_it) {
                    let says = format!("its first lines have no link to {file}");
                    faults.push(Fault::new(page, 0, says));
                }
                if page.is_chinese() {
                    faults.extend(in_step(other, page));
                }
            }
            None if page.is_chinese() || !page.markers.is_empty() => {
                faults.push(Fault::new(page, 0, format!("{name} is missing beside it")));
            }
            None => {}
        }
        if page.is_chinese() {
            faults.extend(typography(page));
        }
    }
    faults
}

/// The first part that only one of them has, of each kind.
fn in_step(english: &Page, chinese: &Page) -> Vec<Fault> {
    let kinds: [(&str, PartsOf); 5] = [
        ("heading", |page| {
            page.headings.iter().map(|it| (it.0, "#".repeat(it.1.into()))).collect()
        }),
        ("marker", |page| page.markers.clone()),
        ("block", |page| page.fences.iter().map(|it| (it.open, it.language.clone())).collect()),
        ("link or picture (by sections)", links),
        ("claim", claims),
    ];
    let mut faults = Vec::new();
    for (kind, parts) in kinds {
        let (here, there) = (parts(chinese), parts(english));
        let differs =
            |place: &usize| here.get(*place).map(|it| &it.1) != there.get(*place).map(|it| &it.1);
        if let Some(place) = (0..here.len().max(there.len())).find(differs) {
            let part = |parts: &Parts| match parts.get(place) {
                Some((line, part)) => format!("{part:?} in line {}", line + 1),
                None => "missing".to_owned(),
            };
            let line = here.get(place).map_or(chinese.lines.len() - 1, |it| it.0);
            let (number, name) = (place + 1, &english.name);
            let says =
                format!("{kind} {number} is {}; in {name}, it is {}", part(&here), part(&there));
            faults.push(Fault::new(chinese, line, says));
        }
    }
    faults
}

/// Within a section, their order is that of the language's sentences.
fn links(page: &Page) -> Parts {
    let mut parts: Vec<(usize, String, usize)> = Vec::new();
    for link in &page.links {
        let section = page.headings.iter().filter(|heading| heading.0 < link.line).count();
        let target = link.target.split('#').next().unwrap_or_default().replace(".zh-CN.", ".");
        let what = if link.is_image { "picture" } else { "link" };
        parts.push((section, format!("{what} {target}"), link.line));
    }
    parts.sort();
    parts.into_iter().map(|(_, target, line)| (line, target)).collect()
}

/// The numbers of claims, such as C24 and X1, each once.
fn claims(page: &Page) -> Parts {
    let mut found = BTreeSet::new();
    for (line, text) in &page.texts {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            let number = word.strip_prefix(['C', 'X']).unwrap_or_default();
            let is_new = number.parse::<u32>().is_ok() && !found.iter().any(|(it, _)| it == word);
            found.extend(is_new.then(|| (word.to_owned(), *line)));
        }
    }
    found.into_iter().map(|(claim, line)| (line, claim)).collect()
}

/// Half-width punctuation between two Han characters, and a line that ends within a paragraph: it would be
/// shown as a blank.
fn typography(page: &Page) -> Vec<Fault> {
    let is_han =
        |letter: char| matches!(letter, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}');
    let mut faults = Vec::new();
    for (line, text) in &page.texts {
        let line_at = |place: usize| line + text[..place].matches('\n').count();
        for (place, mark) in text.char_indices().filter(|(_, c)| ",.;:?!".contains(*c)) {
            let before = text[..place].trim_end().chars().next_back();
            let after = text[place + 1..].trim_start().chars().next();
            if before.is_some_and(is_han) && after.is_some_and(is_han) {
                let says = format!("{mark:?} is not full-width between Han characters");
                faults.push(Fault::new(page, line_at(place), says));
            }
        }
        if let Some(place) = text.find('\n') {
            let says = "a paragraph goes on in the next line; in Chinese, it must be one line";
            faults.push(Fault::new(page, line_at(place), says));
        }
    }
    faults
}
