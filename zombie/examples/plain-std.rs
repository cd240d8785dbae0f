//! A zombie with plain std: a child that has ended, and a parent that does not wait for it.
//!
//! `cargo run -p zombie --example plain-std`, and within 30 seconds the `ps` that it suggests.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use program_support::suggest_ps;

fn main() -> io::Result<()> {
    let child = Command::new("true").spawn()?; // `true` ends at once
    writeln!(io::stdout(), "The zombie's pid is: {}", child.id())?;
    suggest_ps(&[process::id(), child.id()]);
    thread::sleep(Duration::from_secs(30)); // `child.wait()` here would reap the child at once
    Ok(())
} // the parent ends here, and the process that adopts the zombie reaps it
