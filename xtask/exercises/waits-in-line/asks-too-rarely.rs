//! A wrong answer: it asks all children, but only every three seconds.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut children = Vec::new();
    for number in 1..=3 {
        let child = Command::new("sleep").arg("10").spawn()?;
        println!("Child {number}: {}", child.id());
        children.push((number, child));
    }
    while !children.is_empty() {
        thread::sleep(Duration::from_secs(3));
        for index in (0..children.len()).rev() {
            if let Some(status) = children[index].1.try_wait()? {
                println!("Child {} ended: {status}", children[index].0);
                children.remove(index);
            }
        }
    }
    Ok(())
}
