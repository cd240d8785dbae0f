//! Reaps a child beside other work by asking again and again: the C edition's `waitpid.c`. The
//! child is a zombie from its end to the parent's next question, and all questions but the last are
//! in vain. With the chapter's times that makes five in vain, or six if the sixth comes just before
//! the end.
//!
//! `cargo run -p goroutine-wait --example try-wait`, and the `ps` that it suggests.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::Write;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use program_support::{exit_code, seconds, stdout, suggest_ps};

/// Asks every few seconds whether a child has ended.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// How long the child lives; in the chapter, sleep(15)
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    child_sleep: Duration,

    /// How long the parent does something else between two questions; in the chapter, sleep(3)
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    every: Duration,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || child_process(&Options::parse()));
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("try-wait", parent(&Options::parse()))
}

fn child_process(options: &Options) -> ExitCode {
    let said = writeln!(stdout(), "My pid is: {}", process::id());
    if said.is_err() {
        return exit_code("try-wait", said);
    }
    thread::sleep(options.child_sleep);
    ExitCode::from(24)
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows only what we tell it
        .spawn()?;
    suggest_ps(&[process::id(), child.id()]);
    let mut questions = 1;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status; // and reaped
        }
        thread::sleep(options.every); // a real program would do its work here
        writeln!(stdout(), "sleep {}sec.", options.every.as_secs_f64())?;
        questions += 1;
    };
    writeln!(stdout(), "Child ended with {status}")?;
    writeln!(stdout(), "Questions: {questions}")?;
    Ok(())
}
