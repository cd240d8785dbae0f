//! The file that is executed and the name in the first argument are independent. A relative path
//! counts from the command's directory; the first argument is free text.
//!
//! `cargo run -p exec-cmd --example path-and-args`, and look at exe and cmdline in /proc/N of the
//! printed pids.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::unistd::mkdtemp;
use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    if env::args_os().any(|arg| arg == "child") {
        // Until our parent closes our stdin, or ends.
        let read = io::copy(&mut io::stdin(), &mut io::sink());
        return exit_code("path-and-args", read.map(drop));
    }
    // Only ours, under a name that nobody can guess: others could put a program there, for us to
    // run.
    let folder = match mkdtemp(&env::temp_dir().join("path-and-args-XXXXXX")) {
        Ok(folder) => folder,
        Err(error) => {
            let error = io::Error::from(error);
            let sentence = format!("cannot make a temporary folder: {error}");
            let result = Err(sentence + "; TMPDIR takes another place for it");
            return exit_code("path-and-args", result);
        }
    };
    let result = parent(&folder);
    let removed = fs::remove_dir_all(&folder);
    exit_code("path-and-args", result.and(removed))
}

fn parent(folder: &Path) -> io::Result<()> {
    for name in ["one", "two"] {
        let directory = folder.join(name);
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
        children.push(start(&folder.join(name), first_argument)?);
    }
    for child in &children {
        writeln!(stdout(), "Child: {}", child.id())?;
    }
    wait_for_enter()?;
    for mut child in children {
        child.wait()?; // closes its stdin first
    }
    Ok(())
}

/// Starts the program in `directory`. On Linux, the child enters the directory before it looks the
/// path up; for other systems Rust does not promise that.
fn start(directory: &Path, first_argument: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new("./program");
    command.current_dir(directory).arg("child").stdin(Stdio::piped());
    if let Some(text) = first_argument {
        command.arg0(text);
    }
    command.spawn()
}
