//! System calls of a fork, or of its copy, that a filter refuses.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::process::ExitCode;

use reexec::{Fork, Reaper, Stdio};
use support::filters::{ERRORS, case, needs_filters, refuse};
use support::{
    Skipped, assert_contains, children, descriptors, interrupted, is_without_clone3, piped,
    program, stdout_of, until_stdin_ends, without_proc,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_also_without_clone3();
    support::run_in_programs(
        needs_filters,
        support::programs![
            a_call_refused_to_a_fork_fails_cleanly_if_at_all,
            a_copy_that_may_not_wait_ends_no_child,
            a_copy_closes_the_descriptors_of_its_reaper_also_one_by_one,
            a_fork_that_cannot_count_threads_fails_with_a_proc,
        ],
        support::programs![fork_uncounted, fork_unseen],
        support::trials![
            a_fork_that_cannot_count_threads_trusts_the_caller_without_a_proc,
            a_copy_that_ended_unseen_is_no_failure,
        ],
    )
}

/// The calls that a fork and its handle use.
const OF_A_FORK: &[&str] = &[
    "clone",
    "clone3",
    "get_robust_list",
    "kill",
    "pidfd_open",
    "pidfd_open of another",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "prctl PR_GET_TID_ADDRESS",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigtimedwait",
    "unshare",
    "wait4",
    "waitid",
    "waitid P_PIDFD",
];

/// A process that forks must have one thread. So each case has a process of its own, a copy of this
/// one, which examines itself without any of these calls.
fn a_call_refused_to_a_fork_fails_cleanly_if_at_all() {
    for refused in OF_A_FORK {
        for errno in ERRORS {
            match reexec::fork().unwrap() {
                Fork::Parent(copy) => {
                    let case = case("fork", refused, errno);
                    assert!(copy.wait().unwrap().success(), "{case}");
                }
                Fork::Child => {
                    fork_under_a_filter(refused, errno);
                    reexec::exit_now(0);
                }
            }
        }
    }
}

fn fork_under_a_filter(refused: &str, errno: i32) {
    let case = case("fork", refused, errno);
    let before = descriptors();
    refuse(&[refused], errno);
    let means_never = [libc::EPERM, libc::ENOSYS].contains(&errno);
    let fails = match refused {
        "clone" => true,
        "clone3" => !means_never, // of two filters, the later one decides
        // A fork by clone3(2) has its pidfd already.
        "pidfd_open" => is_without_clone3() && !means_never,
        "pidfd_open of another" => is_without_clone3(),
        _ => false,
    };
    let fork = || match reexec::fork() {
        Ok(Fork::Child) => reexec::exit_now(7),
        Ok(Fork::Parent(copy)) => Some(copy),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(errno), "{case}");
            None
        }
    };
    let (one, other) = (fork(), fork());
    assert_eq!(one.is_none(), fails, "{case}");
    if let Some(copy) = &one {
        assert_eq!(copy.wait().expect(&case).code(), Some(7), "{case}");
    }
    drop((one, other));
    assert_eq!(children(), [], "{case}");
    assert_eq!(descriptors(), before, "{case}");
}

/// A forked copy has copies of the handles, and no children. It cannot ask whose child this is.
fn a_copy_that_may_not_wait_ends_no_child() {
    let child = piped("childProcess").spawn().unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => {
            assert!(copy.wait().unwrap().success());
            assert!(child.wait().unwrap().success(), "the copy has ended it");
        }
        Fork::Child => {
            refuse(&["waitid"], libc::EPERM);
            drop(child);
            reexec::exit_now(0);
        }
    }
}

/// The process has one thread, but a filter refuses to tell that.
fn a_fork_that_cannot_count_threads_trusts_the_caller_without_a_proc() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut without_proc(&program("fork_uncounted"))?);
    Ok(())
}

fn fork_uncounted() {
    refuse(&["unshare"], libc::EPERM);
    match reexec::fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
    }
}

fn a_fork_that_cannot_count_threads_fails_with_a_proc() {
    refuse(&["unshare", "stat"], libc::EACCES);
    let error = reexec::fork().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

/// If a filter refuses close_range(2), the copy closes each by itself.
fn a_copy_closes_the_descriptors_of_its_reaper_also_one_by_one() {
    let mut reaper = Reaper::new().unwrap();
    let mut command = reexec::command("childProcess");
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    reaper.add(child, ()).unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => assert!(copy.wait().unwrap().success()),
        Fork::Child => {
            refuse(&["close_range"], libc::ENOSYS);
            let before = descriptors().len();
            drop(reaper);
            assert_eq!(before - descriptors().len(), 3); // a pidfd, a lifeline, the epoll
            reexec::exit_now(0);
        }
    }
}

/// The kernel reaps the copy before its parent has a pidfd of it.
fn a_copy_that_ended_unseen_is_no_failure() -> Result<(), Skipped> {
    // Without clone3(2), the first pidfd is of the process itself, to see whether pidfds are available.
    let late = match is_without_clone3() {
        true => "inject=pidfd_open:delay_enter=300000:when=2+2",
        false => "inject=clone3:delay_exit=300000",
    };
    interrupted(&["trace=pidfd_open,clone3", late], "fork_unseen").map(drop)
}

fn fork_unseen() {
    reexec::signal::ignore(libc::SIGCHLD).unwrap();
    match reexec::fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => {
            let error = copy.wait().unwrap_err();
            assert_contains(&error, "SIGCHLD is ignored");
        }
    }
}
