//! A child has a status only when it has ended. Of an exit code, only the lowest 8 bits arrive: 300
//! becomes 44.
//!
//! `cargo run -p exec-cmd --example status`, and the `ps` that it suggests, before you press Enter.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use program_support::{exit_code, stdout, suggest_ps, wait_for_enter};

fn main() -> ExitCode {
    exit_code("status", parent())
}

fn parent() -> io::Result<()> {
    let mut children = Vec::new();
    for end in ["exit 7", "kill -9 $$", "exit 300"] {
        let child = Command::new("sh")
            .args(["-c", &format!("read line; {end}")]) // the shell waits until we close its stdin
            .stdin(Stdio::piped())
            .spawn()?;
        children.push((end, child));
    }
    for (end, child) in &mut children {
        let status = child.try_wait()?;
        writeln!(stdout(), "Before {end}: {status:?}")?;
    }
    let pids: Vec<_> = children.iter().map(|(_, child)| child.id()).collect();
    suggest_ps(&pids);
    wait_for_enter()?;
    for (end, child) in &mut children {
        let status = child.wait()?; // closes its stdin first
        writeln!(stdout(), "After {end}: {status}")?;
    }
    for (end, child) in &mut children {
        let status = child.wait()?; // makes no system call: std has kept the status
        writeln!(stdout(), "Once more, after {end}: {status}")?;
    }
    Ok(())
}
