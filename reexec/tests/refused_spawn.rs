//! System calls of a spawn that a filter refuses. Either the spawn still works, or its error names
//! the stage, and leaves nothing.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use reexec::{Command, Error, Stage};
use support::filters::{self, Before, ERRORS, PROBED, case, needs_filters, refusing};
use support::{
    Skipped, assert_contains, children, piped, program, read_all, stat, stdout_of, until_stdin_ends,
};

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        until_stdin_ends();
        println!("the entry");
    });
    if let Some(code) = reexec::init().or_else(filters::end_if_probed) {
        return code;
    }
    support::run_in_programs(
        needs_filters,
        support::programs![
            a_call_refused_after_the_first_spawn_fails_cleanly_if_at_all,
            a_call_that_only_some_spawns_use_is_named_when_refused,
        ],
        support::programs![refuse_before_the_first_spawn],
        support::trials![
            a_call_refused_before_the_first_spawn_fails_cleanly_if_at_all,
            a_child_that_cannot_report_prints_the_reason,
            a_child_that_may_not_set_its_name_runs,
        ],
    )
}

/// The calls that a spawn uses.
const OF_A_SPAWN: &[&str] = &[
    "clone",
    "close_range",
    "dup2",
    "execve",
    "fcntl",
    "getdents64",
    "getsockopt",
    "kill",
    #[cfg(target_env = "gnu")] // for the stack on which the child borrows the parent's memory
    "mmap",
    "openat",
    "pidfd_open",
    "pidfd_open of another",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "prctl",
    "prlimit64",
    "recvfrom",
    "rt_sigprocmask",
    "sendto",
    "socketpair",
    "stat",
    "wait4",
    "waitid",
    "waitid P_PIDFD",
];

/// Changes a command.
type Setting = fn(&mut Command);

/// The calls that a spawn uses with these settings.
const OF_A_SPAWN_WITH_MORE: [(&str, Setting); 2] = [
    ("memfd_create", |command| {
        command.sealed();
    }),
    ("setpgid", |command| {
        command.process_group(0);
    }),
];

/// Predicts the result of a spawn: `None` if it works, or the stage at which it fails, and whether the
/// error has the number of the refusal.
fn expected(refused: &str, errno: i32) -> Option<(&'static str, bool)> {
    let stage = match (refused, errno) {
        // Each has a substitute.
        ("close_range" | "getdents64" | "getsockopt" | "kill", _) => return None,
        ("pidfd_open", libc::EPERM | libc::ENOSYS) => return None,
        ("pidfd_send_signal" | "prctl" | "prlimit64" | "rt_sigprocmask" | "stat", _) => {
            return None;
        }
        ("wait4" | "waitid" | "waitid P_PIDFD", _) => return None,
        // This error means that nothing can be read yet; the child, which gets it too, has ended.
        ("recvfrom", libc::EAGAIN) => return Some(("BeforeInit", false)),
        // Only the child uses it, as long as no descriptor of the parent must be moved.
        ("fcntl", _) => return Some(("BeforeInit", false)),
        ("clone" | "mmap", _) => "NewProcess",
        // Without a filter, no other step of a spawn fails with this number.
        ("dup2" | "execve" | "setpgid", libc::EAGAIN) => "NewProcess",
        ("execve", _) => "Exec",
        ("setpgid", _) => "ProcessGroup",
        _ => "Prepare",
    };
    Some((stage, true))
}

/// Compares an error with the prediction.
fn assert_expected(error: &Error, expected: (&str, bool), errno: i32, case: &str) {
    let (stage, with_number) = expected;
    let found = format!("{:?}", error.stage());
    assert!(found.starts_with(stage), "{case}: {found}");
    let number = with_number.then_some(errno);
    assert_eq!(error.raw_os_error(), number, "{case}: {found}");
}

/// Starts a child and collects its output, which uses every call of a start. Returns whether it works.
fn collect_output(command: &mut Command, refused: &str, errno: i32) -> bool {
    let case = case("output", refused, errno);
    match (command.env(PROBED, "").output(), expected(refused, errno)) {
        (Ok(output), None) => {
            assert_eq!(output.stdout, b"the entry\n", "{case}: {output:?}");
            true
        }
        (Err(error), Some(expected)) => {
            assert_expected(&error, expected, errno, &case);
            false
        }
        (Err(error), None) => panic!("{case}: {error:?}"),
        (Ok(output), Some(_)) => panic!("{case}: works against expectation: {output:?}"),
    }
}

/// Ends children in other ways where a call is refused.
fn kill_and_drop(refused: &str, errno: i32) {
    let case = case("kill", refused, errno);
    let start = || {
        let mut command = piped("childProcess");
        command.env(PROBED, "").spawn().expect(&case)
    };
    let child = start();
    child.kill().expect(&case);
    let status = child.wait().expect(&case);
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{case}");
    drop(child);
    drop(start());
    let mut command = reexec::command("noSuchEntry");
    let error = command.env(PROBED, "").spawn().unwrap_err();
    assert!(matches!(error.stage(), Stage::UnknownEntry), "{case}: {error:?}");
}

fn a_call_refused_before_the_first_spawn_fails_cleanly_if_at_all() -> Result<(), Skipped> {
    needs_filters()?;
    for refused in OF_A_SPAWN {
        for errno in ERRORS {
            let mut program = program("refuse_before_the_first_spawn");
            stdout_of(program.arg(refused).arg(errno.to_string()));
        }
    }
    Ok(())
}

fn refuse_before_the_first_spawn() {
    let refused = env::args().nth(3).unwrap();
    let errno = env::args().nth(4).unwrap().parse().unwrap();
    let before = Before::now();
    let mut command = reexec::command("childProcess");
    let act = || collect_output(&mut command, &refused, errno);
    refusing(&[&refused], errno, act);
    before.is_restored(&case("first output", &refused, errno));
}

fn a_call_refused_after_the_first_spawn_fails_cleanly_if_at_all() {
    let first = reexec::command("childProcess").output().unwrap();
    assert_eq!(first.stdout, b"the entry\n");
    let before = Before::now();
    for refused in OF_A_SPAWN {
        for errno in ERRORS {
            let mut command = reexec::command("childProcess");
            let act = || {
                if collect_output(&mut command, refused, errno) {
                    kill_and_drop(refused, errno);
                }
            };
            refusing(&[refused], errno, act);
            before.is_restored(&case("spawn", refused, errno));
        }
    }
    for (refused, set) in OF_A_SPAWN_WITH_MORE {
        for errno in ERRORS {
            let mut command = reexec::command("childProcess");
            set(&mut command);
            let act = || collect_output(&mut command, refused, errno);
            refusing(&[refused], errno, act);
            before.is_restored(&case("spawn with more", refused, errno));
        }
    }
}

fn a_call_that_only_some_spawns_use_is_named_when_refused() {
    let low = File::open("/dev/null").unwrap();
    assert!(low.as_raw_fd() < 6, "a number that the child needs");
    let mut beside_it = piped("childProcess");
    beside_it.fd("low", low);
    let cases = [
        ("sendto of a launch", "launch", piped("childProcess")),
        ("fcntl F_DUPFD_CLOEXEC", "descriptors", beside_it),
    ];
    for (refused, step, mut command) in cases {
        let error = refusing(&[refused], libc::EPERM, || command.spawn().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        assert_contains(&error, step);
        assert_eq!(children(), []);
    }
}

/// Its entry does not run, because its parent gets an error.
fn a_child_that_cannot_report_prints_the_reason() -> Result<(), Skipped> {
    needs_filters()?;
    let (reader, writer) = io::pipe().unwrap();
    let error = refusing(&["sendto of a report"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.stderr(writer).spawn().unwrap_err()
    });
    assert!(error.to_string().ends_with("printed the reason to its stderr"), "{error}");
    let said = read_all(reader);
    assert!(
        said.starts_with("reexec: cannot report Ready to the parent: Operation not permitted"),
        "{said}"
    );
    Ok(())
}

fn a_child_that_may_not_set_its_name_runs() -> Result<(), Skipped> {
    needs_filters()?;
    let name = |refused: &[&str]| {
        let child = refusing(refused, libc::EPERM, || piped("childProcess").spawn().unwrap());
        let name = stat(child.id()).unwrap().comm;
        assert!(child.wait().unwrap().success());
        name
    };
    assert_ne!(name(&["prctl"]), "childProcess");
    assert_eq!(name(&["unshare"]), "childProcess", "without that refusal");
    Ok(())
}
