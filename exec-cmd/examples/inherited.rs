//! A command for which nothing is set inherits environment and directory from its parent, and with
//! `spawn` its streams, too. In Go its streams are the null device. In Rust only `output` uses
//! that, for stdin; it makes pipes for the other two.
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
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let mut child = command.spawn()?;
    let said = writeln!(stdout(), "My pid is: {}", child.id());
    if nothing {
        io::copy(&mut io::stdin(), &mut io::sink())?; // the child has a pipe instead
    }
    child.wait()?; // it reads our stdin to its end
    said?;

    writeln!(stdout(), "The next one is run by output().")?;
    let mut command = Command::new("sleep");
    let output = command.arg("10").output()?;
    writeln!(stdout(), "It ended with {}", output.status)
}
