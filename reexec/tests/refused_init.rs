//! System calls of `init` that a filter refuses: those that tell whether the process is a child.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::io;
use std::process::{self, ExitCode};

use reexec::Stdio;
use support::filters::{self, PROBED, case, needs_filters, refusing};
use support::{Skipped, program_after, read_all, stdout_of, until_stdin_ends};

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        until_stdin_ends();
        println!("the entry");
    });
    if let Some(code) = reexec::init().or_else(filters::end_if_probed) {
        return code;
    }
    support::run(
        support::programs![
            start_ordinarily,
            start_ordinarily_beside_another_descriptor,
            start_ordinarily_beside_a_quiet_pipe,
        ],
        support::trials![
            a_child_that_cannot_find_out_what_it_is_does_not_run_main,
            an_ordinary_start_is_recognised_as_long_as_one_call_is_allowed,
        ],
    )
}

/// The calls, alone and together, and the errors of a filter for them. With other errors for the last
/// group, std itself would not start.
const CASES: [(&[&str], &[i32]); 6] = [
    (&["fcntl F_GETFD"], ANY_ERROR),
    (&["fcntl"], ANY_ERROR),
    (&["getsockopt"], ANY_ERROR),
    (&["recvfrom"], ANY_ERROR),
    (&["fcntl", "getsockopt", "recvfrom"], ANY_ERROR),
    (ALL_CALLS, &[libc::EAGAIN]),
];

const ANY_ERROR: &[i32] = &[libc::EPERM, libc::ENOSYS, libc::EAGAIN];

const ALL_CALLS: &[&str] = &["fcntl", "getsockopt", "recvfrom", "poll"];

/// The exit code, stdout and stderr of a process.
type Exit = (Option<i32>, String, String);

fn a_child_that_cannot_find_out_what_it_is_does_not_run_main() -> Result<(), Skipped> {
    needs_filters()?;
    // So many descriptors that the parent need not move any, for which it would use fcntl.
    let _room: Vec<_> = (0..16).map(|_| io::pipe().unwrap()).collect();
    for (refused, answers) in CASES {
        for errno in answers.iter().copied() {
            let case = case("child", &refused.join(" and "), errno);
            let (code, stdout, stderr) = refusing(refused, errno, result_of_child);
            match refused {
                // The other calls tell that it is a child.
                ["fcntl F_GETFD"] | ["getsockopt"] => {
                    assert_eq!(stdout, "the entry\n", "{case}: {stderr}");
                    assert_eq!(code, Some(0), "{case}: {stderr}");
                }
                _ => {
                    assert_eq!(stdout, "", "{case}");
                    assert!(
                        stderr.contains("cannot find out whether this process is a child"),
                        "{case}: {stderr}"
                    );
                    assert_eq!(code, Some(reexec::EXIT_SETUP_FAILED.into()), "{case}");
                }
            }
        }
    }
    Ok(())
}

fn result_of_child() -> Exit {
    let mut command = reexec::command("childProcess");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).env(PROBED, "");
    // This thread may not receive its report.
    let child = command.spawn_unconfirmed().unwrap();
    drop(child.take_stdin());
    let stdout = read_all(child.take_stdout().unwrap());
    let stderr = read_all(child.take_stderr().unwrap());
    (child.wait().unwrap().code(), stdout, stderr)
}

fn an_ordinary_start_is_recognised_as_long_as_one_call_is_allowed() -> Result<(), Skipped> {
    needs_filters()?;
    for (redirection, program) in [
        ("exec 3<&-", "start_ordinarily"),
        ("exec 3</", "start_ordinarily_beside_another_descriptor"),
        ("exec 3>&1", "start_ordinarily_beside_a_quiet_pipe"),
    ] {
        stdout_of(&mut program_after(redirection, program));
    }
    Ok(())
}

/// Descriptor 3 is the write end of a pipe. poll tells that nothing can be read from it.
fn start_ordinarily_beside_a_quiet_pipe() {
    let (refused, errno) = (["getsockopt", "recvfrom"], libc::EPERM);
    let (_, stdout, stderr) = result_of_ordinary_start(&refused, errno);
    assert_eq!(stdout, "ordinary\n", "{stderr}");
}

/// Descriptor 3 is a directory. Each call that is not refused tells that.
fn start_ordinarily_beside_another_descriptor() {
    for (refused, answers) in CASES.iter().filter(|(refused, _)| refused.len() == 1) {
        for errno in answers.iter().copied() {
            let (_, stdout, stderr) = result_of_ordinary_start(refused, errno);
            assert_eq!(stdout, "ordinary\n", "{refused:?}, {errno}: {stderr}");
        }
    }
}

/// Starts this program ordinarily, with these calls refused.
fn result_of_ordinary_start(refused: &[&str], errno: i32) -> Exit {
    let start = || {
        let mut command = process::Command::new(env::current_exe().unwrap());
        command.env(PROBED, "").stdin(process::Stdio::null());
        command.stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
        command.spawn().unwrap()
    };
    let output = refusing(refused, errno, start).wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), stdout, stderr)
}

/// Descriptor 3 is closed: everything that this process opens is close-on-exec.
fn start_ordinarily() {
    for (refused, answers) in CASES {
        for errno in answers.iter().copied() {
            let case = case("ordinary start", &refused.join(" and "), errno);
            let (code, stdout, stderr) = result_of_ordinary_start(refused, errno);
            if refused != ALL_CALLS {
                assert_eq!(stdout, "ordinary\n", "{case}: {stderr}");
                assert_eq!(code, Some(0), "{case}: {stderr}");
            } else {
                // It could be a child, so it must not run main.
                assert_eq!(stdout, "", "{case}");
                assert!(
                    stderr.contains("cannot find out whether this process is a child"),
                    "{case}: {stderr}"
                );
                assert_eq!(code, Some(reexec::EXIT_SETUP_FAILED.into()), "{case}");
            }
        }
    }
}
