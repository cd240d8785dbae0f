//! How a child has ended is known only after it has, and of an exit code only the lowest 8 bits:
//! 300 arrives as 44.
//!
//! `cargo run -p exec-cmd --example status`

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    exit_code("status", parent())
}

fn parent() -> io::Result<()> {
    let mut children = Vec::new();
    for end in ["exit 7", "kill -9 $$", "exit 300"] {
        let child = Command::new("sh")
            .args(["-c", &format!("read line; {end}")]) // until we close its stdin
            .stdin(Stdio::piped())
            .spawn()?;
        children.push((end, child));
    }
    for (end, child) in &mut children {
        let status = child.try_wait()?;
        writeln!(stdout(), "Before {end}: {status:?}")?;
    }
    wait_for_enter()?;
    for (end, child) in &mut children {
        let status = child.wait()?; // closes its stdin first
        writeln!(stdout(), "After {end}: {status}")?;
    }
    for (end, child) in &mut children {
        let status = child.wait()?; // no call any more: the process is gone, its status was kept
        writeln!(stdout(), "Once more, after {end}: {status}")?;
    }
    Ok(())
}
