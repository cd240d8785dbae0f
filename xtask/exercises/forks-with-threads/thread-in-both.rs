//! A wrong answer: what comes after the fork is run by both processes.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use reexec::{Fork, exit_now};

static VALUE: AtomicU32 = AtomicU32::new(1);

fn main() -> io::Result<()> {
    VALUE.store(2, Ordering::Relaxed);
    let fork = reexec::fork()?;
    let thread = thread::spawn(work);
    match fork {
        Fork::Child => {
            child();
            exit_now(0)
        }
        Fork::Parent(child) => drop(child.wait()?),
    }
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
