//! `cargo xtask rolling` from outside, in short: nothing is lost, but by the control.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Run, of_kind, skip, text};

const HAPROXY: &str = "/usr/sbin/haproxy";

#[test]
fn only_the_control_loses_sessions() {
    if !Path::new(HAPROXY).exists() {
        return skip("needs haproxy");
    }
    let run = Run::new();
    let output = run.output(&["rolling", "--json", "--sessions", "200", "--long", "0.2"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}\n{stderr}", text(&output.stdout));
    let rows = of_kind(&output.stdout, "rolling");
    let ways: Vec<&str> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["drain", "usr2", "socket", "backlog", "term"]);
    for row in &rows {
        let number = |name: &str| row[name].as_u64().unwrap();
        assert!(number("sessions") >= 200 && number("bytes_compared") > 0, "{row}");
        assert_eq!((number("replaced"), &row["faults"]), (3, &Value::Array(vec![])), "{row}");
        assert_eq!(number("lost") > 0, row["way"] == "term", "{row}");
    }
    assert!(run.processes().is_empty(), "{:?}", run.processes());
}
