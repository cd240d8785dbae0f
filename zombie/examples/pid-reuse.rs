//! The number of a zombie is still taken: the kernel skips it. When the zombie has been reaped, the
//! next process gets the number. All this runs in a PID namespace of its own, where nobody else
//! takes numbers, and where we can set the number from which the kernel goes on.
//!
//! `cargo run -p zombie --example pid-reuse`, as root or where user namespaces are allowed.
//! At each `Press Enter`, `ps -ef --forest` shows the processes with their numbers outside.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, pause};
use program_support::{EXIT_NOT_POSSIBLE, exit_code, stdout, wait_for_enter, wait_until_readable};
use reexec::{Child, Fork};

/// The last number that the kernel has given in the namespace of the process that reads this.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

fn main() -> ExitCode {
    reexec::register("init", first_of_namespace);
    if let Some(code) = reexec::init() {
        return code;
    }
    if let Err(error) = enter_namespace() {
        return not_possible("no PID namespace can be made", &error);
    }
    match reexec::command("init").args(env::args_os().skip(1)).status() {
        Ok(status) => match status.code() {
            Some(code) => ExitCode::from(code as u8),
            None => {
                let why = format!("the first process of the namespace has ended: {status}");
                exit_code("pid-reuse", Err(why))
            }
        },
        Err(error) => exit_code("pid-reuse", Err(error)),
    }
}

/// Makes a PID namespace. We stay outside: the first child that we start is in it.
fn enter_namespace() -> io::Result<()> {
    let user = geteuid();
    match unshare(CloneFlags::CLONE_NEWPID) {
        // A process may make any namespace in a user namespace of its own. The map makes it root
        // there, so that it keeps its capabilities after exec.
        Err(Errno::EPERM) => {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID)?;
            fs::write("/proc/self/uid_map", format!("0 {user} 1"))
        }
        result => Ok(result?),
    }
}

fn first_of_namespace() -> ExitCode {
    if let Err(error) = count_from(1) {
        return not_possible(&format!("{LAST} cannot be written"), &error);
    }
    let wait = env::args_os().any(|arg| arg == "--wait");
    exit_code("pid-reuse", skip_and_use_again(wait))
}

fn not_possible(what: &str, error: &io::Error) -> ExitCode {
    let remedy = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => "; root can, for example",
        Some(Errno::ENOSPC) => {
            "; what helps: a higher limit (sysctl user.max_user_namespaces, user.max_pid_namespaces)"
        }
        Some(Errno::ENOENT) => "; what helps: a kernel with CONFIG_CHECKPOINT_RESTORE",
        _ => "",
    };
    exit_code("pid-reuse", Err(format!("{what} ({error}){remedy}")));
    ExitCode::from(EXIT_NOT_POSSIBLE)
}

fn skip_and_use_again(wait: bool) -> io::Result<()> {
    let ended = start(|| ())?;
    let number = ended.id();
    wait_until_readable(&ended, None)?;
    if wait {
        ended.wait()?;
    }
    count_from(number - 1)?;
    let next = start(pause)?;
    writeln!(stdout(), "Ended: {number}, the next: {}", next.id())?;
    wait_for_enter()?;

    ended.wait()?;
    count_from(number - 1)?;
    let again = start(pause)?;
    writeln!(stdout(), "Waited for: {number}, the next: {}", again.id())?;
    wait_for_enter()
} // the drop of each handle kills and reaps its child

/// Gives the next process the first free number after `last`.
fn count_from(last: u32) -> io::Result<()> {
    fs::write(LAST, last.to_string())
}

fn start(child: impl FnOnce()) -> io::Result<Child> {
    match reexec::fork()? {
        Fork::Parent(handle) => Ok(handle),
        Fork::Child => {
            child();
            reexec::exit_now(0)
        }
    }
}
