//! The report of a demo: that it can be judged again, and that the page can be read.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{
    XTASK, assert_has, assert_one_sentence, of_kind, programs, skip, start_demo, stdout, text, word,
};
use test_support::TempDir;

/// Scenarios that between them have all that a page can show, in the order of the chapter.
const SCENARIOS: [&str; 9] = [
    "grandchild-holds-pipe",
    "zombie",
    "zombie-kill",
    "zombie-parent-kill",
    "orphan",
    "wait",
    "sigchld",
    "ignore-sigchld",
    "split",
];

fn xtask(args: &[&str]) -> Output {
    let mut command = Command::new(XTASK);
    command.args(args).env_remove("CLICOLOR_FORCE").output().unwrap()
}

/// A report of a few scenarios, recorded once; each test has a copy.
fn report() -> TempDir {
    static RECORDED: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    let files = RECORDED.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let args = [&["demo"], &SCENARIOS[..], &["--report", word(folder.path())]].concat();
        stdout(&xtask(&args), 0);
        let mut files = files(folder.path());
        for (_, content) in files.iter_mut().filter(|(path, _)| path.ends_with("events.ndjson")) {
            // What a busy machine has been late for is an excuse for a claim that does not hold.
            let in_time = |line: &&[u8]| !text(line).contains(r#""kind":"late""#);
            let lines = content.split_inclusive(|byte| *byte == b'\n').filter(in_time);
            *content = lines.collect::<Vec<_>>().concat();
        }
        files
    });
    let copy = TempDir::new().unwrap();
    for (path, content) in files {
        let path = copy.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    copy
}

/// The files in a folder, with their paths in it.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = PathBuf::from(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                let within = crate::files(&entry.path()).into_iter();
                files.extend(within.map(|(path, content)| (name.join(path), content)));
            }
            false => files.push((name, fs::read(entry.path()).unwrap())),
        }
    }
    files
}

fn recheck(report: &TempDir) -> Output {
    xtask(&["demo", "--recheck", word(report.path()), "--json"])
}

/// Changes the events of a run.
fn edit(report: &TempDir, run: &str, change: impl Fn(&mut Value)) {
    let path = report.path().join(run).join("events.ndjson");
    let mut out = String::new();
    for line in fs::read_to_string(&path).unwrap().lines() {
        let mut event = serde_json::from_str(line).unwrap();
        change(&mut event);
        out += &format!("{event}\n");
    }
    fs::write(path, out).unwrap();
}

/// Takes the zombies out of what `ps` printed.
fn without_zombies(event: &mut Value) {
    if event["kind"] == "snapshot" {
        let rows = event["text"].as_str().unwrap();
        let rows = rows.lines().filter(|row| !row.contains("<defunct>"));
        let rows: String = rows.map(|row| format!("{row}\n")).collect();
        event["text"] = rows.into();
    }
}

/// Checks in which scenarios the verdicts of this kind are that the claim held.
#[track_caller]
fn assert_held(output: &Output, kind: &str, held: impl Fn(&str) -> bool) {
    for verdict in of_kind(&output.stdout, kind) {
        let expected = held(verdict["scenario"].as_str().unwrap());
        assert_eq!(verdict["held"], expected, "{verdict}");
    }
}

#[test]
fn what_was_recorded_is_judged_again_the_same() {
    let report = report();
    let output = recheck(&report);
    stdout(&output, 0);
    let mut recorded = String::new();
    for scenario in SCENARIOS {
        recorded +=
            &fs::read_to_string(report.path().join(scenario).join("verdicts.ndjson")).unwrap();
    }
    let judged = ["verdict", "control"].map(|kind| of_kind(&output.stdout, kind).len());
    assert_eq!(judged.iter().sum::<usize>(), recorded.lines().count());
    assert_has(&text(&output.stdout), &recorded.lines().collect::<Vec<_>>());
}

#[test]
fn a_recording_without_the_zombie_turns_the_verdict() {
    let report = report();
    edit(&report, "zombie", without_zombies);
    let output = recheck(&report);
    assert_eq!(output.status.code(), Some(1));
    assert_held(&output, "verdict", |scenario| scenario != "zombie"); // the rest is as it was
    assert_held(&output, "control", |_| false);
}

#[test]
fn a_zombie_that_a_late_look_has_missed_is_skipped_with_the_speed_to_try() {
    let report = report();
    edit(&report, "zombie", |event| {
        without_zombies(event);
        if event["kind"] == "reaped" {
            let late = serde_json::json!({"kind": "late", "seconds": 1.25, "speed": 2.5});
            for (key, value) in late.as_object().unwrap() {
                event[key] = value.clone();
            }
        }
    });
    let output = recheck(&report);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let skipped = of_kind(&output.stdout, "skipped");
    assert_eq!(skipped.len(), 3);
    for verdict in skipped {
        let because = verdict["because"].as_str().unwrap();
        let why = "too slow at this speed: a look took 1.2 s; try --speed 2 (";
        assert!(because.starts_with(why), "{because}");
    }
}

#[test]
fn a_control_with_the_zombie_of_its_scenario_proves_nothing() {
    let report = report();
    let own = fs::read_to_string(report.path().join("zombie/events.ndjson")).unwrap();
    let control = own.replace(r#""scenario":"zombie""#, r#""scenario":"zombie/control""#);
    fs::write(report.path().join("zombie/control/events.ndjson"), control).unwrap();
    let output = recheck(&report);
    assert_eq!(output.status.code(), Some(1));
    assert_held(&output, "verdict", |_| true);
    assert_held(&output, "control", |scenario| scenario == "zombie");
}

/// Whatever somebody has made of them: as long as they are events, there is a verdict.
#[test]
fn no_recording_makes_it_panic() {
    let recorded = report();
    // A program that has printed nothing; more processes left than can be counted.
    let run = "grandchild-holds-pipe";
    let path = recorded.path().join(run).join("events.ndjson");
    let events = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = events.lines().collect();
    lines.retain(|line| !line.contains(r#""kind":"line""#));
    fs::write(&path, lines.join("\n")).unwrap();
    for run in ["zombie", "zombie/control", run] {
        edit(&recorded, run, |event| {
            if event["kind"] == "end" {
                event["left"] = u64::MAX.into();
            }
        });
    }
    let output = recheck(&recorded);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_held(&output, "verdict", |scenario| scenario != run);
}

#[test]
fn one_scenario_can_be_judged_alone() {
    let report = report();
    edit(&report, "zombie", without_zombies);
    let only = |name| {
        let output = xtask(&["demo", name, "--recheck", word(report.path())]);
        output.status.code()
    };
    let page = || fs::read(report.path().join("index.html")).unwrap();
    let of_all = page();
    assert_eq!((only("wait"), only("zombie")), (Some(0), Some(1)));
    assert!(page() == of_all, "the page has lost the others");
}

#[test]
fn what_is_missing_is_named() {
    let report = report();
    fs::remove_file(report.path().join("zombie/control/events.ndjson")).unwrap();
    let parts = ["cannot read", "zombie/control/events.ndjson"];
    assert_one_sentence(&recheck(&report), 77, &parts);
    let empty = TempDir::new().unwrap();
    let parts = ["no folder of a scenario", word(empty.path())];
    assert_one_sentence(&recheck(&empty), 77, &parts);
    let nowhere = xtask(&["demo", "zombie", "--recheck", "/nowhere"]);
    assert_one_sentence(&nowhere, 77, &["cannot read /nowhere/zombie/events.ndjson"]);
}

#[test]
fn what_is_malformed_is_named() {
    let broken = |change: &dyn Fn(String) -> Vec<u8>, parts: &[&str]| {
        let report = report();
        let path = report.path().join("zombie/events.ndjson");
        let changed = change(fs::read_to_string(&path).unwrap());
        fs::write(&path, changed).unwrap();
        let parts = [&["zombie/events.ndjson"], parts].concat();
        assert_one_sentence(&recheck(&report), 2, &parts);
    };
    broken(&|_| Vec::new(), &["no events"]);
    broken(&|_| vec![0xff, b'\n'], &["UTF-8"]);
    broken(&|events| (events + "{\n").into(), &["line ", "no event"]);
    let replaced = |from: &str, to: &str, parts: &[&str]| {
        broken(&|events| events.replace(from, to).into(), parts);
    };
    replaced(r#""zombie","t""#, r#""wait","t""#, &["line 1", "wait"]);
    replaced("/proc", "worker", &["source"]);
    replaced(") Z ", " Z ", &["no event", "/proc/PID/stat"]);
    // As it was before snapshots had titles.
    replaced("title", "moment", &["an older xtask", "record it again"]);
    replaced(r#""t":"#, r#""t":1e99,"was":"#, &["line 1", "time"]);
    // Without the list, it is no proof that nobody was on it.
    replaced("PID ", "pid ", &["ps has printed no table"]);
    let cut_off = |events: String| {
        let lines: Vec<&str> = events.lines().collect();
        (lines[..lines.len() - 1].join("\n") + "\n").into()
    };
    broken(&cut_off, &["cut off", "not the end of the run"]);
    let reversed = |events: String| {
        let lines: Vec<&str> = events.lines().rev().collect();
        (lines.join("\n") + "\n").into()
    };
    broken(&reversed, &["line 2", "earlier"]);
}

#[test]
fn recheck_runs_nothing_and_takes_no_options_of_a_run() {
    for option in ["--real-time", "--speed=5", "--report=x", "--programs=x"] {
        let output = xtask(&["demo", "--recheck", "x", option]);
        assert_eq!(output.status.code(), Some(2), "{option}");
    }
}

#[test]
fn verdicts_are_printed_though_the_report_has_no_place() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("report");
    fs::write(&place, "in the way").unwrap();
    let output = xtask(&["demo", "zombie", "wait", "--report", word(&place)]);
    assert_one_sentence(&output, 74, &["cannot write the report to", word(&place)]);
    let lines = ["held     C24", "held     C40", "All 4 claims held."];
    assert_has(&text(&output.stdout), &lines);
}

/// Somebody names the workspace itself, in which `zombie` is a folder of sources.
#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("zombie/src/main.rs");
    fs::create_dir_all(source.parent().unwrap()).unwrap();
    fs::write(&source, "fn main() {}").unwrap();
    let output = xtask(&["demo", "zombie", "--report", word(folder.path())]);
    let why = "holds what no report has written";
    let parts = [word(folder.path()), why, "--report"];
    assert_one_sentence(&output, 2, &parts);
    assert!(output.stdout.is_empty());
    assert_eq!(fs::read_to_string(&source).unwrap(), "fn main() {}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Its timelines would be those of other recordings than lie beside it.
#[test]
fn the_page_of_an_earlier_report_does_not_stay() {
    let folder = report();
    let index = folder.path().join("index.html");
    let place = folder.path().join("zombie");
    fs::remove_dir_all(&place).unwrap();
    fs::write(&place, "in the way").unwrap();
    assert!(index.exists());
    let output = xtask(&["demo", "zombie", "--report", word(folder.path())]);
    assert_one_sentence(&output, 74, &["cannot write the report to"]);
    assert!(!index.exists());
}

/// What is only a part has a folder of its own, by default.
#[test]
fn a_part_does_not_take_the_place_of_the_whole() {
    let target = TempDir::new().unwrap();
    let [whole, part] = ["demo", "demo-part"].map(|name| target.path().join(name));
    let xtask = |args: &[&str]| {
        let mut command = Command::new(XTASK);
        command.args(args).env("CARGO_TARGET_DIR", target.path());
        command.arg("--programs").arg(programs()).output().unwrap()
    };
    let output = xtask(&["demo", "zombie", "--speed", "20"]);
    let place = format!("The report is {}/index.html.", part.display());
    assert_has(&text(&output.stdout), &[&place]);
    assert!(part.join("index.html").exists() && !whole.exists());

    for folder in [&whole, &part] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("mine"), "").unwrap();
    }
    let refused = |args: &[&str], folder: &Path| {
        let sentence = format!("{} holds what no report has written", folder.display());
        assert_one_sentence(&xtask(args), 2, &[&sentence]);
    };
    refused(&["demo", "all"], &whole);
    refused(&["demo", "all", "--pause"], &part);
    refused(&["demo", "all", "--predict"], &part);
}

#[test]
fn a_run_that_is_broken_off_leaves_the_earlier_report() {
    let report = report();
    let all = || files(report.path());
    let before = all();
    let mut command = Command::new(XTASK);
    command.args(["demo", "sigchld", "zombie", "--speed", "2", "--report", word(report.path())]);
    let (mut child, mut stderr, _) = start_demo(command.stdin(Stdio::null()));
    let mut line = String::new();
    while !line.starts_with("sigchld/control: ") || !line.ends_with(": over\n") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(all() == before, "the report has changed");
}

/// What verdicts and timelines are made from, and so is never made again.
fn is_recording(path: &Path) -> bool {
    path.ends_with("events.ndjson") || path.ends_with("machine.json")
}

#[test]
fn recheck_draws_the_same_again_and_leaves_the_recordings_alone() {
    let report = report();
    let files = |of_recordings: bool| {
        let mut files = files(report.path());
        files.retain(|(path, _)| is_recording(path) == of_recordings);
        files.sort();
        files
    };
    let stamps = || {
        let stamp = |(path, content): (PathBuf, Vec<u8>)| {
            let file = fs::metadata(report.path().join(&path)).unwrap();
            (path, content, file.ino(), file.modified().unwrap())
        };
        files(true).into_iter().map(stamp).collect::<Vec<_>>()
    };
    let (derived, recorded) = (files(false), stamps());
    for end in ["html", "svg", "txt", "ndjson"] {
        let has = |(path, _): &(PathBuf, Vec<u8>)| path.extension().is_some_and(|it| it == end);
        assert!(derived.iter().any(has), "no {end} is made");
    }
    for (path, _) in &derived {
        fs::remove_file(report.path().join(path)).unwrap();
    }
    stdout(&recheck(&report), 0);
    let again = files(false);
    let names = |files: &[(PathBuf, Vec<u8>)]| {
        let names = files.iter().map(|(path, _)| path.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&derived), names(&again));
    for (before, after) in derived.iter().zip(&again) {
        assert!(before == after, "{} is another", after.0.display());
    }
    assert!(recorded == stamps(), "a recording was written");
}

#[test]
fn what_was_judged_again_is_printed_though_the_page_cannot_be_drawn() {
    let report = report();
    let index = report.path().join("index.html");
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    let output = recheck(&report);
    assert_one_sentence(&output, 74, &["cannot draw the report again in"]);
    assert_eq!(of_kind(&output.stdout, "summary")[0]["not_held"], 0);
}

#[test]
fn an_event_of_a_process_says_which_it_was() {
    let report = report();
    let files = files(report.path());
    let mut kinds = BTreeSet::new();
    for (path, content) in files.iter().filter(|(path, _)| path.ends_with("events.ndjson")) {
        for line in text(content).lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let has = |names: &[&str]| {
                for name in names {
                    assert!(!event[name].is_null(), "{name}: {}: {line}", path.display());
                }
            };
            let kind = event["kind"].as_str().unwrap();
            has(&["scenario", "t", "source"]);
            match kind {
                "snapshot" => has(&["title", "command", "text"]),
                "client" | "missed" | "failed" | "end" => {}
                "state" => has(&["raw", "noticed"]),
                "line" | "gone" => has(&["pid", "start_time", "noticed"]),
                "late" => has(&["seconds", "speed"]),
                _ => has(&["pid", "start_time"]),
            }
            if matches!(kind, "worker" | "start" | "reaped") {
                assert_ne!(event["start_time"], 0, "{line}");
            }
            kinds.insert(kind.to_owned());
        }
    }
    let expected = [
        "worker", "start", "found", "line", "state", "gone", "signal", "reaped", "snapshot", "end",
    ];
    for kind in expected {
        assert!(kinds.contains(kind), "no event is of the kind {kind}");
    }
}

/// As recordings were before events carried how they were noticed.
#[test]
fn a_recording_without_how_events_were_noticed_is_judged_alike() {
    let report = report();
    for scenario in SCENARIOS {
        edit(&report, scenario, |event| drop(event.as_object_mut().unwrap().remove("noticed")));
    }
    let output = recheck(&report);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_held(&output, "verdict", |_| true);
}

/// What a recording says of a process so far.
struct Recorded {
    state: char,
    parent: u64,
}

#[test]
fn a_cause_is_recorded_before_its_effects() {
    let report = report();
    let files = files(report.path());
    let (mut noticed_by, mut births, mut adoptions) = (BTreeSet::new(), 0, 0);
    for (_, content) in files.iter().filter(|(path, _)| path.ends_with("events.ndjson")) {
        let mut known: BTreeMap<u64, Recorded> = BTreeMap::new();
        let mut writers = BTreeSet::new();
        let mut earlier = 0.0;
        for line in text(content).lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let t = event["t"].as_f64().unwrap();
            assert!(t >= earlier, "{line}");
            earlier = t;
            if let Some(within) = event["noticed"]["within"].as_f64() {
                assert!((0.0..=t).contains(&within), "{line}");
                noticed_by.insert(event["noticed"]["by"].as_str().unwrap().to_owned());
            }
            let pid = event["pid"].as_u64().unwrap_or_default();
            match event["kind"].as_str().unwrap() {
                "worker" | "start" => {
                    known.insert(pid, Recorded { state: 'R', parent: 0 });
                }
                "state" => {
                    let raw = event["raw"].as_str().unwrap();
                    let pid = raw.split(' ').next().unwrap().parse().unwrap();
                    let mut rest = raw.rsplit_once(") ").unwrap().1.split(' ');
                    let state = rest.next().unwrap().chars().next().unwrap();
                    let parent = rest.next().unwrap().parse().unwrap();
                    assert!(known.contains_key(&parent), "its parent is not born: {line}");
                    match known.insert(pid, Recorded { state, parent }) {
                        None => {
                            assert!(!writers.contains(&pid), "its line came first: {line}");
                            births += 1;
                        }
                        Some(before) if ![0, parent].contains(&before.parent) => {
                            let state = known[&before.parent].state;
                            assert!("ZX".contains(state), "its parent lives: {line}");
                            adoptions += 1;
                        }
                        Some(_) => {}
                    }
                }
                "line" => {
                    assert!(known.contains_key(&pid), "its program is not started: {line}");
                    let number = event["text"].as_str().unwrap().strip_prefix("My pid is: ");
                    writers.extend(number.map(|number| number.parse::<u64>().unwrap()));
                }
                "reaped" => assert_eq!(known[&pid].state, 'Z', "not ended before: {line}"),
                "gone" => known.get_mut(&pid).unwrap().state = 'X',
                _ => {}
            }
        }
    }
    assert!(births > 10 && adoptions > 1, "{births} births, {adoptions} adoptions");
    assert_eq!(noticed_by, ["pidfd", "pipe", "sample"].map(str::to_owned).into());
}

/// A reader who has never seen the page looks for this.
#[test]
fn the_page_says_what_a_zombie_is_and_what_removes_it() {
    let report = report();
    let page = fs::read_to_string(report.path().join("index.html")).unwrap();
    let place = |what: &str| {
        let place = page.find(what);
        place.unwrap_or_else(|| panic!("{what:?} is not on the page"))
    };
    let in_order = [
        "<strong>zombie</strong>",
        "the process that has adopted it",
        "<strong>reap</strong>",
        "<strong>orphan</strong>",
        "<strong>adopts</strong>",
        "<strong>worker</strong>, the process that has started the programs",
        "never become zombies",
        "<h2>How to read the timelines",
        "stopped (T)",
        "<section class=\"scenario\" id=\"zombie\"",
        "<figure class=\"timeline\">",
        "<section class=\"scenario\" id=\"grandchild-holds-pipe\"",
        "<h2>What came out",
        "<table>",
    ];
    let places = in_order.map(place);
    assert!(places.is_sorted(), "{places:?} of {in_order:?}");

    let rows = page.split("<tr><td>").skip(1);
    let claims: Vec<u32> = rows
        .map(|row| row.split_once(">C").unwrap().1.split_once('<').unwrap().0)
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(claims.len() >= SCENARIOS.len() && claims.is_sorted(), "{claims:?}");
}

#[test]
fn a_signal_passes_a_bar_that_it_does_not_reach() {
    let report = report();
    let timeline = fs::read_to_string(report.path().join("zombie-kill/timeline.svg")).unwrap();
    let line = timeline.split_once("class=\"arrow signal\" d=\"").unwrap().1;
    let line = line.split_once('"').unwrap().0;
    assert_eq!(line.matches('M').count(), 2, "no gap at the parent: {line}");
}

const WORKER: i32 = 900;
const PARENT: i32 = 4710;
const CHILD: i32 = 4711;

/// The state of a process, as a recording has it.
fn state(pid: i32, letter: char, ppid: i32, ignored: u64) -> Value {
    let stack = if letter == 'Z' { 0 } else { pid };
    let raw = format!(
        "{pid} (name) {letter} {ppid} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0 {pid} 0 0 0 1 1 {stack} \
         0 0 0 0 {ignored}"
    );
    json!({"kind": "state", "source": "/proc", "raw": raw})
}

fn gone(pid: i32) -> Value {
    json!({"kind": "gone", "source": "/proc", "pid": pid, "start_time": pid})
}

/// The timeline of a recording of `zombie` that we write: of a parent with a child, and what follows; a
/// second lies between two events. Without its legend.
fn drawn(rest: &[Value], ignored: u64) -> String {
    let report = report();
    let worker = json!({"kind": "worker", "pid": WORKER, "start_time": WORKER});
    let start = json!({"kind": "start", "pid": PARENT, "start_time": PARENT, "command": "name"});
    let (parent, child) = (state(PARENT, 'S', WORKER, ignored), state(CHILD, 'S', PARENT, 0));
    let end = json!({"kind": "end", "left": 0});
    let mut events = String::new();
    let all = [&[worker, start, parent, child], rest, &[end]].concat();
    for (t, mut event) in all.into_iter().enumerate() {
        event["scenario"] = "zombie".into();
        event["t"] = (t as f64).into();
        if event.get("source").is_none() {
            event["source"] = "worker".into();
        }
        events += &format!("{event}\n");
    }
    fs::write(report.path().join("zombie/events.ndjson"), events).unwrap();
    stdout(&recheck(&report), 1);
    let timeline = fs::read_to_string(report.path().join("zombie/timeline.svg")).unwrap();
    timeline.split_once("</style>").unwrap().1.split(r#"class="axis""#).next().unwrap().to_owned()
}

/// The texts of a timeline that are drawn so.
fn texts<'a>(timeline: &'a str, attribute: &str) -> Vec<&'a str> {
    let texts = timeline.split("<text ").filter(|text| text.contains(attribute));
    texts.map(|text| text.split(['>', '<']).nth(1).unwrap()).collect()
}

fn steps(timeline: &str) -> Vec<&str> {
    texts(timeline, "rotate(-50)")
}

#[test]
fn a_zombie_is_adopted_and_goes_when_the_adopter_waits() {
    let reaped = json!({"kind": "reaped", "pid": CHILD, "start_time": CHILD, "status": ""});
    let timeline = drawn(
        &[
            state(CHILD, 'Z', PARENT, 0),
            state(PARENT, 'Z', WORKER, 0),
            state(CHILD, 'Z', WORKER, 0),
            reaped,
            gone(CHILD),
        ],
        0,
    );
    assert_eq!(steps(&timeline), ["start", "spawn, exec", "exit", "exit", "adopted", "wait"]);
    assert_eq!(timeline.matches(r#"class="arrow wait""#).count(), 1);
    // The one that no snapshot shows is drawn smaller.
    assert_eq!(timeline.matches(r#"class="zombie""#).count(), 2);
    assert!(timeline.matches(r#"height="8""#).count() == 2, "there is no snapshot: {timeline}");
}

#[test]
fn one_that_was_gone_before_it_was_seen_has_a_lane_if_it_is_known_whose_it_was() {
    let number = CHILD + 1;
    let found = json!({"kind": "found", "pid": number, "start_time": 0, "role": "short"});
    let line = json!({"kind": "line", "source": "program", "pid": PARENT, "start_time": PARENT,
        "stream": "stdout", "text": format!("Ended, pid: {number}")});
    let known = drawn(&[line, found.clone()], 0);
    let labels = texts(&known, r#"class="name""#);
    assert!(labels[3].ends_with(": gone before it was seen"), "{labels:?}");
    assert_eq!(texts(&drawn(&[found], 0), r#"class="name""#).len(), 3);
}

#[test]
fn a_name_may_look_like_the_rest_of_a_line_in_proc() {
    let name = "a) Z 1 (b";
    let mut renamed = state(CHILD, 'S', PARENT, 0);
    renamed["raw"] = renamed["raw"].as_str().unwrap().replace("name", name).into();
    let timeline = drawn(&[renamed], 0);
    let label = texts(&timeline, r#"class="name""#)[2];
    assert!(label.contains(name), "{label}");
    assert!(!timeline.contains(r#"class="zombie""#), "{timeline}");
}

#[test]
fn an_exec_is_drawn_in_all_lanes_of_equal_children_or_in_none() {
    for (letter, expected) in [('S', 2), ('Z', 0)] {
        let timeline = drawn(&[state(CHILD + 1, letter, PARENT, 0)], 0);
        assert_eq!(timeline.matches(r#"class="mark""#).count(), expected, "{timeline}");
    }
}

#[test]
fn who_waited_is_shown_only_if_somebody_had_to() {
    let ignores_sigchld = 1 << 16;
    assert_eq!(steps(&drawn(&[gone(CHILD)], 0))[2..], ["exit, wait"]);
    let spared = drawn(&[gone(CHILD)], ignores_sigchld);
    assert_eq!(steps(&spared)[2..], ["ignores SIGCHLD", "exit, no wait"]);
    assert!(!spared.contains("arrow exit"), "its parent gets no signal: {spared}");
}

/// What a beginner took for something else.
#[test]
fn the_page_cannot_be_misread() {
    let report = report();
    let page = fs::read_to_string(report.path().join("index.html")).unwrap();
    let wanted = [
        // A living parent, whose program has that name.
        ") runs “zombie”",
        "), called “childProcess”",
        // The kernel cuts it, so that its lane must be given the whole of it.
        ") runs “grandchild-holds-pipe”",
        "SIGCHLD: process ",
        ">ignores SIGCHLD</text>",
        " failed there, as expected.",
        "not to scale",
        // The server is started in both, in the same way: what differs is the client.
        "<code>echo-client --one-process",
        "With the chapter's times it takes 30 s; here it took ",
    ];
    assert_has(&page, &wanted);
    assert!(!page.contains("<code>echo-server 0</code>"));
    let section = page.split_once("id=\"orphan-C30\"").unwrap().1;
    let place = |what: &str| section.find(what).unwrap();
    let in_order =
        ["will not become a zombie.", "wrong", "Instead: ", "held", "until its adopter waits"];
    assert!(in_order.map(place).is_sorted(), "{section}");
}

const PAGES: [&str; 2] = ["index.html", "index.zh-CN.html"];

/// What stands between the tags of a page, without its code: a tag, and the text after it.
fn parts(page: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut code = "";
    page.split('<').filter_map(|part| part.split_once('>')).filter(move |(tag, _)| {
        if code.is_empty() {
            let name = tag.split(' ').next().unwrap();
            code =
                ["pre", "code", "style", "script"].into_iter().find(|it| *it == name).unwrap_or("");
        } else if tag.strip_prefix('/') == Some(code) {
            code = "";
        }
        code.is_empty()
    })
}

#[test]
fn the_pages_in_both_languages_have_the_same_parts() {
    let report = report();
    let pages = PAGES.map(|name| fs::read_to_string(report.path().join(name)).unwrap());
    let [english, chinese] = pages.each_ref().map(|page| {
        let values = |attribute: &str| -> Vec<String> {
            let values = page.split(attribute).skip(1).map(|it| it.split('"').next().unwrap());
            values.map(|it| it.replace(".zh-CN.", ".")).collect()
        };
        let count = |what: &str| page.matches(what).count().to_string();
        let tags = ["<section", "<svg", "<figure class=\"snapshot\"", "<pre", "<tr", "<details"];
        let mut links = values(" href=\"");
        links.retain(|link| !link.starts_with("index.")); // to each other
        [values(" id=\""), links, tags.map(count).to_vec()]
    });
    assert!(english.iter().all(|part| part.len() > 5), "{english:?}");
    assert_eq!(english, chinese);
    assert_has(&pages[0], &["<html lang=\"en\"", "<a href=\"index.zh-CN.html\""]);
    assert_has(&pages[1], &["<html lang=\"zh-CN\"", "<a href=\"index.html\""]);
}

/// What stands between these two, from each `begin` on.
fn each_between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(begin).skip(1).map(move |rest| rest.split(end).next().unwrap())
}

/// The first of these.
#[track_caller]
fn between<'a>(text: &'a str, begin: &'a str, end: &'a str) -> &'a str {
    each_between(text, begin, end).next().unwrap_or_else(|| panic!("no {begin:?} in {text}"))
}

/// The text of the choice that is marked as right must be what `ps` has printed of that process.
#[test]
fn the_right_answer_to_a_question_is_what_ps_has_printed() {
    let report = report();
    right_answers_are_what_ps_has_printed(&report);
    // As it never was: zombies are stopped instead.
    for scenario in ["zombie-kill", "orphan"] {
        edit(&report, scenario, |event| {
            if event["kind"] == "snapshot" {
                let text = event["text"].as_str().unwrap();
                event["text"] = text.replace(" Z   ", " T   ").into();
            }
        });
    }
    let page = || fs::read_to_string(report.path().join(PAGES[0])).unwrap();
    let stopped =
        |page: &str| page.matches("a signal has stopped it, and none has continued it").count();
    let before = stopped(&page());
    recheck(&report);
    assert!(stopped(&page()) > before, "the questions are as before");
    right_answers_are_what_ps_has_printed(&report);
}

fn right_answers_are_what_ps_has_printed(report: &TempDir) {
    let pages = PAGES.map(|name| fs::read_to_string(report.path().join(name)).unwrap());
    for page in &pages {
        let (mut states, mut zombies, mut parents) = (BTreeSet::new(), BTreeSet::new(), 0);
        let questions = each_between(page, "<div class=\"questions\"", "</div>");
        for question in questions.flat_map(|block| each_between(block, "<details>", "</details>")) {
            let file = between(question, ".txt\">", "</a>");
            let path = between(question, "<a href=\"#", "-C").to_owned() + "/" + file;
            let printed = fs::read_to_string(report.path().join(&path)).unwrap();
            let rows = printed.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            let rows: Vec<_> = rows.filter(|row| row[0].parse::<u32>().is_ok()).collect();
            let row = |pid: &str| rows.iter().find(|row| row[0] == pid);
            let asks = between(question, "<strong>", "</strong>");
            let mut pids = asks.split(' ').filter(|word| word.parse::<u32>().is_ok());
            let pid = pids.next();
            let right: Vec<&str> =
                each_between(question, "<p class=\"right\"><b>", "</b>").collect();
            let choices: Vec<&str> =
                each_between(question, "<span class=\"choice\">", "</span>").collect();
            assert!(right.len() == 1 && (3..=4).contains(&choices.len()), "{question}");
            assert_eq!(question.matches("<p class=\"wrong\">").count(), choices.len() - 1);
            let letter = format!("<b>{}</b> ", right[0]);
            let words = choices.iter().map(|choice| choice.split_once("</b> ").unwrap().1);
            assert_eq!(words.collect::<BTreeSet<_>>().len(), choices.len(), "{question}");
            let mut right = choices.iter().filter_map(|choice| choice.strip_prefix(&letter));
            let right = right.next().unwrap();
            match pid {
                None => {
                    let count = rows.iter().filter(|row| row[4].starts_with('Z')).count();
                    assert_eq!(right, count.to_string(), "{path}: {asks}");
                    zombies.insert(count);
                }
                Some(pid) if asks.contains("PPID") => {
                    let parent = row(pid).unwrap()[1];
                    assert!(right.starts_with(&format!("{parent} ")), "{path}: {asks}: {right}");
                    parents += usize::from(right.ends_with("(worker)")); // adopted
                }
                Some(pid) => {
                    let state = row(pid).map_or('-', |row| row[4].chars().next().unwrap());
                    let word = match state {
                        'S' | 'R' => ["S or R: it lives", "S 或 R：活着"],
                        'T' => ["T: it is stopped", "T：被暂停"],
                        'Z' => ["Z: it is a zombie", "Z：僵尸进程"],
                        _ => ["nothing: it is not listed", "没有这一行"],
                    };
                    assert!(word.contains(&right), "{path}: {asks}: {state}, not {right}");
                    states.insert(word);
                }
            }
        }
        assert!(
            states.len() > 1 && zombies.len() > 1 && parents > 0,
            "{states:?} {zombies:?} {parents}"
        );
    }
}

/// The data of the sliders of a page, each with its name, in order.
fn sliders(page: &str) -> Vec<(&str, Value)> {
    let parts = page.split("<script class=\"run\" type=\"application/json\" data-name=\"").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once("\">").unwrap();
            let data = rest.split_once("</script>").unwrap().0;
            (name, serde_json::from_str(data).unwrap())
        })
        .collect()
}

/// What the frames of a slider show last is what was recorded last.
#[test]
fn a_slider_goes_through_a_run_up_to_its_end() {
    let report = report();
    edit(&report, "zombie", |event| {
        if event["kind"] == "line" {
            event["text"] = "</script><!--<script>".into(); // does not end it
        }
    });
    recheck(&report);
    for (page, over) in PAGES.into_iter().zip(["Processes left: 0.", "剩下的进程：0 个。"])
    {
        let page = fs::read_to_string(report.path().join(page)).unwrap();
        let sliders = sliders(&page);
        assert_eq!(sliders.len(), fs_count(&report, "timeline.svg"));
        for (name, data) in &sliders {
            let folder = match *name {
                name if SCENARIOS.contains(&name) => name.to_owned(),
                name => {
                    let words = name.trim_start_matches("control of ");
                    format!("{}/control", words.trim_end_matches(" 的对照程序"))
                }
            };
            let path = report.path().join(folder).join("events.ndjson");
            let events = fs::read(&path).unwrap();
            let count = |kind: &str| of_kind(&events, kind).len();
            let frames = data["frames"].as_array().unwrap();
            let of_source = |source: u64| frames.iter().filter(move |frame| frame[1] == source);
            assert_eq!(of_source(0).count(), count("line"), "{name}");
            assert_eq!(of_source(2).count(), count("snapshot"), "{name}");
            let lines = data["lines"].as_array().unwrap();
            let tree = |frame: &Value| -> Vec<String> {
                let numbers = frame[3].as_array().unwrap().iter();
                let line = |number: &Value| lines[number.as_u64().unwrap() as usize].clone();
                numbers.map(|number| line(number).as_str().unwrap().to_owned()).collect()
            };
            if *name == "zombie" {
                // At its first snapshot, the child has been one for long.
                let shown = tree(of_source(2).next().unwrap());
                assert!(shown.last().unwrap().starts_with("Z "), "{shown:?}");
            }
            let last = frames.last().unwrap();
            assert!(last[2].as_str().unwrap().ends_with(over), "{name}: {last}");
            assert_eq!(tree(last).len(), 1, "{name}: only the worker is left: {:?}", tree(last));
        }
    }
}

/// A script adds the sliders, and takes nothing away; no control is there that does nothing without it.
#[test]
fn the_page_is_complete_without_scripts() {
    let report = report();
    for page in PAGES {
        let page = fs::read_to_string(report.path().join(page)).unwrap();
        // Half of what `demo all` may have, for a quarter of its scenarios.
        assert!(page.len() < 1_000_000, "{} bytes", page.len());
        for control in ["<input", "<button", "tabindex=\"0\"", "<noscript", " hidden"] {
            assert!(!page.contains(control), "{control}");
        }
        let count = |what: &str| page.matches(what).count();
        let runs = fs_count(&report, "timeline.svg");
        assert_eq!(count("<figure class=\"timeline\">"), runs);
        assert_eq!(count("<pre>"), fs_count(&report, "transcript.txt"));
        assert_eq!(count("<pre class=\"ps\">"), fs_count(&report, "ps-"));
        assert_eq!(count("<span class=\"source\">/proc</span>"), runs + 1); // once in the legend
    }
}

#[test]
fn the_contents_lead_to_each_scenario_and_headings_differ() {
    let report = report();
    for page in PAGES {
        let page = fs::read_to_string(report.path().join(page)).unwrap();
        let contents = page.split_once("<nav").unwrap().1.split_once("</nav>").unwrap().0;
        for scenario in SCENARIOS {
            let link = format!("<a href=\"#{scenario}\">{scenario}</a>");
            assert!(contents.contains(&link), "{scenario}: {contents}");
        }
        assert_has(&page, &["<a class=\"skip\" href=\"#main\">"]);
        let links = page.split("href=\"#").skip(1).map(|it| it.split('"').next().unwrap());
        for link in links {
            assert!(page.contains(&format!(" id=\"{link}\"")), "{link} leads nowhere");
        }
        let mut headings: Vec<String> = Vec::new();
        for level in 1..5 {
            let [begins, ends] = ["<", "</"].map(|it| format!("{it}h{level}>"));
            let parts = page.split(&begins).skip(1);
            for heading in parts.map(|part| part.split_once(&ends).unwrap().0) {
                let words: String =
                    heading.split('<').map(|it| it.rsplit('>').next().unwrap()).collect();
                headings.push(words.to_lowercase());
            }
        }
        assert!(headings.len() > 2 * SCENARIOS.len(), "{headings:?}");
        let distinct: BTreeSet<&String> = headings.iter().collect();
        assert_eq!(distinct.len(), headings.len(), "{headings:?}");
    }
}

/// Two English words that follow one another.
fn english_words(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let is_word =
        |word: &str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_pair = |pair: &&[&str]| {
        pair.iter().all(|word| is_word(word))
            && pair[1].bytes().all(|byte| byte.is_ascii_lowercase())
    };
    words.windows(2).find(is_pair).map(|pair| pair.join(" "))
}

/// English are only commands, what programs and `ps` have printed, and what is marked as English: the
/// reasons of verdicts.
#[test]
fn the_page_in_chinese_has_no_english_sentence_of_its_own() {
    const ALLOWED: &str = "ps au"; // a command in a claim
    let report = report();
    let mut roles = BTreeSet::new();
    let files = files(report.path());
    for (_, content) in files.iter().filter(|(path, _)| path.ends_with("events.ndjson")) {
        let found = of_kind(content, "found").into_iter();
        roles.extend(found.map(|event| event["role"].as_str().unwrap().to_owned()));
    }
    let is_chinese = |path: &Path| path.ends_with(PAGES[1]) || path.ends_with("timeline.zh-CN.svg");
    let mut looked_at = 0;
    for (path, content) in files.iter().filter(|(path, _)| is_chinese(path)) {
        let page = text(content);
        for (tag, text) in parts(&page) {
            let is_role = text.split_once(" (pid ").is_some_and(|(role, _)| roles.contains(role));
            let has_english =
                |text: &str| text.replace("exec", "").contains(|c: char| c.is_ascii_lowercase());
            let is_word = tag.contains("rotate(") && has_english(text); // over a step
            assert!(!is_role && !is_word, "{}: {text:?}", path.display());
            let attributes = tag.split('"').skip(1).step_by(2).zip(tag.split('"').step_by(2));
            let is_shown =
                |name: &str| name.ends_with("aria-label=") || name.ends_with("data-narrow=");
            let attributes = attributes.filter(|(_, name)| is_shown(name)).map(|(value, _)| value);
            for text in attributes.chain([text]) {
                let text = text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
                let is_marked = tag.ends_with("span lang=\"en\""); // a reason, or the version of ps
                let english = english_words(&text).filter(|words| words != ALLOWED);
                assert!(is_marked || english.is_none(), "{}: {tag}: {text:?}", path.display());
                looked_at += 1;
            }
        }
        // What a slider says of its own: neither what programs have printed nor what is in /proc.
        for (_, data) in sliders(&page) {
            let lines = data["lines"].as_array().unwrap().iter();
            let frames = data["frames"].as_array().unwrap().iter();
            let frames = frames.filter(|frame| frame[1] != 0).map(|frame| &frame[2]);
            for line in frames.chain(lines).map(|line| line.as_str().unwrap()) {
                let is_foreign = line.starts_with("$ ") || line.starts_with("/proc/");
                let status = line.split("：exit status: ").next().unwrap();
                let english = english_words(status);
                assert!(is_foreign || english.is_none(), "{}: {line}", path.display());
            }
        }
        // Words that the style adds.
        let mut added = page.split("content:\"").skip(1).map(|it| it.split('"').next().unwrap());
        assert!(added.all(|it| english_words(&format!("{it} in")).is_none()), "{}", path.display());
    }
    assert!(looked_at > 1000, "{looked_at}");
}

/// As it was before there was a page in Chinese.
#[test]
fn a_recording_without_chinese_titles_has_them_in_english() {
    let report = report();
    edit(&report, "zombie", |event| {
        event.as_object_mut().unwrap().remove("title_zh");
    });
    stdout(&recheck(&report), 0);
    let page = fs::read_to_string(report.path().join(PAGES[1])).unwrap();
    let section = page.split_once("<section class=\"scenario\" id=\"zombie\">").unwrap().1;
    assert_has(section.split("</section>").next().unwrap(), &["its parent sleeps", "父进程"]);
}

/// The scenarios with a picture of their idea, and whether their control has one, too.
const IDEAS: [(&str, bool); 6] = [
    ("remove-zombie", true),
    ("one-close-too-few", true),
    ("shutdown", true),
    ("upgrade", false),
    ("fork-with-threads", true),
    ("extra-descriptors", true),
];

/// A report of these, recorded once; nothing where one of them is skipped.
fn report_with_ideas() -> Option<TempDir> {
    static RECORDED: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    let files = RECORDED.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let names = IDEAS.map(|(name, _)| name);
        stdout(&xtask(&[&["demo"], &names[..], &["--report", word(folder.path())]].concat()), 0);
        files(folder.path())
    });
    let copy = TempDir::new().unwrap();
    for (path, content) in files {
        let path = copy.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let is_skipped = |(path, content): &&(PathBuf, Vec<u8>)| {
        path.ends_with("verdicts.ndjson") && !of_kind(content, "skipped").is_empty()
    };
    match files.iter().find(is_skipped) {
        Some((path, _)) => {
            skip(&format!("{} is skipped", path.display()));
            None
        }
        None => Some(copy),
    }
}

/// A run that has a picture of its idea: what the picture says, and what was recorded.
struct Idea {
    /// In English, in Chinese.
    texts: [Vec<String>; 2],
    events: Vec<Value>,
}

impl Idea {
    fn of(report: &TempDir, run: &str) -> Self {
        let read = |name: &str| fs::read_to_string(report.path().join(run).join(name)).unwrap();
        let texts = ["idea.svg", "idea.zh-CN.svg"].map(|name| {
            let picture = read(name);
            let texts = parts(&picture).filter(|(tag, _)| tag.starts_with("text"));
            texts.map(|(_, text)| text.replace("&gt;", ">")).collect()
        });
        let events = read("events.ndjson");
        let events = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { texts, events }
    }

    /// How many texts of each picture are so.
    fn count(&self, is_so: impl Fn(&str) -> bool) -> [usize; 2] {
        self.texts.each_ref().map(|texts| texts.iter().filter(|text| is_so(text)).count())
    }

    /// How many texts of each picture are one of these.
    fn count_of(&self, wanted: [&str; 2]) -> [usize; 2] {
        self.count(|text| wanted.contains(&text))
    }

    fn pid(&self, role: &str) -> i64 {
        let found = self.events.iter().find(|event| event["role"] == role);
        found.unwrap()["pid"].as_i64().unwrap()
    }

    fn started(&self) -> i64 {
        self.events.iter().find(|event| event["kind"] == "start").unwrap()["pid"].as_i64().unwrap()
    }

    /// The end of the first printed line that begins so.
    fn printed(&self, beginning: &str) -> &str {
        let lines = self.events.iter().filter_map(|event| event["text"].as_str());
        lines.filter_map(|line| line.strip_prefix(beginning)).next().unwrap()
    }

    /// What was read at these places of /proc: the place, and the text.
    fn read(&self, pid: i64, place: &str) -> Vec<(&str, &str)> {
        let of = format!("/proc/{pid}/");
        let read = self.events.iter().filter_map(|event| {
            let at = event["path"].as_str()?.strip_prefix(&of)?;
            at.starts_with(place).then(|| (at, event["text"].as_str().unwrap()))
        });
        read.collect()
    }

    fn zombies(&self, snapshot: usize) -> usize {
        let mut snapshots = self.events.iter().filter(|event| event["kind"] == "snapshot");
        let table = snapshots.nth(snapshot).unwrap()["text"].as_str().unwrap();
        table.matches("<defunct>").count()
    }
}

#[test]
fn each_idea_is_drawn_in_both_languages_and_on_the_page() {
    let Some(report) = report_with_ideas() else { return };
    let drawn = fs_count(&report, "idea.svg");
    assert_eq!(drawn, IDEAS.len() + IDEAS.iter().filter(|(_, control)| *control).count());
    assert_eq!(fs_count(&report, "idea.zh-CN.svg"), drawn);
    for name in PAGES {
        let page = fs::read_to_string(report.path().join(name)).unwrap();
        assert_eq!(page.matches("<figure class=\"idea\">").count(), drawn);
        assert_eq!(page.matches("class=\"tl idea narrow\"").count(), drawn);
    }
    for (name, control) in IDEAS {
        for run in
            [name.to_owned(), format!("{name}/control")].iter().take(1 + usize::from(control))
        {
            let idea = Idea::of(&report, run);
            let [english, chinese] = &idea.texts;
            assert!(english.iter().chain(chinese).all(|text| !text.is_empty()), "{run}");
            let in_english = chinese.iter().find_map(|text| english_words(text));
            assert!(in_english.is_none(), "{run}: {in_english:?}");
        }
    }
}

#[test]
fn the_idea_of_signals_counts_the_children_and_the_signals() {
    let Some(report) = report_with_ideas() else { return };
    for run in ["remove-zombie", "remove-zombie/control"] {
        let idea = Idea::of(&report, run);
        let (ended, left) = (idea.zombies(0), idea.zombies(1));
        assert!(ended > 1 && (left == 0) != run.contains('/'), "{ended}, {left}");
        let parent = format!("pid {}", idea.started());
        assert_eq!(idea.count(|text| text == parent), [2; 2]);
        assert_eq!(idea.count(|text| text.starts_with("Z ")), [ended + left; 2]);
        let is_reaped = |text: &str| [" reaped", " 已回收"].iter().any(|it| text.ends_with(it));
        assert_eq!(idea.count(is_reaped), [ended - left; 2]);
        let [came, removed] = ["Signals that came: ", "Removed: "].map(|it| idea.printed(it));
        let rows = [format!("signals: {came}"), format!("信号：{came} 个")];
        assert_eq!(idea.count_of(rows.each_ref().map(String::as_str)), [1; 2]);
        let rows = [format!("reaped: {removed}"), format!("回收：{removed} 个")];
        assert_eq!(idea.count_of(rows.each_ref().map(String::as_str)), [1; 2]);
    }
}

#[test]
fn the_idea_of_half_close_shows_which_process_holds_the_connection() {
    let Some(report) = report_with_ideas() else { return };
    // In how many places it is open, and a direction; and who waits in vain.
    for (run, held, open, in_vain) in [
        ("one-close-too-few", 3, 4, 1),
        ("one-close-too-few/control", 1, 2, 0),
        ("shutdown", 3, 2, 0),
        ("shutdown/control", 3, 4, 1),
    ] {
        let idea = Idea::of(&report, run);
        let (parent, child) = (idea.started(), idea.pid("child"));
        let number = idea.printed("Parent's descriptor: ");
        let held_by = [parent, child].map(|pid| idea.read(pid, &format!("fd/{number}")).len());
        assert_eq!(held_by, [usize::from(run != "one-close-too-few/control"), 1], "{run}");
        let frames = idea.count(|text| text == format!("pid {child}"))[0];
        assert_eq!(idea.count(|text| text == format!("fd {number}")), [held; 2], "{run}");
        let closed = [format!("fd {number} closed"), format!("fd {number} 已关闭")];
        let closed = idea.count_of(closed.each_ref().map(String::as_str));
        assert_eq!(closed, [2 * frames - held; 2], "{run}");
        assert_eq!(idea.count_of(["open", "开着"]), [open; 2], "{run}");
        assert_eq!(idea.count_of(["ended", "已结束"]), [2 * frames - open; 2], "{run}");
        let waits = |text: &str| text.contains("in vain") || text.contains("白等");
        assert_eq!(idea.count(waits), [in_vain; 2], "{run}");
    }
}

#[test]
fn the_idea_of_upgrade_shows_one_socket_in_two_processes() {
    let Some(report) = report_with_ideas() else { return };
    let idea = Idea::of(&report, "upgrade");
    let (old, new) = (idea.started(), idea.pid("new server"));
    let [of_old, of_new] = [old, new].map(|pid| idea.read(pid, "fd/"));
    let listener = of_new.iter().find(|(_, target)| {
        target.starts_with("socket:") && of_old.iter().any(|(_, other)| other == target)
    });
    let (number, target) = listener.unwrap();
    let inode = target.trim_start_matches("socket:[").trim_end_matches(']');
    assert_eq!(idea.count(|text| text.ends_with(inode)), [2; 2]);
    assert_eq!(idea.count(|text| text == format!("pid {old}")), [2; 2]);
    assert_eq!(idea.count(|text| text == format!("pid {new}")), [1; 2]);
    assert_eq!(idea.count(|text| text == number.replace('/', " ")), [1; 2]);
}

#[test]
fn the_idea_of_a_fork_with_threads_shows_the_threads_and_the_lock() {
    let Some(report) = report_with_ideas() else { return };
    for (run, locked) in [("fork-with-threads", 2), ("fork-with-threads/control", 0)] {
        let idea = Idea::of(&report, run);
        let threads = |role| idea.read(idea.pid(role), "task")[0].1;
        let (main, other) = threads("parent").split_once(' ').unwrap();
        for (count, thread) in [(2, main), (2, other), (1, threads("copy"))] {
            let rows = [format!("thread {thread}"), format!("线程 {thread}")];
            assert_eq!(idea.count_of(rows.each_ref().map(String::as_str)), [count; 2], "{run}");
        }
        let is_locked = ["locked", "已加锁", "副本：已加锁"];
        assert_eq!(idea.count(|text| is_locked.contains(&text)), [locked; 2], "{run}");
    }
}

#[test]
fn the_idea_of_descriptors_shows_both_tables() {
    let Some(report) = report_with_ideas() else { return };
    for (run, strays) in [("extra-descriptors", 1), ("extra-descriptors/control", 2)] {
        let idea = Idea::of(&report, run);
        let tables = [idea.started(), idea.pid("child")].map(|pid| idea.read(pid, "fd/"));
        for (place, target) in tables.concat() {
            let row = format!("{}→{target}", place.trim_start_matches("fd/"));
            assert!(idea.texts.iter().all(|texts| texts.contains(&row)), "{run}: {row}");
        }
        let stray = format!("{}→/dev/null", idea.printed("A stray descriptor: "));
        assert_eq!(idea.count(|text| text == stray), [strays; 2], "{run}");
        let leaks = |text: &str| text.contains("leaked") || text.contains("泄漏");
        assert_eq!(idea.count(leaks), [strays - 1; 2], "{run}");
    }
}

/// As recordings were before this was read, and as they are of a run that breaks off.
#[test]
fn what_was_not_read_is_not_drawn() {
    let Some(report) = report_with_ideas() else { return };
    for (name, _) in IDEAS {
        for run in [name.to_owned(), format!("{name}/control")] {
            let path = report.path().join(&run).join("events.ndjson");
            let events = fs::read_to_string(&path).unwrap();
            let kept = events.lines().filter(|line| !line.contains(r#""kind":"proc""#));
            fs::write(&path, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            for picture in ["idea.svg", "idea.zh-CN.svg"] {
                let _ = fs::remove_file(report.path().join(&run).join(picture));
            }
        }
    }
    let output = recheck(&report);
    assert_eq!(of_kind(&output.stdout, "summary").len(), 1, "{}", text(&output.stderr));
    assert_eq!(fs_count(&report, "idea"), 0);
    let page = fs::read_to_string(report.path().join(PAGES[0])).unwrap();
    assert!(!page.contains("<figure class=\"idea\">"));
}

#[test]
fn the_legend_of_a_timeline_lists_what_occurs_in_it() {
    let report = report();
    for (scenario, signs) in [
        ("zombie", [true, true, false, false, false]),
        ("ignore-sigchld", [true, true, true, false, false]),
        ("sigchld", [true, true, false, true, true]),
    ] {
        let path = report.path().join(scenario).join("timeline.svg");
        let timeline = fs::read_to_string(path).unwrap();
        let meanings = [
            "lives: runs or sleeps",
            "a snapshot: ps was called",
            "ignores SIGCHLD, ",
            ">signal<",
            "stopped (T)<",
        ];
        let rows: Vec<&str> = timeline.split("<text x=\"54\"").skip(1).collect();
        let is_there = meanings.map(|meaning| {
            rows.iter().any(|row| row.split("/text").next().unwrap().contains(meaning))
        });
        assert_eq!(is_there, signs, "{scenario}: {rows:#?}");
    }
}

/// The names under which Chromium is installed.
const BROWSERS: [&str; 2] = ["chromium", "google-chrome"];

/// Opens the place in Chromium, with a user's folder of its own, without a network; and returns the
/// document that came of it, and the log. `None` where there is no Chromium.
fn open(url: &str) -> Option<(String, String)> {
    let home = TempDir::new().unwrap();
    for browser in BROWSERS {
        let output = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-sync", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom"])
            .arg(format!("--user-data-dir={}", word(home.path())))
            .arg(url)
            .output();
        match output {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("cannot run {browser}: {error}"),
            Ok(output) => {
                assert!(output.status.success(), "{}", text(&output.stderr));
                return Some((text(&output.stdout), text(&output.stderr)));
            }
        }
    }
    skip(&format!("there is none of {BROWSERS:?}"));
    None
}

/// Puts the page into a frame as wide as a telephone, and prints what it finds there.
const LOOK: &str = r##"
<!DOCTYPE html><iframe style="width:360px;height:800px;border:0"></iframe><p id="found"></p><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const all = (what) => [...page.querySelectorAll(what)];
  const seen = (element) => element.getBoundingClientRect().width > 0;
  const words = (one) => [...one.childNodes].some((node) => node.nodeType == 3 && node.data.trim())
    && !["STYLE", "SCRIPT"].includes(one.tagName);
  const size = (one) => {
    const svg = one.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    return parseFloat(frame.contentWindow.getComputedStyle(one).fontSize) * scale;
  };
  page.querySelectorAll("details").forEach((details) => details.open = true);
  // For each block of questions: how many choices, how many of them are right, and whether the button
  // behind them asks another question.
  const answered = all(".questions").map((block) => {
    const asked = block.querySelector(".asked");
    const verdicts = [...asked.querySelectorAll("button")].map((button) => {
      button.click();
      return asked.querySelector("[role=status] p").className;
    });
    const before = asked.textContent, another = block.lastElementChild;
    another.click();
    const is_another = another.hidden || asked.textContent !== before;
    return [verdicts.length, verdicts.filter((it) => it === "right").length, is_another];
  });
  setTimeout(() => document.querySelector("#found").textContent = JSON.stringify({
    answered,
    width: root.clientWidth,
    scrollWidth: root.scrollWidth,
    wide: all("body *").filter((one) => one.getBoundingClientRect().right > 361 && !one.parentElement.closest("pre")).slice(0, 9).map((one) => one.tagName + "." + one.getAttribute("class") + one.textContent.slice(0, 60)),
    sliders: all("details.slider").length,
    blank: all("details.slider").filter((one) => !one.querySelector("input")).length,
    stops: all("[tabindex='0']").filter((one) => one.scrollWidth <= one.clientWidth).length,
    unnamed: all("[tabindex='0']").filter((one) => !one.getAttribute("aria-label")).length,
    stopless: all("pre").filter((one) => one.scrollWidth > one.clientWidth && one.tabIndex < 0).length,
    smallest: Math.min(...all("body *").filter((one) => seen(one) && words(one)).map(size)),
    dangling: all('a[href^="#"]').map((a) => a.getAttribute("href"))
      .filter((href) => !page.getElementById(href.slice(1))),
    files: all("a").map((a) => a.getAttribute("href")).filter((href) => !href.startsWith("#")),
    outside: all("[src],link[href],image,use")
      .map((e) => e.getAttribute("src") || e.getAttribute("href"))
      .filter((place) => place !== "data:,"),
    timelines: all(".timeline").filter((one) => [...one.querySelectorAll("svg")].filter(seen).length == 1).length,
    snapshots: all(".snapshot pre").filter(seen).length,
    figures: [all(".timeline").length, all("figure.snapshot").length],
    hatched: getComputedStyle(page.querySelector(".zombie")).fill,
  }), 500); // sliders are built after they are opened
};
frame.srcdoc = PAGE;
</script>"##;

#[test]
fn the_page_opens_and_is_whole() {
    let report = report();
    for (page, adopted, not_held) in
        [(PAGES[0], "a zombie, adopted", "NOT held"), (PAGES[1], "僵尸，已被收养", "✗ 不成立")]
    {
        opens_and_is_whole(&report, page, adopted, not_held);
    }
}

fn opens_and_is_whole(report: &TempDir, page: &str, adopted: &str, not_held: &str) {
    let index = report.path().join(page);
    let Some((dom, log)) = open(&format!("file://{}", index.display())) else {
        return;
    };
    assert!(!log.contains("CONSOLE"), "{log}");
    for scenario in SCENARIOS {
        assert!(dom.contains(&format!("id=\"{scenario}\"")), "{scenario}");
    }
    assert!(dom.contains(adopted), "no row is marked");
    assert!(!dom.contains(not_held));

    let page = fs::read_to_string(&index).unwrap();
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !elsewhere.contains("http:")
            && !elsewhere.contains("https:")
            && !elsewhere.contains("url(h")
    );

    let found = look(report, &page);
    assert_eq!(found["width"], 360);
    assert_eq!(found["scrollWidth"], 360, "one has to scroll sideways: {}", found["wide"]);
    // As many sliders as timelines; a tab stop where something is too wide, and only there.
    assert_eq!(found["sliders"], found["figures"][0]);
    for none in ["blank", "stops", "unnamed", "stopless"] {
        assert_eq!(found[none], 0, "{none}");
    }
    assert!(found["smallest"].as_f64() >= Some(12.0), "a text of {} px", found["smallest"]);
    let answered = found["answered"].as_array().unwrap();
    assert!(answered.len() > 4, "{answered:?}");
    for block in answered {
        assert!(block[0].as_u64().unwrap() > 2 && block[1] == 1 && block[2] == true, "{block}");
    }
    assert_eq!(found["dangling"], Value::Array(Vec::new()));
    assert_eq!(found["outside"], Value::Array(Vec::new()));
    // A timeline for each scenario and each control, and each snapshot.
    assert_eq!(found["figures"][0], fs_count(report, "timeline.svg"));
    assert_eq!(found["figures"][1], fs_count(report, "ps-"));
    assert_eq!(
        (&found["timelines"], &found["snapshots"]),
        (&found["figures"][0], &found["figures"][1])
    );
    for file in found["files"].as_array().unwrap() {
        let path = report.path().join(file.as_str().unwrap());
        assert!(fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{}", path.display());
    }
}

fn look(report: &TempDir, page: &str) -> Value {
    let page = serde_json::to_string(page).unwrap().replace("</", "<\\/");
    let looker = report.path().join("look.html");
    fs::write(&looker, LOOK.replace("PAGE", &page)).unwrap();
    let url = format!("file://{}", looker.display());
    let (dom, log) = open(&url).unwrap();
    let found = dom.split_once("<p id=\"found\">").unwrap().1;
    let found = found.split_once("</p>").unwrap().0;
    serde_json::from_str(&found.replace("&quot;", "\""))
        .unwrap_or_else(|error| panic!("{error}: {log}"))
}

/// How many files have such a name.
fn fs_count(report: &TempDir, name: &str) -> usize {
    let files = files(report.path());
    let names = files.iter().filter_map(|(path, _)| path.file_name()?.to_str());
    names.filter(|file| file.starts_with(name)).count()
}

#[test]
fn each_timeline_is_an_image() {
    let report = report();
    let files = files(report.path());
    let timelines =
        files.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "svg"));
    let mut page = String::new();
    for (path, _) in timelines {
        page += &format!("<img src=\"{}\">\n", path.display());
    }
    let count = page.lines().count();
    page += "<p id=\"found\"></p><script>onload = () => found.textContent = \
             [...document.images].filter((image) => image.naturalWidth > 200).length</script>";
    let index = report.path().join("timelines.html");
    fs::write(&index, page).unwrap();
    if let Some((dom, _)) = open(&format!("file://{}", index.display())) {
        assert!(dom.contains(&format!("<p id=\"found\">{count}</p>")), "{count}: {dom}");
    }
}
