//! A wrong answer: another process than number 1 may adopt the child.

use std::env;
use std::io;
use std::os::unix::process::parent_id;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child_process(),
        _ => parent(),
    }
}

fn child_process() -> io::Result<()> {
    println!("Child: {}", process::id());
    for _ in 0..100 {
        if parent_id() == 1 {
            return Ok(()); // an orphan
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn parent() -> io::Result<()> {
    let _child = Command::new(env::current_exe()?).arg("child").spawn()?;
    thread::sleep(Duration::from_secs(10));
    Ok(())
}
