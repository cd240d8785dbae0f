//! A text and the same in Chinese: both have the same parts in the same order.

use std::collections::BTreeSet;

use crate::Fault;
use crate::links::links;
use crate::page::{Page, line_at, without_code};

/// In how many lines the link to the other language must stand.
const FIRST_LINES: usize = 5;

pub(crate) fn check(pages: &[Page]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in pages {
        let name = page.other_language();
        match pages.iter().find(|other| other.name == name) {
            Some(other) => {
                faults.extend(link_to(page, other));
                if page.is_chinese() {
                    faults.extend(in_step(other, page));
                }
            }
            None if page.is_chinese() || page.markers().next().is_some() => {
                faults.push(Fault::new(page, 0, format!("{name} is missing beside it")));
            }
            None => {}
        }
        if page.is_chinese() {
            faults.extend(punctuation(page));
            faults.extend(soft_breaks(page));
        }
    }
    faults
}

fn link_to(page: &Page, other: &Page) -> Option<Fault> {
    let file = other.name.rsplit('/').next().unwrap_or_default();
    let is_it = |line: &String| line.contains(&format!("]({file})"));
    let has_link = page.lines.iter().take(FIRST_LINES).any(is_it);
    (!has_link).then(|| Fault::new(page, 0, format!("its first lines have no link to {file}")))
}

/// The first part that only one of them has, of each kind.
fn in_step(english: &Page, chinese: &Page) -> Vec<Fault> {
    let mut faults = Vec::new();
    let kinds: [(&str, Parts); 4] = [
        ("heading", |page| {
            page.headings().map(|(line, level, _)| (line, "#".repeat(level))).collect()
        }),
        ("marker", |page| page.markers().map(|(line, marker)| (line, marker.to_owned())).collect()),
        ("block", |page| {
            page.fences.iter().map(|it| (it.open, format!("```{}", it.language))).collect()
        }),
        ("link or picture of its section", sorted_links),
    ];
    for (kind, parts) in kinds {
        let (here, there) = (parts(english), parts(chinese));
        let differs =
            |place: &usize| here.get(*place).map(|it| &it.1) != there.get(*place).map(|it| &it.1);
        if let Some(place) = (0..here.len().max(there.len())).find(differs) {
            let part = |parts: &[(usize, String)], page: &Page| match parts.get(place) {
                Some((line, part)) => format!("{part:?} in line {}", line + 1),
                None => format!("no more of them after line {}", page.lines.len()),
            };
            let line = there.get(place).map_or(chinese.lines.len() - 1, |it| it.0);
            let (here, there) = (part(&here, english), part(&there, chinese));
            let number = place + 1;
            let says = format!("{kind} {number} is {there}, and in {} {here}", english.name);
            faults.push(Fault::new(chinese, line, says));
        }
    }
    let (here, there) = (claims(english), claims(chinese));
    if let Some(claim) = here.symmetric_difference(&there).next() {
        let has = if here.contains(claim) { &english.name } else { &chinese.name };
        faults.push(Fault::new(chinese, 0, format!("only {has} names claim {claim}")));
    }
    faults
}

/// The parts of one kind, each with its line.
type Parts = fn(&Page) -> Vec<(usize, String)>;

/// The order within a section is that of the language's sentences.
fn sorted_links(page: &Page) -> Vec<(usize, String)> {
    let links = links(page).unwrap_or_default();
    let mut parts: Vec<(usize, String, usize)> = Vec::new();
    for link in links {
        let section = page.headings().filter(|(line, ..)| *line < link.line).count();
        let target = link.target.split('#').next().unwrap_or_default().replace(".zh-CN.", ".");
        let what = if link.is_image { "picture" } else { "link" };
        parts.push((section, format!("{what} {target}"), link.line));
    }
    parts.sort();
    parts.into_iter().map(|(_, target, line)| (line, target)).collect()
}

/// The numbers of claims, such as C24 and X1.
fn claims(page: &Page) -> BTreeSet<String> {
    let texts = page.paragraphs();
    let words = texts.iter().flat_map(|(_, it)| it.split(|c: char| !c.is_ascii_alphanumeric()));
    let is_claim = |word: &&str| {
        let number = word.strip_prefix(['C', 'X']).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    words.filter(is_claim).map(str::to_owned).collect()
}

fn is_han(letter: char) -> bool {
    matches!(letter, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

/// Half-width punctuation between two Han characters.
fn punctuation(page: &Page) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (first, text) in page.paragraphs() {
        let text = without_code(&text);
        for (place, mark) in text.char_indices().filter(|(_, c)| ",.;:?!".contains(*c)) {
            let before = text[..place].trim_end().chars().next_back();
            let after = text[place + 1..].trim_start().chars().next();
            if before.is_some_and(is_han) && after.is_some_and(is_han) {
                let says = format!("{mark:?} is not full-width between Han characters");
                faults.push(Fault::new(page, line_at(first, &text, place), says));
            }
        }
    }
    faults
}

/// A paragraph of more than one line: the break would be shown as a blank.
fn soft_breaks(page: &Page) -> Vec<Fault> {
    let begins = |line: &str| {
        let line = line.trim_start();
        let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_numbered = number.len() < line.len() && number.starts_with(['.', ')']);
        is_numbered
            || ["- ", "* ", "|", "#", ">", "<", "!", "["].iter().any(|it| line.starts_with(it))
    };
    let ends = |line: &str| line.ends_with("  ") || line.ends_with('\\') || line.starts_with('#');
    let mut faults = Vec::new();
    for (first, text) in page.paragraphs() {
        for (index, pair) in text.lines().collect::<Vec<_>>().windows(2).enumerate() {
            if !begins(pair[1]) && !ends(pair[0]) {
                let says = "a paragraph goes on here; in Chinese, a paragraph is one line";
                faults.push(Fault::new(page, first + index + 1, says));
            }
        }
    }
    faults
}
