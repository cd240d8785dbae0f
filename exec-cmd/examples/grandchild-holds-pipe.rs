//! A command has ended, but what it has started still holds the pipe that we read its output
//! from: waiting for the status returns at once, waiting for the end of the output does not.
//! Go's `Wait` waits for both.
//!
//! `cargo run -p exec-cmd --example grandchild-holds-pipe`, and `kill` with the number of the
//! grandchild; then with `-- --closed`, which gives it another stdout.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use program_support::{exit_code, stdout};

fn main() -> ExitCode {
    let script = if env::args_os().any(|arg| arg == "--closed") {
        "sleep 60 >/dev/null & echo $!"
    } else {
        "sleep 60 & echo $!"
    };
    exit_code("grandchild-holds-pipe", parent(script))
}

fn parent(script: &str) -> io::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut grandchild = String::new();
    output.read_line(&mut grandchild)?;
    writeln!(stdout(), "Grandchild: {}", grandchild.trim())?;

    let status = child.wait()?;
    writeln!(stdout(), "The command has ended: {status}")?;
    writeln!(stdout(), "Reading to the end of its output...")?;
    io::copy(&mut output, &mut io::sink())?;
    writeln!(stdout(), "The output has ended.")
}
