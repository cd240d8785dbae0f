//! A child has the descriptors that were passed to it, and no others. No other process gets them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reexec::Stage;
use support::{
    LIMIT, Skipped, assert_contains, children, closes_undeclared, descriptors, program, read_all,
    stdout_of, until_stdin_ends,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("printDescriptors", print_descriptors);
    reexec::register("takeTwice", take_twice);
    reexec::register("startOthers", start_others);
    reexec::register("readNamed", read_named);
    reexec::register("serveOne", serve_one);
    reexec::register("closeNamedThenWait", close_named_then_wait);
    reexec::register("closeStdoutThenWait", close_stdout_then_wait);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run_in_programs(
        || Ok(()),
        support::programs![
            twenty_descriptors_arrive_in_any_order,
            descriptors_arrive_while_other_threads_open_and_close_theirs,
            a_full_table_is_a_clean_error,
        ],
        support::programs![print_descriptors, spawn_with_leaked_descriptors,],
        support::trials![
            a_descriptor_is_taken_once_by_its_name,
            a_listener_can_be_passed,
            a_descriptor_is_passed_to_one_child_only,
            the_parent_keeps_no_copy_of_a_passed_descriptor,
            the_parent_keeps_no_copy_while_status_waits,
            a_child_has_its_passed_descriptors_and_its_lifeline,
            a_child_that_outlives_its_parent_needs_no_lifeline,
            a_taken_descriptor_is_not_inherited_by_grandchildren,
            leaked_descriptors_are_closed_in_the_child,
            children_of_other_threads_get_no_descriptor,
        ],
    )
}

// Entries.

/// Prints its descriptors.
fn print_descriptors() {
    for (number, target) in descriptors() {
        println!("{number} {}", target.display());
    }
}

fn take_twice() {
    assert_eq!(read_all(reexec::inherited_fd("text").unwrap()), "content");
    for name in ["text", "another"] {
        let error = reexec::inherited_fd(name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        println!("{error}");
    }
}

/// Takes "text" and starts a program, then another one beside a copy without close-on-exec.
fn start_others() {
    let text = reexec::inherited_fd("text").unwrap();
    println!("{:?}", found_by_a_standard_child());
    println!("----");
    let _copy = nix::unistd::dup(&text).unwrap();
    println!("{:?}", found_by_a_standard_child());
}

/// Prints the content of the descriptors that the arguments name.
fn read_named() {
    for name in env::args().skip(1) {
        println!("{}", read_all(reexec::inherited_fd(&name).unwrap()));
    }
}

fn close_named_then_wait() {
    drop(reexec::inherited_fd("out").unwrap());
    read_all(reexec::inherited_fd("gate").unwrap());
}

fn close_stdout_then_wait() {
    nix::unistd::close(1).unwrap();
    until_stdin_ends();
}

/// Greets the first client of "listener".
fn serve_one() {
    let listener = TcpListener::from(reexec::inherited_fd("listener").unwrap());
    let (mut connection, _) = listener.accept().unwrap();
    connection.write_all(b"from the child").unwrap();
}

/// Makes a pipe with this content, and then its end.
fn pipe_with(content: &str) -> PipeReader {
    let (read, mut write) = io::pipe().unwrap();
    write!(write, "{content}").unwrap();
    read
}

/// Runs a child of this command, and returns what it prints.
fn output(command: &mut reexec::Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Parses the output of `print_descriptors`: numbers and targets.
fn parse(printed: &str) -> BTreeMap<RawFd, PathBuf> {
    let lines = printed.lines().map(|line| line.split_once(' ').unwrap());
    let parsed = lines.map(|(number, target)| (number.parse().unwrap(), target.into()));
    parsed.collect()
}

/// Returns the descriptors of a child of std, without its standard streams.
fn found_by_a_standard_child() -> BTreeMap<RawFd, PathBuf> {
    let mut found = parse(&stdout_of(&mut program("print_descriptors")));
    found.split_off(&3)
}

// By name.

fn a_descriptor_is_taken_once_by_its_name() {
    let printed = output(support::command("takeTwice").fd("text", pipe_with("content")));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(r#"no descriptor named "text""#), "{printed}");
    assert!(lines[1].contains(r#"no descriptor named "another""#), "{printed}");

    let error = reexec::inherited_fd("text").unwrap_err(); // in an ordinary start
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn a_listener_can_be_passed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = support::command("serveOne");
    let child = command.fd("listener", listener).spawn().unwrap();
    assert_eq!(read_all(TcpStream::connect(address).unwrap()), "from the child");
    assert!(child.wait().unwrap().success());
    TcpStream::connect(address).unwrap_err(); // the child was the only one to listen
}

fn a_descriptor_is_passed_to_one_child_only() {
    let mut command = support::command("readNamed");
    command.arg("text").fd("text", pipe_with("content"));
    assert_eq!(output(&mut command), "content\n");
    let error = command.spawn().unwrap_err();
    assert_contains(&error, "\"text\"");
    // A new descriptor of that name is passed.
    command.fd("text", pipe_with("more"));
    assert_eq!(output(&mut command), "more\n");
}

fn the_parent_keeps_no_copy_while_status_waits() {
    for by_name in [true, false] {
        let (read, write) = io::pipe().unwrap();
        let (gate, gates_other_end) = io::pipe().unwrap();
        let reader = thread::spawn(move || {
            assert_eq!(read_all(read), ""); // until the child closes it
            drop(gates_other_end); // lets the child end
        });
        let mut command = match by_name {
            true => support::command("closeNamedThenWait"),
            false => support::command("closeStdoutThenWait"),
        };
        match by_name {
            true => command.fd("out", write).fd("gate", gate),
            false => command.stdout(write).stdin(gate),
        };
        let start = Instant::now();
        assert!(command.ready_timeout(LIMIT).status().unwrap().success());
        assert!(start.elapsed() < LIMIT);
        reader.join().unwrap();
    }
}

fn the_parent_keeps_no_copy_of_a_passed_descriptor() {
    let (read, write) = io::pipe().unwrap();
    let mut command = support::command("childProcess");
    command.stdin(reexec::Stdio::piped()).fd("pipe", write);
    let child = command.spawn().unwrap();
    child.wait().unwrap();
    // The end comes while the command still exists, so the command has no copy.
    assert_eq!(read_all(read), "");
    drop(command);
}

// Nothing else.

/// Returns these numbers, and those that a child inherits in addition: none, or if a spawn cannot close,
/// the descriptors that this test has inherited. Number 3 is left out, because the child's control
/// channel had it.
fn with_inherited(given: &[RawFd]) -> Vec<RawFd> {
    let mut numbers = BTreeSet::from_iter(given.iter().copied());
    if !closes_undeclared() {
        let inherited = found_by_a_standard_child().into_keys();
        numbers.extend(inherited.filter(|number| *number != 3));
    }
    numbers.into_iter().collect()
}

fn a_child_has_its_passed_descriptors_and_its_lifeline() {
    let mut command = support::command("printDescriptors");
    command.fd("null", File::open("/dev/null").unwrap());
    command.fd("zero", File::open("/dev/zero").unwrap());
    let found = parse(&output(&mut command));
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), with_inherited(&[0, 1, 2, 4, 5, 6]));
    assert!(found[&4].to_str().unwrap().starts_with("pipe:"), "the lifeline");
    assert_eq!(found[&5].to_str(), Some("/dev/null"));
    assert_eq!(found[&6].to_str(), Some("/dev/zero"));
}

fn a_child_that_outlives_its_parent_needs_no_lifeline() {
    let mut command = support::command("printDescriptors");
    let found = parse(&output(command.outlive_parent()));
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), with_inherited(&[0, 1, 2]));
}

fn a_taken_descriptor_is_not_inherited_by_grandchildren() {
    let mut command = support::command("startOthers");
    let printed = output(command.fd("text", File::open("/dev/zero").unwrap()));
    let (as_it_is, with_a_copy) = printed.split_once("----").unwrap();
    assert!(!as_it_is.contains("/dev/zero"), "{printed}");
    // Control: a copy without the flag is inherited.
    assert!(with_a_copy.contains("/dev/zero"), "{printed}");
}

fn leaked_descriptors_are_closed_in_the_child() -> Result<(), Skipped> {
    if !closes_undeclared() {
        let reason = "with this libc, a spawn cannot close; see undeclared.rs for what it does";
        return Err(Skipped::because(reason));
    }
    // A child uses the low numbers.
    let leak = "exec 3</dev/zero 4</dev/zero 5</dev/zero 6</dev/zero 9</dev/zero";
    let mut program = support::program_after(leak, "spawn_with_leaked_descriptors");
    let printed = stdout_of(&mut program);
    let (ours, standard) = printed.split_once("----").unwrap();
    let numbers: Vec<_> = parse(ours).into_keys().collect();
    assert_eq!(numbers, [0, 1, 2, 4, 5], "{printed}");
    assert!(!ours.contains("/dev/zero"), "{printed}");
    // Control: std passes the leak on.
    assert_eq!(standard.matches("/dev/zero").count(), 5, "{printed}");
    Ok(())
}

fn spawn_with_leaked_descriptors() {
    let mut command = support::command("printDescriptors");
    command.fd("text", pipe_with("content"));
    assert!(command.status().unwrap().success());
    println!("----");
    println!("{:?}", found_by_a_standard_child());
}

// Numbers that are in each other's way.

/// In a process of its own, whose descriptors start at 3, as those of the child do.
fn twenty_descriptors_arrive_in_any_order() {
    let names: Vec<_> = (0..20).map(|number| format!("pipe {number}")).collect();
    let expected = names.join("\n") + "\n";
    let mut forwards = support::command("readNamed");
    let mut backwards = support::command("readNamed");
    for name in &names {
        forwards.arg(name).fd(name, pipe_with(name));
    }
    assert_eq!(output(&mut forwards), expected);

    // The first child has them, so the same numbers are free again.
    let pipes: Vec<_> = names.iter().map(|name| (name, pipe_with(name))).collect();
    for (name, pipe) in pipes.into_iter().rev() {
        backwards.fd(name, pipe);
    }
    assert_eq!(output(backwards.args(&names)), expected);
}

// Other threads.

/// In a process of its own, so that the other thread uses the numbers that matter.
fn descriptors_arrive_while_other_threads_open_and_close_theirs() {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut files = VecDeque::new();
            while !done.load(Ordering::Relaxed) {
                files.push_back(File::open("/dev/null"));
                if files.len() > 6 {
                    files.drain(..3);
                }
            }
        });
        let mut printed = BTreeSet::new();
        for _ in 0..100 {
            let mut command = support::command("readNamed");
            for name in ["a", "b", "c", "d", "e"] {
                command.arg(name).fd(name, pipe_with(name));
            }
            printed.insert(command.output().unwrap().stdout);
        }
        done.store(true, Ordering::Relaxed); // before an assertion can fail
        assert_eq!(printed, BTreeSet::from([b"a\nb\nc\nd\ne\n".to_vec()]));
    });
}

fn children_of_other_threads_get_no_descriptor() {
    const ROUNDS: usize = 60;
    // Every child of std inherits what this test has inherited from its launcher.
    let inherited = found_by_a_standard_child();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut command = support::command("childProcess");
                    command.stdin(reexec::Stdio::piped());
                    command.stdout(reexec::Stdio::piped());
                    command.stderr(reexec::Stdio::null());
                    command.fd("one", pipe_with("content"));
                    command.fd("two", File::open("/dev/zero").unwrap());
                    assert!(command.status().unwrap().success());
                }
            });
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    assert_eq!(found_by_a_standard_child(), inherited);
                }
            });
        }
    });

    // Control: a pipe without close-on-exec is inherited.
    let careless_pipe = nix::unistd::pipe().unwrap();
    assert_ne!(found_by_a_standard_child(), inherited);
    drop(careless_pipe);
}

// No descriptor left.

/// Sets the limit of descriptors, or resets it to the hard limit.
fn limit_descriptors(limit: Option<u64>) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit.unwrap_or(hard), hard).unwrap();
}

/// A command that needs a lot of descriptors.
fn hungry_command() -> (reexec::Command, PipeReader, PipeWriter) {
    let (read, write) = io::pipe().unwrap();
    let (read_too, write_too) = io::pipe().unwrap();
    let mut command = support::command("childProcess");
    command.stdin(reexec::Stdio::piped()).stdout(reexec::Stdio::piped());
    command.stderr(reexec::Stdio::null());
    command.fd("one", read_too).fd("two", write);
    (command, read, write_too)
}

/// Spawns with no free descriptor, with one, and so on, until it works.
fn a_full_table_is_a_clean_error() {
    let mut failures = 0;
    for free in 0.. {
        let (mut command, _read, _write) = hungry_command();
        let before = descriptors();

        limit_descriptors(Some(64));
        let mut fill: Vec<File> = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            fill.push(file);
        }
        fill.truncate(fill.len() - free);
        let result = command.spawn();
        drop(fill);
        limit_descriptors(None);

        match result {
            Ok(child) => {
                assert!(child.wait().unwrap().success());
                break;
            }
            Err(error) => {
                let Stage::Prepare { source, .. } = error.stage() else {
                    panic!("with {free} free: {error:?}");
                };
                assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "{error}");
                assert_eq!(children(), [], "with {free} free: {error}");
                assert_eq!(descriptors(), before, "with {free} free: {error}");
                failures += 1;
            }
        }
        // With room again, the same command works.
        assert!(command.status().unwrap().success());
    }
    assert!(failures > 5, "{failures}");
    assert_eq!(children(), []);
}
