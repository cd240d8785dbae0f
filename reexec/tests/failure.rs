//! A spawn that fails says at which stage, and leaves no process, no zombie and no descriptor.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::env;
use std::error::Error as _;
use std::io;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use reexec::{Command, Error, Stage, Stdio};
use support::{LIMIT, children, descriptors, is_zombie, read_all, until_stdin_ends, wait_until};

/// What a child of this program does instead of calling `init`.
const BEFORE_INIT: &str = "BEFORE_INIT";

/// Makes `main` go on after `init`, in the child, too.
const IGNORE_CODE: &str = "IGNORE_CODE";

fn main() -> ExitCode {
    match env::var(BEFORE_INIT).as_deref() {
        Ok("return") => return ExitCode::from(42),
        Ok("kill") => raise(Signal::SIGKILL).unwrap(),
        // Long enough to be taken for ever by the test, short enough not to be in the way if the
        // test is gone.
        Ok("sleep") => thread::sleep(LIMIT),
        _ => {}
    }
    reexec::register("childProcess", until_stdin_ends);
    if env::var_os(IGNORE_CODE).is_some() {
        return go_on_whatever_init_returns();
    }
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        &[],
        support::trials![
            an_unknown_entry_is_named,
            a_child_that_returns_from_main_before_init_is_noticed,
            a_child_that_is_killed_before_init_is_noticed,
            a_child_that_does_not_come_to_init_is_killed_at_the_deadline,
            a_deadline_that_has_passed_already_is_an_error,
            an_argument_that_is_too_long_fails_at_exec,
            nul_bytes_are_refused_wherever_they_are,
            signals_that_do_not_exist_are_refused,
            a_name_given_to_two_descriptors_is_refused,
            names_that_are_too_long_are_refused_at_once,
            an_error_becomes_an_io_error_and_can_be_had_back,
            the_number_of_a_failed_call_is_kept,
            what_was_to_be_handed_over_is_still_there_after_a_failure,
            what_is_left_behind_would_be_noticed,
            a_main_that_goes_on_in_the_child_cannot_start_another,
        ],
    )
}

/// A child that would live, with everything a start has to clean up after.
fn full_command(name: &str) -> Command {
    let mut command = reexec::command(name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    command.fd("one", io::pipe().unwrap().0);
    command.fd("two", io::pipe().unwrap().1);
    command
}

/// Spawns, which must fail and leave nothing.
fn error_of(command: &mut Command) -> Error {
    let before = descriptors();
    let error = command.spawn().unwrap_err();
    assert_eq!(children(), [], "after: {error}");
    assert_eq!(descriptors(), before, "after: {error}");
    assert!(error.to_string().starts_with("cannot start "), "{error}");
    error
}

fn an_unknown_entry_is_named() {
    let error = error_of(&mut full_command("noSuchEntry"));
    assert!(matches!(error.stage(), Stage::UnknownEntry), "{error:?}");
    assert_eq!(error.entry(), "noSuchEntry");
    let message = error.to_string();
    assert!(
        message.contains(r#"register("noSuchEntry", …)"#),
        "{message}"
    );
}

/// How a child ended that did not come to `init`.
fn status_before_init(instead: &str) -> std::process::ExitStatus {
    let error = error_of(full_command("childProcess").env(BEFORE_INIT, instead));
    assert!(
        error
            .to_string()
            .contains("before it reached reexec::init()"),
        "{error}"
    );
    match error.stage() {
        Stage::BeforeInit { status } => status.unwrap(),
        stage => panic!("{stage:?}"),
    }
}

fn a_child_that_returns_from_main_before_init_is_noticed() {
    assert_eq!(status_before_init("return").code(), Some(42));
}

fn a_child_that_is_killed_before_init_is_noticed() {
    assert_eq!(status_before_init("kill").signal(), Some(libc::SIGKILL));
}

fn a_child_that_does_not_come_to_init_is_killed_at_the_deadline() {
    let limit = Duration::from_millis(100);
    let mut command = full_command("childProcess");
    command.env(BEFORE_INIT, "sleep").ready_timeout(limit);
    let error = error_of(&mut command);
    assert!(matches!(error.stage(), Stage::NotReady { timeout } if *timeout == limit));
    assert!(
        error.to_string().contains("within 100ms and was killed"),
        "{error}"
    );
}

fn a_deadline_that_has_passed_already_is_an_error() {
    let mut command = full_command("childProcess");
    command
        .env(BEFORE_INIT, "sleep")
        .ready_timeout(Duration::ZERO);
    let error = error_of(&mut command);
    assert!(matches!(error.stage(), Stage::NotReady { .. }), "{error:?}");
}

/// The kernel takes no argument of more than 128 KiB.
fn an_argument_that_is_too_long_fails_at_exec() {
    let error = error_of(full_command("childProcess").arg("x".repeat(200_000)));
    let Stage::Exec { source, .. } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::E2BIG));
}

fn nul_bytes_are_refused_wherever_they_are() {
    let mut commands = [
        reexec::command("a\0b"),
        reexec::command("childProcess"),
        reexec::command("childProcess"),
    ];
    commands[1].arg("a\0b");
    commands[2].env("KEY", "a\0b");
    for command in &mut commands {
        let error = error_of(command);
        assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains("NUL"), "{error}");
    }
}

fn signals_that_do_not_exist_are_refused() {
    for signal in [-1, 0, 1000] {
        let error = error_of(full_command("childProcess").die_with_parent(signal));
        assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
    }
}

fn a_name_given_to_two_descriptors_is_refused() {
    let mut command = full_command("childProcess");
    for _ in 0..2 {
        command.fd("same", io::pipe().unwrap().0);
    }
    let error = command.spawn().unwrap_err();
    assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
}

fn names_that_are_too_long_are_refused_at_once() {
    let error = error_of(&mut reexec::command(&"x".repeat(70_000)));
    assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
}

fn an_error_becomes_an_io_error_and_can_be_had_back() {
    let error = io::Error::from(reexec::command("noSuchEntry").status().unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(matches!(
        error.downcast::<Error>().unwrap().stage(),
        Stage::UnknownEntry
    ));
}

/// Callers decide by it whether to try again.
fn the_number_of_a_failed_call_is_kept() {
    let mut command = reexec::command("childProcess");
    let error = command.arg("x".repeat(200_000)).spawn().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("too long"));
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong);
    let error = io::Error::from(error);
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));

    let error = io::Error::from(command.output().unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
}

fn what_was_to_be_handed_over_is_still_there_after_a_failure() {
    let (stdin, gate) = io::pipe().unwrap();
    let (read, write) = io::pipe().unwrap();
    let mut command = reexec::command("childProcess");
    command.stdin(stdin).fd("pipe", write);
    command.env(BEFORE_INIT, "return");
    error_of(&mut command);

    let child = command.env_remove(BEFORE_INIT).spawn().unwrap();
    drop(gate); // its stdin was this pipe
    assert!(child.wait().unwrap().success());
    assert_eq!(read_all(read), ""); // the end: the child had the other one, and it alone
}

/// The fault that the others look for, made on purpose, so that they are known to see it.
fn what_is_left_behind_would_be_noticed() {
    let before = descriptors();
    let child = full_command("childProcess").spawn().unwrap();
    let pid = child.id();
    drop(child.take_stdin());
    mem::forget(child);
    wait_until("the child is a zombie", || is_zombie(pid));
    assert_eq!(children(), [pid]);
    let left = descriptors().len() - before.len();
    assert_eq!(left, 3, "a pidfd, the lifeline and stdout");
    waitpid(Pid::from_raw(pid as i32), None).unwrap();
}

/// As by `reexec::init();`, where the compiler's warning was not heeded.
fn go_on_whatever_init_returns() -> ExitCode {
    let _ = reexec::init();
    let spawned = reexec::command("childProcess")
        .stdin(Stdio::null())
        .status();
    println!(
        "{}",
        spawned.map_or_else(|error| error.to_string(), |status| status.to_string())
    );
    ExitCode::SUCCESS
}

fn a_main_that_goes_on_in_the_child_cannot_start_another() {
    let mut program = std::process::Command::new(env::current_exe().unwrap());
    let said = support::stdout_of(program.env(IGNORE_CODE, "1"));
    let [in_child, in_parent] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    assert!(in_child.contains("has ended"), "{said}");
    assert_eq!(in_parent, "exit status: 0");
}
