//! A wrong answer: the parent closes the pipe, so that nothing can fill it.

use std::io;
use std::process::{Command, Stdio};

fn main() -> io::Result<()> {
    let mut child = Command::new("seq").arg("30000").stdout(Stdio::piped()).spawn()?;
    println!("Child: {}", child.id());

    drop(child.stdout.take());
    let status = child.wait()?;
    println!("Status: {status}");
    println!("Lines: 0");
    Ok(())
}
