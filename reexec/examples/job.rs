//! Runs a shell from which nothing escapes, for at most one second.
//!
//! `cargo run -p reexec --example job -- 'setsid sleep 1000 & echo I am done'`

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Two processes that would survive the shell: one has left the session, one has lost its parent.
const SCRIPT: &str = "setsid sleep 1000 & (sleep 1000 &); echo the shell is $$; sleep 1000";

fn main() -> ExitCode {
    // The keeper of the job is this program, too.
    if let Some(code) = reexec::init() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "job: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let script = env::args().nth(1).unwrap_or_else(|| SCRIPT.to_owned());
    let mut shell = reexec::program("sh");
    shell.arg("-c").arg(script).deadline(Duration::from_secs(1));

    let job = shell.spawn_job()?; // dropping it would end the job, too
    let status = job.wait()?; // nothing is left now

    let why = if job.has_timed_out() { "at the deadline" } else { "by itself" };
    writeln!(io::stdout(), "the shell has ended {why}: {status}; nothing is left")?;
    Ok(())
}
