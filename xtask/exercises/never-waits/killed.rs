//! A wrong answer: a signal to a child that nobody waits for.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut child = Command::new("sleep").arg("0.3").spawn()?;
    println!("Child: {}", child.id());
    child.kill()?;

    thread::sleep(Duration::from_secs(3));
    println!("The work is done.");
    Ok(())
}
