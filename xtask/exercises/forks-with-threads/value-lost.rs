//! A wrong answer: a child that executes the program anew does not know the value.

use std::io;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

static VALUE: AtomicU32 = AtomicU32::new(1);

fn main() -> io::Result<()> {
    reexec::register("child", || {
        child();
        ExitCode::SUCCESS
    });
    if reexec::init().is_some() {
        return Ok(());
    }
    VALUE.store(2, Ordering::Relaxed);
    let thread = thread::spawn(work);
    reexec::command("child").spawn()?.wait()?;
    thread.join().map_err(|_| io::Error::other("the thread has panicked"))
}

/// The work of the thread: it takes 2.5 seconds.
fn work() {
    thread::sleep(Duration::from_millis(2500));
    println!("The work is done.");
}

/// Runs in the child, which lives for 1.5 seconds.
fn child() {
    println!("Child: {}", process::id());
    println!("Child's value: {}", VALUE.load(Ordering::Relaxed));
    thread::sleep(Duration::from_millis(1500));
}
