//! The other order: the parent ends first, and its child becomes an orphan. The nearest living
//! ancestor that is a subreaper adopts it, or else init. The adopter must reap it, too.
//!
//! `cargo run -p zombie --example orphan`, and the `ps` that it suggests, before and after
//! `End parent process.`

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::mem;
use std::os::unix::process::parent_id;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use program_support::{exit_code, seconds, stdout, suggest_ps};

/// Starts a child that outlives its parent.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// How long the parent lives
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    parent_sleep: Duration,

    /// How long the child lives
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds)]
    child_sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("orphan", child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("orphan", parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    writeln!(stdout(), "My pid is: {}", process::id())?;
    writeln!(stdout(), "My parent is: {}", parent_id())?;
    thread::sleep(options.child_sleep);
    writeln!(stdout(), "My parent is now: {}", parent_id())?;
    writeln!(stdout(), "End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows only what we tell it
        .outlive_parent() // otherwise it would end with us
        .spawn()?;
    suggest_ps(&[process::id(), child.id()]);
    mem::forget(child); // dropped, the handle would kill it

    thread::sleep(options.parent_sleep);

    writeln!(stdout(), "End parent process.")?;
    Ok(())
} // the parent ends here, and its child is an orphan from now on
