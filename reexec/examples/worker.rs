//! Runs a worker in a process of its own, with a passed socket, a limit and a deadline.
//!
//! `cargo run -p reexec --example worker`
//!
//! The worker gets one end of a pair of sockets and adds up the numbers that it receives. Its processor
//! time is limited, and it cannot gain privileges.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use reexec::Resource;

const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    reexec::register("worker", || report(worker()));
    if let Some(code) = reexec::init() {
        return code; // the worker, after its function has run
    }
    report(parent())
}

/// Runs in the worker, which has its end of the socket, stdin, stdout and stderr, and no other
/// descriptor but its lifeline.
fn worker() -> Result<(), Box<dyn Error>> {
    let mut socket = UnixStream::from(reexec::inherited_fd("numbers")?);
    let mut sum = 0_u64;
    for line in BufReader::new(socket.try_clone()?).lines() {
        let number: u64 = line?.trim().parse()?;
        sum = sum.checked_add(number).ok_or("the sum is too large")?;
    }
    writeln!(socket, "{sum}")?;
    Ok(())
}

fn parent() -> Result<(), Box<dyn Error>> {
    let (mut ours, workers) = UnixStream::pair()?;
    let worker = reexec::command("worker")
        .fd("numbers", workers) // we keep no copy, so an end of file arrives
        .rlimit(Resource::CpuTime, 1, 2)
        .no_new_privs()
        .spawn()?;

    for number in 1..=100 {
        writeln!(ours, "{number}")?;
    }
    ours.shutdown(Shutdown::Write)?; // half-close: no more numbers, but we still read
    ours.set_read_timeout(Some(DEADLINE))?;
    let mut sum = String::new();
    BufReader::new(ours).read_line(&mut sum)?;
    writeln!(io::stdout(), "the sum is {}", sum.trim())?;

    match worker.wait_timeout(DEADLINE)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("the worker failed: {status}").into()),
        None => Err("the worker does not end".into()), // dropping the handle kills it
    }
}

fn report(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "worker: {error}");
    ExitCode::FAILURE
}
