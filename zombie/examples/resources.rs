//! Zombies hold neither memory nor files, but each counts as a process. With a limit of 6, a user
//! can have one process and its 5 zombies, and no more.
//!
//! `cargo run -p zombie --example resources`, and `ps --ppid N` with the printed pid; then with
//! `-- --wait`, which leaves no zombies, and with `-- --limit 4`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::{self, ExitCode};

use clap::{Parser, value_parser};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;
use program_support::{EXIT_NOT_POSSIBLE, exit_code, stdout, wait_for_enter, wait_until_readable};
use reexec::{Child, Fork};

/// Fills a user's limit of processes with zombies.
#[derive(Parser)]
struct Options {
    /// Wait for each child, which leaves no zombies
    #[arg(long)]
    wait: bool,

    /// How many processes the user may have, 2 to 100
    #[arg(long, value_name = "NUMBER", default_value = "6")]
    #[arg(value_parser = value_parser!(u64).range(2..=100))]
    limit: u64,

    /// Count only the processes in a new user namespace
    #[arg(long, hide = true)]
    namespace: bool,
}

fn main() -> ExitCode {
    reexec::register("limited", limited);
    if let Some(code) = reexec::init() {
        return code;
    }
    Options::parse(); // a wrong option ends the program here
    let mut command = reexec::command("limited");
    command.args(env::args_os().skip(1));
    if geteuid().is_root() {
        // The limit counts the processes of a user, and does not bind root. So we become a user who
        // has no processes, and leave root's groups, too.
        let nobody = 20_000 + process::id() % 40_000;
        command.uid(nobody).gid(nobody);
    } else {
        command.arg("--namespace");
    }
    match command.status() {
        Ok(status) => match status.code() {
            Some(code) => ExitCode::from(code as u8),
            None => {
                let why = format!("the process with the limit has ended: {status}");
                exit_code("resources", Err(why))
            }
        },
        Err(error) => exit_code("resources", Err(error)),
    }
}

fn limited() -> ExitCode {
    let options = Options::parse();
    // In a user namespace of its own, the user's other processes do not count.
    if options.namespace
        && let Err(error) = unshare(CloneFlags::CLONE_NEWUSER)
    {
        let why = format!("no user namespace can be made ({error}); root needs none");
        exit_code("resources", Err(io::Error::other(why)));
        return ExitCode::from(EXIT_NOT_POSSIBLE);
    }
    exit_code("resources", fill_up(&options))
}

fn fill_up(options: &Options) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, options.limit, options.limit)?;
    let mut zombies = Vec::new();
    // One more than the limit allows at the same time, even without this process.
    for _ in 0..=options.limit {
        match start() {
            Ok(child) if options.wait => drop(child.wait()?),
            Ok(child) => zombies.push(child),
            Err(error) => {
                writeln!(stdout(), "Refused: {error}")?;
                break;
            }
        }
    }
    writeln!(stdout(), "My pid is: {}", process::id())?;
    writeln!(stdout(), "Limit: {}", options.limit)?;
    writeln!(stdout(), "Zombies: {}", zombies.len())?;
    wait_for_enter()?;

    for zombie in zombies {
        zombie.wait()?;
    }
    let status = start()?.wait()?;
    writeln!(stdout(), "After the wait, one more: {status}")
}

/// Starts a child, and waits until it has ended, without reaping it.
fn start() -> io::Result<Child> {
    match reexec::fork()? {
        Fork::Child => reexec::exit_now(0),
        Fork::Parent(child) => {
            wait_until_readable(&child, None)?;
            Ok(child)
        }
    }
}
