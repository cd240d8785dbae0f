//! A wrong answer: the parent no longer blocks, but still nobody reads.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut child = Command::new("seq").arg("30000").stdout(Stdio::piped()).spawn()?;
    println!("Child: {}", child.id());

    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let mut text = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut text)?;
    }
    println!("Status: {status}");
    println!("Lines: {}", text.lines().count());
    Ok(())
}
