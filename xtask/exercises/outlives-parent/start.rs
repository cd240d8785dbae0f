//! Exercise outlives-parent: `cargo xtask exercise outlives-parent` says what should come true.

use std::env;
use std::io;
use std::process::{self, Child, Command};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child_process(),
        _ => parent(),
    }
}

fn child_process() -> io::Result<()> {
    println!("Child: {}", process::id());
    thread::sleep(Duration::from_secs(10)); // the child's work
    Ok(())
}

fn parent() -> io::Result<()> {
    let _killer = Killer(Command::new(env::current_exe()?).arg("child").spawn()?);
    thread::sleep(Duration::from_secs(10)); // the parent's own work
    Ok(())
}

/// Kills the child when the parent ends.
struct Killer(Child);

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
