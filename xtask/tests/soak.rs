//! `cargo xtask soak` from outside: a good server holds, a bad one is noticed, and nothing is left.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{Run, stdout, text};
use test_support::wait_until_within;

/// With the builds of xtask-bench and the server in release, should these be the first.
const LIMIT: Duration = Duration::from_secs(600);

fn command(run: &Run, args: &[&str]) -> Command {
    let mut command = run.xtask(&["soak", "--json", "--seed", "1"]);
    command.args(args);
    command
}

/// The exit code, and the line about the one server.
fn soak(args: &[&str]) -> (Option<i32>, Value) {
    let run = Run::new();
    let output = command(&run, args).output().unwrap();
    let (line, stderr) = (text(&output.stdout), text(&output.stderr));
    let row = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}\n{stderr}"));
    assert!(run.processes().is_empty(), "{:?}", run.processes());
    (output.status.code(), row)
}

#[test]
fn a_model_holds() {
    let (code, row) = soak(&["fork", "--seconds", "2"]);
    assert_eq!((code, &row["faults"]), (Some(0), &Value::Array(vec![])), "{row}");
    assert!(row["complete"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(row["silent_losses"], 0, "{row}");
}

/// The control.
#[test]
fn a_server_that_loses_bytes_fails() {
    let (code, row) = soak(&["--control=loss", "--seconds", "1"]);
    assert_eq!(code, Some(1), "{row}");
    assert!(row["silent_losses"].as_u64().unwrap() > 0, "{row}");
    assert_fails_only_for(&row, &["silent loss: "]);
}

/// Another control. At each rest, the soak waits for what has grown to shrink.
#[test]
fn a_server_that_grows_fails() {
    let (code, row) = soak(&["--control=growth", "--seconds", "1"]);
    assert_eq!(code, Some(1), "{row}");
    assert!(row["memory_last_kib"].as_u64() > row["memory_first_kib"].as_u64(), "{row}");
    assert_fails_only_for(&row, &[" descriptors, at the first ", " KiB of memory, at the first "]);
}

/// And another.
#[test]
fn a_server_with_a_zombie_fails() {
    let (code, row) = soak(&["--control=zombie", "--seconds", "1"]);
    assert_eq!(code, Some(1), "{row}");
    assert_eq!(row["zombies"], 1, "{row}");
    assert_fails_only_for(&row, &["1 zombies stayed for longer than "]);
}

/// Each fault is for one of these reasons, and each reason has a fault.
#[track_caller]
fn assert_fails_only_for(row: &Value, reasons: &[&str]) {
    let faults = row["faults"].as_array().unwrap();
    let is_for = |fault: &Value, reason: &str| fault.as_str().unwrap().contains(reason);
    let is_known = |fault: &Value| reasons.iter().any(|reason| is_for(fault, reason));
    assert!(faults.iter().all(is_known), "for another reason: {row}");
    for reason in reasons {
        assert!(faults.iter().any(|fault| is_for(fault, reason)), "{reason}: {row}");
    }
}

#[test]
fn every_session_ends_in_one_way() {
    let (_, row) = soak(&["--control=loss", "--seconds", "1"]);
    let number = |name: &str| row[name].as_u64().unwrap();
    let errors = row["errors"].as_object().unwrap().values();
    let errors: u64 = errors.map(|count| count.as_u64().unwrap()).sum();
    let ends = ["complete", "given_up", "silent_losses", "wrong"].map(number);
    assert_eq!(number("sessions"), errors + ends.iter().sum::<u64>(), "{row}");
    assert!(number("given_up") > 0 && number("bytes_compared") > 0, "{row}");
}

#[test]
fn an_interrupt_ends_everything() {
    let run = Run::new();
    let child = command(&run, &["prefork", "--seconds", "300"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A worker, which there is only when the server is at work.
    let workers = || run.processes_called("echo-worker");
    wait_until_within(LIMIT, "workers of the server", workers, |workers| !workers.is_empty());
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    stdout(&output, 130);
    let stderr = text(&output.stderr);
    assert!(stderr.ends_with("xtask: interrupted; 0 processes left\n"), "{stderr}");
    assert!(run.processes().is_empty(), "{:?}", run.processes());
}
