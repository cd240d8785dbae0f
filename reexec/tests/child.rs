//! The handle of a child: waiting and signalling from any thread, and no zombie when it is
//! dropped.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{self, ChildStdin, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use reexec::{Child, Stdio};
use support::{
    LIMIT, Skipped, is_gone, is_zombie, needs, stat, thread_state, until_stdin_ends, wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        until_stdin_ends();
        ExitCode::from(7)
    });
    reexec::register("deafChild", || {
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        println!("deaf");
        until_stdin_ends();
    });
    reexec::register("useMemory", || {
        let bytes = env::args().nth(1).unwrap().parse().unwrap();
        black_box(vec![1_u8; bytes]);
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![signal_a_child_whose_number_is_anothers],
        support::trials![
            many_threads_may_wait_at_once,
            a_child_can_be_killed_while_another_thread_waits,
            waiting_with_a_limit_gives_up_and_the_child_goes_on,
            waiting_goes_on_after_a_signal_handler_has_run,
            the_status_can_be_asked_for_again,
            signals_reach_the_child,
            a_stopped_child_has_not_ended,
            signals_to_a_child_that_has_ended_are_no_error,
            a_signal_that_does_not_exist_is_an_error,
            stop_asks_first,
            stop_kills_whoever_does_not_listen,
            what_a_child_has_used_is_known_when_it_is_reaped,
            the_pidfd_becomes_readable_while_the_child_is_a_zombie,
            other_peoples_children_are_left_alone,
            a_status_that_somebody_else_took_is_reported_as_lost,
            a_dropped_handle_kills_and_reaps,
            a_forgotten_handle_leaves_the_child_running_and_then_a_zombie,
            a_dropped_handle_reaps_a_zombie,
            a_dropped_handle_kills_a_stopped_child,
            a_panic_kills_and_reaps_as_it_unwinds,
            a_detached_child_goes_on_and_leaves_no_zombie,
            a_number_that_is_anothers_by_now_is_not_signalled,
        ],
    )
}

/// A child that lives until the pipe is dropped.
fn child() -> (Child, ChildStdin) {
    let mut command = reexec::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.take_stdin().unwrap();
    (child, stdin)
}

/// One that has ended and was not waited for.
fn zombie() -> Child {
    let (child, stdin) = child();
    drop(stdin);
    wait_until("the child is a zombie", || is_zombie(child.id()));
    child
}

fn state(child: &Child) -> char {
    stat(child.id()).unwrap().state
}

// Waiting.

fn many_threads_may_wait_at_once() {
    let (child, stdin) = child();
    let all_started = Barrier::new(10);
    let status = || {
        all_started.wait();
        child.wait().unwrap()
    };
    let status_by_trying = || {
        all_started.wait();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            thread::yield_now();
        }
    };
    let status_with_limit = || {
        all_started.wait();
        child.wait_timeout(LIMIT).unwrap().unwrap()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .flat_map(|_| {
                [
                    scope.spawn(status),
                    scope.spawn(status_by_trying),
                    scope.spawn(status_with_limit),
                ]
            })
            .collect();
        all_started.wait();
        drop(stdin);
        for thread in threads {
            assert_eq!(thread.join().unwrap().code(), Some(7));
        }
    });
    assert!(is_gone(child.id()));
}

fn a_child_can_be_killed_while_another_thread_waits() {
    let (child, _stdin) = child();
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let child = &child;
        let waiter = scope.spawn(move || {
            send.send(gettid().as_raw()).unwrap();
            child.wait().unwrap()
        });
        let waiter_id = receive.recv().unwrap();
        wait_until("the other thread sleeps", || {
            thread_state(waiter_id) == Some('S')
        });
        child.kill().unwrap();
        assert_eq!(waiter.join().unwrap().signal(), Some(libc::SIGKILL));
    });
}

fn waiting_with_a_limit_gives_up_and_the_child_goes_on() {
    let (child, stdin) = child();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    drop(stdin); // it still reads it
    let status = child.wait_timeout(Duration::MAX).unwrap();
    assert_eq!(status.unwrap().code(), Some(7));
}

fn waiting_goes_on_after_a_signal_handler_has_run() {
    let wait: fn(&Child) -> Option<ExitStatus> = |child| Some(child.wait().unwrap());
    let wait_timeout = |child: &Child| child.wait_timeout(LIMIT).unwrap();
    for wait in [wait, wait_timeout] {
        let (child, stdin) = child();
        let handled = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(libc::SIGUSR1, handled.clone()).unwrap();
        SigSet::from(Signal::SIGUSR1).thread_unblock().unwrap();
        let waiter = gettid().as_raw(); // the main thread, which the kernel prefers for signals
        thread::scope(|scope| {
            scope.spawn(move || {
                wait_until("the waiter sleeps", || thread_state(waiter) == Some('S'));
                kill(Pid::this(), Signal::SIGUSR1).unwrap();
                wait_until("the handler ran", || handled.load(Ordering::SeqCst));
                drop(stdin);
            });
            assert_eq!(wait(&child).unwrap().code(), Some(7));
        });
    }
}

fn the_status_can_be_asked_for_again() {
    let child = zombie();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
    let status = child.wait_timeout(Duration::ZERO).unwrap();
    assert_eq!(status.unwrap().code(), Some(7));
}

// Signals.

fn signals_reach_the_child() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGKILL] {
        let (child, _stdin) = child();
        child.signal(signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
    }
}

fn a_stopped_child_has_not_ended() {
    let (child, stdin) = child();
    child.signal(libc::SIGSTOP).unwrap();
    wait_until("the child is stopped", || state(&child) == 'T');
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGCONT).unwrap();
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

fn signals_to_a_child_that_has_ended_are_no_error() {
    let child = zombie();
    child.signal(libc::SIGTERM).unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "it had ended before");
    child.signal(libc::SIGTERM).unwrap();
    child.kill().unwrap();
}

fn a_signal_that_does_not_exist_is_an_error() {
    let (child, _stdin) = child();
    let error = child.signal(1000).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

fn stop_asks_first() {
    let (child, _stdin) = child();
    let status = child.stop(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    assert_eq!(
        child.stop(LIMIT).unwrap(),
        status,
        "the second time as well"
    );
    assert_eq!(zombie().stop(Duration::ZERO).unwrap().code(), Some(7));
}

fn stop_kills_whoever_does_not_listen() {
    let mut command = reexec::command("deafChild");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    stdout.read_line(&mut line).unwrap(); // it has blocked SIGTERM
    let status = child.stop(Duration::from_millis(50)).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
}

fn what_a_child_has_used_is_known_when_it_is_reaped() {
    const MEMORY: usize = 64 << 20;
    let mut command = reexec::command("useMemory");
    let child = command.arg(MEMORY.to_string()).spawn().unwrap();
    assert!(child.usage().is_none());
    assert!(child.wait().unwrap().success());
    let usage = child.usage().unwrap();
    assert!(usage.max_resident > MEMORY as u64, "{usage:?}");
    assert!(usage.user + usage.system > Duration::ZERO, "{usage:?}");
}

// The pidfd.

fn is_readable(child: &Child, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() == 1
}

fn the_pidfd_becomes_readable_while_the_child_is_a_zombie() {
    let (child, stdin) = child();
    assert!(!is_readable(&child, PollTimeout::ZERO));
    drop(stdin);
    assert!(is_readable(&child, PollTimeout::NONE));
    assert_eq!(state(&child), 'Z');
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
    assert!(is_gone(child.id()));
}

// Other waits in the same process.

fn other_peoples_children_are_left_alone() {
    let mut others = process::Command::new("true").spawn().unwrap();
    wait_until("the other child is a zombie", || is_zombie(others.id()));
    zombie().wait().unwrap();
    drop(zombie());
    drop(child());
    assert!(is_zombie(others.id()));
    assert!(others.wait().unwrap().success());
}

fn a_status_that_somebody_else_took_is_reported_as_lost() {
    let child = zombie();
    let pid = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7));
    child.kill().unwrap(); // as after any end
    let error = child.wait().unwrap_err();
    assert!(error.to_string().contains("lost"), "{error}");
    child.try_wait().unwrap_err();
    child.kill().unwrap();
}

// The end of the handle.

fn a_dropped_handle_kills_and_reaps() {
    let (child, _stdin) = child();
    let pid = child.id();
    drop(child);
    assert!(is_gone(pid));
}

/// Without the cure, and so what a dropped `std::process::Child` leaves.
fn a_forgotten_handle_leaves_the_child_running_and_then_a_zombie() {
    let (child, stdin) = child();
    let pid = child.id();
    mem::forget(child);
    assert!(!is_zombie(pid));
    drop(stdin);
    wait_until("the child is a zombie", || is_zombie(pid));
    let pid = Pid::from_raw(pid as i32);
    let by_itself = WaitStatus::Exited(pid, 7);
    assert_eq!(waitpid(pid, None).unwrap(), by_itself);

    let mut command = process::Command::new("cat");
    let child = command.stdin(process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    drop(child); // its stdin as well, so it ends
    wait_until("the child is a zombie", || is_zombie(pid));
    waitpid(Pid::from_raw(pid as i32), None).unwrap();
}

fn a_dropped_handle_reaps_a_zombie() {
    let child = zombie();
    let pid = child.id();
    drop(child);
    assert!(is_gone(pid));
}

fn a_dropped_handle_kills_a_stopped_child() {
    let (child, _stdin) = child();
    let pid = child.id();
    kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
    wait_until("the child is stopped", || state(&child) == 'T');
    drop(child);
    assert!(is_gone(pid));
}

fn a_panic_kills_and_reaps_as_it_unwinds() {
    let (child, _stdin) = child();
    let pid = child.id();
    let result = panic::catch_unwind(AssertUnwindSafe(move || {
        let _child = child;
        panic::resume_unwind(Box::new("a panic that prints nothing"));
    }));
    assert!(result.is_err());
    assert!(is_gone(pid));
}

/// The twin is the forgotten handle above: there, the zombie stays.
fn a_detached_child_goes_on_and_leaves_no_zombie() {
    let child = reexec::command("childProcess")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, stdin) = (child.id(), child.take_stdin());
    child.detach().unwrap();
    assert!(stat(pid).is_some_and(|stat| stat.state != 'Z'));
    drop(stdin);
    wait_until("the child is reaped", || is_gone(pid));
}

/// In a namespace of its own for process numbers, in which the next number can be chosen.
fn a_number_that_is_anothers_by_now_is_not_signalled() -> Result<(), Skipped> {
    let namespace = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    needs(&[&["unshare"], &namespace[..], &["true"]].concat())?;
    let program = support::program("signal_a_child_whose_number_is_anothers");
    let mut command = std::process::Command::new("unshare");
    command
        .args(namespace)
        .arg(program.get_program())
        .args(program.get_args());
    assert_eq!(support::stdout_of(&mut command), "lives\nkilled\n");
    Ok(())
}

fn signal_a_child_whose_number_is_anothers() {
    let child = reexec::command("childProcess")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let pid = child.id();
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let mut stranger = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    assert_eq!(stranger.id(), pid, "the number was not reused");

    child.kill().unwrap();
    drop(child);
    let lives = stranger.try_wait().unwrap().is_none();
    println!("{}", if lives { "lives" } else { "killed" });

    // Without a pidfd: the number alone means the stranger.
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    let status = stranger.wait().unwrap();
    println!("{}", if status.success() { "lives" } else { "killed" });
}
