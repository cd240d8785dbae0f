//! An alarm and Ctrl-C, taken in a loop: the C edition's `signal.c`. The handlers only note that
//! their signal came; what is to be done about it is done here, after the sleep that it has ended.
//!
//! `cargo run -p echo-server --example signal`, and press Ctrl-C; then the same with `--std`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::unistd::{alarm, sleep};
use program_support::{exit_code, stdout};

/// Three long sleeps that an alarm, or Ctrl-C, ends early.
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

    /// Sleep by std's thread::sleep, which goes on sleeping after a signal
    #[arg(long)]
    std: bool,
}

fn main() -> ExitCode {
    exit_code("signal", three_sleeps(&Options::parse()))
}

fn three_sleeps(options: &Options) -> io::Result<()> {
    reexec::chapter::count(libc::SIGALRM)?;
    reexec::chapter::count(libc::SIGINT)?;
    alarm::set(options.alarm);
    let (mut alarms, mut interrupts) = (0, 0);
    for _ in 0..3 {
        writeln!(stdout(), "wait...")?;
        let left = if options.std {
            thread::sleep(Duration::from_secs(options.sleep.into()));
            0
        } else {
            sleep(options.sleep) // sleep(3): what is left of it when a signal came
        };
        if is_more(&mut alarms, libc::SIGALRM) {
            writeln!(stdout(), "Time out!")?;
            alarm::set(options.alarm);
        }
        if is_more(&mut interrupts, libc::SIGINT) {
            writeln!(stdout(), "CTRL+C pressed")?;
        }
        writeln!(stdout(), "left of the sleep: {left} s")?;
    }
    Ok(())
}

/// Whether the signal has come since the last time. How often, nobody knows: signals merge.
fn is_more(known: &mut usize, signal: i32) -> bool {
    let before = *known;
    *known = reexec::chapter::counted(signal);
    *known > before
}
