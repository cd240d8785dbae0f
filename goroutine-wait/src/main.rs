//! The chapter's `goroutine_wait.go`: a thread waits for the child while the parent goes on.
//!
//! `cargo run -p goroutine-wait`, and `ps -p N` for the printed pid before and after
//! `End child process.`; then the same with `--no-wait`.

#![forbid(unsafe_code)]

mod options;

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::{env, fmt, mem, thread};

use clap::Parser;
use options::Options;
use reexec::Child;

fn main() -> ExitCode {
    reexec::register("childProcess", || report(child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    report(parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    say(&format!("My pid is: {}", process::id()))?;
    drop(reexec::inherited_fd("spoken")?); // the parent waits for the end of this pipe
    thread::sleep(options.child_sleep);
    say("End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let (spoken, childs_end) = io::pipe()?;
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows of us only what it is told
        .fd("spoken", childs_end)
        .spawn()?;
    io::read_to_string(spoken)?; // the child's first line is to come before ours

    say("Parent start sleeping...")?;
    thread::sleep(options.parent_sleep);
    say("Parent end sleeping...")?;

    if options.no_wait {
        mem::forget(child); // dropped, our handle would kill and reap it
    } else {
        // Not joined: if the child outlives us, we end first, and it with us.
        let waiting = thread::Builder::new().spawn(move || report(wait(&child)));
        waiting.map_err(|error| {
            format!(
                "cannot start the thread that waits for the child, which is killed: {error}; what \
                 helps: a higher limit of processes (ulimit -u)"
            )
        })?;
    }
    thread::sleep(options.parent_work);

    say("End parent process.")?;
    Ok(())
}

/// Blocks one thread, not the process.
fn wait(child: &Child) -> io::Result<()> {
    let status = child.wait()?;
    if !status.success() {
        say(&format!("failed to wait command: {status}"))?;
    }
    Ok(())
}

/// `println!` would panic if nobody reads our output any more (`| head -1`).
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

/// The exit code of either process: 0, or 1 after a sentence on stderr.
fn report(result: Result<(), impl fmt::Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "goroutine-wait: {error}");
    ExitCode::FAILURE
}
