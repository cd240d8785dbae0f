//! Exercise waits-before-reading: the parent reads to the end, then it waits.

use std::io;
use std::process::{Command, Stdio};

fn main() -> io::Result<()> {
    let child = Command::new("seq").arg("30000").stdout(Stdio::piped()).spawn()?;
    println!("Child: {}", child.id());

    let output = child.wait_with_output()?;
    println!("Status: {}", output.status);
    println!("Lines: {}", String::from_utf8_lossy(&output.stdout).lines().count());
    Ok(())
}
