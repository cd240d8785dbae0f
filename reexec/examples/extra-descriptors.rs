//! Gives a command a descriptor 3, and no other descriptor that is open here.
//!
//! Rust has no ExtraFiles. So we pass the descriptor to a child of our own program, and the child puts
//! it at number 3 and executes the command.
//!
//! `cargo run -p reexec --example extra-descriptors`, and `ls -l /proc/N/fd`; then with `-- --std`.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    reexec::register("becomeCat", || exit_code("extra-descriptors", become_cat()));
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("extra-descriptors", parent())
}

fn become_cat() -> io::Result<()> {
    let extra = reexec::inherited_fd("extra")?;
    // The copy gets the lowest free number from 3 on. It survives exec, which closes all our other
    // descriptors.
    fcntl(&extra, FcntlArg::F_DUPFD(3))?;
    Err(Command::new("cat").exec())
}

fn parent() -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let stray = fcntl(&null, FcntlArg::F_DUPFD(7))?; // as the shell that launched us may leave it
    writeln!(stdout(), "A stray descriptor: {stray}")?;

    let extra = File::open("/etc/passwd")?;
    // Both children end when we close their stdin, or end.
    if env::args().any(|arg| arg == "--std") {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn()?;
        writeln!(stdout(), "My pid is: {}", child.id())?;
        wait_for_enter()?;
        child.wait().map(drop)
    } else {
        let child = reexec::command("becomeCat")
            .fd("extra", extra)
            .stdin(reexec::Stdio::piped())
            .spawn()
            .map_err(io::Error::other)?; // the whole sentence, not only the error number
        writeln!(stdout(), "My pid is: {}", child.id())?;
        wait_for_enter()?;
        child.wait().map(drop)
    }
}
