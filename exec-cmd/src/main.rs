//! The chapter's three `exec.Cmd` programs: run a command without its output, with both streams
//! in one, and with each by itself.
//!
//! `cargo run -p exec-cmd`: each part begins with a line that says what it runs, and what you will see.
//! The third command is meant to fail, because no shell expands its `*.log`.

#![forbid(unsafe_code)]

mod options;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use clap::Parser;
use options::{Options, Way};

fn main() -> ExitCode {
    let options = Options::parse();
    let mut code = ExitCode::SUCCESS;
    for way in options.ways() {
        let command = options.command(way);
        say(&way.describe(&command));
        let result = match way {
            Way::Run => run(command),
            Way::Combined => combined(command),
            Way::Separate => separate(command),
        };
        // Go's programs end with log.Fatalf after a failure; ours go on to the next way.
        match result {
            Ok(status) if status.success() => {}
            Ok(status) => {
                say(&format!("{} failed with {status}", way.go_call()));
                match options.reason_to_fail(way) {
                    Some(reason) => say(reason),
                    None => code = ExitCode::FAILURE,
                }
            }
            Err(error) => {
                say(&error.to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Prints a line of ours on stderr: stdout has the lines of the chapter. If that fails, nobody reads it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "exec-cmd: {line}");
}

/// Go connects nil Stdin, Stdout and Stderr to the null device. Rust's `status` would let the
/// command use ours, so we set them.
fn run(mut command: Command) -> io::Result<ExitStatus> {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(cannot("run", &program))?;
    child.wait().map_err(cannot("wait for", &program))
}

/// Both streams go into one pipe, which keeps what is written in order; two pipes could not.
fn combined(mut command: Command) -> io::Result<ExitStatus> {
    let program = command.get_program().to_owned();
    let pipe = io::pipe().and_then(|(reader, writer)| Ok((reader, writer.try_clone()?, writer)));
    let (mut reader, stdout, stderr) = pipe.map_err(cannot("make a pipe for", &program))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command.spawn().map_err(cannot("run", &program))?;
    drop(command); // it holds write ends of the pipe, which has no end before we close them

    let mut out = Vec::new();
    let read = reader.read_to_end(&mut out);
    drop(reader); // or, after an error, the command could wait for ever for us to read
    let waited = child.wait();
    read.map_err(cannot("read the output of", &program))?;
    let status = waited.map_err(cannot("wait for", &program))?;

    print(&[b"combined out:\n", &out, b"\n"])?;
    Ok(status)
}

/// Each stream has its pipe, and `wait_with_output` reads both at the same time. One after the
/// other, the command could fill the one that is not read, and wait for ever.
fn separate(mut command: Command) -> io::Result<ExitStatus> {
    let program = command.get_program().to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(cannot("run", &program))?;
    let output =
        child.wait_with_output().map_err(cannot("read the output of, or wait for,", &program))?;

    let (out, err) = (&output.stdout, &output.stderr);
    print(&[b"out:\n", out, b"\nerr:\n", err, b"\n"])?;
    Ok(output.status)
}

/// Prints the bytes as they are: file names need not be UTF-8.
fn print(parts: &[&[u8]]) -> io::Result<()> {
    let printed = io::stdout().write_all(&parts.concat());
    printed
        .and_then(|()| io::stdout().flush())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

fn cannot(what: &str, program: &OsStr) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what} {program:?}: {error}"))
}
