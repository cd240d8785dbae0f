//! Runs a function that fails in a child, and gets the failure as the child's status.
//!
//! A command cannot run a function, because a function is no file. A child that executes our own
//! program can.
//!
//! `cargo run -p reexec --example failing-child`, and `ps -f -p N` with the printed pid; then with
//! `-- --exit-0`, as the chapter has it.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::{self, Command, ExitCode};

use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("failing-child", child_process()));
    if let Some(code) = reexec::init() {
        let hide = env::args().any(|arg| arg == "--exit-0");
        return if hide { ExitCode::SUCCESS } else { code };
    }
    exit_code("failing-child", parent())
}

fn child_process() -> io::Result<()> {
    writeln!(stdout(), "My pid is: {}", process::id())?;
    wait_for_enter()?;
    Err(io::Error::other("this function fails"))
}

fn parent() -> Result<(), Box<dyn Error>> {
    let Err(error) = Command::new("childProcess").spawn() else {
        return Err("there is a program childProcess".into());
    };
    writeln!(stdout(), "As a command: {error}")?;

    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // the child starts anew, and knows only its arguments
        .spawn()?;
    writeln!(stdout(), "Re-executed: {}", child.wait()?)?;
    Ok(())
}
