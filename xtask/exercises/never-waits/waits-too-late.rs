//! A wrong answer: the wait comes after the work.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut child = Command::new("sleep").arg("0.3").spawn()?;
    println!("Child: {}", child.id());

    thread::sleep(Duration::from_secs(3));
    println!("The work is done.");
    child.wait()?;
    Ok(())
}
