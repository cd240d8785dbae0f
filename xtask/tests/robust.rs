//! Where something is missing, or is not as usual: it works, or says in a sentence what to do; and no
//! verdict is wrong.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, geteuid};
use support::{
    NOBODY, Run, XTASK, assert_has, assert_one_sentence, programs, put_script, quoted, skip,
    start_demo, stdout, text,
};
use test_support::{number, wait_until_within};

/// Of its own, who would count otherwise.
const WITHOUT_PROCESSES: u32 = 54321;

/// Plenty for a run to begin, or to be ended.
const LIMIT: Duration = Duration::from_secs(30);

/// Between them: an orphan, a zombie, a parent that is killed, and one that waits.
const SCENARIOS: [&str; 3] = ["zombie-parent-kill", "orphan", "fork"];
const ALL_HELD: &str = "\nAll 6 claims held. ";

/// A script for a shell that does no more.
const EXEC: &str = r#"exec "$@""#;

/// The words of a call of xtask.
fn xtask(words: &[&str]) -> Vec<String> {
    let words = [&[XTASK], words].concat();
    words.into_iter().map(str::to_owned).collect()
}

impl Run {
    /// The words of a quick demo of programs that are built already.
    fn demo(&self, scenarios: &[&str]) -> Vec<String> {
        self.demo_of(programs(), scenarios)
    }

    fn demo_of(&self, programs: &Path, scenarios: &[&str]) -> Vec<String> {
        let report = self.report();
        let options = ["--report", report.to_str().unwrap()];
        let programs = ["--programs", programs.to_str().unwrap()];
        xtask(&[&["demo"], scenarios, &options, &programs].concat())
    }

    /// A PATH that begins with a folder in which this script is `ps`.
    fn path_with_ps(&self, script: &str) -> String {
        let folder = self.path("bin");
        fs::create_dir_all(&folder).unwrap();
        put_script(&folder.join("ps"), script);
        format!("{}:{}", folder.display(), env::var("PATH").unwrap())
    }

    /// A shell that does this, with these words as `$@`.
    fn shell(&self, script: &str, words: &[String]) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", script, "sh"]).args(words);
        command
    }

    /// The same as root of namespaces of its own, such as `-m`; `None` where there are none to be
    /// had. Nothing but new mounts may be made there: a remount of /proc would be one of the machine's.
    fn shell_in(&self, namespaces: &[&str], script: &str, words: &[String]) -> Option<Command> {
        let as_user: &[&str] = &["--user", "--map-root-user"];
        let unshare = |more: &[&str]| {
            let mut command = self.command("unshare");
            command.args(more).args(namespaces);
            command
        };
        let works = |more: &&&[&str]| {
            let tried = unshare(more).arg("true").stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        };
        let Some(more) = [&[], as_user].iter().find(works).copied() else {
            skip("we are not root, and may have no user namespace");
            return None;
        };
        let mut command = unshare(more);
        command.args(["sh", "-c", script, "sh"]).args(words);
        Some(command)
    }
}

/// Checks that all claims held.
#[track_caller]
fn assert_all_held(output: &Output) {
    assert_has(&stdout(output, 0), &[ALL_HELD, " 0 processes left. "]);
}

const OWN_PROCESSES: [&str; 4] = ["--mount", "--pid", "--fork", "--kill-child"];

#[test]
fn without_pidfds_ends_are_noticed_by_samples() {
    let run = Run::new();
    let refuse = "strace -f -qq -o /dev/null -e trace=pidfd_open -e inject=pidfd_open:error=ENOSYS";
    let refusing = |words: &[String]| {
        let mut command = run.shell(&format!(r#"exec {refuse} "$@""#), words);
        command.output().unwrap()
    };
    if !refusing(&["true".to_owned()]).status.success() {
        return skip("strace cannot be run, or cannot refuse system calls");
    }
    assert_all_held(&refusing(&run.demo(&SCENARIOS)));
    let events = |scenario| run.report().join(scenario).join("events.ndjson");
    let events = SCENARIOS.map(|scenario| fs::read_to_string(events(scenario)).unwrap()).concat();
    assert!(!events.contains(r#""by":"pidfd""#), "{events}");
    let is_end = |line: &&str| line.contains(r#""by":"sample""#) && line.contains(") Z ");
    assert!(events.lines().any(|line| is_end(&line)), "{events}");
    run.assert_nothing_is_left();
}

#[test]
fn without_proc_it_says_so() {
    let run = Run::new();
    let without = |words: &[String]| {
        let script = r#"mount -t tmpfs none /proc && exec "$@""#;
        let command = run.shell_in(&OWN_PROCESSES, script, words);
        command.map(|mut command| command.output().unwrap())
    };
    let Some(output) = without(&run.demo(&SCENARIOS)) else {
        return;
    };
    let parts = ["/proc/self/status cannot be read", "mount -t proc"];
    assert_one_sentence(&output, 77, &parts);
    let shown = stdout(&without(&xtask(&["doctor"])).unwrap(), 77);
    assert_has(&shown, &["missing  /proc: "]);
    // With it, these may be there.
    for what in ["ps", "processes of others visible", "seccomp filters"] {
        assert_has(&shown, &[&format!("unknown  {what}: ")]);
    }
    for words in [xtask(&["list"]), xtask(&["explain", "C29"])] {
        assert!(without(&words).unwrap().status.success(), "{words:?}");
    }
    run.assert_nothing_is_left();
}

/// By the numbers in such a /proc it would watch and kill other processes.
#[test]
fn with_the_proc_of_another_namespace_it_says_so_and_kills_nobody() {
    let run = Run::new();
    let namespace = ["--pid", "--fork", "--kill-child"];
    let script = r#"sleep 100 & "$@"; code=$?; kill "$!" && exit "$code""#;
    let Some(mut command) = run.shell_in(&namespace, script, &run.demo(&SCENARIOS)) else {
        return;
    };
    let parts = ["another PID namespace", "unshare", "--mount-proc"];
    assert_one_sentence(&command.output().unwrap(), 77, &parts);
    let mut command = run.shell_in(&namespace, EXEC, &xtask(&["doctor"])).unwrap();
    let shown = stdout(&command.output().unwrap(), 77);
    assert_has(&shown, &["cannot run: missing /proc", "unknown  ps: "]);
    run.assert_nothing_is_left();
}

#[test]
fn as_process_1_of_a_namespace_it_works() {
    let run = Run::new();
    let namespace = [&OWN_PROCESSES[..], &["--mount-proc"]].concat();
    let script = r#"test $$ = 1 && exec "$@""#;
    if let Some(mut command) = run.shell_in(&namespace, script, &run.demo(&SCENARIOS)) {
        assert_all_held(&command.output().unwrap());
        run.assert_nothing_is_left();
    }
}

#[test]
fn where_others_cannot_be_seen_it_works() {
    const NOT_HIDDEN: i32 = 99;
    let run = Run::new();
    // Process 1 is root's, the others are nobody's.
    let script = format!(
        r#"mount -t proc -o hidepid=2 proc /proc && cd / || exit
           as="setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
           $as sh -c '! test -e /proc/1 && test -x "$1"' sh "$1" || exit {NOT_HIDDEN}
           $as "$@""#
    );
    let Some(mut command) = run.shell_in(&OWN_PROCESSES, &script, &run.demo(&SCENARIOS)) else {
        return;
    };
    let output = command.output().unwrap();
    if output.status.code() == Some(NOT_HIDDEN) {
        skip("nothing is hidden without root, or nobody may not run the programs");
        return;
    }
    assert_all_held(&output);
    run.assert_nothing_is_left();
}

#[test]
fn a_ps_that_is_another_is_not_believed() {
    let mut find = Command::new("sh");
    let found = find.args(["-c", "command -v busybox"]).output();
    if !found.unwrap().status.success() {
        skip("there is no busybox");
        return;
    }
    let run = Run::new();
    let path = run.path_with_ps(r#"exec busybox ps "$@""#);
    let mut command = run.shell(EXEC, &run.demo(&SCENARIOS));
    let output = command.env("PATH", &path).output().unwrap();
    assert_one_sentence(&output, 77, &["not that of procps", "install procps"]);
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let mut doctor = run.xtask(&["doctor"]);
    let shown = stdout(&doctor.env("PATH", &path).output().unwrap(), 77);
    assert_has(&shown, &["missing  ps: this ps is not that of procps"]);
    run.assert_nothing_is_left();
}

/// How many folders are searched for a program is no matter of the claims.
#[test]
fn what_is_traced_does_not_depend_on_the_folders_of_path() {
    for path in ["/usr/bin:/bin", "/nowhere:/nor/there:/usr/bin:/bin"] {
        let run = Run::new();
        let mut command = run.shell(EXEC, &run.demo(&["fork-with-threads", "system-calls"]));
        stdout(&command.env("PATH", path).output().unwrap(), 0);
        run.assert_nothing_is_left();
    }
}

/// At first this `ps` is so slow that the parent of the zombie has ended by the time it looks.
#[test]
fn a_run_for_which_ps_is_too_slow_is_repeated_more_slowly() {
    let run = Run::new();
    let script = format!(
        "grep -q xtask-worker /proc/$PPID/comm && sleep 1.3\nPATH={} exec ps \"$@\"",
        quoted(&env::var("PATH").unwrap())
    );
    let path = run.path_with_ps(&script);
    let words = [run.demo(&["zombie"]), ["--speed", "20"].map(str::to_owned).to_vec()].concat();
    let output = run.shell(EXEC, &words).env("PATH", path).output().unwrap();
    let shown = stdout(&output, 0);
    let stderr = text(&output.stderr);
    assert_has(&shown, &["\nAll 3 claims held. "]);
    assert!(stderr.matches("zombie: starting\n").count() > 1, "{stderr}");
    run.assert_nothing_is_left();
}

#[test]
fn the_doctor_knows_that_a_demo_of_programs_needs_no_cargo() {
    let run = Run::new();
    let folder = run.path("bin");
    fs::create_dir(&folder).unwrap();
    let find = Command::new("sh").args(["-c", "command -v ps"]).output();
    symlink(text(&find.unwrap().stdout).trim(), folder.join("ps")).unwrap();
    let mut doctor = run.xtask(&["doctor"]);
    let shown = stdout(&doctor.env("PATH", &folder).output().unwrap(), 0);
    assert_has(&shown, &["missing  cargo: ", "\nThe demo can run with --programs.\n"]);
}

/// Checks that these claims are skipped, for this reason, and that `doctor` gives the same one.
#[track_caller]
fn assert_skipped(around: &[&str], scenario: &str, why: &str) {
    let run = Run::new();
    let output = |words: &[String]| {
        let mut command = run.command(around[0]);
        command.args(&around[1..]).args(words).output().unwrap()
    };
    let shown = stdout(&output(&run.demo(&[scenario])), 0);
    assert_has(&shown, &["\nskipped  C", why, "\n1 skipped. 0 processes left. "]);
    // In lines of another length.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = words(&text(&output(&xtask(&["doctor"])).stdout));
    assert_has(&shown, &[why]);
    run.assert_nothing_is_left();
}

/// Root may be anything but almighty, above all in a container.
#[test]
fn what_root_may_not_do_is_skipped_with_its_reason() {
    let works = |around: &[&str]| {
        let mut tried = Command::new(around[0]);
        tried.args(&around[1..]).arg("true").stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    };
    let other_users = "missing processes of another user: ";
    let namespaces = "missing user and PID namespaces: ";
    for (around, scenario, missing) in [
        (&["unshare", "--net"][..], "shutdown", "missing the loopback network: "),
        (&["unshare", "-U", "-r"], "resources", other_users),
        (&["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"], "resources", other_users),
        (&["setpriv", "--bounding-set=-setgid", "--inh-caps=-setgid"], "resources", other_users),
        (&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], "pid-reuse", namespaces),
        (&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], "resources", other_users),
    ] {
        match geteuid().is_root() && works(around) {
            true => assert_skipped(around, scenario, missing.trim_start_matches("missing ")),
            false => skip("only root, with unshare and setpriv, can do without"),
        }
    }
}

/// A PATH on which `ps` does this first if a scenario asks.
fn path_with_ps_for_workers(run: &Run, first: &str) -> String {
    run.path_with_ps(&format!(
        "grep -q xtask-worker /proc/$PPID/comm && {{ {first}; }}\n\
         PATH={} exec ps \"$@\"",
        quoted(&env::var("PATH").unwrap())
    ))
}

/// At first it does what it is asked to, but not for a scenario: it says nothing, which is no proof
/// that nobody is there, or it does not end.
#[test]
fn a_ps_that_fails_later_proves_nothing() {
    let run = Run::new();
    for (instead, why) in [
        ("exit 1", "no table was printed"),
        ("sleep 1000", "ps does not come to an end"),
        // As far as can be read from it, it does.
        ("exec >&-; sleep 1000", "ps does not come to an end"),
        ("exec >&- 2>&-; sleep 1000", "ps does not come to an end"),
    ] {
        let mut command = run.shell(EXEC, &run.demo(&["exec-separate"]));
        let path = path_with_ps_for_workers(&run, instead);
        let output = command.env("PATH", path).output().unwrap();
        let shown = stdout(&output, 1);
        assert_has(&shown, &["NOT HELD C17", "DID NOT FAIL C17", why]);
        run.assert_nothing_is_left();
    }
}

/// At this speed the zombie is gone before `ps` has listed it.
#[test]
fn with_a_slow_ps_a_demo_runs_again_more_slowly_and_a_watch_ends() {
    let run = Run::new();
    let path = path_with_ps_for_workers(&run, "sleep 2");
    let output = |words: &[String]| {
        let speed = ["--speed", "20"].map(str::to_owned);
        let mut command = run.shell(r#"exec timeout 60 "$@""#, &[words, &speed].concat());
        command.env("PATH", &path).output().unwrap()
    };
    let watch = xtask(&["watch", "zombie", "--programs", programs().to_str().unwrap()]);
    let (demo, watch) = thread::scope(|scope| {
        let watch = scope.spawn(|| output(&watch));
        (output(&run.demo(&["zombie"])), watch.join().unwrap())
    });
    let (stdout, stderr) = (text(&demo.stdout), text(&demo.stderr));
    assert_has(&stdout, &["\nAll 3 claims held. "]);
    let starts = stderr.lines().filter(|line| *line == "zombie: starting").count();
    assert!(starts > 1, "{stderr}");
    assert!(watch.status.success(), "{}: {}", watch.status, text(&watch.stderr));
    assert_has(&text(&watch.stdout), &["Over. 0 processes left."]);
    run.assert_nothing_is_left();
}

#[test]
fn nobody_can_run_it() {
    let run = Run::new();
    let as_nobody = |script: &str, words: &[String]| {
        let mut command = run.shell(script, words);
        command.env("HOME", "/nonexistent").current_dir("/");
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let demo = run.demo(&SCENARIOS);
    let may = as_nobody(r#""$1" --version"#, &demo).output();
    if !may.unwrap().status.success() {
        skip("nobody may not look into the folder of the programs");
        return;
    }
    assert_all_held(&as_nobody(EXEC, &demo).output().unwrap());
    let mut demo = demo;
    let at = demo.iter().position(|word| word == "--report").unwrap();
    demo[at + 1] = "/proc/demo".to_owned();
    let output = as_nobody(EXEC, &demo).output().unwrap();
    let parts = ["cannot write the report to /proc/demo", "--report"];
    assert_one_sentence(&output, 74, &parts);
    assert!(text(&output.stdout).contains(ALL_HELD));
    run.assert_nothing_is_left();
}

#[test]
fn without_cargo_it_says_what_else_to_do() {
    let run = Run::new();
    let mut command = run.xtask(&["demo", "fork"]);
    let output = command.env("CARGO", "/nowhere/cargo").output().unwrap();
    assert_one_sentence(&output, 77, &["/nowhere/cargo cannot be run", "--programs"]);
}

/// What is shown on a terminal, and the exit code.
fn on_terminal(run: &Run, prepare: &str, words: &[String]) -> (String, Option<i32>) {
    let quoted: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    let line = format!("{prepare}; exec {}", quoted.join(" "));
    let mut command = run.on_terminal(&line);
    command.env("TMPDIR", run.temporary()).stdin(Stdio::null());
    let output = command.output().unwrap();
    (text(&output.stdout), output.status.code())
}

#[test]
fn on_40_columns_the_state_is_seen() {
    let run = Run::new();
    let words = run.demo(&["zombie-parent-kill"]);
    let (screen, code) = on_terminal(&run, "export TERM=dumb; stty cols 40 rows 24", &words);
    assert_eq!(code, Some(0), "{screen}");
    let words: Vec<_> = screen.split_whitespace().collect();
    if words.join(" ").contains("skipped C38: too slow at this speed") {
        skip("ps is too slow here to list the zombie");
    } else {
        let mut lines = screen.lines().map(str::trim_end);
        // The letters after the first one differ: ZN if this runs under nice.
        let is_zombie = |line: &&str| {
            let state = line.split_whitespace().nth(4);
            state.is_some_and(|state| state.starts_with('Z'))
        };
        let heading = lines.find(|line| line.contains(" STAT"));
        let zombie = lines.find(is_zombie);
        for line in [heading.expect(&screen), zombie.expect(&screen)] {
            assert!(line.len() <= 40, "{line:?}");
        }
    }
    for words in [&["list"][..], &["explain", "C29"], &["doctor"]].map(xtask) {
        let (screen, code) = on_terminal(&run, "export TERM=dumb; stty cols 40 rows 24", &words);
        assert!(matches!(code, Some(0 | 77)), "{screen}"); // there may be no cargo
        for line in screen.lines().map(str::trim) {
            // A word that is too long is not broken, so that it can still be pasted.
            assert!(line.len() <= 40 || !line.contains(' '), "{line:?}");
        }
    }
    run.assert_nothing_is_left();
}

#[test]
fn on_a_dumb_terminal_there_are_plain_lines() {
    let run = Run::new();
    // CI makes some libraries believe that every terminal has colours.
    for prepare in ["export TERM=dumb", "export TERM=dumb CI=true", "unset TERM"] {
        let (screen, code) = on_terminal(&run, prepare, &run.demo(&SCENARIOS));
        assert_eq!(code, Some(0), "{prepare}: {screen}");
        assert!(!screen.contains('\x1b'), "{prepare}: {screen:?}");
        assert_has(&screen, &["orphan: starting\r\n", "All 6 claims held. "]);
    }
    run.assert_nothing_is_left();
}

#[test]
fn a_reader_that_goes_away_ends_it_with_a_sentence() {
    let run = Run::new();
    let script = r#"{ "$@"; echo "exit $?" >&2; } | head -n 1"#;
    for json in [false, true] {
        let mut words = run.demo(&SCENARIOS);
        words.extend(json.then(|| "--json".to_owned()));
        let output = run.shell(script, &words).output().unwrap();
        assert_one_sentence(&output, 0, &["cannot write the result: Broken pipe"]);
        let stderr = text(&output.stderr);
        assert!(stderr.ends_with("exit 74\n"), "{stderr}");
        assert_eq!(text(&output.stdout).lines().count(), 1);
        run.assert_nothing_is_left();
    }
    // All of it fits into a pipe, so that it may be done before the reader is gone.
    for words in [&["list"][..], &["explain", "all"], &["doctor"]].map(xtask) {
        let output = run.shell(script, &words).output().unwrap();
        let stderr = text(&output.stderr);
        let codes = ["exit 0\n", "exit 74\n", "exit 77\n"];
        assert!(codes.iter().any(|code| stderr.ends_with(code)), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// Rust opens /dev/null in the place of what is closed: what is written is lost, as it was meant to
/// be; what it takes to run is not.
#[test]
fn closed_streams_disturb_nothing() {
    let run = Run::new();
    for (closed, is_lost) in
        [("<&-", false), (">&-", true), ("2>&-", false), ("<&- >&- 2>&-", true)]
    {
        let script = format!(r#"exec "$@" {closed}"#);
        let mut command = run.shell(&script, &run.demo(&SCENARIOS));
        let output = command.output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{closed}: {shown}");
        assert_eq!(output.stdout.is_empty(), is_lost, "{closed}");
        let index = run.report().join("index.html");
        assert!(fs::read_to_string(index).unwrap().contains("orphan"));
        run.assert_nothing_is_left();
    }
}

#[test]
fn a_full_disk_ends_it_with_a_sentence() {
    let run = Run::new();
    fs::create_dir(run.report()).unwrap();
    let script = r#"mount -t tmpfs -o size=16k none "$1" && shift && exec "$@""#;
    let place = run.report().to_str().unwrap().to_owned();
    let words = [vec![place.clone()], run.demo(&SCENARIOS)].concat();
    if let Some(mut command) = run.shell_in(&["--mount"], script, &words) {
        let output = command.output().unwrap();
        let parts = [&place, "No space left on device", "--report"];
        assert_one_sentence(&output, 74, &parts);
        assert!(text(&output.stdout).contains(ALL_HELD));
    }
    for stdout in ["/dev/full", "/dev/full 2>&1"] {
        let script = format!(r#"exec "$@" >{stdout}"#);
        let output = run.shell(&script, &run.demo(&["fork"])).output().unwrap();
        assert_eq!(output.status.code(), Some(74), "{stdout}");
    }
    run.assert_nothing_is_left();
}

/// Two of the scenarios have files there: a full disk, or one from which nothing is executed, says
/// nothing about their claims.
#[test]
fn without_a_place_for_files_the_scenarios_that_need_one_are_skipped() {
    let run = Run::new();
    let demo = run.demo(&["path-and-args", "self-exe", "reuse"]);
    let assert_skipped = |output: &Output, why: &str| {
        let shown = stdout(output, 0);
        let reason = ["skipped  C23: ", "TMPDIR takes another folder", why];
        assert_has(&shown, &reason);
        assert_has(&shown, &["\nThe claim held. 3 skipped. "]);
    };
    let mut command = run.shell(EXEC, &demo);
    let output = command.env("TMPDIR", "/nonexistent").output().unwrap();
    assert_skipped(&output, "No such file or directory");
    let script = r#"mount -t tmpfs -o "$1" none "$TMPDIR" && shift && "$@" && rmdir "$TMPDIR"/* 2>&1;
                    test "$(ls "$TMPDIR")" = """#;
    for (option, why) in [("size=16k", "No space left on device"), ("noexec", "Permission denied")]
    {
        let words = [vec![option.to_owned()], demo.clone()].concat();
        if let Some(mut command) = run.shell_in(&["--mount"], script, &words) {
            assert_skipped(&command.output().unwrap(), why);
        }
    }
    run.assert_nothing_is_left();
}

/// In a network namespace of its own, nobody has set up the loopback device.
#[test]
fn without_a_network_the_scenarios_that_need_one_are_skipped() {
    let run = Run::new();
    let demo = run.demo(&["echo-server", "one-close-too-few", "fork"]);
    if let Some(mut command) = run.shell_in(&["--net"], EXEC, &demo) {
        let shown = stdout(&command.output().unwrap(), 0);
        assert_has(&shown, &["skipped  C1: missing the loopback network: "]);
        assert_has(&shown, &["; what helps: ip link set lo up\n"]);
        assert_has(&shown, &["\nAll 3 claims held. 2 skipped. "]);
        run.assert_nothing_is_left();
    }
}

/// What a shell has started in the background is its child, and xtask's, if the shell becomes that.
#[test]
fn children_that_it_has_not_started_are_left_alone() {
    let run = Run::new();
    let recheck = xtask(&["demo", "--recheck", "/nowhere"]);
    for (words, parts) in [
        (run.demo(&["fork"]), ["not started", "without exec"]),
        (recheck, ["/nowhere", "no folder"]),
    ] {
        let script = r#"sleep 1000 >&2 & echo "$!"; exec "$@""#;
        let mut command = run.shell(script, &words);
        let errors = run.path("errors"); // a pipe would have no end before sleep has
        command.stderr(fs::File::create(&errors).unwrap());
        let mut output = command.output().unwrap();
        output.stderr = fs::read(&errors).unwrap();
        assert_one_sentence(&output, 77, &parts);
        let pid = number(text(&output.stdout).trim(), "");
        assert_eq!(run.processes(), [pid]);
        kill(pid, Signal::SIGKILL).unwrap();
        run.assert_nothing_is_left();
    }
}

#[test]
fn a_lack_of_descriptors_is_reported() {
    let run = Run::new();
    let script = r#"ulimit -n 32; exec "$@""#;
    let output = run.shell(script, &run.demo(&["all"])).output().unwrap();
    let parts = ["Too many open files", "fewer scenarios", "ulimit -n"];
    assert_one_sentence(&output, 77, &parts);
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("cannot start xtask-worker").count(), 1);
    run.assert_nothing_is_left();
}

/// Each of the first that cannot be had may be a process or a thread.
#[test]
fn a_lack_of_processes_is_reported() {
    if !geteuid().is_root() {
        skip("only root can be a user who has no process yet");
        return;
    }
    for limit in 2..=8 {
        let run = Run::new();
        let script = format!(r#"exec prlimit --nproc={limit} "$@""#);
        let mut command = run.shell(&script, &run.demo(&["fork"]));
        command.uid(WITHOUT_PROCESSES).gid(WITHOUT_PROCESSES);
        let output = command.current_dir("/").output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if stderr.contains("Permission denied") {
            skip("others may not look into the folder of the programs");
            return;
        }
        assert!(!stderr.contains("panicked"), "{limit}: {stderr}");
        let is_said = (stderr + &stdout).contains("Resource temporarily unavailable");
        assert_eq!(is_said, !output.status.success(), "{limit}: {stdout}");
        run.assert_nothing_is_left();
    }
}

/// Nor does the doctor take it for something that is not here.
#[test]
fn the_doctor_tells_a_lack_of_room_from_what_is_missing() {
    let run = Run::new();
    let told_with = |limit: &str, user: Option<u32>| {
        let script = format!(r#"exec prlimit {limit} "$@""#);
        let mut command = run.shell(&script, &xtask(&["doctor"]));
        command.current_dir("/");
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let output = command.output().unwrap();
        let shown = text(&output.stdout) + &text(&output.stderr);
        shown.split_whitespace().collect::<Vec<_>>().join(" ") // where lines end is another matter
    };
    let assert_told = |shown: &str, remedy: &str| {
        for what in ["ps", "cargo", "a process started and waited for"] {
            let begins = format!("missing {what}: ");
            let (_, line) = shown.split_once(&begins).expect(shown);
            let (_, line) = line.split_once("; to get it: ").expect(shown);
            assert!(line.starts_with(remedy), "{what}: {shown}");
        }
    };
    let shown = told_with("--nofile=4", None);
    assert_told(&shown, "a higher limit of open files (ulimit -n)");
    if !geteuid().is_root() {
        skip("only root can be a user who has no process yet");
        return;
    }
    let shown = told_with("--nproc=1", Some(WITHOUT_PROCESSES));
    if shown.contains("Permission denied") {
        skip("others may not look into the folder of the programs");
        return;
    }
    assert_told(&shown, "a higher limit of processes (ulimit -u)");
}

/// Reading in /proc requires a descriptor. Without one, a process is not gone.
#[test]
fn a_process_that_cannot_be_read_is_not_gone() {
    let run = Run::new();
    let mut words = run.demo(&["zombie"]);
    words.extend(["--speed".to_owned(), "2".to_owned()]);
    let mut command = run.shell(EXEC, &words);
    let (child, mut stderr, mut shown) = start_demo(&mut command);
    for pid in run.processes_called("xtask-worker") {
        let limit = ["--nofile=3", "--pid", &pid.to_string()];
        let limited = Command::new("prlimit").args(limit).status().unwrap();
        assert!(limited.success(), "prlimit: {limited}");
    }
    stderr.read_to_string(&mut shown).unwrap();
    let verdicts = stdout(&child.wait_with_output().unwrap(), 1);
    let why = "Too many open files (os error 24); what helps: fewer scenarios at once";
    let failed = "!! the scenario could not go on: cannot read /proc/";
    assert_has(&verdicts, &[failed, why, " 0 processes left. "]);
    let events = fs::read_to_string(run.report().join("zombie/events.ndjson")).unwrap();
    assert!(!events.contains(r#""kind":"gone""#), "{events}");
    run.assert_nothing_is_left();
}

/// It belongs to another user, and xtask may not kill everybody's.
#[test]
fn a_process_that_cannot_be_ended_is_reported_and_not_waited_for() {
    let without_kill = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"];
    let tried = Command::new(without_kill[0])
        .args(&without_kill[1..])
        .args(["setpriv", "--reuid=54321", "--clear-groups", "true"])
        .output();
    if !geteuid().is_root() || !tried.is_ok_and(|tried| tried.status.success()) {
        skip("only root, with setpriv, can start what it may not kill");
        return;
    }
    let run = Run::new();
    let program = programs().join("examples/status");
    // Adopted at once, as the shell between has ended; and with the pipes that the worker reads from.
    let script = format!(
        r#"(setpriv --reuid={WITHOUT_PROCESSES} --clear-groups sleep 1000 &)
           exec '{}' "$@""#,
        program.display()
    );
    let words = run.demo_of(&run.programs_with(&[("status", script)]), &["status"]);
    let without_kill = without_kill.join(" ");
    let script = format!(r#"exec timeout --signal=KILL 60 {without_kill} "$@""#);
    let output = run.shell(&script, &words).output().unwrap();
    let [left] = run.processes()[..] else {
        panic!("left are {:?}", run.processes());
    };
    let parts = [
        &format!("process {left} \"sleep\" cannot be killed: Operation not permitted (os error 1)"),
        &format!("; what helps: kill -9 {left}, as root"),
    ];
    assert_one_sentence(&output, 1, &parts.map(String::as_str));
    let shown = text(&output.stdout);
    assert_has(&shown, &["\nThe claim held. 1 processes left. "]);
    run.kill();
    run.assert_nothing_is_left();
}

#[test]
fn a_stranger_whose_number_a_program_prints_is_not_signalled() {
    let (run, strangers) = (Run::new(), Run::new());
    let mut stranger = strangers.command("sleep").arg("1000").spawn().unwrap();
    let script = format!(
        r#"echo "Grandchild: {}"
           echo "The command has ended: exit status: 0"
           echo "Reading to the end of its output..."
           exec sleep 1"#,
        stranger.id()
    );
    let name = "grandchild-holds-pipe";
    let words = run.demo_of(&run.programs_with(&[(name, script)]), &[name]);
    let shown = stdout(&run.shell(EXEC, &words).output().unwrap(), 1);
    let refused = format!("-> SIGTERM to {}: refused: ESRCH", stranger.id());
    assert_has(&shown, &["NOT HELD C12", &refused]);
    assert_eq!(stranger.try_wait().unwrap(), None);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    run.assert_nothing_is_left();
}

/// As some launchers do, whose children's statuses are lost with it; and so are ours, if we let it.
#[test]
fn where_sigchld_is_ignored_it_works() {
    let run = Run::new();
    let script = r#"exec env --ignore-signal=CHLD "$@""#; // a shell's trap does not reach so far
    assert_all_held(&run.shell(script, &run.demo(&SCENARIOS)).output().unwrap());
    let shown = text(&run.shell(script, &xtask(&["doctor"])).output().unwrap().stdout);
    for what in ["ps: ", "a process started and waited for"] {
        assert_has(&shown, &[&format!("found    {what}")]);
    }
    run.assert_nothing_is_left();
}

/// As Ctrl-C at a terminal, twice in a row: also for processes that are just being started in its group.
#[test]
fn an_interrupt_of_the_whole_group_leaves_no_files() {
    for lines_before in [1, 3, 5, 7, 9] {
        let run = Run::new();
        let words = run.demo(&["orphan", "path-and-args", "failing-child", "self-exe"]);
        let mut command = run.shell(EXEC, &words);
        command.process_group(0).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut shown = String::new();
        for _ in 0..lines_before {
            stderr.read_line(&mut shown).unwrap();
        }
        for _ in 0..2 {
            // Its group, too, until it has been waited for.
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        }
        stderr.read_to_string(&mut shown).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
        let last = "xtask: interrupted; 0 processes left\n";
        assert!(shown.ends_with(last), "{shown}");
        run.assert_nothing_is_left();
    }
}

/// Xtask then waits for its reader, and does not hear that it is to end.
#[test]
fn an_interrupt_ends_it_though_nobody_reads_what_it_writes() {
    let run = Run::new();
    let (reader, writer) = io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let words = [run.demo(&SCENARIOS), vec!["--json".to_owned()]].concat();
    let mut command = run.shell(EXEC, &words);
    command.stdout(writer.try_clone().unwrap());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let is_full = || {
        let mut writable = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut writable, PollTimeout::ZERO).unwrap() == 0
    };
    wait_until_within(LIMIT, "the pipe is full", is_full, |is_full| *is_full);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let look = || child.try_wait().unwrap();
    let ended = wait_until_within(LIMIT, "the end of xtask", look, Option::is_some).unwrap();
    drop(reader);
    let by_signal = ended.signal() == Some(Signal::SIGINT as i32);
    assert!(by_signal || ended.code() == Some(130), "{ended}");
    run.assert_nothing_is_left();
}

#[test]
fn a_demo_started_by_nohup_outlives_the_terminal() {
    let run = Run::new();
    let mut command = run.shell(r#"exec nohup "$@""#, &run.demo(&SCENARIOS));
    let (child, mut stderr, mut shown) = start_demo(&mut command);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP).unwrap();
    stderr.read_to_string(&mut shown).unwrap();
    assert_all_held(&child.wait_with_output().unwrap());
    run.assert_nothing_is_left();
}
