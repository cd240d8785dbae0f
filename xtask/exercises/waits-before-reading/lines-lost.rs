//! A wrong answer: no pipe, no trouble, but no lines either.

use std::io;
use std::process::{Command, Stdio};

fn main() -> io::Result<()> {
    let mut child = Command::new("seq").arg("30000").stdout(Stdio::null()).spawn()?;
    println!("Child: {}", child.id());

    let status = child.wait()?;
    println!("Status: {status}");
    println!("Lines: 0");
    Ok(())
}
