//! Links: those inside the repository must lead somewhere. Others are not fetched.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::Fault;
use crate::page::{Page, line_at, without_code};

/// A link or an image.
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) is_image: bool,
    pub(crate) target: String,
}

/// All links of a text, in order; `[words][label]` has the target of the label.
pub(crate) fn links(page: &Page) -> Result<Vec<Link>, Fault> {
    let mut labels = BTreeMap::new();
    for (_, line) in page.prose() {
        let label = line.strip_prefix('[').and_then(|line| line.split_once("]: "));
        labels.extend(label.map(|(label, target)| (label.to_owned(), target.trim().to_owned())));
    }
    let mut links = Vec::new();
    for (first, text) in page.paragraphs() {
        let text = without_code(&text);
        let mut opened = Vec::new();
        for (place, letter) in text.char_indices() {
            let line = line_at(first, &text, place);
            let rest = &text[place..];
            match letter {
                '[' => opened.push(place),
                ']' => {
                    let is_image = opened.pop().is_some_and(|start| text[..start].ends_with('!'));
                    let target = if let Some(target) = rest.strip_prefix("](") {
                        target.split(')').next().unwrap_or_default().to_owned()
                    } else if let Some(label) = rest.strip_prefix("][") {
                        let label = label.split(']').next().unwrap_or_default();
                        let missing =
                            || Fault::new(page, line, format!("nothing is called [{label}]"));
                        labels.get(label).ok_or_else(missing)?.clone()
                    } else {
                        continue;
                    };
                    links.push(Link { line, is_image, target });
                }
                _ => {
                    for (attribute, is_image) in
                        [("src=\"", true), ("srcset=\"", true), ("href=\"", false)]
                    {
                        let target =
                            rest.strip_prefix(attribute).and_then(|it| it.split('"').next());
                        let is_new =
                            target.is_some() && !text[..place].ends_with(char::is_alphanumeric);
                        if is_new {
                            let target = target.unwrap_or_default().to_owned();
                            links.push(Link { line, is_image, target });
                        }
                    }
                }
            }
        }
    }
    Ok(links)
}

/// Whether it leads out of the repository.
pub(crate) fn is_external(target: &str) -> bool {
    target.contains("://") || target.starts_with("mailto:")
}

pub(crate) fn check(root: &Path, pages: &[Page]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in pages {
        let links = match links(page) {
            Ok(links) => links,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for Link { line, target, .. } in links.iter().filter(|link| !is_external(&link.target)) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => Some(PathBuf::from(&page.name)),
                // Types of Rust, in a text that is the documentation of a crate, too.
                path if path.contains("::") => continue,
                path => resolved(&page.name, path),
            };
            let Some(file) = file.filter(|file| root.join(file).exists()) else {
                faults.push(Fault::new(
                    page,
                    *line,
                    format!("the link {target} is dead: no such file"),
                ));
                continue;
            };
            let other = pages.iter().find(|page| Path::new(&page.name) == file);
            let is_line = anchor.strip_prefix('L').is_some_and(|it| it.parse::<usize>().is_ok());
            let is_alive = anchor.is_empty()
                || other.map_or(is_line, |page| anchors(page).iter().any(|it| it == anchor));
            if !is_alive {
                let says =
                    format!("the link {target} is dead: {} has no such heading", file.display());
                faults.push(Fault::new(page, *line, says));
            }
        }
    }
    faults
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
    let mut anchors: Vec<String> = Vec::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, _, heading) in page.headings() {
        // Of a link, only the words are shown.
        let mut words = String::new();
        for part in heading.split("](") {
            let after = part.split_once(')').map_or(part, |(_, after)| after);
            words += if words.is_empty() { part } else { after };
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = words.to_lowercase().replace('`', "").chars().filter(kept).collect();
        let slug = slug.replace(' ', "-");
        let count = counts.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}
