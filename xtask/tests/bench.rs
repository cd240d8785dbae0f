//! `cargo xtask bench echo` from outside: that it measures, and what it leaves behind. These tests do not
//! care how fast anything is.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Run, of_kind, start_until, stdout};
use test_support::wait_until_within;

/// Plenty for the end of a thousand processes.
const LIMIT: Duration = Duration::from_secs(60);

/// A run of `bench echo`, whose charts are put into its folder.
struct Bench(Run);

impl Bench {
    fn new() -> Self {
        Self(Run::new())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.0.xtask(&["bench", "echo", "--svg"]);
        command.arg(self.0.path("")).args(args);
        command
    }

    /// Starts a run that measures our server for longer than a test lasts, and waits for the server. What
    /// it prints later comes from the reader.
    fn measuring(&self) -> (Child, BufReader<ChildStderr>) {
        let mut command = self.command(&["fork", "--rounds", "100", "--seconds", "1"]);
        // To look for the server from the start would slow down the builds.
        let (child, stderr, _) = start_until(command.stdout(Stdio::null()), "round 1 of 100: ");
        let servers = || self.0.processes_called("echo-server");
        wait_until_within(LIMIT, "the server is there", servers, |servers| servers.len() > 1);
        (child, stderr)
    }

    fn nothing_is_left(&self) {
        let processes = || self.0.processes();
        wait_until_within(LIMIT, "no process is left", processes, Vec::is_empty);
    }
}

/// That it ended with this code.
#[track_caller]
fn assert_ended(mut child: Child, mut stderr: BufReader<ChildStderr>, code: i32, last: &str) {
    let mut shown = String::new();
    stderr.read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{shown}");
    assert!(shown.lines().last().unwrap().starts_with(last), "{shown}");
}

#[test]
fn a_server_is_measured() {
    let run = Bench::new();
    let args = ["fork", "--rounds", "1", "--seconds", "0.2", "--json"];
    let output = run.command(&args).output().unwrap();
    stdout(&output, 0);
    let rows = of_kind(&output.stdout, "echo");
    let [row] = &rows[..] else {
        panic!("not one row: {rows:?}");
    };
    assert_eq!(row["server"], "fork");
    assert_eq!((&row["build"], &row["sandbox"]), (&"dynamic".into(), &"on".into()));
    for figure in [
        "connections_per_s",
        "connection_processor_us",
        "session_p50_us",
        "session_p99_us",
        "messages_per_s",
        "round_trip_p50_us",
        "round_trip_p99_us",
        "bulk_mib_per_s",
        "idle_connection_kib",
        "bytes_compared",
    ] {
        assert!(row[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {row}");
    }
    for count in ["bytes_wrong", "zombies", "descriptors_left", "processes_left"] {
        assert_eq!(row[count], 0, "{count}: {row}");
    }
    assert_eq!(row["failures"], serde_json::json!([]));

    for chart in ["echo-connections.svg", "echo-ping-pong.svg", "echo-memory.svg"] {
        let svg = fs::read_to_string(run.0.path(chart)).unwrap();
        assert!(svg.contains(">fork</text>"), "{svg}");
    }
    run.nothing_is_left();
}

#[test]
fn an_interrupt_ends_everything() {
    let run = Bench::new();
    let (child, stderr) = run.measuring();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_ended(child, stderr, 130, "xtask: interrupted; 0 processes left");
    assert!(run.0.processes().is_empty(), "{:?}", run.0.processes());
}

#[test]
fn a_killed_xtask_leaves_nothing() {
    let run = Bench::new();
    let (mut child, _stderr) = run.measuring();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    run.nothing_is_left();
}

#[test]
fn a_killed_guard_leaves_nothing() {
    let run = Bench::new();
    let (child, stderr) = run.measuring();
    kill(run.0.processes_called("xtask-guard")[0], Signal::SIGKILL).unwrap();
    assert_ended(child, stderr, 77, "xtask: xtask-guard has ended: signal: 9");
    assert!(run.0.processes().is_empty(), "{:?}", run.0.processes());
}
