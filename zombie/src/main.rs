//! The chapter's `zombie.go`: a child that ends while its parent does not wait for it.
//!
//! `cargo run -p zombie`, and within 30 seconds, in another terminal, the `ps` that it suggests.

#![forbid(unsafe_code)]

mod options;

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::{mem, thread};

use clap::Parser;
use options::Options;
use program_support::{exit_code, stdout, suggest_ps};

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("zombie", child_process()));
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    exit_code("zombie", parent(&Options::parse()))
}

fn child_process() -> io::Result<()> {
    writeln!(stdout(), "Hi, I am a child Process.")?;
    writeln!(stdout(), "My pid is: {}", process::id())?;
    writeln!(stdout(), "End child process.")
} // the child ends here, and is a zombie from now on: nobody waits for it

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess").spawn()?;
    suggest_ps(&[process::id(), child.id()]);
    mem::forget(child); // as Go's Cmd without Wait; a drop would kill and reap the child
    thread::sleep(options.parent_sleep);
    writeln!(stdout(), "End parent process.")?;
    Ok(())
} // the parent ends here, and the process that adopts the zombie reaps it
