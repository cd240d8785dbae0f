//! A wrong answer: one read empties the pipe only once.

use std::io::{self, Read};
use std::process::{Command, Stdio};

fn main() -> io::Result<()> {
    let mut child = Command::new("seq").arg("30000").stdout(Stdio::piped()).spawn()?;
    println!("Child: {}", child.id());

    let mut buffer = vec![0; 200_000];
    let mut length = 0;
    if let Some(pipe) = &mut child.stdout {
        length = pipe.read(&mut buffer)?;
    }
    let status = child.wait()?;
    println!("Status: {status}");
    println!("Lines: {}", String::from_utf8_lossy(&buffer[..length]).lines().count());
    Ok(())
}
