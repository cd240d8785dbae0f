//! Exercise waits-in-line: for each child a thread that waits.

use std::io;
use std::process::{Child, Command};
use std::thread;

fn main() -> io::Result<()> {
    let mut waiters = Vec::new();
    for number in 1..=3 {
        let child = Command::new("sleep").arg("10").spawn()?;
        println!("Child {number}: {}", child.id());
        waiters.push(thread::spawn(move || wait_for(number, child)));
    }
    for waiter in waiters {
        waiter.join().map_err(|_| io::Error::other("a thread has panicked"))??;
    }
    Ok(())
}

fn wait_for(number: i32, mut child: Child) -> io::Result<()> {
    let status = child.wait()?;
    println!("Child {number} ended: {status}");
    Ok(())
}
