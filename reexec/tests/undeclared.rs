//! What nobody has declared: descriptors that the launcher left open are closed in a child, or go
//! no further where that cannot be done; those that code has opened before `main` stay open.
//!
//! A descriptor is looked at from outside, through /proc/PID, because some of the processes here
//! have no /proc.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::mem;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode, Stdio};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use support::{
    Running, Scratch, Skipped, closes_undeclared, descriptors, needs, program_after, stdout_of,
    until_stdin_ends, without_proc,
};

/// What a launcher leaves open; at numbers that no child is given. And no room for many more: where
/// neither close_range(2) nor /proc tells which are open, each number up to the limit is tried.
const LEAK: &str = "ulimit -n 256; exec 7</dev/zero 9</dev/zero";

/// What leads there.
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
            read_to_the_end_of_what_was_handed_over,
            spawn_with_a_library,
        ],
        support::trials![
            the_standard_library_passes_on_what_the_launcher_leaked,
            what_the_launcher_leaked_is_closed,
            what_the_launcher_leaked_is_closed_where_there_is_no_proc,
            what_the_launcher_leaked_is_closed_where_close_range_is_refused,
            what_cannot_be_closed_goes_no_further,
            what_a_preloaded_library_has_opened_is_still_its_own,
            what_was_handed_over_ends_where_nothing_can_be_closed,
        ],
    )
}

// Entries and programs.

/// Says that it is there, with all that belongs to the start behind it.
fn child_process() {
    println!("{}", process::id());
    until_stdin_ends();
}

/// The same, with the id of a program that it starts by the standard library.
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

/// It is refused only after a first spawn: that it worked once must not be relied on.
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
    let refused = BTreeMap::from([(libc::SYS_close_range, vec![])]);
    let filter = SeccompFilter::new(
        refused,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        env::consts::ARCH.try_into().unwrap(),
    );
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    seccompiler::apply_filter(&filter).unwrap();
}

// Looking from outside.

/// What a descriptor leads to, and whether it is closed by the next exec.
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
        Some((
            number.parse().unwrap(),
            Descriptor {
                target,
                close_on_exec,
            },
        ))
    };
    numbers.filter_map(look).collect()
}

/// Where the launcher's descriptors were, those that are still his, and whether each goes further.
fn leaked_into(pid: u32) -> Vec<(RawFd, bool)> {
    let found = descriptors_of(pid).into_iter();
    found
        .filter(|(number, found)| LEAKED.contains(number) && found.target == Path::new("/dev/zero"))
        .map(|(number, found)| (number, !found.close_on_exec))
        .collect()
}

/// Lets everything end that shares the program's stdin.
fn end(mut program: Running) {
    program.close_stdin();
    assert!(program.wait().success());
}

// Closed.

/// The fault: the same launcher, and a child by other means.
fn the_standard_library_passes_on_what_the_launcher_leaked() {
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

/// A child of this command, started by a program, has what it was given, and nothing else.
fn assert_closed(command: &mut Command) {
    let mut program = Running::start(command);
    let child = program.pid();
    assert_eq!(leaked_into(program.id()), [(7, true), (9, true)]);
    let found = descriptors_of(child);
    let numbers: Vec<_> = found.keys().copied().collect();
    assert_eq!(numbers, [0, 1, 2, 4], "4 is the lifeline: {found:?}");
    end(program);
}

fn what_the_launcher_leaked_is_closed() -> Result<(), Skipped> {
    needs_to_close()?;
    assert_closed(&mut program_after(LEAK, "spawn"));
    Ok(())
}

fn what_the_launcher_leaked_is_closed_where_there_is_no_proc() -> Result<(), Skipped> {
    needs_to_close()?;
    assert_closed(&mut without_proc(&program_after(LEAK, "spawn"))?);
    Ok(())
}

fn what_the_launcher_leaked_is_closed_where_close_range_is_refused() -> Result<(), Skipped> {
    needs_to_close()?;
    let program = "spawn_where_close_range_is_refused";
    assert_closed(&mut program_after(LEAK, program));
    Ok(())
}

// Where that cannot be done.

/// Open in the child, but not in what the child starts.
fn assert_goes_no_further(command: &mut Command) {
    let mut program = Running::start(command);
    let (child, another) = (program.pid(), program.pid());
    assert_eq!(leaked_into(program.id()), [(7, true), (9, true)]);
    assert_eq!(leaked_into(child), [(7, false), (9, false)]);
    assert_eq!(leaked_into(another), []);
    end(program);
}

/// The twin is [`the_standard_library_passes_on_what_the_launcher_leaked`].
fn what_cannot_be_closed_goes_no_further() -> Result<(), Skipped> {
    let refused = "spawn_one_that_starts_another_where_close_range_is_refused";
    if !closes_undeclared() {
        let program = "spawn_one_that_starts_another";
        assert_goes_no_further(&mut program_after(LEAK, program));
        assert_goes_no_further(&mut without_proc(&program_after(LEAK, program))?);
        assert_goes_no_further(&mut program_after(LEAK, refused));
    }
    // glibc closes by the one or by the other.
    assert_goes_no_further(&mut without_proc(&program_after(LEAK, refused))?);
    // An ordinary directory under that name does not tell which are open.
    let leak = format!("{LEAK}; mkdir -p /proc/self/fd");
    assert_goes_no_further(&mut without_proc(&program_after(&leak, refused))?);
    Ok(())
}

/// A second copy in the child, at the number that it had here, would keep the pipe open.
fn what_was_handed_over_ends_where_nothing_can_be_closed() -> Result<(), Skipped> {
    let program = support::program("read_to_the_end_of_what_was_handed_over");
    assert_eq!(stdout_of(&mut without_proc(&program)?), "the end\n");
    Ok(())
}

fn read_to_the_end_of_what_was_handed_over() {
    refuse_close_range_after_a_spawn();
    // Above the numbers at which the child finds what it is given, or it would be overwritten.
    let below: Vec<_> = (0..10).map(|_| File::open("/dev/null").unwrap()).collect();
    let (read, write) = nix::unistd::pipe().unwrap(); // not close-on-exec
    drop(below);
    let mut command = reexec::command("closeOut");
    let child = command.fd("out", write).stdin(reexec::Stdio::piped());
    let child = child.spawn().unwrap();
    assert_eq!(support::read_all(read), ""); // the child lives, and waits for its stdin
    println!("the end");
    assert!(child.wait().unwrap().success());
}

fn close_out() {
    drop(reexec::inherited_fd("out").unwrap());
    until_stdin_ends();
}

// Before `main`.

/// Opens its log before any `main` begins, and without close-on-exec, as many C libraries do. Writes
/// to it at the end of the process.
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

/// Prints its id, and what the library's descriptor and the launcher's lead to. Then opens a file of its own, which would get that
/// number if it had been closed.
fn use_library() {
    println!("{}", process::id());
    let number: RawFd = env::var("LOG_DESCRIPTOR").unwrap().parse().unwrap();
    let open = descriptors();
    for number in [number].into_iter().chain(LEAKED) {
        println!(
            "{}",
            open.get(&number)
                .map_or("closed", |target| target.to_str().unwrap())
        );
    }
    mem::forget(File::create(env::var_os("OWN").unwrap()).unwrap());
}

fn spawn_with_a_library() {
    assert!(reexec::command("useLibrary").status().unwrap().success());
}

fn what_a_preloaded_library_has_opened_is_still_its_own() -> Result<(), Skipped> {
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
    assert!(
        written.contains(&format!("the end of {child}\n")),
        "{written}"
    );
    assert_eq!(fs::read_to_string(in_scratch("own")).unwrap(), "");
    Ok(())
}
