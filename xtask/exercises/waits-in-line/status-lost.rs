//! A wrong answer: the kernel discards the zombies, and the statuses with them.

use std::io;
use std::process::{Child, Command};

fn main() -> io::Result<()> {
    reexec::signal::ignore(nix::sys::signal::Signal::SIGCHLD as i32)?;
    let mut children = Vec::new();
    for number in 1..=3 {
        let child = Command::new("sleep").arg("10").spawn()?;
        println!("Child {number}: {}", child.id());
        children.push((number, child));
    }
    for (number, child) in children {
        wait_for(number, child);
    }
    Ok(())
}

fn wait_for(number: i32, mut child: Child) {
    match child.wait() {
        Ok(status) => println!("Child {number} ended: {status}"),
        Err(error) => println!("Child {number} ended: {error}"),
    }
}
