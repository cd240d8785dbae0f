//! A wrong answer: the child ends with its input, but `wait` closes that at once.

use std::env;
use std::io::{self, Read};
use std::process::{self, Command, Stdio};

fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child_process(),
        _ => parent(),
    }
}

fn child_process() -> io::Result<()> {
    println!("Child: {}", process::id());
    io::stdin().read_to_end(&mut Vec::new())?; // until the parent has ended
    Ok(())
}

fn parent() -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?).arg("child").stdin(Stdio::piped()).spawn()?;
    child.wait()?;
    Ok(())
}
