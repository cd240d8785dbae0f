//! What a signal handler cannot do. It may only note that its signal came; but signals merge, so
//! the count is too small; and a note is seen late if it is made between the look and the wait.
//!
//! `cargo run -p echo-server --example handler-limits`, then with `-- --signalfd`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use program_support::{exit_code, seconds, stdout, wait_until_readable};

/// Signals that merge, and one that is seen late.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Let the wait itself tell of the signal, which is blocked
    #[arg(long)]
    signalfd: bool,

    /// How long the wait takes, if nothing ends it
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    wait: Duration,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit_code(
        "handler-limits",
        merge().and_then(|()| look_and_wait(&options)),
    )
}

fn merge() -> io::Result<()> {
    reexec::chapter::count(libc::SIGUSR1)?;
    let sigusr1 = SigSet::from(Signal::SIGUSR1);
    sigusr1.thread_block()?; // as it is while its handler runs
    for _ in 0..10 {
        raise(Signal::SIGUSR1)?;
    }
    sigusr1.thread_unblock()?;
    let noted = reexec::chapter::counted(libc::SIGUSR1);
    writeln!(stdout(), "Sent: 10, noted: {noted}")
}

/// 1. We look: nothing has been noted.
/// 2. The signal comes, and the handler notes it.
/// 3. We wait, and nobody looks at the note until the wait is over.
///
/// With a signalfd the signal is blocked from before the look, so in 2. it stays pending, and in 3.
/// the wait ends at once, for the signal is one of the things waited for.
fn look_and_wait(options: &Options) -> io::Result<()> {
    let sigusr2 = SigSet::from(Signal::SIGUSR2);
    reexec::chapter::count(libc::SIGUSR2)?;
    if options.signalfd {
        sigusr2.thread_block()?;
    }
    let arrivals = SignalFd::with_flags(&sigusr2, SfdFlags::SFD_CLOEXEC)?;
    if reexec::chapter::counted(libc::SIGUSR2) == 0 {
        raise(Signal::SIGUSR2)?;
        writeln!(stdout(), "The signal has come. Now we wait.")?;
        if !wait_until_readable(&arrivals, Some(options.wait))? {
            let noted = reexec::chapter::counted(libc::SIGUSR2);
            return writeln!(stdout(), "The wait is over. Noted meanwhile: {noted}");
        }
    }
    arrivals.read_signal()?;
    writeln!(stdout(), "The signal has ended the wait.")
}
