//! Rust's `Command` only describes a process, so it can be started as often as we like. Go's `Cmd`
//! is the process, too, so it can be used once.
//!
//! `cargo run -p exec-cmd --example reuse`, and look with `ps` at the printed pids.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    let times = if env::args_os().any(|arg| arg == "--once") { 1 } else { 2 };
    exit_code("reuse", start(times))
}

fn start(times: usize) -> io::Result<()> {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()); // `cat` ends when we close this, or end
    let mut children = Vec::new();
    for _ in 0..times {
        children.push(command.spawn()?);
    }
    for child in &children {
        writeln!(stdout(), "Child: {}", child.id())?;
    }
    wait_for_enter()?;
    for mut child in children {
        child.wait()?; // closes its stdin first
    }
    writeln!(stdout(), "End parent process.")
}
