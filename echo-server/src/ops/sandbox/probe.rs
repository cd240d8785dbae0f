//! Tries out the sandbox at the start, in a process made for that.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use reexec::{Child, Fork};

use crate::log::cannot;
use crate::signals;

/// What a worker will have.
pub(super) struct Findings {
    /// In the words of `/proc`.
    pub(super) seen: String,
    /// Each layer that is missing, with the reason.
    pub(super) missing: Vec<String>,
}

/// The first character of a report that is an error of `enter`.
const REFUSED: char = '!';

/// The last line of a report. Without it, the probe was killed before it had reported everything.
const END: &str = ".\n";

/// Calls `enter` in a new process, and reads in `/proc` what has come of it.
///
/// # Errors
///
/// Those of `enter`; of making a process and pipes; and how the process has ended, if that was not
/// its own end.
pub(super) fn try_out(enter: impl FnOnce() -> io::Result<Vec<String>>) -> io::Result<Findings> {
    const PIPE: &str = "make a pipe to a process that tries out the sandbox";
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(cannot(PIPE));
    let (said, say) = pipe().map(|(a, b)| (File::from(a), File::from(b)))?;
    let (wait, hold) = pipe().map(|(a, b)| (File::from(a), b))?;
    // It ignores the signals that workers ignore: otherwise a signal to every process of ours would
    // end it, and us with it.
    let probe = signals::worker_fork_options().fork();
    match probe.map_err(cannot("make a process that tries out the sandbox"))? {
        Fork::Child => {
            drop((said, hold));
            report(enter, say, wait);
            reexec::exit_now(0)
        }
        Fork::Parent(probe) => {
            drop((say, wait));
            look(&probe, said, hold)
        }
    }
}

/// In the probe: enters the sandbox, reports what is missing, and waits until the parent has looked at
/// this process.
fn report(enter: impl FnOnce() -> io::Result<Vec<String>>, mut say: File, mut wait: File) {
    let report: String = match enter() {
        Ok(missing) => missing.iter().map(|reason| line(reason)).collect(),
        Err(error) => line(&format!("{REFUSED}{error}")),
    };
    // If the write fails, the parent is gone, or sees that the end is missing.
    let _ = say.write_all((report + END).as_bytes());
    drop(say);
    let _ = wait.read(&mut [0]);
}

/// A report consists of lines.
fn line(text: &str) -> String {
    text.replace('\n', " ") + "\n"
}

/// In the parent: reads the report, and what `/proc` shows. Dropping `hold` ends the probe.
fn look(probe: &Child, mut said: File, hold: OwnedFd) -> io::Result<Findings> {
    let mut report = String::new();
    said.read_to_string(&mut report)
        .map_err(cannot("read the result of the trial of the sandbox"))?;
    let Some(report) = report.strip_suffix(END) else {
        drop(hold);
        return Err(not_tried(&probe.wait()?.to_string()));
    };
    if let Some(error) = report.strip_prefix(REFUSED) {
        return Err(io::Error::other(error.trim_end().to_owned()));
    }
    // Serving does not need /proc.
    let seen = seen(probe.id())
        .unwrap_or_else(|error| format!("cannot look up in /proc what a worker has: {error}"));
    drop(hold);
    let status = probe.wait()?;
    if !status.success() {
        return Err(not_tried(&status.to_string()));
    }
    let missing = report.lines().map(str::to_owned).collect();
    Ok(Findings { seen, missing })
}

fn not_tried(status: &str) -> io::Error {
    io::Error::other(format!(
        "cannot try out the sandbox: the process that tried has ended: {status}; \
         --sandbox off serves without it"
    ))
}

/// Reads what the kernel shows of a process. It shows nothing of Landlock, which tries itself.
fn seen(id: u32) -> io::Result<String> {
    // In a new pid namespace, /proc may still be the old one's, where the number is another process's.
    if fs::read_link("/proc/self")?.as_os_str() != process::id().to_string().as_str() {
        return Err(io::Error::other("it is that of another pid namespace"));
    }
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let limits = fs::read_to_string(format!("/proc/{id}/limits"))?;
    let first = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let word =
            value.and_then(|value| value.trim_start_matches(':').split_ascii_whitespace().next());
        format!("{name} {}", word.unwrap_or("?"))
    };
    let of_status = ["Uid", "CapEff", "NoNewPrivs", "Seccomp"].map(|name| first(&status, name));
    let of_limits = ["Max processes", "Max open files"].map(|name| first(&limits, name));
    Ok(format!(
        "a worker has {}, {}, according to /proc/{id}",
        of_status.join(", "),
        of_limits.join(", ")
    ))
}
