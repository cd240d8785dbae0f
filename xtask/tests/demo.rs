//! `cargo xtask` as its users see it: exit codes, what is printed, what is left behind.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod marked;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use marked::{Marked, quoted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The examples that are programs of scenarios.
const EXAMPLES: [&str; 27] = [
    "causes",
    "extra-descriptors",
    "failing-child",
    "fork",
    "fork-with-threads",
    "grandchild-holds-pipe",
    "handler-limits",
    "ignore-sigchld",
    "inherited",
    "init-waits",
    "late-handler",
    "one-close-too-few",
    "orphan",
    "path-and-args",
    "pid-namespace",
    "pid-reuse",
    "pidfd",
    "plain-fork",
    "remove-zombie",
    "resources",
    "reuse",
    "self-exe",
    "sigchld",
    "signal",
    "status",
    "system-calls",
    "try-wait",
];

/// A run of xtask with a mark and a report folder of its own.
struct Run {
    marked: Marked,
}

impl Run {
    fn new() -> Self {
        let marked = Marked::new();
        Self { marked }
    }

    fn report(&self) -> PathBuf {
        self.marked.folder.path().join("report")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.marked.command(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).stdin(Stdio::null());
        if args[0] == "demo" {
            command.arg("--report").arg(self.report());
        }
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Started, with the lines of its stderr.
    fn start(&self, args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
        let mut child = self
            .command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        (child, stderr)
    }

    /// A folder with all programs in it, to put others in their places.
    fn programs(&self) -> PathBuf {
        let folder = self.marked.folder.path().join("programs");
        fs::create_dir_all(&folder).unwrap();
        let built = Path::new(env!("CARGO_BIN_EXE_xtask")).parent().unwrap();
        built_once();
        for name in [
            "exec-cmd",
            "zombie",
            "wait",
            "goroutine-wait",
            "echo-server",
            "echo-client",
        ] {
            symlink(built.join(name), folder.join(name)).unwrap();
        }
        for name in EXAMPLES {
            symlink(built.join("examples").join(name), folder.join(name)).unwrap();
        }
        folder
    }
}

/// Lets xtask build the programs.
fn built_once() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let run = Run::new();
        let output = run.output(&["demo", "fork"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    });
}

/// Whole demos one at a time: two at once on a small machine only slow each other down.
fn one_demo_at_a_time() -> MutexGuard<'static, ()> {
    static DEMO: Mutex<()> = Mutex::new(());
    DEMO.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put_script(path: &Path, script: &str) {
    let _ = fs::remove_file(path);
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ndjson(bytes: &[u8]) -> Vec<Value> {
    text(bytes)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["kind"] == kind)
}

fn assert_one_sentence(stderr: &[u8], expected: &[&str]) {
    let stderr = text(stderr);
    let sentences: Vec<_> = stderr
        .lines()
        .filter(|line| line.starts_with("xtask: "))
        .collect();
    assert_eq!(sentences.len(), 1, "{stderr}");
    for part in expected {
        assert!(
            sentences[0].contains(part),
            "{part:?} is not in {:?}",
            sentences[0]
        );
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn every_claim_holds_and_every_control_fails() {
    let _alone = one_demo_at_a_time();
    let run = Run::new();
    let output = run.output(&["demo", "all"]);
    let stdout = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{stdout}\n{}",
        text(&output.stderr)
    );
    assert!(!stdout.contains("NOT"), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(
        last.starts_with("All ") && last.contains(" 0 processes left. "),
        "{last}"
    );
    assert!(!stdout.contains('\x1b'), "colours in a pipe");
    run.marked.assert_nothing_is_left();
    for file in [
        "events.ndjson",
        "transcript.txt",
        "ps-1.txt",
        "verdicts.ndjson",
        "control/events.ndjson",
    ] {
        let path = run.report().join("zombie").join(file);
        assert!(
            fs::metadata(&path).is_ok_and(|file| file.len() > 0),
            "{}",
            path.display()
        );
    }
    let snapshot = fs::read_to_string(run.report().join("zombie/ps-1.txt")).unwrap();
    assert!(snapshot.contains("<defunct>"), "{snapshot}");
}

#[test]
fn json_goes_to_stdout_and_text_to_stderr() {
    let _alone = one_demo_at_a_time();
    let run = Run::new();
    let output = run.output(&["demo", "all", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let events = ndjson(&output.stdout);

    let mut judged = BTreeSet::new();
    for verdict in of_kind(&events, "verdict") {
        assert_eq!(verdict["held"], true, "{verdict}");
        let claim = (
            verdict["scenario"].as_str().unwrap(),
            verdict["claim"].as_str().unwrap(),
        );
        assert!(judged.insert(claim), "twice: {verdict}");
    }
    let claims: BTreeSet<_> = judged.iter().map(|(_, claim)| *claim).collect();
    let skipped: BTreeSet<_> = of_kind(&events, "skipped")
        .map(|skipped| skipped["claim"].as_str().unwrap())
        .collect();
    assert_eq!(judged.len(), claims.len(), "{judged:?}");
    assert_eq!(claims.len() + skipped.len(), 49, "{judged:?} {skipped:?}");
    let rulings = ["right", "imprecise", "wrong"];
    assert!(
        of_kind(&events, "verdict")
            .all(|verdict| rulings.contains(&verdict["ruling"].as_str().unwrap()))
    );
    assert!(of_kind(&events, "control").all(|control| control["failed"] == true));
    for (scenario, _) in &judged {
        let mut snapshots =
            of_kind(&events, "snapshot").filter(|snapshot| snapshot["scenario"] == **scenario);
        assert!(snapshots.next().is_some(), "{scenario} has no snapshot");
    }
    for snapshot in of_kind(&events, "snapshot") {
        assert!(
            snapshot["command"]
                .as_str()
                .unwrap()
                .contains(" ps -o pid,ppid,"),
            "{snapshot}"
        );
        assert!(
            snapshot["text"].as_str().unwrap().contains("PID"),
            "{snapshot}"
        );
    }
    assert_eq!(
        of_kind(&events, "summary").next().unwrap()["processes_left"],
        0
    );
    assert!(text(&output.stderr).contains("== zombie =="));
}

#[test]
fn a_parent_that_reaps_at_once_is_noticed() {
    let run = Run::new();
    let programs = run.programs();
    // In the zombie program's place: a shell, which waits for its child at once.
    put_script(
        &programs.join("zombie"),
        r#"sh -c 'echo "Hi, I am a child Process."; echo "My pid is: $$"; echo "End child process."'
           sleep 2; echo "End parent process.""#,
    );
    let programs = programs.to_str().unwrap();
    let output = run.output(&["demo", "zombie", "wait", "--json", "--programs", programs]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    for verdict in of_kind(&ndjson(&output.stdout), "verdict") {
        assert_eq!(verdict["held"], verdict["scenario"] == "wait", "{verdict}");
    }
    assert!(
        text(&output.stderr).contains("NOT HELD C24"),
        "{}",
        text(&output.stderr)
    );
    run.marked.assert_nothing_is_left();
}

/// Five programs that do otherwise than they should, by their own options: two that wait for their
/// children, and so have no zombies; three without what they are to show.
#[test]
fn sabotage_turns_just_the_claims_of_its_scenarios() {
    const CURED: [(&str, &str, &str); 2] = [
        ("resources", "--wait", "C25"),
        ("pid-reuse", "--wait", "C35"),
    ];
    const BROKEN: [(&str, &str, &str); 2] = [
        ("remove-zombie", "--once", "C33"),
        ("ignore-sigchld", "--default", "C34"),
    ];
    let _alone = one_demo_at_a_time();
    let run = Run::new();
    let programs = run.programs();
    let real = |name: &str| fs::read_link(programs.join(name)).unwrap();
    for (name, option, _) in CURED.iter().chain(&BROKEN) {
        let (path, real) = (programs.join(name), real(name));
        let real = real.display();
        let script = format!(
            r#"case " $* " in *" {option} "*) exec {real} "$@" ;; *) exec {real} "$@" {option} ;; esac"#
        );
        put_script(&path, &script);
    }
    let (path, real) = (programs.join("handler-limits"), real("handler-limits"));
    put_script(&path, &format!(r#"exec {} "$1" "$2""#, real.display())); // no --signalfd
    let sabotaged = CURED.iter().chain(&BROKEN).map(|(_, _, claim)| *claim);
    let sabotaged: BTreeSet<&str> = sabotaged.chain(["C43"]).collect();

    let output = run.output(&[
        "demo",
        "all",
        "--json",
        "--programs",
        programs.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let events = ndjson(&output.stdout);
    let is_skipped: Vec<&Value> = of_kind(&events, "skipped").collect();
    let verdicts: Vec<&Value> = of_kind(&events, "verdict").collect();
    assert_eq!(verdicts.len() + is_skipped.len(), 49, "{is_skipped:?}");
    let turned = verdicts.iter().filter(|verdict| verdict["held"] == false);
    let turned: BTreeSet<&str> = turned.map(|it| it["claim"].as_str().unwrap()).collect();
    assert_eq!(turned, sabotaged, "{}", text(&output.stderr));
    let not_failed: Vec<&Value> = of_kind(&events, "control")
        .filter(|control| control["failed"] == false)
        .collect();
    assert!(not_failed.is_empty(), "{not_failed:?}");
    run.marked.assert_nothing_is_left();
}

#[test]
fn a_control_that_does_not_fail_is_noticed() {
    let run = Run::new();
    let programs = run.programs();
    // In the place of the parent that waits: one that does not, so that the control has a zombie, too.
    let zombie = programs.join("zombie");
    put_script(
        &programs.join("goroutine-wait"),
        &format!("exec {} --parent-sleep 2", zombie.display()),
    );
    let output = run.output(&[
        "demo",
        "zombie",
        "--json",
        "--programs",
        programs.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let events = ndjson(&output.stdout);
    assert!(of_kind(&events, "verdict").all(|verdict| verdict["held"] == true));
    assert!(of_kind(&events, "control").all(|control| control["failed"] == false));
    assert!(text(&output.stderr).contains("DID NOT FAIL"));
}

/// As where the machine is so busy that who has been sent a signal does not get its turn at once.
#[test]
fn a_control_whose_child_is_slow_to_die_fails() {
    let run = Run::new();
    let programs = run.programs();
    // In the place of the parent that its child is tied to. The child never sleeps.
    put_script(
        &programs.join("goroutine-wait"),
        r#"count='i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done'
           sh -c "trap '$count; exit' TERM; echo \"My pid is: \$\$\"; while :; do :; done" &
           sleep 0.5; kill "$!""#,
    );
    let programs = programs.to_str().unwrap();
    let output = run.output(&["demo", "orphan", "--json", "--programs", programs]);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let events = ndjson(&output.stdout);
    assert_eq!(of_kind(&events, "control").count(), 2, "{shown}");
    run.marked.assert_nothing_is_left();
}

/// Nearly as slow as in the chapter: then who asks from time to time asks long after the end.
#[test]
fn what_is_asked_seldom_is_waited_for() {
    built_once();
    let run = Run::new();
    let output = run.output(&["demo", "three-ways", "--speed", "1.6"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    run.marked.assert_nothing_is_left();
}

#[test]
fn a_scenario_that_is_not_possible_here_is_skipped_with_the_reason() {
    let run = Run::new();
    let programs = run.programs();
    put_script(
        &programs.join("pid-namespace"),
        r#"echo "My pid is: $$"; echo "pid-namespace: not allowed; ask root" >&2; exit 77"#,
    );
    let programs = programs.to_str().unwrap();
    let args = [
        "demo",
        "pid-namespace",
        "fork",
        "--json",
        "--programs",
        programs,
    ];
    let output = run.output(&args);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let events = ndjson(&output.stdout);
    let skipped: Vec<_> = of_kind(&events, "skipped").collect();
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    assert_eq!(skipped[0]["claim"], "C44");
    assert_eq!(
        skipped[0]["because"],
        "pid-namespace: not allowed; ask root"
    );
    assert!(of_kind(&events, "verdict").all(|verdict| verdict["scenario"] == "fork"));
    assert_eq!(of_kind(&events, "control").count(), 0);
    let summary = of_kind(&events, "summary").next().unwrap();
    assert_eq!(
        (&summary["held"], &summary["skipped"]),
        (&3.into(), &1.into())
    );
    assert!(
        shown.contains("skipped  C44: pid-namespace: not allowed"),
        "{shown}"
    );
    assert!(shown.contains("All 3 claims held. 1 skipped. "), "{shown}");
    assert!(!shown.contains("never came true"), "{shown}");
}

#[test]
fn an_interrupt_ends_everything() {
    built_once();
    for lines_before in [1, 3, 6, 10, 15] {
        let run = Run::new();
        let (mut child, mut stderr) = run.start(&["demo", "all"]);
        let mut line = String::new();
        for _ in 0..lines_before {
            stderr.read_line(&mut line).unwrap();
        }
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{line}{rest}");
        assert!(
            rest.ends_with("xtask: interrupted; 0 processes left\n"),
            "{rest}"
        );
        assert!(
            run.marked.processes().is_empty(),
            "{:?}",
            run.marked.processes()
        );
    }
}

/// As above, on a terminal, where there is a live line.
#[test]
fn an_interrupt_on_a_terminal_ends_everything() {
    built_once();
    let run = Run::new();
    let report = quoted(run.report().to_str().unwrap());
    let xtask = env!("CARGO_BIN_EXE_xtask");
    let command = format!("exec {} demo zombie --report {report}", quoted(xtask));
    let mut terminal = run
        .marked
        .on_terminal(&command)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !text(&seen).contains("running zombie") {
        assert_ne!(
            screen.read_until(b'e', &mut seen).unwrap(),
            0,
            "{}",
            text(&seen)
        );
    }
    let xtask = run.marked.processes().into_iter().find(|pid| {
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        args.starts_with(xtask.as_bytes())
    });
    kill(Pid::from_raw(xtask.unwrap()), Signal::SIGINT).unwrap();
    screen.read_to_end(&mut seen).unwrap();
    assert_eq!(
        terminal.wait().unwrap().code(),
        Some(130),
        "{}",
        text(&seen)
    );
    assert!(
        text(&seen).contains("xtask: interrupted; 0 processes left"),
        "{}",
        text(&seen)
    );
    run.marked.assert_nothing_is_left();
}

#[test]
fn a_killed_xtask_leaves_nothing() {
    built_once();
    let run = Run::new();
    let (mut child, mut stderr) = run.start(&["demo", "all"]);
    let mut line = String::new();
    while !line.contains("ps: ") {
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{line}");
    }
    assert!(run.marked.processes().len() > 5);
    child.kill().unwrap();
    child.wait().unwrap();
    run.marked.assert_nothing_is_left();
}

#[test]
fn a_killed_worker_costs_its_scenario_only() {
    built_once();
    let run = Run::new();
    let events = run.marked.folder.path().join("stdout");
    let mut command = run.command(&["demo", "zombie", "wait", "--json"]);
    command.stdout(fs::File::create(&events).unwrap());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut shown = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        shown += &format!("{line}\n");
        if line.starts_with("zombie: ") && line.contains(" ps: ") && line.contains("sleeps") {
            let worker = run.marked.processes().into_iter().find(|pid| {
                fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
                    == b"xtask-worker\0zombie\0"
            });
            kill(Pid::from_raw(worker.unwrap()), Signal::SIGKILL).unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "{shown}");
    run.marked.assert_nothing_is_left();
    let events = ndjson(&fs::read(events).unwrap());
    let why: Vec<_> = of_kind(&events, "failed").collect();
    assert!(why.len() == 1 && why[0]["scenario"] == "zombie", "{why:?}");
    let verdicts =
        |name: &str| ndjson(&fs::read(run.report().join(name).join("verdicts.ndjson")).unwrap());
    assert!(of_kind(&verdicts("zombie"), "verdict").any(|verdict| verdict["held"] == false));
    assert!(of_kind(&verdicts("wait"), "verdict").all(|verdict| verdict["held"] == true));
}

#[test]
fn without_ps_it_says_so() {
    let run = Run::new();
    let output = run
        .command(&["demo", "all"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77));
    assert_one_sentence(&output.stderr, &["ps cannot be run", "procps"]);
}

#[test]
fn without_the_programs_it_says_so() {
    let run = Run::new();
    let output = run.output(&["demo", "all", "--programs", "/nowhere"]);
    assert_eq!(output.status.code(), Some(77));
    assert_one_sentence(&output.stderr, &["no program", "/nowhere"]);
}

#[test]
fn wrong_usage_is_refused() {
    let run = Run::new();
    for args in [
        &["demo"][..],
        &["demo", "bogus"],
        &["demo", "all", "--bogus"],
        &["demo", "all", "--speed", "0"],
        &["demo", "all", "--speed", "nan"],
        &["bogus"],
    ] {
        let output = run.output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            text(&output.stderr).starts_with("error: "),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_closed_stdout_ends_it_with_a_sentence() {
    built_once();
    let run = Run::new();
    for stdout in [full(), closed_pipe()] {
        let output = run
            .command(&["demo", "fork", "zombie"])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(74));
        assert_one_sentence(&output.stderr, &["cannot write"]);
        run.marked.assert_nothing_is_left();
    }
    for stdout in [full(), closed_pipe()] {
        let output = run
            .command(&["list"])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(74));
        assert_one_sentence(&output.stderr, &["cannot write"]);
    }
}

fn full() -> Stdio {
    fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

#[test]
fn a_report_that_cannot_be_written_ends_it_with_a_sentence() {
    built_once();
    let run = Run::new();
    fs::write(run.report(), "in the way").unwrap();
    let output = run.output(&["demo", "fork"]);
    assert_eq!(output.status.code(), Some(74));
    assert_one_sentence(&output.stderr, &["cannot write the report to", "--report"]);
}

#[test]
fn colours_are_as_asked_for() {
    built_once();
    let run = Run::new();
    let coloured = |command: &mut Command| text(&command.output().unwrap().stdout).contains('\x1b');
    assert!(!coloured(&mut run.command(&["demo", "fork"])));
    assert!(coloured(
        &mut run.command(&["demo", "fork", "--color", "always"])
    ));
    assert!(coloured(
        run.command(&["demo", "fork"]).env("CLICOLOR_FORCE", "1")
    ));
    assert!(!coloured(
        run.command(&["demo", "fork", "--color", "never"])
            .env("CLICOLOR_FORCE", "1")
    ));
}

#[test]
fn the_list_names_what_demo_takes() {
    let run = Run::new();
    let output = run.output(&["list"]);
    assert!(ExitStatus::success(&output.status));
    let list = text(&output.stdout);
    for name in [
        "exec-cmd",
        "fork",
        "zombie",
        "orphan",
        "wait",
        "goroutine-wait",
        "three-ways",
        "pid-namespace",
        "remove-zombie",
        "one-close-too-few",
        "echo-server",
    ] {
        assert!(
            list.lines()
                .any(|line| line.starts_with(&format!("{name}  ("))),
            "{list}"
        );
    }
}
