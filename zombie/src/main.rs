//! The chapter's `zombie.go`: a child that ends while its parent does not wait for it.
//!
//! `cargo run -p zombie`, and within 30 seconds `ps au` in another terminal.

#![forbid(unsafe_code)]

mod options;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::process::{self, ExitCode};
use std::thread;

use clap::Parser;
use options::Options;

fn main() -> ExitCode {
    reexec::register("childProcess", || report(child_process()));
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    report(parent(&Options::parse()))
}

fn child_process() -> io::Result<()> {
    say("Hi, I am a child Process.")?;
    say(&format!("My pid is: {}", process::id()))?;
    say("End child process.")
} // the child ends here, and is a zombie from now on: nobody waits for it

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess").spawn()?;
    // Dropped, our handle would kill and reap the child. Forgotten, it is what Go's Cmd is
    // without Wait: the zombie stays until we end, and whoever adopts it then reaps it.
    mem::forget(child);

    thread::sleep(options.parent_sleep);

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
    let _ = writeln!(io::stderr(), "zombie: {error}");
    ExitCode::FAILURE
}
