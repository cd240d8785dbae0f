//! Handles an alarm and Ctrl-C in a loop: the C edition's `signal.c`. The handlers only count their
//! signals. The work is done in the loop, after the sleep that the signal has ended.
//!
//! `cargo run -p goroutine-wait --example signal`, and press Ctrl-C; then the same with `-- --std`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::unistd::{alarm, sleep};
use program_support::{exit_code, stdout, suggest_ps};

/// Sleeps three times, until an alarm or Ctrl-C ends each sleep early.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// When the alarm comes; in the chapter, alarm(2)
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    alarm: u32,

    /// How long each sleep would take; in the chapter, sleep(100)
    #[arg(long, value_name = "SECONDS", default_value = "100")]
    sleep: u32,

    /// Sleep with std's thread::sleep, which goes on sleeping after a signal
    #[arg(long)]
    std: bool,
}

fn main() -> ExitCode {
    exit_code("signal", three_sleeps(&Options::parse()))
}

fn three_sleeps(options: &Options) -> io::Result<()> {
    reexec::workspace::count(libc::SIGALRM)?;
    reexec::workspace::count(libc::SIGINT)?;
    suggest_ps(&[process::id()]);
    alarm::set(options.alarm);
    let (mut alarms, mut interrupts) = (0, 0);
    for _ in 0..3 {
        writeln!(stdout(), "wait...")?;
        let left = if options.std {
            thread::sleep(Duration::from_secs(options.sleep.into()));
            0
        } else {
            sleep(options.sleep) // sleep(3) returns the time that is left when a signal ends it
        };
        if update(&mut alarms, libc::SIGALRM) {
            writeln!(stdout(), "Time out!")?;
            alarm::set(options.alarm);
        }
        if update(&mut interrupts, libc::SIGINT) {
            writeln!(stdout(), "CTRL+C pressed")?;
        }
        writeln!(stdout(), "left of the sleep: {left} s")?;
    }
    Ok(())
}

/// Brings `known` up to date, and returns whether the signal has come since. Nobody can know how
/// often: signals merge.
fn update(known: &mut usize, signal: i32) -> bool {
    let before = *known;
    *known = reexec::workspace::counted(signal);
    *known > before
}
