//! A demo, recorded for the blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::page::Page;
use crate::support::{Run, XTASK, of_kind, programs, text};

/// What was recorded of each run: `zombie`, and `zombie control`.
pub(crate) struct Recording {
    runs: BTreeMap<String, Shown>,
    /// Why a scenario was skipped.
    pub(crate) skipped: BTreeMap<String, String>,
}

/// One run, with the paths of this machine taken out.
#[derive(Default)]
pub(crate) struct Shown {
    /// Commands and printed lines, up to the first snapshot, up to the second, and so on. Between two
    /// snapshots, lines of several processes come in any order.
    pub(crate) printed: Vec<Vec<String>>,
    /// For each snapshot, its command and its lines.
    pub(crate) snapshots: Vec<Vec<String>>,
    pub(crate) transcript: Vec<String>,
    /// The timeline, and the picture of the idea, each in English and in Chinese; empty where there is none.
    pictures: [[String; 2]; 2],
    pub(crate) pids: BTreeSet<String>,
    /// The processes that the scenario is about: it has started them, or given them a role.
    pub(crate) known: BTreeSet<String>,
}

impl Recording {
    /// Runs these scenarios. All claims must hold.
    pub(crate) fn of(scenarios: &[&str]) -> Self {
        let mut recording = Self { runs: BTreeMap::new(), skipped: BTreeMap::new() };
        if scenarios.is_empty() {
            return recording;
        }
        programs(); // builds them
        let record = || {
            let run = Run::new();
            let output = run.output(&[&["demo"], scenarios].concat());
            (run, output)
        };
        let (mut run, mut output) = record();
        if !output.status.success() {
            // Other tests are about that. On a busy machine, a `ps` may have hung.
            (run, output) = record();
        }
        let shown = text(&output.stdout);
        let is_why = |line: &&str| ["NOT", "!!", "         for"].iter().any(|it| line.contains(it));
        let why: Vec<&str> = shown.lines().filter(is_why).collect();
        assert!(output.status.success(), "demo {scenarios:?} failed twice: {why:#?}");
        run.assert_nothing_is_left();
        for entry in fs::read_dir(run.report()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Ok(verdicts) = fs::read(entry.path().join("verdicts.ndjson")) else { continue };
            for skipped in of_kind(&verdicts, "skipped") {
                recording.skipped.insert(name.clone(), skipped["because"].to_string());
            }
            let control = entry.path().join("control");
            if control.is_dir() {
                recording.runs.insert(format!("{name} control"), Shown::read(&control, &run));
            }
            recording.runs.insert(name, Shown::read(&entry.path(), &run));
        }
        recording
    }

    pub(crate) fn run(&self, name: &str) -> Option<&Shown> {
        self.runs.get(name)
    }
}

impl Shown {
    /// The `picture` or the `idea` for the readers of this page.
    pub(crate) fn picture_for(&self, kind: &str, page: &Page) -> &str {
        &self.pictures[usize::from(kind == "idea")][usize::from(page.is_chinese())]
    }

    fn read(folder: &Path, run: &Run) -> Self {
        let file = |name: &str| {
            let text = match fs::read_to_string(folder.join(name)) {
                Err(_) if name.starts_with("idea") => String::new(), // few scenarios have one
                text => text.unwrap(),
            };
            let of_machine = [
                (Path::new(XTASK).parent().unwrap(), "target/debug"),
                (&run.temporary(), "/tmp"),
                (Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), "."),
            ];
            let without = |text: String, (path, name): &(&Path, &str)| {
                text.replace(path.to_str().unwrap(), name)
            };
            of_machine.iter().fold(text, without)
        };
        let mut shown = Self { printed: vec![Vec::new()], ..Self::default() };
        for event in file("events.ndjson").lines() {
            shown.take(&serde_json::from_str(event).unwrap());
        }
        shown.transcript = lines(&file("transcript.txt"));
        let both = |name| ["svg", "zh-CN.svg"].map(|end| file(&format!("{name}.{end}")));
        shown.pictures = ["timeline", "idea"].map(both);
        shown
    }

    fn take(&mut self, event: &Value) {
        let string = |key: &str| event[key].as_str().unwrap_or_default();
        let pid = event["pid"].to_string();
        match string("kind") {
            "start" => self.print(format!("$ {} (pid {pid})", string("command"))),
            "line" if string("stream") == "stderr" => {
                self.print(format!("(stderr) {}", string("text")))
            }
            "line" => self.print(string("text").to_owned()),
            "snapshot" => {
                let text = format!("$ {}\n{}", string("command"), string("text"));
                self.snapshots.push(lines(&text));
                self.printed.push(Vec::new());
            }
            "state" => {
                self.pids.extend(string("raw").split(' ').next().map(str::to_owned));
            }
            _ => {}
        }
        if event["pid"].is_number() {
            if ["worker", "start", "found"].contains(&string("kind")) {
                self.known.insert(pid.clone());
            }
            self.pids.insert(pid);
        }
    }

    fn print(&mut self, line: String) {
        self.printed.last_mut().unwrap().push(line.trim_end().to_owned());
    }
}

/// The lines without blanks at their ends.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}
