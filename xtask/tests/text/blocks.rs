//! The blocks that come from a run or from a file, each below a comment that says from where:
//!
//! - `<!-- code PATH fn NAME -->`, `<!-- code PATH "first line contains" .. "last line contains" -->`; an
//!   empty text for the last line means the end of the file
//! - `<!-- prints SCENARIO -->`, `<!-- ps SCENARIO 2 -->`, `<!-- transcript SCENARIO -->`, and each of them
//!   for a control: `<!-- ps SCENARIO control 2 -->`
//! - `<!-- picture SCENARIO -->`, `<!-- idea SCENARIO -->`, before an image that is a `.svg`
//! - `<!-- output COMMAND -->`

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::Fault;
use crate::commands;
use crate::page::{Page, pages};
use crate::recording::{Recording, Shown, lines};
use crate::same::{difference, idea, picture, ps_groups, transcript_groups};

/// Scenarios of which only the first words of the printed lines are compared, and why.
const CHANCE: [(&str, &str); 2] = [
    ("system-calls", "strace shows addresses, and cuts lines in two"),
    ("try-wait", "how often it asks depends on how busy the machine is"),
];

/// What a comment means that stands before a block.
struct Marker<'a> {
    line: usize,
    text: &'a str,
    kind: &'a str,
    rest: &'a str,
    /// The scenario, if it comes from one.
    scenario: Option<&'a str>,
}

fn markers(page: &Page) -> impl DoubleEndedIterator<Item = Marker<'_>> {
    page.markers.iter().map(|(line, text)| {
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        let scenario =
            (!["code", "output"].contains(&kind)).then(|| rest.split(' ').next().unwrap_or(""));
        Marker { line: *line, text, kind, rest, scenario }
    })
}

impl Marker<'_> {
    /// Its run; nothing if it comes from none.
    fn run<'a>(&self, recording: &'a Recording) -> Result<Option<&'a Shown>, String> {
        let Some(scenario) = self.scenario else { return Ok(None) };
        let run = match self.rest.split(' ').nth(1) {
            Some("control") => format!("{scenario} control"),
            _ => scenario.to_owned(),
        };
        recording.run(&run).map(Some).ok_or_else(|| format!("there is no scenario {run}"))
    }

    fn is_skipped(&self, recording: &Recording) -> bool {
        self.scenario.is_some_and(|it| recording.skipped.contains_key(it))
    }

    /// What the block should show; the lines of a group may come in any order.
    fn content(
        &self,
        root: &Path,
        page: &Page,
        recording: &Recording,
    ) -> Result<Vec<Vec<String>>, String> {
        let whole = match (self.kind, self.run(recording)?) {
            ("code", _) => excerpt(root, self.rest)?,
            ("prints", Some(run)) => return Ok(run.printed.clone()),
            ("transcript", Some(run)) => run.transcript.clone(),
            ("ps", Some(run)) => {
                let number = self.rest.rsplit(' ').next().and_then(|it| it.parse::<usize>().ok());
                let snapshot = number.and_then(|it| run.snapshots.get(it.checked_sub(1)?));
                let count = run.snapshots.len();
                snapshot.cloned().ok_or_else(|| format!("its snapshots are 1 to {count}"))?
            }
            _ => lines(&commands::output(root, self.rest, page.is_chinese())?),
        };
        Ok(vec![whole])
    }

    /// The same as groups of lines without what is chance.
    fn groups(&self, content: Vec<Vec<String>>) -> Vec<Vec<String>> {
        match self.kind {
            "ps" => ps_groups(&content.concat()),
            "transcript" => transcript_groups(&content.concat()),
            "prints" => content,
            _ => content.concat().into_iter().map(|line| vec![line]).collect(),
        }
    }

    /// The file of the image in the next line, from the root.
    fn image(&self, page: &Page) -> Result<String, String> {
        let mut links =
            page.links.iter().filter(|link| link.is_image && link.line == self.line + 1);
        let image = links.find(|link| link.target.ends_with(".svg"));
        let image = image.ok_or("the next line is no image that is a .svg")?;
        let file = Path::new(&page.name).with_file_name(&image.target);
        Ok(file.display().to_string())
    }

    /// What is wrong with the block; an error is what is wrong with the marker.
    fn fault(
        &self,
        root: &Path,
        page: &Page,
        recording: &Recording,
    ) -> Result<Option<String>, String> {
        if self.is_skipped(recording) {
            return Ok(None);
        }
        let run = self.run(recording)?;
        if let ("picture" | "idea", Some(run)) = (self.kind, run) {
            let file = self.image(page)?;
            let drawn = run.picture_for(self.kind, page);
            if drawn.is_empty() {
                return Err(format!("its run draws no {}", self.kind));
            }
            let Ok(image) = fs::read_to_string(root.join(&file)) else {
                return Ok(Some(format!("there is no picture {file}")));
            };
            let differs = match self.kind {
                "idea" => idea(&image, drawn),
                _ => picture(&image, drawn, &run.known),
            };
            return Ok(
                differs.map(|what| format!("the picture {file} is not of this run: {what:?}"))
            );
        }
        let fence = page.fence_after(self.line).ok_or("no block follows in the next line")?;
        let block = page.lines[fence.open + 1..fence.close].to_vec();
        let content = self.content(root, page, recording)?;
        if content.concat() == block {
            return Ok(None);
        }
        if block.is_empty() {
            return Ok(Some("it is empty".to_owned()));
        }
        let is_chance = CHANCE.iter().any(|(name, _)| self.scenario == Some(name));
        if is_chance && self.kind != "ps" {
            let (here, there) = (first_words(&block), first_words(&content.concat()));
            let other = here.symmetric_difference(&there).next();
            return Ok(other.map(|word| format!("only it or the run has a line with {word:?}")));
        }
        let there = self.groups(content);
        let here = cut(&self.groups(vec![block]).concat(), &there);
        let differs = difference(&here, &there, run.map(|run| &run.pids));
        let is_code = self.kind == "code";
        Ok(differs.or_else(|| is_code.then(|| "numbers differ from those in the file".to_owned())))
    }
}

/// Without numbers.
fn first_words(lines: &[String]) -> BTreeSet<String> {
    let words = lines.iter().filter_map(|line| line.split_whitespace().next());
    words.map(|word| word.replace(|c: char| c.is_ascii_digit(), "")).collect()
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
        for marker in markers(page) {
            let results: Vec<_> =
                recordings.iter().map(|it| marker.fault(root, page, it)).collect();
            let is_good = results.iter().any(|it| matches!(it, Ok(None)));
            let fault =
                |why| Fault::new(page, marker.line, format!("<!-- {} -->: {why}", marker.text));
            match results.into_iter().next() {
                Some(Err(why)) => faults.push(fault(why)),
                Some(Ok(Some(why))) if !is_good => {
                    let block = Some(marker.scenario.unwrap_or_default().to_owned());
                    faults.push(Fault { block, ..fault(why) });
                }
                _ => {}
            }
        }
    }
    faults
}

/// The scenarios in the texts whose blocks are not compared, and why.
pub(crate) fn not_compared(pages: &[Page], recording: &Recording) -> BTreeMap<String, String> {
    let mut whys = recording.skipped.clone();
    whys.extend(CHANCE.map(|(name, why)| (name.to_owned(), why.to_owned())));
    let shown: BTreeSet<_> = pages.iter().flat_map(markers).filter_map(|it| it.scenario).collect();
    whys.retain(|name, _| shown.contains(name.as_str()));
    whys
}

/// Writes the blocks that differ anew, and with each of them all others of its scenario: a reader
/// compares the numbers of its processes. Returns the scenarios, of those that are `wanted`.
pub(crate) fn update(
    root: &Path,
    recording: &Recording,
    wanted: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let texts = pages(root);
    let faults = check(root, &texts, &[recording]);
    let stale = faults.into_iter().filter_map(|fault| fault.block);
    let stale: BTreeSet<String> = stale.filter(|scenario| wanted(scenario)).collect();
    for page in texts {
        let mut lines = page.lines.clone();
        // From the end, so that the lines before keep their places.
        for marker in markers(&page).rev() {
            let is_stale = match marker.scenario {
                Some(scenario) => stale.contains(scenario) && !marker.is_skipped(recording),
                None => matches!(marker.fault(root, &page, recording), Ok(Some(_))),
            };
            if !is_stale {
                continue;
            }
            if let ("picture" | "idea", Ok(Some(run)), Ok(image)) =
                (marker.kind, marker.run(recording), marker.image(&page))
            {
                fs::write(root.join(image), run.picture_for(marker.kind, &page)).unwrap();
            } else if let Some(fence) = page.fence_after(marker.line)
                && let Ok(content) = marker.content(root, &page, recording)
            {
                lines.splice(fence.open + 1..fence.close, content.concat());
            }
        }
        if lines != page.lines {
            fs::write(root.join(&page.name), lines.join("\n") + "\n").unwrap();
        }
    }
    stale
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
                let last = lines[first..].iter().position(|it| is_whole || it.starts_with(&end));
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
                let rest = &lines[first + after..];
                let last = match to {
                    "" => rest.len().checked_sub(1),
                    _ => rest.iter().position(|line| line.contains(to)),
                };
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
