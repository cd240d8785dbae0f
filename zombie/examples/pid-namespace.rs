//! In a PID namespace, as in a container, process numbers start again: its first process is 1, the
//! next is 2. All numbers are below the one in /proc/sys/kernel/pid_max.
//!
//! `cargo run -p zombie --example pid-namespace`, as root or where user namespaces are allowed, and
//! `ps -p N` with the numbers outside; then with `-- --outside`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use program_support::{EXIT_NOT_POSSIBLE, exit_code, seconds, stdout};
use reexec::Child;

/// Prints the numbers of three children in a PID namespace of their own.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 77 not possible here (a sentence on stderr says why).
#[derive(Parser)]
struct Options {
    /// Make no namespace
    #[arg(long)]
    outside: bool,

    /// How long the children live
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("pid-namespace", child_process()));
    if let Some(code) = reexec::init() {
        return code;
    }
    let options = Options::parse();
    if !options.outside
        && let Err(error) = enter_namespace()
    {
        let why = format!("no PID namespace can be made ({error}); root can, for example");
        exit_code("pid-namespace", Err(io::Error::other(why)));
        return ExitCode::from(EXIT_NOT_POSSIBLE);
    }
    exit_code("pid-namespace", parent(&options))
}

/// Makes a PID namespace. We stay outside: the children that we start from now on are in it.
fn enter_namespace() -> nix::Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        // A process may make any namespace in a user namespace of its own.
        Err(Errno::EPERM) => unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID),
        result => result,
    }
}

fn child_process() -> io::Result<()> {
    writeln!(stdout(), "{}", process::id())?;
    io::copy(&mut io::stdin(), &mut io::sink())?; // until the parent has ended
    Ok(())
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    let limit = fs::read_to_string("/proc/sys/kernel/pid_max")?;
    writeln!(stdout(), "Numbers are below: {}", limit.trim())?;
    let children = [start()?, start()?, start()?];
    thread::sleep(options.sleep);
    // The drop kills and reaps. Number 1 must come last: its end ends the namespace, and waits
    // until all others in it have been reaped, which is up to us.
    children.into_iter().rev().for_each(drop);
    writeln!(stdout(), "End parent process.")?;
    Ok(())
}

fn start() -> Result<Child, Box<dyn Error>> {
    let child = reexec::command("childProcess")
        .stdin(reexec::Stdio::piped())
        .stdout(reexec::Stdio::piped())
        .spawn()?;
    let mut inside = String::new();
    if let Some(stdout) = child.take_stdout() {
        BufReader::new(stdout).read_line(&mut inside)?;
    }
    let (outside, inside) = (child.id(), inside.trim());
    writeln!(stdout(), "Child outside: {outside}, to itself: {inside}")?;
    Ok(child)
}
