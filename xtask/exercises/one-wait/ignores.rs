//! A wrong answer: a parent that ignores SIGCHLD has no zombies, and no statuses.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

fn main() -> io::Result<()> {
    reexec::signal::ignore(Signal::SIGCHLD as i32)?;

    let mut long_lived = Command::new("sleep").arg("5").spawn()?;
    println!("Long-lived: {}", long_lived.id());
    for _ in 0..10 {
        let child = Command::new("sleep").arg("0.7").spawn()?;
        println!("Child: {}", child.id());
    }

    for piece in 1..=8 {
        thread::sleep(Duration::from_millis(500)); // a piece of the parent's own work
        println!("Work: {piece}");
    }
    long_lived.kill()?;
    Ok(())
}
