//! A wrong answer: right only as long as the children end in this order.

use std::io;
use std::process::{Child, Command};

fn main() -> io::Result<()> {
    let mut children = Vec::new();
    for number in 1..=3 {
        let child = Command::new("sleep").arg("10").spawn()?;
        println!("Child {number}: {}", child.id());
        children.push((number, child));
    }
    children.swap(0, 1);
    for (number, child) in children {
        wait_for(number, child)?;
    }
    Ok(())
}

fn wait_for(number: i32, mut child: Child) -> io::Result<()> {
    let status = child.wait()?;
    println!("Child {number} ended: {status}");
    Ok(())
}
