//! The other order of ends: the parent goes first, and its child is an orphan. The nearest living
//! ancestor that is a subreaper adopts it, or else init; that one has to reap it, too.
//!
//! `cargo run -p zombie --example orphan`, and `ps -o pid,ppid,stat,args` on the printed pid.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::os::unix::process::parent_id;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;

/// An orphan: the parent ends first.
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
    reexec::register("childProcess", || report(child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code;
    }
    report(parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    say(&format!("My pid is: {}", process::id()))?;
    say(&format!("My parent is: {}", parent_id()))?;
    thread::sleep(options.child_sleep);
    say(&format!("My parent is now: {}", parent_id()))?;
    say("End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows of us only what it is told
        .outlive_parent() // otherwise it would end with us
        .spawn()?;
    mem::forget(child); // dropped, the handle would kill it

    thread::sleep(options.parent_sleep);

    say("End parent process.")?;
    Ok(())
} // the parent ends here, and its child is an orphan from now on

fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
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
    let _ = writeln!(io::stderr(), "orphan: {error}");
    ExitCode::FAILURE
}
