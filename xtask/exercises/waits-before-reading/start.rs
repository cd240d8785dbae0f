//! Exercise waits-before-reading: `cargo xtask exercise waits-before-reading` says what should come
//! true.

use std::io::{self, Read};
use std::process::{Command, Stdio};

fn main() -> io::Result<()> {
    // It prints the numbers from 1 to 30000: 168,894 bytes.
    let mut child = Command::new("seq").arg("30000").stdout(Stdio::piped()).spawn()?;
    println!("Child: {}", child.id());

    let status = child.wait()?;
    let mut text = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut text)?;
    }
    println!("Status: {status}");
    println!("Lines: {}", text.lines().count());
    Ok(())
}
