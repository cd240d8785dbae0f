//! A wrong answer: one line is read instead of all.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::Command;

use nix::unistd::pipe;

const TWO_LINES: &str = "echo first; sleep 0.3; echo second";

fn main() -> io::Result<()> {
    let (reader, writer) = pipe()?;
    let mut helper = Command::new("sleep").arg("3").spawn()?;
    println!("Helper: {}", helper.id());

    let mut command = Command::new("sh").args(["-c", TWO_LINES]).stdout(writer).spawn()?;
    println!("Command: {}", command.id());
    let mut line = String::new();
    BufReader::new(File::from(reader)).read_line(&mut line)?;
    print!("Read: {line}");
    println!("The output has ended.");
    command.wait()?;
    helper.wait()?;
    Ok(())
}
