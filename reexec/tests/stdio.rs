//! A child's standard streams: inherited, the null device, pipes, or any other descriptor.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use reexec::{Child, Error, PartialOutput, Stage, Stdio};
use support::{
    LIMIT, Scratch, Skipped, assert_contains, assert_stage, children, is_gone, is_zombie, piped,
    program, read_all, stdout_of, under, until_stdin_ends, wait_until,
};

/// Sixteen times the capacity of a pipe.
const MEBIBYTE: usize = 1 << 20;

/// Longer than the processor time of a test.
const SILENCE: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("cat", cat);
    reexec::register("greet", greet);
    reexec::register("flood", flood);
    reexec::register("greetAtTheEnd", || {
        until_stdin_ends();
        greet();
    });
    reexec::register("greetFirst", || {
        greet();
        until_stdin_ends();
    });
    reexec::register("leaveOtherBehind", leave_other_behind);
    reexec::register("bearSilence", bear_silence);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run(
        support::programs![
            spawn_with_inherited_streams,
            spawn_with_swapped_streams,
            lose_the_status_of_output
        ],
        support::trials![
            streams_are_inherited_by_default,
            each_stream_can_be_the_null_device,
            each_stream_can_be_a_pipe,
            stdout_and_stderr_can_be_files,
            a_socket_can_be_stdin_and_stdout,
            stdout_and_stderr_can_be_those_of_the_parent,
            pipes_connect_children_with_other_commands,
            output_reads_both_streams_at_the_same_time,
            a_child_whose_output_is_not_read_does_not_end,
            output_gives_the_child_nothing_to_read,
            output_does_not_change_the_command,
            output_does_not_wait_for_another_process_with_the_stream,
            output_has_what_a_process_left_behind_writes,
            each_byte_starts_the_time_of_silence_anew,
            silence_on_a_held_stream_is_an_error_with_the_output,
            waiting_through_silence_takes_no_processor_time,
            silence_before_the_end_of_the_child_does_not_count,
            without_grace_output_still_has_all_that_was_written,
            with_endless_grace_output_waits_for_the_end,
            an_output_without_a_status_is_an_error_with_the_output,
            output_of_a_child_that_did_not_start_says_why,
            wait_closes_a_stdin_that_was_not_taken,
            wait_timeout_leaves_stdin_open,
            a_descriptor_for_a_stream_is_passed_once,
            the_parent_keeps_no_copy_of_a_pipe_for_a_stream,
        ],
    )
}

// Entries.

fn cat() {
    io::copy(&mut io::stdin(), &mut io::stdout()).unwrap();
}

fn greet() {
    println!("to stdout");
    eprintln!("to stderr");
}

/// Fills stderr before it writes to stdout, so that reading stdout first would not help.
fn flood() {
    io::stderr().write_all(&vec![b'e'; MEBIBYTE]).unwrap();
    io::stdout().write_all(&vec![b'o'; MEBIBYTE]).unwrap();
}

#[allow(clippy::zombie_processes, reason = "for others to reap")]
fn leave_other_behind() {
    let other = process::Command::new("cat").spawn().unwrap();
    println!("{}", other.id());
}

/// Returns the target of a descriptor of a process.
fn target(pid: u32, number: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap()
}

// What a stream can be.

fn streams_are_inherited_by_default() {
    let printed = stdout_of(&mut program("spawn_with_inherited_streams"));
    assert_eq!(printed, "to stdout\n");
}

fn spawn_with_inherited_streams() {
    assert!(support::command("greet").status().unwrap().success());
}

fn each_stream_can_be_the_null_device() {
    let (gate, gates_other_end) = io::pipe().unwrap();
    let mut command = support::command("childProcess");
    command.stdin(gate); // so that it lives until we have read its descriptors
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    assert_eq!(target(child.id(), 1), Path::new("/dev/null"));
    assert_eq!(target(child.id(), 2), Path::new("/dev/null"));
    drop(gates_other_end);
    assert!(child.wait().unwrap().success());

    let status = support::command("cat").stdin(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn each_stream_can_be_a_pipe() {
    let child = piped("cat").spawn().unwrap();
    let (mut stdin, stdout) = (child.take_stdin().unwrap(), child.take_stdout().unwrap());
    assert!(child.take_stdin().is_none(), "a second time");
    assert!(child.take_stderr().is_none(), "not a pipe");
    stdin.write_all(b"through the child").unwrap();
    drop(stdin);
    assert_eq!(read_all(stdout), "through the child");

    let mut command = support::command("greet");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    assert_eq!(read_all(child.take_stderr().unwrap()), "to stderr\n");
}

fn stdout_and_stderr_can_be_files() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let file = File::create(&path).unwrap();
    let mut command = support::command("greet");
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_to_string(path).unwrap(), "to stdout\nto stderr\n");
}

fn stdout_and_stderr_can_be_those_of_the_parent() {
    let output = program("spawn_with_swapped_streams").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "to stderr\nto stderr\nstill here\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to stdout\nto stdout\n");
}

fn spawn_with_swapped_streams() {
    let mut command = reexec::command("greet");
    command.stdout(io::stderr()).stderr(io::stdout());
    for _ in 0..2 {
        assert!(command.status().unwrap().success());
    }
    // A program started by other means still inherits our stdout.
    assert!(process::Command::new("echo").arg("still here").status().unwrap().success());
}

fn a_socket_can_be_stdin_and_stdout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (connection, _) = listener.accept().unwrap();

    let mut command = support::command("cat");
    command.stdin(connection.try_clone().unwrap()).stdout(connection);
    let child = command.spawn().unwrap();
    client.write_all(b"echo").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap(); // to the end: the child alone had the connection
    assert_eq!(answer, "echo");
    assert!(child.wait().unwrap().success());
}

fn pipes_connect_children_with_other_commands() {
    let mut first = support::command("greet");
    let first = first.stdout(Stdio::piped()).stderr(Stdio::null());
    let first = first.spawn().unwrap();

    let mut second = process::Command::new("tr");
    second.args(["a-z", "A-Z"]).stdin(first.take_stdout().unwrap());
    let mut second = second.stdout(process::Stdio::piped()).spawn().unwrap();

    let mut third = support::command("cat");
    let third = third.stdin(second.stdout.take().unwrap()).output().unwrap();
    assert_eq!(third.stdout, b"TO STDOUT\n");
    second.wait().unwrap();
}

// Full pipes.

fn output_reads_both_streams_at_the_same_time() {
    let output = support::command("flood").output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, vec![b'o'; MEBIBYTE]);
    assert_eq!(output.stderr, vec![b'e'; MEBIBYTE]);
}

/// Control: the fault that `output` avoids.
fn a_child_whose_output_is_not_read_does_not_end() {
    let mut command = support::command("flood");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (stdout, stderr) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
    let early = child.wait_timeout(Duration::from_millis(200)).unwrap();
    assert_eq!(early, None);

    let stderr = thread::spawn(|| read_all(stderr));
    assert_eq!(read_all(stdout).len(), MEBIBYTE);
    assert_eq!(stderr.join().unwrap().len(), MEBIBYTE);
    assert!(child.wait().unwrap().success());
}

fn output_does_not_change_the_command() {
    let mut command = support::command("flood");
    command.output().unwrap();
    // Inherited again, as in std. With pipes that nobody reads, the child would not end.
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    assert!(child.take_stderr().is_none());
}

fn output_gives_the_child_nothing_to_read() {
    let output = support::command("cat").output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"");
}

/// Otherwise a process left behind by the child would keep `output` waiting for ever.
fn output_does_not_wait_for_another_process_with_the_stream() {
    let mut command = support::command("leaveOtherBehind");
    let (gate, gates_other_end) = io::pipe().unwrap();
    let error = command.stdin(gate).output().unwrap_err();
    assert_stage!(error, Stage::StreamHeld);
    assert!(partial(&error).status.unwrap().success());
    let other = String::from_utf8(partial(&error).stdout.clone()).unwrap();
    drop(gates_other_end); // ends the other one
    support::reap(other.trim().parse().unwrap());
}

/// The process left behind, a `cat`, writes what it gets through the gate.
fn output_has_what_a_process_left_behind_writes() {
    let (gate, mut gates_other_end) = io::pipe().unwrap();
    let (childs_end, held_by_the_child) = io::pipe().unwrap();
    let mut command = support::command("leaveOtherBehind");
    command.stdin(gate).fd("held", held_by_the_child);
    command.stream_grace(LIMIT);
    let output = thread::scope(|scope| {
        let output = scope.spawn(|| command.output().unwrap());
        assert_eq!(read_all(childs_end), "", "the child has ended");
        for number in 1..=6 {
            writeln!(gates_other_end, "line {number}").unwrap();
            thread::sleep(Duration::from_millis(5)); // so that they are not read at once
        }
        drop(gates_other_end); // ends the other one
        output.join().unwrap()
    });
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (other, lines) = text.split_once('\n').unwrap();
    assert_eq!(lines, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
    support::reap(other.parse().unwrap());
}

/// Returns what was read until the error.
fn partial(error: &Error) -> &PartialOutput {
    error.output().expect("the child was started")
}

/// A child whose stdout and stderr this test has open, too, as a process that the child has left behind.
/// So the test decides what comes through them, and when they end.
struct Held {
    child: Child,
    stdout: File,
    stderr: File,
}

/// Starts one with this `stream_grace`.
fn held(entry: &str, grace: Duration) -> Held {
    let mut command = piped(entry);
    command.stderr(Stdio::piped()).stream_grace(grace);
    let child = command.spawn().unwrap();
    let open = |number| {
        let path = format!("/proc/{}/fd/{number}", child.id());
        File::options().write(true).open(path).unwrap()
    };
    let (stdout, stderr) = (open(1), open(2));
    Held { child, stdout, stderr }
}

/// The control is the silence below, which is no longer than the pauses here together.
fn each_byte_starts_the_time_of_silence_anew() {
    let grace = Duration::from_millis(600);
    // On a busy machine a pause may be as long as the grace. Then we try again.
    wait_until("no pause was too long", || {
        let mut held = held("greetAtTheEnd", grace);
        let child = held.child.id();
        let mut written = [String::new(), String::new()];
        let mut longest_pause = Duration::ZERO;
        let mut last = Instant::now();
        let result = thread::scope(|scope| {
            let collector = scope.spawn(|| held.child.wait_with_output());
            let mut ended = None;
            while ended.is_none_or(|ended: Instant| ended.elapsed() < 2 * grace) {
                // In turn, so that each of the two alone is silent for longer.
                let turn = usize::from(written[0].len() > written[1].len());
                let stream = [&mut held.stdout, &mut held.stderr].into_iter().nth(turn);
                let line = format!("line {:4}\n", written[turn].len());
                if stream.unwrap().write_all(line.as_bytes()).is_err() {
                    break; // nobody reads any more
                }
                written[turn] += &line;
                longest_pause = longest_pause.max(last.elapsed());
                last = Instant::now();
                thread::sleep(grace / 10);
                if ended.is_none() && is_gone(child) {
                    ended = Some(Instant::now());
                }
            }
            drop((held.stdout, held.stderr));
            longest_pause = longest_pause.max(last.elapsed());
            collector.join().unwrap()
        });
        if longest_pause >= grace {
            return false;
        }
        let output = result.unwrap();
        assert!(output.status.success());
        // The child's own lines are somewhere between ours.
        let text = |bytes, own: &str| String::from_utf8(bytes).unwrap().replace(own, "");
        assert_eq!(text(output.stdout, "to stdout\n"), written[0]);
        assert_eq!(text(output.stderr, "to stderr\n"), written[1]);
        true
    });
}

fn silence_on_a_held_stream_is_an_error_with_the_output() {
    let grace = Duration::from_millis(50);
    for hold_stderr in [false, true] {
        let held = held("greetAtTheEnd", grace);
        let (stdout, stderr) = (held.stdout, held.stderr);
        let kept = if hold_stderr {
            drop(stdout);
            stderr
        } else {
            drop(stderr);
            stdout
        };
        let before = Instant::now();
        let error = held.child.wait_with_output().unwrap_err();
        assert!(before.elapsed() >= grace);
        assert_stage!(error, Stage::StreamHeld);
        assert_eq!(partial(&error).stdout, b"to stdout\n");
        assert_eq!(partial(&error).stderr, b"to stderr\n");
        assert!(partial(&error).status.unwrap().success());
        assert_contains(&error, "still holds its stdout or stderr");
        drop(kept);

        // An `io::Error` keeps all of it.
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = error.downcast::<Error>().unwrap();
        assert_eq!(partial(&error).stdout, b"to stdout\n");
        assert!(partial(&error).status.unwrap().success());
    }
}

/// A busy loop would need as much processor time as the silence is long.
fn waiting_through_silence_takes_no_processor_time() {
    let mut command = support::command("bearSilence");
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let other = read_all(child.take_stdout().unwrap());
    assert!(child.wait().unwrap().success());
    let usage = child.usage().unwrap();
    assert!(usage.user + usage.system < SILENCE / 4, "{usage:?}");
    support::reap(other.trim().parse().unwrap());
}

fn bear_silence() {
    let (gate, gates_other_end) = io::pipe().unwrap();
    let mut command = support::command("leaveOtherBehind");
    let error = command.stdin(gate).stream_grace(SILENCE).output();
    let error = error.unwrap_err();
    assert_stage!(error, Stage::StreamHeld);
    io::stdout().write_all(&partial(&error).stdout).unwrap();
    drop(gates_other_end); // ends the other one
}

/// The child is silent for longer than the grace, but lives.
fn silence_before_the_end_of_the_child_does_not_count() {
    let grace = Duration::from_millis(100);
    let held = held("greetFirst", grace);
    let gate = held.child.take_stdin();
    let (send, receive) = mpsc::channel();
    let collector = thread::spawn(move || send.send(held.child.wait_with_output()).unwrap());
    let early = receive.recv_timeout(3 * grace);
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
    let before_its_end = Instant::now();
    drop(gate);
    let error = receive.recv_timeout(LIMIT).unwrap().unwrap_err();
    assert!(before_its_end.elapsed() >= grace);
    assert_stage!(error, Stage::StreamHeld);
    assert_eq!(partial(&error).stdout, b"to stdout\n");
    collector.join().unwrap();
}

fn without_grace_output_still_has_all_that_was_written() {
    // More than a pipe holds, so that it comes while the child lives.
    let held = held("flood", Duration::ZERO);
    let error = held.child.wait_with_output().unwrap_err();
    assert_stage!(error, Stage::StreamHeld);
    assert_eq!(partial(&error).stdout, vec![b'o'; MEBIBYTE]);
    assert_eq!(partial(&error).stderr, vec![b'e'; MEBIBYTE]);
    assert!(partial(&error).status.unwrap().success());

    // All that a pipe holds, so that it is still there after the child's end.
    let mut held = self::held("childProcess", Duration::ZERO);
    let capacity = fcntl(&held.stdout, FcntlArg::F_GETPIPE_SZ).unwrap();
    let full = vec![b'x'; capacity as usize];
    held.stdout.write_all(&full).unwrap();
    drop(held.child.take_stdin());
    wait_until("the child is a zombie", || is_zombie(held.child.id()));
    let error = held.child.wait_with_output().unwrap_err();
    assert_stage!(error, Stage::StreamHeld);
    assert!(partial(&error).stdout == full, "{} of {capacity}", partial(&error).stdout.len());

    // Control: no other process holds a stream.
    let mut command = support::command("flood");
    let output = command.stream_grace(Duration::ZERO).output().unwrap();
    assert_eq!(output.stdout, vec![b'o'; MEBIBYTE]);
    assert_eq!(output.stderr, vec![b'e'; MEBIBYTE]);
}

fn with_endless_grace_output_waits_for_the_end() {
    let mut held = held("greetAtTheEnd", Duration::MAX);
    let child = held.child.id();
    let (send, receive) = mpsc::channel();
    let collector = thread::spawn(move || send.send(held.child.wait_with_output()).unwrap());
    wait_until("the child is reaped", || is_gone(child));
    let early = receive.recv_timeout(Duration::from_millis(200));
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
    held.stdout.write_all(b"late\n").unwrap();
    drop((held.stdout, held.stderr));
    let output = receive.recv_timeout(LIMIT).unwrap().unwrap();
    assert_eq!(output.stdout, b"to stdout\nlate\n");
    assert_eq!(output.stderr, b"to stderr\n");
    collector.join().unwrap();
}

fn an_output_without_a_status_is_an_error_with_the_output() -> Result<(), Skipped> {
    let program = program("lose_the_status_of_output");
    stdout_of(&mut under(&["env", "--ignore-signal=CHLD"], &program)?);
    Ok(())
}

fn lose_the_status_of_output() {
    let error = support::command("greet").output().unwrap_err();
    assert_stage!(error, Stage::Wait { .. });
    assert_eq!(partial(&error).stdout, b"to stdout\n");
    assert_eq!(partial(&error).stderr, b"to stderr\n");
    assert_eq!(partial(&error).status, None);
    assert_contains(&error, "greet has run, but its status is unknown");
    assert_contains(&error.source().unwrap(), "status is lost");
    let error = io::Error::from(error);
    assert_contains(&error, "status is lost");

    // A held stream is reported first, because there may be more to read.
    let held = held("greetAtTheEnd", Duration::ZERO);
    let error = held.child.wait_with_output().unwrap_err();
    assert_stage!(error, Stage::StreamHeld);
    assert_eq!(partial(&error).stdout, b"to stdout\n");
    assert_eq!(partial(&error).status, None);
    assert_eq!(children(), []);
}

fn output_of_a_child_that_did_not_start_says_why() {
    let error = support::command("noSuchEntry").output().unwrap_err();
    assert_stage!(error, Stage::UnknownEntry);
    assert_eq!(error.output(), None);
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    error.downcast::<Error>().unwrap();

    let mut command = support::command("greet");
    let error = command.executable("/no/such/file").output().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("No such file"));
    let error = io::Error::from(error);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

// Stdin as the signal to end.

fn wait_closes_a_stdin_that_was_not_taken() {
    let child = piped("childProcess").spawn().unwrap();
    assert!(child.wait().unwrap().success());
}

/// So without the cure, the child of the test before and this process would wait for each other.
fn wait_timeout_leaves_stdin_open() {
    let child = piped("childProcess").spawn().unwrap();
    let early = child.wait_timeout(Duration::from_millis(200)).unwrap();
    assert_eq!(early, None);
    drop(child.take_stdin());
    let status = child.wait_timeout(LIMIT).unwrap();
    assert!(status.unwrap().success());
}

// Descriptors change hands.

fn a_descriptor_for_a_stream_is_passed_once() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    let file = || File::create(&path).unwrap();
    let mut command = support::command("greet");
    command.stdout(file()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());

    let error = command.spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
    let message = error.to_string();
    assert_contains(&message, "stdout");
    assert_contains(&message, "set stdout again");

    assert!(command.stdout(file()).status().unwrap().success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "to stdout\n");
}

fn the_parent_keeps_no_copy_of_a_pipe_for_a_stream() {
    let (read, write) = io::pipe().unwrap();
    let mut command = support::command("greet");
    command.stdout(write).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    // The end comes while the command still exists, so the command has no copy.
    assert_eq!(read_all(read), "to stdout\n");
    drop(command);
    assert!(child.wait().unwrap().success());
}
