//! Exercise outlives-parent: the kernel tells the child that its parent has ended.

use std::io;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    reexec::register("child", child_process);
    if let Some(code) = reexec::init() {
        return code;
    }
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn child_process() {
    println!("Child: {}", process::id());
    thread::sleep(Duration::from_secs(10)); // the child's work
}

fn parent() -> io::Result<()> {
    let _child = reexec::command("child").spawn()?;
    thread::sleep(Duration::from_secs(10)); // the parent's own work
    Ok(())
}
