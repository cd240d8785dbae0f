//! What zombies take up: no memory and no files any more, but each of them counts as a process.
//! With a limit of 6, a process and its 5 zombies are all that its user can have.
//!
//! `cargo run -p zombie --example resources`; then with `-- --wait`, which leaves no zombies.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::{self, ExitCode};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;
use program_support::{exit_code, stdout, wait_for_enter, wait_until_readable};
use reexec::{Child, Fork};

const EXIT_NOT_POSSIBLE: u8 = 77;
const LIMIT: u64 = 6;
/// More than the limit allows at the same time.
const CHILDREN: usize = 10;

fn main() -> ExitCode {
    reexec::register("limited", limited);
    if let Some(code) = reexec::init() {
        return code;
    }
    let mut command = reexec::command("limited");
    command.args(env::args_os().skip(1));
    if geteuid().is_root() {
        // The limit is for the processes of a user, and not for root: so for somebody who has none,
        // and who has nothing of root's group either.
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
    // Where its user has no other processes, or none that count.
    if is_given("--namespace")
        && let Err(error) = unshare(CloneFlags::CLONE_NEWUSER)
    {
        let why = format!("no user namespace can be made ({error}); root needs none");
        exit_code("resources", Err(io::Error::other(why)));
        return ExitCode::from(EXIT_NOT_POSSIBLE);
    }
    exit_code("resources", fill_up())
}

fn fill_up() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, LIMIT, LIMIT)?;
    let mut zombies = Vec::new();
    for _ in 0..CHILDREN {
        match start() {
            Ok(child) if is_given("--wait") => drop(child.wait()?),
            Ok(child) => zombies.push(child),
            Err(error) => {
                writeln!(stdout(), "Refused: {error}")?;
                break;
            }
        }
    }
    writeln!(stdout(), "My pid is: {}", process::id())?;
    writeln!(stdout(), "Zombies: {}", zombies.len())?;
    wait_for_enter()?;

    for zombie in zombies {
        zombie.wait()?;
    }
    let status = start()?.wait()?;
    writeln!(stdout(), "After the wait, one more: {status}")
}

/// A child that has ended.
fn start() -> io::Result<Child> {
    match reexec::fork()? {
        Fork::Child => reexec::exit_now(0),
        Fork::Parent(child) => {
            wait_until_readable(&child, None)?;
            Ok(child)
        }
    }
}

fn is_given(option: &str) -> bool {
    env::args_os().any(|arg| arg == option)
}
