//! A wrong answer: the helper has no copy of the pipe any more, but the parent keeps one.

use std::io::{self, BufRead, BufReader};
use std::process::Command;

const TWO_LINES: &str = "echo first; sleep 0.3; echo second";

fn main() -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let mut helper = Command::new("sleep").arg("3").spawn()?;
    println!("Helper: {}", helper.id());

    let mut shell = Command::new("sh");
    shell.args(["-c", TWO_LINES]).stdout(writer);
    let mut command = shell.spawn()?;
    println!("Command: {}", command.id());
    for line in BufReader::new(reader).lines() {
        println!("Read: {}", line?);
    }
    println!("The output has ended.");
    command.wait()?;
    helper.wait()?;
    Ok(())
}
