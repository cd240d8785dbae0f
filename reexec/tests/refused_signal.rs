//! Children that this process may not signal: a filter forbids it, or it has given up its privileges.
//! They end by their lifelines.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use reexec::{Child, Reaper};
use support::filters::{Before, needs_filters, refusing};
use support::{
    LIMIT, NOBODY, Skipped, become_user, first_line, is_gone, is_zombie, needs_root, piped,
    program, stat, stdout_of, until_stdin_ends, wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("deafChild", || {
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        println!("deaf");
        until_stdin_ends();
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_in_programs(
        needs_filters,
        support::programs![children_that_a_filter_protects_end_by_their_lifeline],
        support::programs![lose_the_right_to_signal_with_the_privileges],
        support::trials![children_that_lost_privileges_protect_end_by_their_lifeline],
    )
}

/// The two system calls that signal.
const SIGNALLING: &[&str] = &["pidfd_send_signal", "kill"];

/// Children that we cannot signal, and what becomes of each.
struct Protected {
    killed: Child,
    terminated: Child,
    /// A zombie.
    ended: Child,
    dropped: Child,
    put_into_a_reaper: [Child; 2],
    /// Control: it has no lifeline.
    outliving: Child,
}

/// Starts them while they can still be signalled.
fn protected() -> Protected {
    let child = || piped("childProcess").spawn().unwrap();
    Protected {
        killed: child(),
        terminated: child(),
        ended: {
            let child = child();
            drop(child.take_stdin());
            wait_until("a zombie", || is_zombie(child.id()));
            child
        },
        dropped: child(),
        put_into_a_reaper: [child(), child()],
        outliving: piped("childProcess").outlive_parent().spawn().unwrap(),
    }
}

/// Ends each in its way, although no signal of ours reaches it.
fn signal_in_vain(children: Protected, errno: i32) {
    let child = children.killed;
    assert_eq!(child.signal(libc::SIGUSR1).unwrap_err().raw_os_error(), Some(errno));
    assert_eq!(child.kill().unwrap_err().raw_os_error(), Some(errno));
    let status = child.wait_timeout(LIMIT).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM), "of the lifeline");
    child.kill().unwrap(); // it has ended, so this is no error

    // A signal to a zombie has no effect, and is no error.
    children.ended.signal(libc::SIGUSR1).unwrap();
    assert!(children.ended.wait().unwrap().success());

    // Its lifeline ends it before the kill.
    let status = children.terminated.terminate(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));

    let pid = children.dropped.id();
    drop(children.dropped);
    wait_until("the dropped child is reaped", || is_gone(pid));

    let pids = children.put_into_a_reaper.each_ref().map(Child::id);
    let mut reaper = Reaper::new().unwrap();
    for child in children.put_into_a_reaper {
        reaper.add(child, ()).unwrap();
    }
    drop(reaper);
    wait_until("those in the reaper are reaped", || pids.iter().all(|pid| is_gone(*pid)));

    let child = children.outliving;
    assert_eq!(child.kill().unwrap_err().raw_os_error(), Some(errno));
    let status = child.wait().unwrap(); // it ends with its stdin
    assert!(status.success(), "nothing else has ended it: {status}");
}

/// Starts a child that the signal of its lifeline does not end. The end of its stdin does.
fn deaf_child() -> (Child, ChildStdin) {
    let child = piped("deafChild").spawn().unwrap();
    assert_eq!(first_line(&child), "deaf\n");
    let stdin = child.take_stdin().unwrap();
    (child, stdin)
}

/// Gives their handles up, which takes a second each. The children continue.
fn give_up_deaf_children([dropped, detached]: [Child; 2], errno: i32) {
    let pids = [dropped.id(), detached.id()];
    thread::scope(|scope| {
        scope.spawn(|| drop(dropped));
        let error = detached.terminate(Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno));
        detached.detach().unwrap();
    });
    for pid in pids {
        assert!(!is_gone(pid) && !is_zombie(pid), "{:?}", stat(pid));
    }
}

fn children_that_a_filter_protects_end_by_their_lifeline() {
    let before = Before::now();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let children = protected();
        refusing(SIGNALLING, errno, || signal_in_vain(children, errno));
        before.is_restored("children that may not be signalled");

        // A child that must end before there is a handle, and one whose start failed.
        for (also, errno_known) in [("pidfd_open of another", true), ("unshare", false)] {
            let refused = [SIGNALLING, &[also]].concat();
            let error =
                refusing(&refused, errno, || reexec::command("noSuchEntry").spawn().unwrap_err());
            assert_eq!(error.raw_os_error(), errno_known.then_some(errno), "{error:?}");
            before.is_restored_later("a spawn that failed");
        }
    }
    let ((one, its_gate), (other, others_gate)) = (deaf_child(), deaf_child());
    let errno = libc::EPERM;
    refusing(SIGNALLING, errno, || give_up_deaf_children([one, other], errno));
    drop((its_gate, others_gate));
    before.is_restored_later("the late end of children that may not be signalled");
}

fn children_that_lost_privileges_protect_end_by_their_lifeline() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("lose_the_right_to_signal_with_the_privileges"));
    Ok(())
}

/// The children stay root's.
fn lose_the_right_to_signal_with_the_privileges() {
    let before = Before::now();
    let children = protected();
    let ((one, its_gate), (other, others_gate)) = (deaf_child(), deaf_child());
    become_user(NOBODY);
    signal_in_vain(children, libc::EPERM);
    give_up_deaf_children([one, other], libc::EPERM);
    drop((its_gate, others_gate));
    before.is_restored_later("the late end of children that may not be signalled");
}
