//! Functions that several example programs share.

#![allow(dead_code, reason = "each program uses its part of this file")]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

/// The exit code of a program that is not possible here.
pub(crate) const EXIT_NOT_POSSIBLE: u8 = 77;

/// Prints a line. `println!` would panic when the reader of our output has ended (`| head -1`).
pub(crate) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

/// Waits for Enter, so that the user can look at the processes.
pub(crate) fn wait_for_enter() -> io::Result<()> {
    say("Press Enter to go on.")?;
    io::stdin().read_line(&mut String::new()).map(drop)
}

/// Returns the exit code of a process: 0, or 1 after a sentence on stderr.
pub(crate) fn report(program: &str, result: Result<(), impl Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "{program}: {error}");
    ExitCode::FAILURE
}

/// Whether strace can trace a program here; prints the reason if it cannot.
pub(crate) fn strace_works(program: &str) -> bool {
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let why = match tried {
        Ok(status) if status.success() => return true,
        Ok(status) => format!("strace cannot trace here ({status}); root can, for example"),
        Err(error) => format!("strace cannot be run ({error}); apt-get install strace"),
    };
    let _ = writeln!(io::stderr(), "{program}: {why}");
    false
}
