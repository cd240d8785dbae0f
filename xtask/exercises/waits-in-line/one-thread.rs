//! A wrong answer: one thread waits for all children, one after the other.

use std::io;
use std::process::{Child, Command};
use std::thread;

fn main() -> io::Result<()> {
    let mut children = Vec::new();
    for number in 1..=3 {
        let child = Command::new("sleep").arg("10").spawn()?;
        println!("Child {number}: {}", child.id());
        children.push((number, child));
    }
    let waiter = thread::spawn(|| {
        children.into_iter().try_for_each(|(number, child)| wait_for(number, child))
    });
    waiter.join().map_err(|_| io::Error::other("the thread has panicked"))?
}

fn wait_for(number: i32, mut child: Child) -> io::Result<()> {
    let status = child.wait()?;
    println!("Child {number} ended: {status}");
    Ok(())
}
