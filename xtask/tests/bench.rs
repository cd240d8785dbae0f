//! `cargo xtask bench echo` from outside: that it measures, and what it leaves behind. These tests do not
//! care how fast anything is.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::Marked;
use test_support::wait_until_within;

/// With the builds of xtask-bench and the server in release, should these be the first.
const LIMIT: Duration = Duration::from_secs(600);

/// A run of `bench echo` with a mark and a folder of its own.
struct Run {
    marked: Marked,
}

impl Run {
    fn new() -> Self {
        let marked = Marked::new();
        Self { marked }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.marked.command(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["bench", "echo", "--svg"])
            .arg(self.marked.folder.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Starts a run that measures our server for longer than a test lasts, and waits for the server.
    fn measuring(&self) -> Child {
        let child = self
            .command(&["fork", "--rounds", "100", "--seconds", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_within(
            LIMIT,
            "the server is there",
            || self.named("echo-server"),
            |servers| servers.len() > 1,
        );
        child
    }

    fn named(&self, name: &str) -> Vec<i32> {
        let is_named = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
                first.ends_with(name.as_bytes())
            })
        };
        self.marked.processes().into_iter().filter(is_named).collect()
    }

    fn nothing_is_left(&self) {
        wait_until_within(LIMIT, "no process is left", || self.marked.processes(), Vec::is_empty);
    }
}

fn end(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, stderr)
}

#[test]
fn a_server_is_measured() {
    let run = Run::new();
    let args = ["fork", "--rounds", "1", "--seconds", "0.2", "--json"];
    let output = run.command(&args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");

    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let rows: Vec<Value> = lines.filter(|line: &Value| line["kind"] == "echo").collect();
    let [row] = rows.as_slice() else {
        panic!("not one row: {rows:?}");
    };
    assert_eq!(row["server"], "fork");
    for figure in [
        "connections_per_s",
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
        let svg = fs::read_to_string(run.marked.folder.join(chart)).unwrap();
        assert!(svg.contains(">fork</text>"), "{svg}");
    }
    run.nothing_is_left();
}

#[test]
fn an_interrupt_ends_everything() {
    let run = Run::new();
    let child = run.measuring();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let (status, stderr) = end(child);
    assert_eq!(status.code(), Some(130), "{stderr}");
    assert!(stderr.ends_with("xtask: interrupted; 0 processes left\n"), "{stderr}");
    assert!(run.marked.processes().is_empty(), "{:?}", run.marked.processes());
}

#[test]
fn a_killed_xtask_leaves_nothing() {
    let run = Run::new();
    let mut child = run.measuring();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    run.nothing_is_left();
}

#[test]
fn a_killed_guard_leaves_nothing() {
    let run = Run::new();
    let child = run.measuring();
    let guard = run.named("xtask-guard");
    kill(Pid::from_raw(guard[0]), Signal::SIGKILL).unwrap();
    let (status, stderr) = end(child);
    assert_eq!(status.code(), Some(77), "{stderr}");
    assert!(stderr.contains("xtask: xtask-guard has ended: signal: 9"), "{stderr}");
    assert!(run.marked.processes().is_empty(), "{:?}", run.marked.processes());
}
