//! Whether a block shows the same as a run: other processes with other numbers, times and ports.

use std::collections::{BTreeMap, BTreeSet};

/// The words before a number of seconds; it depends on how fast the scenario was run.
const SECONDS: [&str; 6] = ["sleep", "every", "work", "wait", "timeout", "alarm"];
/// How many pairs of lines are tried before two groups are given up as different.
const TRIES: u32 = 100_000;

/// Which number in the block is which process of the run. It must be one to one, so that relations
/// between the lines are compared, such as that a PPID is the PID of another line.
#[derive(Clone)]
struct Names<'a> {
    /// The processes of the run; without, any number of three digits or more may be one.
    pids: Option<&'a BTreeSet<String>>,
    of_block: BTreeMap<String, String>,
    of_run: BTreeMap<String, String>,
}

impl Names<'_> {
    fn is_pid(&self, number: &str) -> bool {
        match self.pids {
            Some(pids) => pids.contains(number),
            None => number.len() > 2 && is_whole(number),
        }
    }

    fn are_one(&mut self, block: &str, run: &str) -> bool {
        match (self.of_block.get(block), self.of_run.get(run)) {
            (None, None) => {
                self.of_block.insert(block.to_owned(), run.to_owned());
                self.of_run.insert(run.to_owned(), block.to_owned());
                is_whole(block)
            }
            // In a container, 60 may be a process and, elsewhere in the line, a time.
            (known, _) => block == run || known.is_some_and(|known| known == run),
        }
    }

    /// Whether these lines say the same.
    fn alike(&mut self, block: &str, run: &str) -> bool {
        let (block, run, is_log) = (without_time(block), without_time(run), has_time(run));
        let (block, run) = (parts(&block), parts(&run));
        if block.len() != run.len() {
            return false;
        }
        let mut before = String::new();
        for (block, run) in block.into_iter().zip(run) {
            let are_numbers = is_number(block) && is_number(run);
            let word = before.trim_end().rsplit(|c: char| !c.is_ascii_lowercase()).next();
            let is_of_run = is_log
                || run.starts_with("0x")
                || ["127.0.0.1:", "pipe:["].iter().any(|it| before.ends_with(it))
                || SECONDS.contains(&word.unwrap_or_default())
                || block.len().min(run.len()) > 5 // bytes that fit into buffers
                || (!is_whole(block) && !is_whole(run)); // seconds
            let good = match self.is_pid(run) {
                true => self.are_one(block, run),
                false => block == run || (are_numbers && is_of_run),
            };
            if !good {
                return false;
            }
            before += run;
        }
        true
    }
}

/// Why the block is not the same as the run, if so. Within a group, the order of lines is chance.
pub(crate) fn difference(
    block: &[Vec<String>],
    run: &[Vec<String>],
    pids: Option<&BTreeSet<String>>,
) -> Option<String> {
    let names = Names { pids, of_block: BTreeMap::new(), of_run: BTreeMap::new() };
    for (block, run) in block.iter().zip(run) {
        let is_alone = |line: &&String, others: &[String], swapped: bool| {
            !others.iter().any(|other| match swapped {
                true => names.clone().alike(other, line),
                false => names.clone().alike(line, other),
            })
        };
        let here = block.iter().find(|line| is_alone(line, run, false));
        let there = run.iter().find(|line| is_alone(line, block, true));
        if here.is_some() || there.is_some() || block.len() != run.len() {
            let [here, there] = [here, there].map(|line| match line {
                Some(line) => format!("{line:?}"),
                None => "nothing else".to_owned(),
            });
            return Some(format!("it has {here}, the run has {there}"));
        }
    }
    let numbered = |groups: &[Vec<String>]| -> Vec<(usize, String)> {
        let groups = groups.iter().enumerate();
        groups.flat_map(|(group, lines)| lines.iter().map(move |it| (group, it.clone()))).collect()
    };
    let (block, run) = (numbered(block), numbered(run));
    let (mut used, mut tries) = (vec![false; run.len()], TRIES);
    let is_same = block.len() == run.len() && assign(&block, &run, &mut used, &names, &mut tries);
    (!is_same).then(|| "the numbers of its processes do not fit together as in the run".to_owned())
}

/// Finds for each line of the block one of the run, first the one at its place.
fn assign(
    block: &[(usize, String)],
    run: &[(usize, String)],
    used: &mut [bool],
    names: &Names<'_>,
    tries: &mut u32,
) -> bool {
    let Some((group, line)) = block.first() else { return true };
    let place = run.len() - block.len();
    for candidate in [place].into_iter().chain((0..run.len()).filter(|it| *it != place)) {
        if used[candidate] || run[candidate].0 != *group || *tries == 0 {
            continue;
        }
        *tries -= 1;
        let mut names = names.clone();
        if names.alike(line, &run[candidate].1) {
            used[candidate] = true;
            if assign(&block[1..], run, used, &names, tries) {
                return true;
            }
            used[candidate] = false;
        }
    }
    false
}

/// What `ps` printed in groups: the command, its processes, the rows. WCHAN, the session and the widths of
/// columns depend on the machine, and whether a process that lives runs or sleeps is chance.
pub(crate) fn ps_groups(lines: &[String]) -> Vec<Vec<String>> {
    let (command, rows) = lines.split_first().map_or(("", lines), |(it, rows)| (it.as_str(), rows));
    let (command, pids) = command.rsplit_once(" -p ").unwrap_or((command, ""));
    let pids = pids.split(',').map(str::to_owned).collect();
    vec![vec![command.to_owned()], pids, rows.iter().map(|row| ps_row(row)).collect()]
}

fn ps_row(row: &str) -> String {
    let words: Vec<&str> = row.split_whitespace().collect();
    let [pid, ppid, pgid, _, stat, _, command, args @ ..] = &words[..] else {
        return words.join(" ");
    };
    let state = match &stat[..1] {
        "R" | "D" => "S",
        state => state,
    };
    // `ps` cuts the arguments off where the line ends, and a path may be longer elsewhere.
    let args = match args {
        [path, ..] if path.contains('/') => "(a path)".to_owned(),
        args => args[..args.len().min(6)].join(" "),
    };
    format!("{pid} {ppid} {pgid} {state} {command} {args}")
}

/// A transcript up to each snapshot, with its rows as above, and without times.
pub(crate) fn transcript_groups(lines: &[String]) -> Vec<Vec<String>> {
    let mut groups = vec![Vec::new()];
    for line in lines {
        let said = line.get(9..).unwrap_or_default();
        let is_title = said.starts_with("** ");
        groups.last_mut().unwrap().push(match line.starts_with("         ") {
            true => ps_row(said.split(" -p ").next().unwrap_or_default()),
            false if said.starts_with("/proc/") => {
                said.split(": ").next().unwrap_or_default().to_owned()
            }
            false => said.to_owned(),
        });
        if is_title {
            groups.push(Vec::new());
        }
    }
    groups
}

/// The first text of a timeline that is not the same in both. Compared are the title, the style, the
/// snapshots, the signals, and the lanes of the processes that the scenario knows: another that
/// was gone at once has a lane in some runs only.
pub(crate) fn picture(image: &str, run: &str, known: &BTreeSet<String>) -> Option<String> {
    let texts = |svg: &str, known: Option<&BTreeSet<String>>| {
        let (mut same, mut lanes) = (BTreeSet::new(), Vec::new());
        for part in svg.split('<') {
            let (tag, text) = part.split_once('>').unwrap_or((part, ""));
            let is_same = ["title", "style"].contains(&tag)
                || tag.starts_with("text class=\"number\"")
                || (tag.contains("rotate") && text.contains("SIG"));
            if is_same {
                same.extend(text.split(" ×").next().map(str::to_owned));
            }
            let lane = text.split_once(" (pid ").filter(|_| tag.starts_with("text class=\"name\""));
            let pid_of = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
            let lane = lane.filter(|(_, rest)| known.is_none_or(|it| it.contains(&pid_of(rest))));
            lanes.extend(lane.map(|(role, _)| {
                let role = role.replace(|c: char| c.is_ascii_digit(), "");
                role.replace("parent", "program").replace("父进程", "程序") // without a child that was seen
            }));
        }
        (same, lanes)
    };
    let ((here, all), (there, lanes)) = (texts(image, None), texts(run, Some(known)));
    let count = |lanes: &[String], lane: &String| lanes.iter().filter(|it| *it == lane).count();
    let missing = lanes.iter().find(|lane| count(&lanes, lane) > count(&all, lane));
    missing.or_else(|| here.symmetric_difference(&there).next()).cloned()
}

/// The first word of a drawn idea, without its numbers, that is not in both. Where lines break depends on
/// the numbers, and what else a process has open on the machine.
pub(crate) fn idea(image: &str, run: &str) -> Option<String> {
    let words = |svg: &str| -> BTreeSet<String> {
        let texts = svg.split('<').filter_map(|part| part.split_once('>'));
        let words = texts.flat_map(|(_, text)| text.split_whitespace());
        let words = words.filter(|word| !word.contains('→'));
        words.map(|word| word.replace(|c: char| c.is_ascii_digit(), "")).collect()
    };
    words(image).symmetric_difference(&words(run)).next().cloned()
}

/// The line without the time that a log has.
fn without_time(line: &str) -> String {
    match line.strip_prefix("(stderr) ") {
        Some(rest) => format!("(stderr) {}", test_support::without_stamp(rest)),
        None => test_support::without_stamp(line).to_owned(),
    }
}

/// Whether it is of a log, whose numbers depend on the machine.
fn has_time(line: &str) -> bool {
    without_time(line).len() < line.len()
}

/// Numbers, and what stands between them.
fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_hex = rest.starts_with("0x");
        let of_number = |c: char| match is_hex {
            true => c.is_ascii_hexdigit() || c == 'x',
            false => c.is_ascii_digit() || c == '.',
        };
        let end = match first.is_ascii_digit() {
            true => rest.find(|c| !of_number(c)),
            false => rest.find(|c: char| c.is_ascii_digit()),
        };
        let part = &rest[..end.unwrap_or(rest.len())];
        let part = if first.is_ascii_digit() { part.trim_end_matches('.') } else { part };
        parts.push(part);
        rest = &rest[part.len()..];
    }
    parts
}

fn is_whole(number: &str) -> bool {
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Neither a word nor an address, which has more dots.
fn is_number(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_digit()) && part.matches('.').count() < 2
}
