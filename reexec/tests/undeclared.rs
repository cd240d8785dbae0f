//! Undeclared descriptors. A child closes those that the launcher left open, or makes them
//! close-on-exec if a spawn cannot close. Those that code has opened before `main` stay open.
//!
//! The tests read descriptors from outside, through /proc/PID, because some processes have no /proc.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::mem;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};

use support::filters::refuse;
use support::{
    Running, Scratch, Skipped, assert_contains, closes_undeclared, descriptors, needs,
    program_after, stdout_of, until_stdin_ends, without_proc,
};

/// A launcher that leaves descriptors open, at numbers that the child does not use. The limit is low,
/// because without close_range(2) and /proc, each number up to the limit is tried.
const LEAK: &str = "ulimit -n 256; exec 7</dev/zero 9</dev/zero";

/// Their numbers.
const LEAKED: [RawFd; 2] = [7, 9];

fn main() -> ExitCode {
    reexec::register("childProcess", child_process);
    reexec::register("startAnother", start_another);
    reexec::register("useLibrary", use_library);
    reexec::register("closeOut", close_out);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            start_another,
            spawn,
            spawn_one_that_starts_another,
            spawn_where_close_range_is_refused,
            spawn_one_that_starts_another_where_close_range_is_refused,
            read_a_passed_pipe_to_its_end,
            spawn_with_a_library,
        ],
        support::trials![
            std_passes_leaked_descriptors_on,
            leaked_descriptors_are_closed,
            leaked_descriptors_are_closed_without_a_proc,
            leaked_descriptors_are_closed_with_close_range_refused,
            leaked_descriptors_that_cannot_be_closed_are_close_on_exec,
            a_descriptor_of_a_preloaded_library_stays_open,
            a_passed_pipe_ends_where_nothing_can_be_closed,
        ],
    )
}

// Entries and programs.

/// Prints its process id when it runs.
fn child_process() {
    println!("{}", process::id());
    until_stdin_ends();
}

/// Prints its process id, and that of a program that it starts by std.
fn start_another() {
    let mut another = Command::new("cat").stdout(Stdio::null()).spawn().unwrap();
    println!("{}\n{}", process::id(), another.id());
    another.wait().unwrap();
}

/// The child shares our stdin.
fn spawn() {
    assert!(reexec::command("childProcess").status().unwrap().success());
}

fn spawn_one_that_starts_another() {
    assert!(reexec::command("startAnother").status().unwrap().success());
}

/// The filter comes after a first spawn, because a spawn must not rely on an earlier answer.
fn spawn_where_close_range_is_refused() {
    refuse_close_range_after_a_spawn();
    spawn();
}

fn spawn_one_that_starts_another_where_close_range_is_refused() {
    refuse_close_range_after_a_spawn();
    spawn_one_that_starts_another();
}

fn refuse_close_range_after_a_spawn() {
    reexec::command("childProcess").output().unwrap();
    refuse(&["close_range"], libc::EPERM);
}

// Looking from outside.

/// A descriptor of another process.
#[derive(Debug, PartialEq)]
struct Descriptor {
    target: PathBuf,
    close_on_exec: bool,
}

fn descriptors_of(pid: u32) -> BTreeMap<RawFd, Descriptor> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let entries = fs::read_dir(process.join("fd")).unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let look = |number: String| {
        // `None` if it has been closed meanwhile.
        let target = fs::read_link(process.join("fd").join(&number)).ok()?;
        let info = fs::read_to_string(process.join("fdinfo").join(&number)).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        Some((number.parse().unwrap(), Descriptor { target, close_on_exec }))
    };
    numbers.filter_map(look).collect()
}

/// Returns the leaked descriptors that a process has, and whether a program that it executes gets them.
fn leaked_into(pid: u32) -> Vec<(RawFd, bool)> {
    let found = descriptors_of(pid).into_iter();
    found
        .filter(|(number, found)| LEAKED.contains(number) && found.target == Path::new("/dev/zero"))
        .map(|(number, found)| (number, !found.close_on_exec))
        .collect()
}

/// Ends the program, and the processes that share its stdin.
fn end(mut program: Running) {
    program.close_stdin();
    assert!(program.wait().success());
}

// Closed.

/// Control: the same launcher, and a child by std.
fn std_passes_leaked_descriptors_on() {
    let mut program = Running::start(&mut program_after(LEAK, "start_another"));
    let (launched, another) = (program.pid(), program.pid());
    assert_eq!(leaked_into(launched), [(7, true), (9, true)]);
    assert_eq!(leaked_into(another), [(7, true), (9, true)]);
    end(program);
}

fn needs_to_close() -> Result<(), Skipped> {
    match closes_undeclared() {
        true => Ok(()),
        false => Err(Skipped::because("with this libc, a spawn cannot close")),
    }
}

/// Checks that a child of this program has only its own descriptors.
fn assert_closed(command: &mut Command) {
    let mut program = Running::start(command);
    let child = program.pid();
    assert_eq!(leaked_into(program.id()), [(7, true), (9, true)]);
    let found = descriptors_of(child);
    let numbers: Vec<_> = found.keys().copied().collect();
    assert_eq!(numbers, [0, 1, 2, 4], "4 is the lifeline: {found:?}");
    end(program);
}

fn leaked_descriptors_are_closed() -> Result<(), Skipped> {
    needs_to_close()?;
    assert_closed(&mut program_after(LEAK, "spawn"));
    Ok(())
}

fn leaked_descriptors_are_closed_without_a_proc() -> Result<(), Skipped> {
    needs_to_close()?;
    assert_closed(&mut without_proc(&program_after(LEAK, "spawn"))?);
    Ok(())
}

fn leaked_descriptors_are_closed_with_close_range_refused() -> Result<(), Skipped> {
    needs_to_close()?;
    let program = "spawn_where_close_range_is_refused";
    assert_closed(&mut program_after(LEAK, program));
    Ok(())
}

// Where that cannot be done.

/// Checks that they are open in the child, but not in a program that the child starts.
fn assert_close_on_exec(command: &mut Command) {
    let mut program = Running::start(command);
    let (child, another) = (program.pid(), program.pid());
    assert_eq!(leaked_into(program.id()), [(7, true), (9, true)]);
    assert_eq!(leaked_into(child), [(7, false), (9, false)]);
    assert_eq!(leaked_into(another), []);
    end(program);
}

/// The control is [`std_passes_leaked_descriptors_on`].
fn leaked_descriptors_that_cannot_be_closed_are_close_on_exec() -> Result<(), Skipped> {
    let refused = "spawn_one_that_starts_another_where_close_range_is_refused";
    if !closes_undeclared() {
        let program = "spawn_one_that_starts_another";
        assert_close_on_exec(&mut program_after(LEAK, program));
        assert_close_on_exec(&mut without_proc(&program_after(LEAK, program))?);
        assert_close_on_exec(&mut program_after(LEAK, refused));
    }
    // glibc closes by close_range or by /proc, so both must be missing.
    assert_close_on_exec(&mut without_proc(&program_after(LEAK, refused))?);
    // An ordinary directory of that name does not list open descriptors.
    let leak = format!("{LEAK}; mkdir -p /proc/self/fd");
    assert_close_on_exec(&mut without_proc(&program_after(&leak, refused))?);
    Ok(())
}

/// A second copy in the child, at the parent's number, would keep the pipe open.
fn a_passed_pipe_ends_where_nothing_can_be_closed() -> Result<(), Skipped> {
    let program = support::program("read_a_passed_pipe_to_its_end");
    assert_eq!(stdout_of(&mut without_proc(&program)?), "the end\n");
    Ok(())
}

fn read_a_passed_pipe_to_its_end() {
    refuse_close_range_after_a_spawn();
    // Above the numbers that the child uses, or it would be overwritten.
    let below: Vec<_> = (0..10).map(|_| File::open("/dev/null").unwrap()).collect();
    let (read, write) = nix::unistd::pipe().unwrap(); // not close-on-exec
    drop(below);
    let mut command = reexec::command("closeOut");
    let child = command.fd("out", write).stdin(reexec::Stdio::piped());
    let child = child.spawn().unwrap();
    assert_eq!(support::read_all(read), ""); // the child still lives
    println!("the end");
    assert!(child.wait().unwrap().success());
}

fn close_out() {
    drop(reexec::inherited_fd("out").unwrap());
    until_stdin_ends();
}

// Before `main`.

/// A library that opens its log before `main`, without close-on-exec, as many C libraries do. It writes
/// to the log at the end of the process.
const LIBRARY: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int log_file = -1;

__attribute__((constructor)) static void begin(void) {
    char number[16];
    log_file = open(getenv("LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    snprintf(number, sizeof number, "%d", log_file);
    setenv("LOG_DESCRIPTOR", number, 1);
}

__attribute__((destructor)) static void end(void) {
    dprintf(log_file, "the end of %d\n", (int)getpid());
}
"#;

/// Prints its process id, and the targets of the library's and the launcher's descriptors. Then opens a
/// file, which would get the library's number if that had been closed.
fn use_library() {
    println!("{}", process::id());
    let number: RawFd = env::var("LOG_DESCRIPTOR").unwrap().parse().unwrap();
    let open = descriptors();
    for number in [number].into_iter().chain(LEAKED) {
        let target = open.get(&number).map(|target| target.to_str().unwrap());
        println!("{}", target.unwrap_or("closed"));
    }
    mem::forget(File::create(env::var_os("OWN").unwrap()).unwrap());
}

fn spawn_with_a_library() {
    assert!(reexec::command("useLibrary").status().unwrap().success());
}

fn a_descriptor_of_a_preloaded_library_stays_open() -> Result<(), Skipped> {
    if cfg!(target_feature = "crt-static") {
        return Err(Skipped::because("nothing is loaded into a static program"));
    }
    needs(&["cc", "--version"])?;
    let scratch = Scratch::new();
    let in_scratch = |name: &str| scratch.0.join(name);
    fs::write(in_scratch("library.c"), LIBRARY).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]);
    stdout_of(compiler.args([in_scratch("library.so"), in_scratch("library.c")]));

    let mut program = program_after(LEAK, "spawn_with_a_library");
    program.env("LD_PRELOAD", in_scratch("library.so"));
    program.env("LOG", in_scratch("log"));
    program.env("OWN", in_scratch("own"));
    let said = stdout_of(&mut program);
    let mut lines = said.lines();
    let child = lines.next().unwrap();
    let log = in_scratch("log").into_os_string().into_string().unwrap();
    assert_eq!(lines.next(), Some(log.as_str()), "{said}");
    let expected = match closes_undeclared() {
        true => ["closed", "closed"],
        false => ["/dev/zero", "/dev/zero"],
    };
    assert_eq!(lines.collect::<Vec<_>>(), expected, "{said}");
    let written = fs::read_to_string(in_scratch("log")).unwrap();
    assert_contains(&written, &format!("the end of {child}\n"));
    assert_eq!(fs::read_to_string(in_scratch("own")).unwrap(), "");
    Ok(())
}
