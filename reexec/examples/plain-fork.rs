//! Forks: two processes continue from the same line, each with its copy of all variables. A child of
//! `command` starts anew instead. With a second thread, `fork` fails: see `fork-with-threads`.
//!
//! `cargo run -p reexec --example plain-fork`, and `ps -f -p N` with each printed pid before you press Enter.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use program_support::{exit_code, stdout, wait_for_enter};
use reexec::Fork;

static VALUE: AtomicU32 = AtomicU32::new(1);

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("plain-fork", child("Executed")));
    if let Some(code) = reexec::init() {
        return code;
    }
    let change = !env::args().any(|arg| arg == "--no-change");
    exit_code("plain-fork", parent(change))
}

fn child(how: &str) -> io::Result<()> {
    writeln!(stdout(), "{how}, my pid is: {}", process::id())?;
    writeln!(stdout(), "{how}, the value is {}", VALUE.load(Ordering::Relaxed))?;
    wait_for_enter()
}

fn parent(change: bool) -> Result<(), Box<dyn Error>> {
    if change {
        VALUE.store(2, Ordering::Relaxed);
    }
    match reexec::fork()? {
        Fork::Child => {
            let code = if child("Forked").is_ok() { 0 } else { 1 };
            reexec::exit_now(code) // it must not continue with the parent's work
        }
        Fork::Parent(child) => child.wait()?,
    };
    reexec::command("childProcess").status()?;

    if change {
        thread::spawn(thread::park); // to the end of the process
    }
    match reexec::fork() {
        Err(error) => writeln!(stdout(), "Refused: {error}")?,
        Ok(Fork::Child) => reexec::exit_now(0),
        Ok(Fork::Parent(_)) => writeln!(stdout(), "Forked once more")?,
    }
    Ok(())
}
