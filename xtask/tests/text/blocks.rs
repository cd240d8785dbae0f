//! The blocks that come from a run or from a file, each below a comment that says from where:
//!
//! - `<!-- code PATH fn NAME -->`, `<!-- code PATH "first line contains" .. "last line contains" -->`
//! - `<!-- prints SCENARIO -->`, `<!-- ps SCENARIO 2 -->`, `<!-- transcript SCENARIO -->`, and each of them
//!   for a control: `<!-- ps SCENARIO control 2 -->`
//! - `<!-- picture SCENARIO -->`, before an image that is a `.svg`
//! - `<!-- output COMMAND -->`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::Fault;
use crate::commands;
use crate::page::{Page, pages};
use crate::recording::{Recording, Shown, lines};
use crate::same::{difference, picture, ps_groups, transcript_line};

/// What only has to be there, and why it is different in each run.
const CHANCE: [(&str, &str); 1] =
    [("system-calls", "strace shows addresses, and cuts lines in two")];

/// What a block should show.
enum Content {
    /// Lines of a file.
    Exact(Vec<String>),
    Output(Vec<String>),
    Prints(Vec<Vec<String>>),
    Ps(Vec<String>),
    Transcript(Vec<String>),
    /// The file of the image, and what it should hold.
    Picture(PathBuf, String),
    /// The scenario was skipped.
    NotCompared,
}

/// The run that a marker names, such as `zombie control`, and what follows.
fn run_of(marker: &str) -> Option<(String, &str)> {
    let (kind, rest) = marker.split_once(' ')?;
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_of_run = ["prints", "ps", "transcript", "picture"].contains(&kind);
    is_of_run.then(|| match rest.strip_prefix("control") {
        Some(rest) => (format!("{name} control"), rest.trim()),
        None => (name.to_owned(), rest),
    })
}

fn scenario_of(marker: &str) -> Option<String> {
    run_of(marker).map(|(run, _)| run.split(' ').next().unwrap_or_default().to_owned())
}

fn content(
    root: &Path,
    page: &Page,
    (line, marker): (usize, &str),
    recording: &Recording,
) -> Result<Content, String> {
    let Some((run, rest)) = run_of(marker) else {
        return match marker.split_once(' ') {
            Some(("code", place)) => excerpt(root, place).map(Content::Exact),
            Some((_, command)) => commands::output(root, command, page.is_chinese())
                .map(|text| Content::Output(lines(&text))),
            None => Err("it does not say of what".to_owned()),
        };
    };
    if scenario_of(marker).is_some_and(|it| recording.skipped.contains_key(&it)) {
        return Ok(Content::NotCompared);
    }
    let shown = recording.run(&run).ok_or_else(|| format!("there is no scenario {run:?}"))?;
    Ok(match marker.split(' ').next() {
        Some("prints") => Content::Prints(shown.printed.clone()),
        Some("transcript") => Content::Transcript(shown.transcript.clone()),
        Some("picture") => {
            let image = page
                .lines
                .get(line + 1)
                .and_then(|line| line.split_once("](")?.1.split(')').next());
            let image = image.filter(|image| image.ends_with(".svg"));
            let image = image.ok_or("the next line is no image that is a .svg")?;
            let file = Path::new(&page.name).with_file_name(image);
            Content::Picture(file, shown.timeline.clone())
        }
        _ => {
            let snapshot =
                rest.parse().ok().and_then(|number: usize| shown.snapshots.get(number - 1));
            let count = shown.snapshots.len();
            let missing = || format!("{run} has no snapshot {rest:?}, but 1 to {count}");
            Content::Ps(snapshot.ok_or_else(missing)?.clone())
        }
    })
}

impl Content {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Prints(groups) => groups.concat(),
            Self::Exact(lines)
            | Self::Output(lines)
            | Self::Ps(lines)
            | Self::Transcript(lines) => lines.clone(),
            Self::Picture(..) | Self::NotCompared => Vec::new(),
        }
    }

    /// Why these lines do not show it, if so.
    fn differs_from(&self, block: &[String], shown: Option<&Shown>) -> Option<String> {
        let pids = shown.map(|shown| &shown.pids);
        let one_by_one =
            |lines: &[String]| lines.iter().map(|it| vec![it.clone()]).collect::<Vec<_>>();
        let lines = self.lines();
        let (there, here) = match self {
            Self::NotCompared | Self::Picture(..) => return None,
            _ if block.is_empty() && !lines.is_empty() => return Some("it is empty".to_owned()),
            Self::Exact(_) => {
                let place = lines.iter().zip(block).position(|(line, block)| line != block);
                let place =
                    place.or((lines.len() != block.len()).then(|| lines.len().min(block.len())));
                return place.map(|place| {
                    let of = |lines: &[String]| {
                        lines.get(place).map_or("nothing".to_owned(), |it| format!("{it:?}"))
                    };
                    format!("it has {}, the file has {}", of(block), of(&lines))
                });
            }
            Self::Output(_) => (one_by_one(&lines), one_by_one(block)),
            Self::Ps(_) => (ps_groups(&lines), ps_groups(block)),
            Self::Prints(groups) => (groups.clone(), cut(block, groups)),
            Self::Transcript(lines) => {
                let plain = |lines: &[String]| {
                    lines.iter().map(|it| transcript_line(it)).collect::<Vec<_>>()
                };
                let mut groups: Vec<Vec<String>> = vec![Vec::new()];
                for line in plain(lines) {
                    groups.last_mut()?.push(line.clone());
                    if line.starts_with("** ") {
                        groups.push(Vec::new());
                    }
                }
                let block = cut(&plain(block), &groups);
                (groups, block)
            }
        };
        if there.len() != here.len() {
            return Some(format!("it has {} lines, the run has {}", here.len(), there.len()));
        }
        difference(&here, &there, pids)
    }
}

/// Cuts the lines where these groups end; what is left belongs to the last.
fn cut(lines: &[String], groups: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut rest = lines;
    let mut cut: Vec<Vec<String>> = Vec::new();
    for group in groups {
        let (lines, after) = rest.split_at(group.len().min(rest.len()));
        cut.push(lines.to_vec());
        rest = after;
    }
    if let Some(last) = cut.last_mut() {
        last.extend_from_slice(rest);
    }
    cut
}

/// Checks every block. One that shows the same as any of the recordings is good.
pub(crate) fn check(root: &Path, pages: &[Page], recordings: &[&Recording]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for page in pages {
        for (line, marker) in page.markers() {
            // The newest first: its sentence is shown if all of them differ.
            let whys = recordings.iter().rev().map(|it| why_not(root, page, (line, marker), it));
            let whys: Vec<Option<String>> = whys.collect();
            if let Some(Some(why)) = whys.first()
                && whys.iter().all(Option::is_some)
            {
                let mut fault = Fault::new(page, line, format!("<!-- {marker} -->: {why}"));
                fault.block = Some(scenario_of(marker).unwrap_or_default());
                faults.push(fault);
            }
        }
    }
    faults
}

/// What is wrong with a block.
fn why_not(
    root: &Path,
    page: &Page,
    marker: (usize, &str),
    recording: &Recording,
) -> Option<String> {
    let content = match content(root, page, marker, recording) {
        Ok(content) => content,
        Err(why) => return Some(why),
    };
    let run = run_of(marker.1).and_then(|(run, _)| recording.run(&run));
    if let (Content::Picture(file, timeline), Some(run)) = (&content, run) {
        let Ok(image) = fs::read_to_string(root.join(file)) else {
            return Some(format!("there is no picture {}", file.display()));
        };
        let (there, lanes) = picture(timeline, Some(&run.known));
        let (here, all) = picture(&image, None);
        let is_missing = |lane: &&String| {
            let count = |lanes: &[String]| lanes.iter().filter(|it| it == lane).count();
            count(&lanes) > count(&all)
        };
        let missing = lanes.iter().find(is_missing);
        let other = there.iter().find(|text| !here.contains(text));
        let other = other.or_else(|| here.iter().find(|text| !there.contains(text)));
        let what = missing.or(other)?;
        return Some(format!("the picture {} is not of this run: {what:?}", file.display()));
    }
    let Some(fence) = page.fence_after(marker.0) else {
        return Some("no block follows in the next line".to_owned());
    };
    let block = &page.lines[fence.open + 1..fence.close];
    let is_chance = CHANCE.iter().any(|(name, _)| scenario_of(marker.1).as_deref() == Some(name));
    match is_chance && !block.is_empty() {
        true => None,
        false => content.differs_from(block, run),
    }
}

/// The scenarios in the texts whose blocks are not compared, and why.
pub(crate) fn not_compared(pages: &[Page], recording: &Recording) -> BTreeMap<String, String> {
    let markers = pages.iter().flat_map(Page::markers);
    let names: BTreeSet<String> = markers.filter_map(|(_, marker)| scenario_of(marker)).collect();
    let why = |name: &String| {
        let chance = CHANCE.iter().find(|(chance, _)| chance == name);
        let skipped = recording.skipped.get(name).cloned();
        skipped.or_else(|| chance.map(|(_, why)| (*why).to_owned()))
    };
    names.into_iter().filter_map(|name| why(&name).map(|why| (name, why))).collect()
}

/// Writes the blocks that differ anew, and with each of them all others of its scenario: a reader
/// compares the numbers of its processes.
pub(crate) fn update(root: &Path, recording: &Recording) {
    let texts = pages(root);
    let faults = check(root, &texts, &[recording]);
    let stale: BTreeSet<String> = faults.into_iter().filter_map(|fault| fault.block).collect();
    for mut page in texts {
        let markers: Vec<(usize, String)> =
            page.markers().map(|(line, it)| (line, it.to_owned())).collect();
        let mut is_changed = false;
        // From the end, so that the lines before keep their places.
        for (line, marker) in markers.iter().rev() {
            let is_stale = match scenario_of(marker) {
                Some(scenario) => stale.contains(&scenario),
                None => why_not(root, &page, (*line, marker), recording).is_some(),
            };
            let Ok(content) = content(root, &page, (*line, marker), recording) else { continue };
            match (&content, page.fence_after(*line)) {
                _ if !is_stale => {}
                (Content::NotCompared, _) => {}
                (Content::Picture(file, svg), _) => fs::write(root.join(file), svg).unwrap(),
                (_, Some(fence)) => {
                    let range = fence.open + 1..fence.close;
                    page.lines.splice(range, content.lines());
                    is_changed = true;
                }
                (_, None) => {}
            }
        }
        if is_changed {
            fs::write(root.join(&page.name), page.lines.join("\n") + "\n").unwrap();
        }
    }
}

/// The lines of a file that `PATH fn NAME` or `PATH "first" .. "last"` means, without the blanks that all
/// of them begin with.
fn excerpt(root: &Path, place: &str) -> Result<Vec<String>, String> {
    let (path, which) = place.split_once(' ').ok_or("it does not say which lines")?;
    let file = fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
    let lines: Vec<&str> = file.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let range = match which.strip_prefix("fn ") {
        Some(name) => {
            let is_it = |line: &&str| {
                let after = line.split_once(&format!("fn {name}")).map(|(_, after)| after);
                after.is_some_and(|it| it.starts_with(['(', '<']))
                    && !line.trim_start().starts_with("//")
            };
            let first = lines.iter().position(is_it);
            first.and_then(|first| {
                let end = format!("{}}}", " ".repeat(indent(lines[first])));
                let is_whole = lines[first].ends_with('}');
                let last = lines[first..].iter().position(|line| is_whole || **line == end);
                last.map(|last| first..=first + last)
            })
        }
        None => {
            let (from, to) = which
                .strip_prefix('"')
                .and_then(|it| it.strip_suffix('"'))
                .and_then(|it| it.split_once("\" .. \""))
                .ok_or("after the path stands neither `fn NAME` nor `\"first\" .. \"last\"`")?;
            let first = lines.iter().position(|line| line.contains(from));
            let after = usize::from(from != to);
            first.and_then(|first| {
                let last = lines[first + after..].iter().position(|line| line.contains(to));
                last.map(|last| first..=first + after + last)
            })
        }
    };
    let lines = &lines[range.ok_or_else(|| format!("{path} has no such lines: {which}"))?];
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line)).min();
    Ok(lines
        .iter()
        .map(|line| line.get(least.unwrap_or(0)..).unwrap_or_default().to_owned())
        .collect())
}
