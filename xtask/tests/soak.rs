//! `cargo xtask soak` from outside: that a good server holds, and that a bad one is noticed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod marked;

use marked::Marked;
use serde_json::Value;

/// The exit code, and the line about the one server.
fn soak(args: &[&str]) -> (Option<i32>, Value) {
    let marked = Marked::new();
    let mut command = marked.command(env!("CARGO_BIN_EXE_xtask"));
    command.args(["soak", "--json", "--seed", "1"]).args(args);
    let output = command.output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let row = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}\n{stderr}"));
    (output.status.code(), row)
}

#[test]
fn a_model_holds() {
    let (code, row) = soak(&["fork", "--seconds", "2"]);
    assert_eq!(
        (code, &row["faults"]),
        (Some(0), &Value::Array(vec![])),
        "{row}"
    );
    assert!(row["complete"].as_u64().unwrap() > 0, "{row}");
    assert_eq!(row["silent_losses"], 0, "{row}");
}

/// The twin.
#[test]
fn a_server_that_loses_bytes_fails() {
    let (code, row) = soak(&["--control", "--seconds", "1"]);
    assert_eq!(code, Some(1), "{row}");
    assert!(row["silent_losses"].as_u64().unwrap() > 0, "{row}");
}
