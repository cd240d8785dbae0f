//! Exercise never-waits: `cargo xtask exercise never-waits` says what should come true.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let child = Command::new("sleep").arg("0.3").spawn()?;
    println!("Child: {}", child.id());

    thread::sleep(Duration::from_secs(3)); // the parent's own work
    println!("The work is done.");
    Ok(())
}
