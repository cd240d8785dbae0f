//! The chapter's `goroutine_wait.go`: a thread waits for the child while the parent goes on.
//!
//! `cargo run -p goroutine-wait`, and the `ps` that it suggests, before and after
//! `End child process.`; then the same with `-- --no-wait`.

#![forbid(unsafe_code)]

mod options;

use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::{env, mem, thread};

use clap::Parser;
use options::Options;
use program_support::{exit_code, stdout, suggest_ps};
use reexec::Child;

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        exit_code("goroutine-wait", child_process(&Options::parse()))
    });
    if let Some(code) = reexec::init() {
        return code; // the child, after child_process has run
    }
    exit_code("goroutine-wait", parent(&Options::parse()))
}

fn child_process(options: &Options) -> io::Result<()> {
    writeln!(stdout(), "My pid is: {}", process::id())?;
    drop(reexec::inherited_fd("printed")?); // the parent waits for the end of this pipe
    thread::sleep(options.child_sleep);
    writeln!(stdout(), "End child process.")
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let (printed, childs_end) = io::pipe()?;
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows only what we tell it
        .fd("printed", childs_end)
        .spawn()?;
    io::read_to_string(printed)?; // the child's first line must come before ours

    writeln!(stdout(), "Parent start sleeping...")?;
    suggest_ps(&[process::id(), child.id()]);
    thread::sleep(options.parent_sleep);
    writeln!(stdout(), "Parent end sleeping...")?;

    if options.no_wait {
        mem::forget(child); // dropped, our handle would kill and reap it
    } else {
        // Not joined: if the child outlives the parent's work, the parent ends first, and the child
        // with it.
        let waiter =
            thread::Builder::new().spawn(move || exit_code("goroutine-wait", wait(&child)));
        waiter.map_err(|error| {
            format!(
                "cannot start the thread that waits for the child, which is killed: {error}; what \
                 helps: a higher limit of processes (ulimit -u)"
            )
        })?;
    }
    thread::sleep(options.parent_work);

    writeln!(stdout(), "End parent process.")?;
    Ok(())
}

/// Blocks one thread, not the process.
fn wait(child: &Child) -> io::Result<()> {
    let status = child.wait()?;
    if !status.success() {
        writeln!(stdout(), "failed to wait command: {status}")?;
    }
    Ok(())
}
