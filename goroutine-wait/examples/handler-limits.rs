//! Two limits of signal handlers. A handler may only count its signals, but signals merge, so the
//! count is too small. And if the signal comes between our look at the count and our wait, we see
//! it late.
//!
//! `cargo run -p goroutine-wait --example handler-limits`, and wait 10 seconds; then with
//! `-- --signalfd`, where the wait ends at once.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use program_support::{exit_code, seconds, stdout, wait_until_readable};

/// Shows signals that merge, and a signal that is seen late.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Block the signal, and let the wait end when it comes
    #[arg(long)]
    signalfd: bool,

    /// How long to wait, if nothing ends the wait
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    wait: Duration,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit_code("handler-limits", merge().and_then(|()| look_and_wait(&options)))
}

fn merge() -> io::Result<()> {
    reexec::workspace::count(libc::SIGUSR1)?;
    let sigusr1 = SigSet::from(Signal::SIGUSR1);
    sigusr1.thread_block()?; // as the kernel does while the handler runs
    for _ in 0..10 {
        raise(Signal::SIGUSR1)?;
    }
    sigusr1.thread_unblock()?;
    let noted = reexec::workspace::counted(libc::SIGUSR1);
    writeln!(stdout(), "Sent: 10, noted: {noted}")
}

/// Looks whether the signal has come, and waits if it has not:
///
/// 1. We look: the count is 0.
/// 2. The signal comes, and the handler counts it.
/// 3. We wait, and do not look at the count before the wait is over.
///
/// With a signalfd, the signal is blocked before step 1. It stays pending in step 2, and ends the
/// wait in step 3 at once, because we wait for the signalfd, too.
fn look_and_wait(options: &Options) -> io::Result<()> {
    let sigusr2 = SigSet::from(Signal::SIGUSR2);
    reexec::workspace::count(libc::SIGUSR2)?;
    if options.signalfd {
        sigusr2.thread_block()?;
    }
    let arrivals = SignalFd::with_flags(&sigusr2, SfdFlags::SFD_CLOEXEC)?;
    if reexec::workspace::counted(libc::SIGUSR2) == 0 {
        raise(Signal::SIGUSR2)?;
        writeln!(stdout(), "The signal has come. Now we wait.")?;
        if !wait_until_readable(&arrivals, Some(options.wait))? {
            let noted = reexec::workspace::counted(libc::SIGUSR2);
            return writeln!(stdout(), "The wait is over. Noted meanwhile: {noted}");
        }
    }
    arrivals.read_signal()?;
    writeln!(stdout(), "The signal has ended the wait.")
}
