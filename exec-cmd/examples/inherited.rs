//! What a command has for which nothing is set: environment, directory and, by `spawn`, the
//! streams of its parent. Go's has the null device for the streams; Rust's has that only for the
//! stdin of `output`, which gets pipes for the other two.
//!
//! `cargo run -p exec-cmd --example inherited`, and look into /proc/N of the printed pids; then
//! Ctrl-D, and within 10 seconds at the child of `output`.

#![forbid(unsafe_code)]

#[path = "../../echo-server/examples/common/mod.rs"]
mod common;

use std::env;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use common::{report, say};

fn main() -> ExitCode {
    let nothing = env::args().any(|arg| arg == "--nothing");
    report("inherited", parent(nothing))
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
    let said = say(&format!("My pid is: {}", child.id()));
    if nothing {
        io::copy(&mut io::stdin(), &mut io::sink())?; // the child has a pipe, and so cannot
    }
    child.wait()?; // it reads our stdin to its end
    said?;

    say("The next one is run by output().")?;
    let mut command = Command::new("sleep");
    let output = command.arg("10").output()?;
    say(&format!("It ended with {}", output.status))
}
