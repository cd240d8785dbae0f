//! A wrong answer: a thread ends with its process, but it is no child.

use std::io;
use std::process;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    thread::spawn(child);
    thread::sleep(Duration::from_secs(10));
    Ok(())
}

fn child() {
    println!("Child: {}", process::id());
    thread::sleep(Duration::from_secs(10));
}
