//! A wrong answer: without the helper nobody holds the pipe, but nobody helps either.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::Command;

use nix::unistd::pipe;

const TWO_LINES: &str = "echo first; sleep 0.3; echo second";

fn main() -> io::Result<()> {
    let (reader, writer) = pipe()?;
    let mut helper = Command::new("sleep").arg("3").spawn()?;
    println!("Helper: {}", helper.id());
    helper.kill()?;
    helper.wait()?;

    let mut command = Command::new("sh").args(["-c", TWO_LINES]).stdout(writer).spawn()?;
    println!("Command: {}", command.id());
    for line in BufReader::new(File::from(reader)).lines() {
        println!("Read: {}", line?);
    }
    println!("The output has ended.");
    command.wait()?;
    Ok(())
}
