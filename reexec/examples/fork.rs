//! The chapter's `fork/main.go`: starts its own program again to run another function.
//!
//! `cargo run -p reexec --example fork`
//!
//! Go runs `init` functions before `main`. Rust does not, so here `init` is the first statement of
//! `main`.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = init() {
        return code; // the child, after childProcess has run
    }
    report(parent())
}

/// Runs in both processes. Only the parent continues with the rest of `main`.
fn init() -> Option<ExitCode> {
    if let Err(error) = say(&format!("init start, os.Args = [{}]", arguments())) {
        return Some(report(Err(error)));
    }
    reexec::register("childProcess", || report(child_process()));
    reexec::init()
}

fn child_process() -> io::Result<()> {
    say("childProcess")
}

fn parent() -> Result<(), Box<dyn Error>> {
    say(&format!("main start, os.Args = [{}]", arguments()))?;

    let child = reexec::command("childProcess").spawn()?; // stdin, stdout, stderr are shared
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("childProcess failed: {status}").into());
    }

    say("main exit")?;
    Ok(())
}

fn arguments() -> String {
    let arguments: Vec<_> = env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    arguments.join(" ")
}

/// Prints a line. `println!` would panic when the reader of our output has ended (`| head -1`).
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

/// Returns the exit code of a process: 0, or 1 after a sentence on stderr.
fn report(result: Result<(), impl Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "fork: {error}");
    ExitCode::FAILURE
}
