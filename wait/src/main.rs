//! The chapter's `wait.go`: the parent waits for its child, and so leaves no zombie.
//!
//! `cargo run -p wait`; from the fifth second to the tenth the parent blocks in wait.

#![forbid(unsafe_code)]

mod options;

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use options::Options;

fn main() -> ExitCode {
    reexec::register("childProcess", || report(child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    report(parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    thread::sleep(options.child_sleep);
    say("End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows of us only what it is told
        .spawn()?;

    say("Parent start sleeping...")?;
    thread::sleep(options.parent_sleep);
    say("Parent end sleeping...")?;

    let status = child.wait()?; // blocks until the child has ended, and reaps it
    if !status.success() {
        say(&format!("failed to wait command: {status}"))?;
    }

    say("End parent process.")?;
    Ok(())
}

/// `println!` would panic if nobody reads our output any more (`| head -1`).
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

/// The exit code of either process: 0, or 1 after a sentence on stderr.
fn report(result: Result<(), impl Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "wait: {error}");
    ExitCode::FAILURE
}
