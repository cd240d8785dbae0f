//! What a command has for which nothing is set: environment, directory and, by `spawn`, the
//! streams of its parent. Go's has the null device for the streams; Rust's has that only for the
//! stdin of `output`, which gets pipes for the other two.
//!
//! `cargo run -p exec-cmd --example inherited`, and look into /proc/N of the printed pids; then
//! Ctrl-D, and within 10 seconds at the child of `output`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use program_support::{exit_code, stdout};

fn main() -> ExitCode {
    let nothing = env::args_os().any(|arg| arg == "--nothing");
    exit_code("inherited", parent(nothing))
}

fn parent(nothing: bool) -> io::Result<()> {
    let mut command = Command::new("/bin/cat");
    if nothing {
        command.env_clear().current_dir("/");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    }
    let mut child = command.spawn()?;
    let said = writeln!(stdout(), "My pid is: {}", child.id());
    if nothing {
        io::copy(&mut io::stdin(), &mut io::sink())?; // the child has a pipe, and so cannot
    }
    child.wait()?; // it reads our stdin to its end
    said?;

    writeln!(stdout(), "The next one is run by output().")?;
    let mut command = Command::new("sleep");
    let output = command.arg("10").output()?;
    writeln!(stdout(), "It ended with {}", output.status)
}
