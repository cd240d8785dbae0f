//! A `Command` is a description, and can be started as often as one likes. Go's can be used once,
//! as it is the process, too.
//!
//! `cargo run -p exec-cmd --example reuse`, and look with `ps` at the printed pids.

#![forbid(unsafe_code)]

#[path = "../../echo-server/examples/common/mod.rs"]
mod common;

use std::env;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use common::{report, say, wait_for_enter};

fn main() -> ExitCode {
    let times = if env::args().any(|arg| arg == "--once") {
        1
    } else {
        2
    };
    report("reuse", start(times))
}

fn start(times: usize) -> io::Result<()> {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()); // it ends when we close this, or end
    let mut children = Vec::new();
    for _ in 0..times {
        children.push(command.spawn()?);
    }
    for child in &children {
        say(&format!("Child: {}", child.id()))?;
    }
    wait_for_enter()?;
    for mut child in children {
        child.wait()?; // closes its stdin first
    }
    say("End parent process.")
}
