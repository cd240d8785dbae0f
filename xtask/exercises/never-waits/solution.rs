//! Exercise never-waits: a thread waits, while the parent works.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut child = Command::new("sleep").arg("0.3").spawn()?;
    println!("Child: {}", child.id());
    let waiter = thread::spawn(move || child.wait());

    thread::sleep(Duration::from_secs(3)); // the parent's own work
    println!("The work is done.");
    match waiter.join() {
        Ok(status) => status.map(drop),
        Err(_) => Err(io::Error::other("the thread that waits has panicked")),
    }
}
