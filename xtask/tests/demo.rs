//! `cargo xtask` as its users see it: exit codes, what is printed, what is left behind.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{
    Run, XTASK, assert_has, assert_one_sentence, of_kind, programs, quoted, start_demo, stdout,
    text,
};
use test_support::{closed_pipe, full_device};

/// Whole demos one at a time: two at once on a small machine only slow each other down.
fn one_demo_at_a_time() -> MutexGuard<'static, ()> {
    static DEMO: Mutex<()> = Mutex::new(());
    DEMO.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A demo of these scenarios, with scripts in the place of some programs, that exits with this code.
#[track_caller]
fn sabotaged(run: &Run, scenarios: &[&str], scripts: &[(&str, String)], code: i32) -> Output {
    let programs = run.programs_with(scripts);
    let programs = ["--json", "--programs", programs.to_str().unwrap()];
    let output = run.output(&[&["demo"], scenarios, &programs].concat());
    stdout(&output, code);
    run.assert_nothing_is_left();
    output
}

/// The claims of verdicts.
fn claims(verdicts: &[Value]) -> BTreeSet<String> {
    let claims = verdicts.iter().map(|verdict| verdict["claim"].as_str());
    claims.map(|claim| claim.unwrap().to_owned()).collect()
}

fn not_held(output: &Output, kind: &str) -> Vec<Value> {
    let mut verdicts = of_kind(&output.stdout, kind);
    verdicts.retain(|verdict| verdict["held"] != true);
    verdicts
}

#[test]
fn a_line_is_recorded_when_it_has_ended_or_the_stream_has() {
    let run = Run::new();
    let script = r"printf 'one\n\ntwo\nthr'; sleep 0.2; printf ee";
    let output = sabotaged(&run, &["exec-separate"], &[("exec-cmd", script.to_owned())], 1);
    let mut lines = of_kind(&output.stdout, "line");
    lines.retain(|line| line["scenario"] == "exec-separate");
    let lines: Vec<&str> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(lines, ["one", "", "two", "three"]);
}

/// With JSON on stdout and text on stderr. `cargo xtask demo all` prints the text on stdout.
#[test]
fn every_claim_holds_and_every_control_fails() {
    let _alone = one_demo_at_a_time();
    let run = Run::new();
    let output = run.output(&["demo", "all", "--json"]);
    stdout(&output, 0);
    let shown = text(&output.stderr);
    assert_has(&shown, &["== zombie =="]);
    assert!(!shown.contains("NOT") && !shown.contains('\x1b'), "{shown}");
    let last = shown.lines().last().unwrap();
    assert!(last.starts_with("All "), "{last}");
    assert_has(last, &[" 0 processes left. "]);
    run.assert_nothing_is_left();
    for file in ["events.ndjson", "transcript.txt", "verdicts.ndjson", "control/events.ndjson"] {
        let path = run.report().join("zombie").join(file);
        assert!(fs::metadata(&path).is_ok_and(|file| file.len() > 0), "{}", path.display());
    }
    let snapshot = fs::read_to_string(run.report().join("zombie/ps-1.txt")).unwrap();
    assert_has(&snapshot, &["<defunct>"]);
    assert_is_complete(&run, &output);
}

/// That the JSON of a demo of all scenarios has a verdict on each claim, with a ruling and a snapshot.
#[track_caller]
fn assert_is_complete(run: &Run, output: &Output) {
    let of_kind = |kind| of_kind(&output.stdout, kind);

    assert_eq!(not_held(output, "verdict"), Vec::<Value>::new());
    assert!(of_kind("control").iter().all(|control| control["held"] == false));
    let judged = [of_kind("verdict"), of_kind("skipped")].concat();
    let explained = text(&run.output(&["explain", "all"]).stdout);
    let ids = explained.lines().filter_map(|line| line.split(' ').next());
    let ids = ids.filter(|id| !id.is_empty()).map(str::to_owned);
    assert_eq!(claims(&judged), ids.collect::<BTreeSet<_>>());
    let snapshots = of_kind("snapshot");
    for verdict in of_kind("verdict") {
        let is_ruled =
            ["right", "imprecise", "wrong"].contains(&verdict["ruling"].as_str().unwrap_or(""));
        assert_eq!(is_ruled, verdict["claim"].as_str().unwrap().starts_with('C'), "{verdict}");
        let mut of_scenario = snapshots.iter().map(|snapshot| &snapshot["scenario"]);
        assert!(of_scenario.any(|it| *it == verdict["scenario"]), "no snapshot for {verdict}");
    }
    for snapshot in snapshots {
        assert_has(snapshot["command"].as_str().unwrap(), &[" ps -o pid,ppid,"]);
        assert_has(snapshot["text"].as_str().unwrap(), &["PID"]);
    }
    assert_eq!(of_kind("summary")[0]["processes_left"], 0);
}

#[test]
fn a_parent_that_reaps_at_once_is_noticed() {
    let run = Run::new();
    // In the zombie program's place: a shell, which waits for its child at once.
    let script = r#"sh -c 'echo "Hi, I am a child Process."; echo "My pid is: $$"; echo "End child process."'
                    sleep 2; echo "End parent process.""#;
    let output = sabotaged(&run, &["zombie", "wait"], &[("zombie", script.to_owned())], 1);
    for verdict in of_kind(&output.stdout, "verdict") {
        assert_eq!(verdict["held"], verdict["scenario"] == "wait", "{verdict}");
    }
    assert_has(&text(&output.stderr), &["NOT HELD C24"]);
}

/// Five programs that do otherwise than they should, by their own options: two that wait for their
/// children, and so have no zombies; three without what they are to show.
#[test]
fn sabotage_turns_just_the_claims_of_its_scenarios() {
    let _alone = one_demo_at_a_time();
    let run = Run::new();
    let real = |name: &str| programs().join("examples").join(name).display().to_string();
    let with = |name: &'static str, option: &str| {
        let real = real(name);
        let script = format!(
            r#"case " $* " in *" {option} "*) exec {real} "$@" ;; *) exec {real} "$@" {option} ;; esac"#
        );
        (name, script)
    };
    let without_signalfd = format!(r#"exec {} "$1" "$2""#, real("handler-limits"));
    let scripts = [
        with("resources", "--wait"),
        with("pid-reuse", "--wait"),
        with("remove-zombie", "--once"),
        with("ignore-sigchld", "--default"),
        ("handler-limits", without_signalfd),
    ];
    let output = sabotaged(&run, &["all"], &scripts, 1);
    let turned = claims(&not_held(&output, "verdict"));
    let expected = ["C25", "C33", "C34", "C35", "C43"].map(str::to_owned);
    assert_eq!(turned, BTreeSet::from(expected), "{}", text(&output.stderr));
    let controls = of_kind(&output.stdout, "control");
    assert_eq!(controls.iter().find(|control| control["held"] == true), None);
}

#[test]
fn a_control_that_does_not_fail_is_noticed() {
    let run = Run::new();
    // In the place of the parent that waits: one that does not, so that the control has a zombie, too.
    let zombie = programs().join("zombie");
    let script = format!("exec {} --parent-sleep 2", zombie.display());
    let output = sabotaged(&run, &["zombie"], &[("goroutine-wait", script)], 1);
    for kind in ["verdict", "control"] {
        assert_eq!(not_held(&output, kind), Vec::<Value>::new());
    }
    assert_has(&text(&output.stderr), &["DID NOT FAIL"]);
}

/// As where the machine is so busy that a process that has been sent a signal does not run at once.
#[test]
fn a_control_whose_child_is_slow_to_die_fails() {
    let run = Run::new();
    // In the place of the parent that its child is tied to. The child never sleeps.
    let script = r#"count='i=0; while [ $i -lt 400000 ]; do i=$((i + 1)); done'
                    sh -c "trap '$count; exit' TERM; echo \"My pid is: \$\$\"; while :; do :; done" &
                    sleep 0.5; kill "$!""#;
    let output = sabotaged(&run, &["orphan"], &[("goroutine-wait", script.to_owned())], 0);
    assert_eq!(of_kind(&output.stdout, "control").len(), 2);
}

/// Nearly as slow as in the chapter: then the parent that asks from time to time asks long after the end.
#[test]
fn what_is_asked_seldom_is_waited_for() {
    programs();
    let run = Run::new();
    stdout(&run.output(&["demo", "three-ways", "--speed", "1.6"]), 0);
    run.assert_nothing_is_left();
}

#[test]
fn a_scenario_that_is_not_possible_here_is_skipped_with_the_reason() {
    let run = Run::new();
    let script =
        r#"echo "My pid is: $$"; echo "pid-namespace: not allowed; ask root" >&2; exit 77"#;
    let scripts = [("pid-namespace", script.to_owned())];
    let output = sabotaged(&run, &["pid-namespace", "fork"], &scripts, 0);
    let of_kind = |kind| of_kind(&output.stdout, kind);
    let [skipped] = &of_kind("skipped")[..] else {
        panic!("not one was skipped: {:?}", of_kind("skipped"));
    };
    assert_eq!(skipped["claim"], "C44");
    assert_eq!(skipped["because"], "pid-namespace: not allowed; ask root");
    assert!(of_kind("verdict").iter().all(|verdict| verdict["scenario"] == "fork"));
    assert!(of_kind("control").is_empty());
    let shown = text(&output.stderr);
    assert_has(
        &shown,
        &["skipped  C44: pid-namespace: not allowed", "All 3 claims held. 1 skipped. "],
    );
    assert!(!shown.contains("never came true"), "{shown}");
}

/// Both servers show C1. Without the loopback network, they are skipped.
#[test]
fn a_claim_that_two_scenarios_show_counts_once() {
    let run = Run::new();
    let output = run.output(&["demo", "echo-mpserv", "echo-server"]);
    let shown = text(&output.stdout);
    let held = "\nThe claim held. In the controls, 1 of 1 failed as expected. ";
    assert!(shown.contains(held) || shown.contains("\n1 skipped. "), "{shown}");
    run.assert_nothing_is_left();
}

#[test]
fn an_interrupt_ends_everything() {
    programs();
    for lines_before in [1, 3, 6, 10, 15] {
        let run = Run::new();
        let mut command = run.xtask(&["demo", "all"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut shown = String::new();
        for _ in 0..lines_before {
            stderr.read_line(&mut shown).unwrap();
        }
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        stderr.read_to_string(&mut shown).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
        assert!(shown.ends_with("xtask: interrupted; 0 processes left\n"), "{shown}");
        assert!(run.processes().is_empty());
    }
}

/// As above, on a terminal, where there is a live line.
#[test]
fn an_interrupt_on_a_terminal_ends_everything() {
    programs();
    let run = Run::new();
    let report = quoted(run.report().to_str().unwrap());
    let command = format!("exec {} demo zombie --report {report}", quoted(XTASK));
    let mut terminal = run.on_terminal(&command);
    terminal.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().unwrap();
    let mut screen = BufReader::new(terminal.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !text(&seen).contains("running zombie") {
        assert_ne!(screen.read_until(b'e', &mut seen).unwrap(), 0, "{}", text(&seen));
    }
    let xtask = run.processes_called("xtask")[0];
    kill(xtask, Signal::SIGINT).unwrap();
    screen.read_to_end(&mut seen).unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(130), "{}", text(&seen));
    assert_has(&text(&seen), &["xtask: interrupted; 0 processes left"]);
    run.assert_nothing_is_left();
}

#[test]
fn a_killed_xtask_leaves_nothing() {
    programs();
    let run = Run::new();
    let (mut child, _stderr, _) = start_demo(&mut run.xtask(&["demo", "all", "--json"]));
    assert!(run.processes().len() > 5);
    child.kill().unwrap();
    child.wait().unwrap();
    run.assert_no_process_is_left(); // files of scenarios may be
}

#[test]
fn a_killed_worker_costs_its_scenario_only() {
    programs();
    let run = Run::new();
    let events = run.path("stdout");
    let mut command = run.xtask(&["demo", "zombie", "wait", "--json"]);
    command.stdout(fs::File::create(&events).unwrap());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut shown = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        shown += &format!("{line}\n");
        if line.starts_with("zombie: ") && line.contains(" ps: ") && line.contains("sleeps") {
            let is_it = |pid: &Pid| {
                let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                args == b"xtask-worker\0zombie\0"
            };
            let worker = run.processes().into_iter().find(is_it).unwrap();
            kill(worker, Signal::SIGKILL).unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(1), "{shown}");
    run.assert_nothing_is_left();
    let why = of_kind(&fs::read(events).unwrap(), "failed");
    assert!(why.len() == 1 && why[0]["scenario"] == "zombie", "{why:?}");
    let held = |name: &str| {
        let verdicts = fs::read(run.report().join(name).join("verdicts.ndjson")).unwrap();
        of_kind(&verdicts, "verdict").iter().all(|verdict| verdict["held"] == true)
    };
    assert!(!held("zombie") && held("wait"));
}

#[test]
fn without_ps_or_the_programs_it_says_so() {
    let run = Run::new();
    let mut command = run.xtask(&["demo", "all"]);
    let output = command.env("PATH", "/nowhere").output().unwrap();
    assert_one_sentence(&output, 77, &["ps cannot be run", "procps"]);
    let output = run.output(&["demo", "all", "--programs", "/nowhere"]);
    assert_one_sentence(&output, 77, &["no program", "/nowhere"]);
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
        assert!(text(&output.stderr).starts_with("error: "), "{}", text(&output.stderr));
    }
}

#[test]
fn a_closed_stdout_ends_it_with_a_sentence() {
    programs();
    let run = Run::new();
    for args in [&["demo", "fork", "zombie"][..], &["list"]] {
        for stdout in [full_device(), closed_pipe()] {
            let mut command = run.xtask(args);
            let output = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
            assert_one_sentence(&output, 74, &["cannot write"]);
            run.assert_nothing_is_left();
        }
    }
}

#[test]
fn colours_are_as_asked_for() {
    programs();
    let run = Run::new();
    let coloured = |command: &mut Command| text(&command.output().unwrap().stdout).contains('\x1b');
    let never = &["demo", "fork", "--color", "never"];
    assert!(!coloured(&mut run.xtask(&["demo", "fork"])));
    assert!(coloured(&mut run.xtask(&["demo", "fork", "--color", "always"])));
    assert!(coloured(run.xtask(&["demo", "fork"]).env("CLICOLOR_FORCE", "1")));
    assert!(!coloured(run.xtask(never).env("CLICOLOR_FORCE", "1")));
}
