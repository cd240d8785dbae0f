//! The chapter's three `exec.Cmd` programs: run a command without its output, with both streams
//! in one, and with each by itself.
//!
//! `cargo run -p exec-cmd`; the third command fails, because no shell expands its `*.log`.

#![forbid(unsafe_code)]

mod options;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use clap::Parser;
use options::{Options, Way};

fn main() -> ExitCode {
    let options = Options::parse();
    let ways = match options.way {
        Some(way) => vec![way],
        None => vec![Way::Run, Way::Combined, Way::Separate],
    };
    let mut code = ExitCode::SUCCESS;
    for way in ways {
        // Go's programs end here with log.Fatalf; ours go on to the next.
        if let Err(error) = run_one(way, &options.command) {
            let _ = writeln!(io::stderr(), "exec-cmd: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn run_one(way: Way, command: &[impl AsRef<OsStr>]) -> io::Result<()> {
    let (run, chapters): (fn(Command) -> _, [&str; 3]) = match way {
        Way::Run => (run, ["ls", "-l", "/var/log"]),
        Way::Combined => (combined, ["ls", "-l", "/var/log/"]),
        Way::Separate => (separate, ["ls", "-l", "/var/log/*.log"]),
    };
    let mut words: Vec<&OsStr> = command.iter().map(AsRef::as_ref).collect();
    if words.is_empty() {
        words = chapters.map(OsStr::new).to_vec();
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    run(command)
}

/// Go connects nil Stdin, Stdout and Stderr to the null device. Rust's `status` would let the
/// command write to ours, so here it has to be said.
fn run(mut command: Command) -> io::Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let program = command.get_program().to_owned();
    let mut child = command
        .spawn()
        .map_err(|error| cannot("run", &program, error))?;
    let status = child
        .wait()
        .map_err(|error| cannot("wait for", &program, error))?;
    succeeded("cmd.Run", status)
}

/// One pipe for both streams keeps what is written to them in order; two pipes could not.
fn combined(mut command: Command) -> io::Result<()> {
    let program = command.get_program().to_owned();
    let pipe = io::pipe().and_then(|(reader, writer)| Ok((reader, writer.try_clone()?, writer)));
    let (mut reader, stdout, stderr) =
        pipe.map_err(|error| cannot("make a pipe for", &program, error))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command
        .spawn()
        .map_err(|error| cannot("run", &program, error))?;
    drop(command); // it holds the write ends; the pipe has no end as long as we have one of them

    let mut out = Vec::new();
    let read = reader.read_to_end(&mut out);
    drop(reader); // or, after an error, the command could write and wait for ever
    let waited = child.wait();
    read.map_err(|error| cannot("read the output of", &program, error))?;
    let status = waited.map_err(|error| cannot("wait for", &program, error))?;

    print(&[b"combined out:\n", &out, b"\n"])?;
    succeeded("cmd.Run()", status)
}

/// `wait_with_output` reads both pipes at the same time. One after the other, the command could
/// fill the one that is not read, and wait for ever.
fn separate(mut command: Command) -> io::Result<()> {
    let program = command.get_program().to_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|error| cannot("run", &program, error))?;
    let output = child
        .wait_with_output()
        .map_err(|error| cannot("read the output of, or wait for,", &program, error))?;

    print(&[
        b"out:\n",
        &output.stdout,
        b"\nerr:\n",
        &output.stderr,
        b"\n",
    ])?;
    succeeded("cmd.Run()", output.status)
}

fn succeeded(call: &str, status: ExitStatus) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{call} failed with {status}")))
}

fn cannot(what: &str, program: &OsStr, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {program:?}: {error}"))
}

/// Bytes as they came: file names need not be UTF-8.
fn print(parts: &[&[u8]]) -> io::Result<()> {
    let printed = io::stdout().write_all(&parts.concat());
    printed
        .and_then(|()| io::stdout().flush())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}
