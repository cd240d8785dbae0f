//! Which file is executed, and what it is called, are two things: a relative path counts from the
//! command's directory, and the first argument is free text.
//!
//! `cargo run -p exec-cmd --example path-and-args`, and look at exe and cmdline in /proc/N of the
//! printed pids.

#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    let result = if env::args_os().any(|arg| arg == "child") {
        // Until our parent closes our stdin, or ends.
        io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
    } else {
        parent()
    };
    exit_code("path-and-args", result)
}

fn parent() -> io::Result<()> {
    // Only ours: whoever else could write there could put a program there, for us to run.
    let only_ours = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(only_ours).tempdir();
    let folder = folder.map_err(|error| {
        let sentence = format!("cannot make a temporary folder: {error}");
        io::Error::new(
            error.kind(),
            sentence + "; TMPDIR takes another place for it",
        )
    })?;
    for name in ["one", "two"] {
        let directory = folder.path().join(name);
        fs::create_dir(&directory)?;
        fs::copy("/proc/self/exe", directory.join("program"))?;
    }
    let mut children = Vec::new();
    let second = if env::args_os().any(|arg| arg == "--same") {
        ("one", None)
    } else {
        ("two", Some("any text"))
    };
    for (name, first_argument) in [("one", None), second] {
        children.push(start(&folder.path().join(name), first_argument)?);
    }
    for child in &children {
        writeln!(stdout(), "Child: {}", child.id())?;
    }
    wait_for_enter()?;
    for mut child in children {
        child.wait()?; // closes its stdin first
    }
    folder.close()
}

/// On Linux, the directory is entered before the path is looked up; Rust does not promise that for
/// other systems.
fn start(directory: &Path, first_argument: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new("./program");
    command
        .current_dir(directory)
        .arg("child")
        .stdin(Stdio::piped());
    if let Some(text) = first_argument {
        command.arg0(text);
    }
    command.spawn()
}
