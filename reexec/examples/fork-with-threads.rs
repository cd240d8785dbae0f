//! Shows why a program with several threads must not fork. The copy has only the thread that called
//! fork. A lock that another thread held stays locked in the copy for ever.
//!
//! std forks, too, if a command runs as another user, and does only what is allowed between fork and
//! exec. strace stops the copy there, and the thread that has the lock looks at the copy.
//!
//! `cargo run -p reexec --example fork-with-threads`, and within 20 seconds `ps` with the numbers.

#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use program_support::{EXIT_NOT_POSSIBLE, check_strace, exit_code, stdout, wait_for_enter};

/// The lock.
static LOCKED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("traced") => return exit_code("fork-with-threads", traced()),
        Some("executed") => return ExitCode::SUCCESS,
        _ => {}
    }
    if let Err(why) = check_strace() {
        exit_code("fork-with-threads", Err(why));
        return ExitCode::from(EXIT_NOT_POSSIBLE);
    }
    exit_code("fork-with-threads", trace())
}

/// What the copy executes, and nobody else: this program again.
const EXECUTED: &str = "/proc/self/exe";

/// Runs this program under strace, which delays the exec of the copy by 20 seconds. It knows that exec by
/// the path: counts would depend on PATH, in whose folders a program is looked for.
fn trace() -> io::Result<()> {
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=execve"])
        .args(["-e", "inject=execve:delay_enter=20000000"])
        .args(["-P", EXECUTED])
        .arg(env::current_exe()?)
        .arg("traced")
        .args(env::args_os().skip(1))
        .spawn()?;
    wait_for_enter()?;
    strace.kill()?; // the delayed process continues
    strace.wait().map(drop)
}

fn traced() -> io::Result<()> {
    let (sender, locked) = mpsc::channel();
    let (executed, receiver) = mpsc::channel();
    let other = thread::spawn(move || lock_and_look(&sender, &receiver));
    let _ = locked.recv(); // an error: the other thread has failed
    let mut command = Command::new(EXECUTED);
    let status = command.arg("executed").uid(geteuid().as_raw()).status()?;
    drop(executed);
    if !status.success() {
        return Err(io::Error::other("the program that the copy executed has failed"));
    }
    other.join().unwrap_or_else(|_| Err(io::Error::other("the other thread has panicked")))
}

/// Runs the other thread: it has the lock while the first thread forks, and then unlocks it.
fn lock_and_look(sender: &Sender<()>, executed: &Receiver<()>) -> io::Result<()> {
    let lock = !env::args().any(|arg| arg == "--unlocked");
    LOCKED.store(lock, Ordering::SeqCst);
    let _ = sender.send(());
    let copy = child()?;
    LOCKED.store(false, Ordering::SeqCst);
    for (name, pid) in [("Parent", process::id()), ("Copy", copy)] {
        writeln!(stdout(), "{name}: {pid}")?;
        writeln!(stdout(), "{name}, threads: {}", threads(pid)?)?;
        writeln!(stdout(), "{name}, locked: {}", is_locked(pid)?)?;
    }
    writeln!(stdout(), "Both can be looked at.")?;
    let _ = executed.recv(); // until then this is the thread that the copy lacks
    Ok(())
}

/// Returns the child of the main thread, as soon as there is one.
fn child() -> io::Result<u32> {
    let pid = process::id();
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Ok(child) = children.trim().parse() {
            return Ok(child);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn threads(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Reads the lock of a process. In a copy it has the same address.
fn is_locked(pid: u32) -> io::Result<bool> {
    let mut lock = [0];
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    memory.read_exact_at(&mut lock, LOCKED.as_ptr() as u64)?;
    Ok(lock != [0])
}
