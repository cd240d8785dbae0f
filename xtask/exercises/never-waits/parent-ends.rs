//! A wrong answer: without a parent there is no zombie, but no work either.

use std::io;
use std::process::Command;

fn main() -> io::Result<()> {
    let child = Command::new("sleep").arg("0.3").spawn()?;
    println!("Child: {}", child.id());
    println!("The work is done.");
    Ok(())
}
