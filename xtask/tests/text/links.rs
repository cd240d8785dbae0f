//! Links: those inside the repository must lead somewhere. Others are not fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::Fault;
use crate::page::Page;

pub(crate) fn check(root: &Path, pages: &[Page]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in pages {
        // A picture from a run is checked as a block.
        let is_block = |line| page.markers.iter().any(|(marker, _)| marker + 1 == line);
        for link in page.links.iter().filter(|link| !is_block(link.line)) {
            if let Some(why) = why_dead(root, pages, &page.name, &link.target) {
                let says = format!("the link {} is dead: {why}", link.target);
                faults.push(Fault::new(page, link.line, says));
            }
        }
        // `[x]` is code in brackets. Rustdoc makes a link of it, but every other reader sees the brackets.
        let has_label = |text: &str| text.contains("][") || text.contains("[x]");
        for (line, text) in page.texts.iter().filter(|(_, text)| has_label(text)) {
            faults.push(Fault::new(
                page,
                *line,
                format!("a link has a label for which no target is given: {text}"),
            ));
        }
    }
    faults
}

fn why_dead(root: &Path, pages: &[Page], page: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    // The text of a crate's documentation also has links to types of Rust.
    if path.contains("://") || path.contains("::") {
        return None;
    }
    let file = if path.is_empty() { Some(page.into()) } else { resolved(page, path) };
    let Some(file) = file.filter(|file| root.join(file).exists()) else {
        return Some("no such file".to_owned());
    };
    let is_alive = match pages.iter().find(|page| Path::new(&page.name) == file) {
        _ if anchor.is_empty() => true,
        Some(page) => anchors(page).iter().any(|it| it == anchor),
        None => anchor.strip_prefix('L').is_some_and(|line| line.parse::<u32>().is_ok()),
    };
    (!is_alive).then(|| format!("{} has no such heading", file.display()))
}

/// The path from the root; nothing if it leads out of it.
fn resolved(page: &str, path: &str) -> Option<PathBuf> {
    let mut file = PathBuf::new();
    for component in Path::new(page).with_file_name(path).components() {
        match component {
            Component::ParentDir if !file.pop() => return None,
            Component::Normal(name) => file.push(name),
            _ => {}
        }
    }
    Some(file)
}

/// The anchors that GitHub gives to the headings.
fn anchors(page: &Page) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let anchor = |(_, _, heading): &(usize, u8, String)| {
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = heading.to_lowercase().chars().filter(is_kept).collect();
        let slug = slug.replace(' ', "-");
        let count = counts.entry(slug.clone()).or_default();
        *count += 1;
        if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
    };
    page.headings.iter().map(anchor).collect()
}
