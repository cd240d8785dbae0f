//! The chapter's `wait.go`: the parent waits for its child, and so leaves no zombie.
//!
//! `cargo run -p wait`, and the `ps` that it suggests: from the fifth second to the tenth the parent
//! blocks in wait (`do_wait`).

#![forbid(unsafe_code)]

mod options;

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::{env, thread};

use clap::Parser;
use options::Options;
use program_support::{exit_code, stdout, suggest_ps};

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("wait", child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    exit_code("wait", parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    thread::sleep(options.child_sleep);
    writeln!(stdout(), "End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows only what we tell it
        .spawn()?;

    writeln!(stdout(), "Parent start sleeping...")?;
    suggest_ps(&[process::id(), child.id()]);
    thread::sleep(options.parent_sleep);
    writeln!(stdout(), "Parent end sleeping...")?;

    let status = child.wait()?; // blocks until the child has ended, and reaps it
    if !status.success() {
        writeln!(stdout(), "failed to wait command: {status}")?;
    }
    writeln!(stdout(), "End parent process.")?;
    Ok(())
}
