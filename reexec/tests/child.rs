//! The handle of a child: waiting and signalling from any thread, and no zombie when it is
//! dropped.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs;
use std::hint::black_box;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::{self, ChildStdin, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use reexec::{Child, Fork, Reaper, Stdio};
use support::{
    LIMIT, NOBODY, Skipped, assert_contains, become_user, children, descriptors, first_line,
    has_one_thread, is_gone, is_zombie, needs_root, piped, program, signals, stat, status_line,
    stdout_of, thread_state, under, until_stdin_ends, wait_until,
};

/// How long a child lives while we wait for it: longer than the processor time of the waits.
const LIFE: Duration = Duration::from_millis(200);

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
    reexec::register("live", || thread::sleep(LIFE));
    reexec::register("waitLong", wait_long);
    reexec::register("useMemory", || {
        let bytes = env::args().nth(1).unwrap().parse().unwrap();
        black_box(vec![1_u8; bytes]);
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[
        (
            "detach_without_room_for_a_thread_kills_the_child",
            "the template has descriptors of its own",
        ),
        (
            "detach_without_room_for_a_descriptor_kills_the_child",
            "the template has descriptors of its own",
        ),
        (
            "a_process_can_fork_again_after_its_last_detached_child",
            "a forked copy cannot use the template",
        ),
    ]);
    support::run_in_programs(
        || Ok(()),
        support::programs![
            a_process_can_fork_again_after_its_last_detached_child,
            detach_without_room_for_a_descriptor_kills_the_child,
        ],
        support::programs![detach_without_room_for_a_thread, signal_a_child_whose_number_is_reused,],
        support::trials![
            many_threads_may_wait_at_once,
            a_child_can_be_killed_while_another_thread_waits,
            a_wait_with_a_limit_leaves_the_child_running,
            a_wait_continues_after_a_signal_handler_has_run,
            the_status_is_returned_again,
            waiting_takes_no_processor_time,
            signals_reach_the_child,
            a_stopped_child_has_not_ended,
            signals_to_a_child_that_has_ended_are_no_error,
            a_signal_that_does_not_exist_is_an_error,
            terminate_sends_sigterm_first,
            terminate_kills_a_child_that_blocks_sigterm,
            terminate_does_not_close_the_lifeline,
            the_usage_of_a_child_is_known_when_it_is_reaped,
            the_pidfd_becomes_readable_while_the_child_is_a_zombie,
            a_pidfd_can_be_opened_for_a_number_until_the_process_is_reaped,
            other_children_are_left_alone,
            a_status_that_other_code_took_is_reported_as_lost,
            a_dropped_handle_kills_and_reaps,
            a_forgotten_handle_leaves_the_child_running_and_then_a_zombie,
            a_dropped_handle_reaps_a_zombie,
            a_dropped_handle_kills_a_stopped_child,
            a_panic_kills_and_reaps_as_it_unwinds,
            a_detached_child_runs_on_and_leaves_no_zombie,
            the_stdin_of_a_detached_child_ends,
            a_child_that_has_ended_can_be_detached,
            one_thread_waits_for_all_detached_children,
            the_waiting_thread_sleeps_while_no_child_ends,
            each_detached_child_is_reaped_while_others_live,
            threads_detach_at_the_same_time,
            children_are_detached_while_the_last_one_ends,
            the_waiting_thread_blocks_every_signal,
            detach_without_room_for_a_thread_kills_the_child,
            a_reused_number_is_not_signalled,
        ],
    )
}

/// A child that lives until the pipe is dropped.
fn child() -> (Child, ChildStdin) {
    let mut command = support::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.take_stdin().unwrap();
    (child, stdin)
}

/// A child that has ended and was not waited for.
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
                [scope.spawn(status), scope.spawn(status_by_trying), scope.spawn(status_with_limit)]
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
        wait_until("the other thread sleeps", || thread_state(waiter_id) == Some('S'));
        child.kill().unwrap();
        assert_eq!(waiter.join().unwrap().signal(), Some(libc::SIGKILL));
    });
}

fn a_wait_with_a_limit_leaves_the_child_running() {
    let (child, stdin) = child();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    drop(stdin); // it still reads it
    let status = child.wait_timeout(Duration::MAX).unwrap();
    assert_eq!(status.unwrap().code(), Some(7));
}

fn a_wait_continues_after_a_signal_handler_has_run() {
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

/// A busy loop would need as much processor time as the children live.
fn waiting_takes_no_processor_time() {
    let child = support::command("waitLong").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let usage = child.usage().unwrap(); // of its children, too
    assert!(usage.user + usage.system < LIFE * 3 / 4, "{usage:?}");
}

/// Waits in each way.
fn wait_long() {
    let live = || support::command("live").spawn().unwrap();
    assert!(live().wait().unwrap().success());
    let status = live().wait_timeout(LIMIT).unwrap();
    assert!(status.unwrap().success());
    let mut reaper = Reaper::new().unwrap();
    reaper.add(live(), ()).unwrap();
    reaper.wait(None).unwrap();
    live().detach().unwrap();
    wait_until("the background has nothing left to do", || {
        thread::sleep(LIFE / 4);
        has_one_thread()
    });
    // A signal reports orphans, and must not wake us again and again.
    let mut all = Reaper::for_all_children().unwrap();
    let mut outliving = support::command("live");
    outliving.outlive_parent().spawn().unwrap().wait().unwrap();
    all.add(live(), ()).unwrap();
    let before = sleeps_of(gettid().as_raw());
    all.wait(None).unwrap();
    let sleeps = sleeps_of(gettid().as_raw()) - before;
    assert!(sleeps < 20, "woken {sleeps} times");
}

fn the_status_is_returned_again() {
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
    // To the kernel, 0 only asks; 32 and 33 are libc's own, and an ordinary program ignores them.
    for signal in [i32::MIN, -1, 0, 32, 33, libc::SIGRTMAX() + 1, 1000] {
        let error = child.signal(signal).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{signal}");
    }
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGRTMIN()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGRTMIN()));
    // Also after the child's end.
    let error = child.signal(0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

fn terminate_sends_sigterm_first() {
    let (child, _stdin) = child();
    let status = child.terminate(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    assert_eq!(child.terminate(LIMIT).unwrap(), status, "the second time as well");
    assert_eq!(zombie().terminate(Duration::ZERO).unwrap().code(), Some(7));
}

/// Closing the lifeline would kill this child, which ends slowly after SIGTERM.
fn terminate_does_not_close_the_lifeline() {
    let mut command = piped("deafChild");
    let child = command.parent_death_signal(libc::SIGKILL).spawn().unwrap();
    let stdin = child.take_stdin().unwrap();
    first_line(&child); // it has blocked SIGTERM
    thread::scope(|scope| {
        let stopped = scope.spawn(|| child.terminate(LIMIT).unwrap());
        wait_until("SIGTERM is pending", || {
            signals(child.id(), "ShdPnd").contains(&Signal::SIGTERM) || is_zombie(child.id())
        });
        drop(stdin);
        assert_eq!(stopped.join().unwrap().code(), Some(0));
    });
}

fn terminate_kills_a_child_that_blocks_sigterm() {
    let child = piped("deafChild").spawn().unwrap();
    first_line(&child); // it has blocked SIGTERM
    let status = child.terminate(Duration::from_millis(50)).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
}

fn the_usage_of_a_child_is_known_when_it_is_reaped() {
    const MEMORY: usize = 64 << 20;
    let mut command = support::command("useMemory");
    let child = command.arg(MEMORY.to_string()).spawn().unwrap();
    assert!(child.usage().is_none());
    assert!(child.wait().unwrap().success());
    let usage = child.usage().unwrap();
    assert!(usage.max_resident > MEMORY as u64, "{usage:?}");
    assert!(usage.user + usage.system > Duration::ZERO, "{usage:?}");
}

// The pidfd.

fn is_readable(pidfd: &impl AsFd, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() == 1
}

fn the_pidfd_becomes_readable_while_the_child_is_a_zombie() {
    let (child, stdin) = child();
    assert_eq!(child.as_raw_fd(), child.as_fd().as_raw_fd());
    assert!(!is_readable(&child, PollTimeout::ZERO));
    drop(stdin);
    assert!(is_readable(&child, PollTimeout::NONE));
    assert_eq!(state(&child), 'Z');
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(7));
    assert!(is_gone(child.id()));
}

fn a_pidfd_can_be_opened_for_a_number_until_the_process_is_reaped() {
    let (child, stdin) = child();
    let open = || reexec::workspace::open_pidfd(child.id() as i32);
    let pidfd = open().unwrap();
    assert!(!is_readable(&pidfd, PollTimeout::ZERO));
    drop(stdin);
    assert!(is_readable(&pidfd, PollTimeout::NONE));
    assert_eq!(state(&child), 'Z');
    assert!(is_readable(&open().unwrap(), PollTimeout::ZERO), "opened for a zombie");
    child.wait().unwrap();
    assert_eq!(open().unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

// Other waits in the same process.

fn other_children_are_left_alone() {
    let mut others = process::Command::new("true").spawn().unwrap();
    wait_until("the other child is a zombie", || is_zombie(others.id()));
    zombie().wait().unwrap();
    drop(zombie());
    drop(child());
    assert!(is_zombie(others.id()));
    assert!(others.wait().unwrap().success());
}

fn a_status_that_other_code_took_is_reported_as_lost() {
    let child = zombie();
    let pid = Pid::from_raw(child.id() as i32);
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7));
    child.kill().unwrap(); // as after any end
    let error = child.wait().unwrap_err();
    assert_contains(&error, "lost");
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

/// Control: the same as a dropped `std::process::Child` leaves.
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

/// The control is the forgotten handle above: it leaves a zombie.
fn a_detached_child_runs_on_and_leaves_no_zombie() {
    let (child, stdin) = child();
    let pid = child.id();
    child.detach().unwrap();
    assert!(stat(pid).is_some_and(|stat| stat.state != 'Z'));
    drop(stdin);
    wait_until("the child is reaped", || is_gone(pid));
}

// Detached children.

/// Otherwise it would wait for input that nobody can send any more.
fn the_stdin_of_a_detached_child_ends() {
    let mut command = support::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    child.detach().unwrap();
    wait_until("the child is reaped", || is_gone(pid));
}

fn a_child_that_has_ended_can_be_detached() {
    let zombie = zombie();
    let pid = zombie.id();
    zombie.detach().unwrap();
    wait_until("the child is reaped", || is_gone(pid));

    let reaped = self::zombie();
    reaped.wait().unwrap();
    reaped.detach().unwrap();
    no_waiting_thread();
}

/// Returns the threads of this process except the one that runs the tests.
fn other_threads() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let numbers = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let numbers = numbers.map(|number| number.parse().unwrap());
    numbers.filter(|tid| *tid != process::id() as i32).collect()
}

/// Waits until the thread of an earlier test has ended.
fn no_waiting_thread() {
    wait_until("no other thread", || other_threads().is_empty());
}

/// Returns the thread that waits for detached children, once it has its name and its signal mask.
fn waiting_thread() -> i32 {
    let [thread] = other_threads()[..] else {
        panic!("{:?}", other_threads());
    };
    let name = || fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap();
    wait_until("it has its name", || name() == "reexec reaper\n");
    thread
}

/// Returns how often a thread has gone to sleep.
fn sleeps_of(thread: i32) -> u64 {
    let task = format!("self/task/{thread}");
    status_line(task, "voluntary_ctxt_switches").parse().unwrap()
}

fn the_waiting_thread_sleeps_while_no_child_ends() {
    const LONG: Duration = Duration::from_millis(500);
    no_waiting_thread();
    let (child, gate) = child();
    let pid = child.id();
    child.detach().unwrap();
    let thread = waiting_thread();
    wait_until("it sleeps", || thread_state(thread) == Some('S'));
    let before = sleeps_of(thread);
    thread::sleep(LONG);
    // A thread that polls would have slept 25 times.
    assert!(sleeps_of(thread) - before < 5, "{}", sleeps_of(thread));
    drop(gate);
    wait_until("the child is reaped", || is_gone(pid));
    no_waiting_thread();
}

/// Each thread costs a stack and a number, and a process with threads cannot fork.
fn one_thread_waits_for_all_detached_children() {
    no_waiting_thread();
    let before = descriptors();
    let (children, mut gates): (Vec<_>, Vec<_>) = (0..50).map(|_| child()).unzip();
    let pids: Vec<_> = children.iter().map(Child::id).collect();
    let mut all_with = Vec::new();
    for child in children {
        child.detach().unwrap();
        all_with.push(waiting_thread());
    }
    all_with.dedup();
    let [waiting] = all_with[..] else {
        panic!("one after the other: {all_with:?}");
    };

    let (last, others) = pids.split_last().unwrap();
    let gate_of_last = gates.pop().unwrap();
    drop(gates);
    wait_until("49 are reaped", || others.iter().all(|pid| is_gone(*pid)));
    assert_eq!(other_threads(), [waiting], "one is left to wait for");
    assert!(!is_gone(*last));
    drop(gate_of_last);
    wait_until("the last one is reaped", || is_gone(*last));
    no_waiting_thread();
    assert_eq!(descriptors(), before);
}

fn each_detached_child_is_reaped_while_others_live() {
    no_waiting_thread();
    let mut living = Vec::new();
    for _ in 0..4 {
        let (child, gate) = child();
        living.push((child.id(), gate));
        child.detach().unwrap();
        // It waits for the earlier children, so something must wake it for the next one.
        let thread = waiting_thread();
        wait_until("it sleeps", || thread_state(thread) == Some('S'));
    }
    // The last one first: from the end, from the front, from the middle.
    for which in [3, 0, 1, 0] {
        let (pid, gate) = living.remove(which);
        drop(gate);
        wait_until("the child is reaped", || is_gone(pid));
        assert!(living.iter().all(|(pid, _)| !is_gone(*pid)));
    }
}

fn threads_detach_at_the_same_time() {
    no_waiting_thread();
    let before = descriptors();
    let children: Vec<Vec<_>> = (0..8).map(|_| (0..3).map(|_| child()).collect()).collect();
    let pids = children.iter().flatten().map(|(child, _)| child.id());
    let pids: Vec<_> = pids.collect();
    let all_started = Barrier::new(children.len());
    let detach_all = |children: Vec<(Child, ChildStdin)>| {
        all_started.wait();
        let detach = |(child, gate): (Child, _)| {
            child.detach().unwrap();
            gate
        };
        children.into_iter().map(detach).collect::<Vec<_>>()
    };
    let gates: Vec<_> = thread::scope(|scope| {
        let detach_all = &detach_all;
        let threads = children.into_iter().map(|own| scope.spawn(move || detach_all(own)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // The threads that have detached have ended, or are about to.
    wait_until("one thread waits", || other_threads().len() == 1);
    drop(gates);
    wait_until("all are reaped", || pids.iter().all(|pid| is_gone(*pid)));
    no_waiting_thread();
    assert_eq!(descriptors(), before);
}

/// The thread ends with its last child, and must not miss a child that is detached at that moment.
fn children_are_detached_while_the_last_one_ends() {
    let detach_one_after_the_other = || {
        for _ in 0..30 {
            let (child, gate) = child();
            let pid = child.id();
            drop(gate);
            child.detach().unwrap();
            wait_until("the child is reaped", || is_gone(pid));
        }
    };
    thread::scope(|scope| {
        scope.spawn(detach_one_after_the_other);
        detach_one_after_the_other();
    });
    no_waiting_thread();
}

/// So the program's handlers run in its own threads, and sigwait(3) in them gets its signals.
fn the_waiting_thread_blocks_every_signal() {
    no_waiting_thread();
    let blocked = |tid: i32| {
        let bits = status_line(format!("self/task/{tid}"), "SigBlk");
        let bits = u64::from_str_radix(&bits, 16).unwrap();
        (1..=64).filter(|signal| bits >> (signal - 1) & 1 == 1).collect::<Vec<i32>>()
    };
    let own = gettid().as_raw();
    let before = blocked(own);
    let (child, gate) = child();
    child.detach().unwrap();
    assert_eq!(blocked(own), before);

    let cannot_be_blocked = |signal: &i32| {
        // The kernel blocks neither of the first two, and libc none of its own.
        [libc::SIGKILL, libc::SIGSTOP].contains(signal) || (32..libc::SIGRTMIN()).contains(signal)
    };
    let all: Vec<_> = (1..=libc::SIGRTMAX()).filter(|signal| !cannot_be_blocked(signal)).collect();
    assert_ne!(before, all, "which any other thread would have");
    assert_eq!(blocked(waiting_thread()), all);
    drop(gate);
    no_waiting_thread();
}

fn a_process_can_fork_again_after_its_last_detached_child() {
    let fork = || match reexec::fork()? {
        Fork::Parent(copy) => copy.wait().map(|status| status.code()),
        Fork::Child => reexec::exit_now(7),
    };
    assert_eq!(fork().unwrap(), Some(7));
    let (child, gate) = child();
    let pid = child.id();
    child.detach().unwrap();
    let error = fork().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    drop(gate);
    wait_until("the child is reaped", || is_gone(pid));
    no_waiting_thread();
    assert_eq!(fork().unwrap(), Some(7));

    // The copy reaps its own detached children.
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
        Fork::Child => {
            let (child, gate) = self::child();
            let pid = child.id();
            child.detach().unwrap();
            drop(gate);
            wait_until("the child is reaped", || is_gone(pid));
            reexec::exit_now(7);
        }
    }
}

/// Fails to detach the child, and checks that nothing is left of it.
fn assert_not_detached(child: Child, errno: i32, undo: impl FnOnce()) {
    let pid = child.id();
    let error = child.detach().unwrap_err();
    undo();
    assert_eq!(error.raw_os_error(), Some(errno));
    assert!(is_gone(pid));
    assert_eq!(children(), []);
    assert_eq!(other_threads(), []);
}

fn detach_without_room_for_a_descriptor_kills_the_child() {
    let before = descriptors();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let (child, gate) = child();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    assert_not_detached(child, libc::EMFILE, || {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    });
    drop(gate);
    assert_eq!(descriptors(), before);

    // If the thread exists already, it needs no further descriptor.
    let (first, gate_of_first) = self::child();
    let (second, gate_of_second) = self::child();
    let pids = [first.id(), second.id()];
    first.detach().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    second.detach().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    drop((gate_of_first, gate_of_second));
    wait_until("both are reaped", || pids.iter().all(|pid| is_gone(*pid)));
}

fn detach_without_room_for_a_thread_kills_the_child() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("detach_without_room_for_a_thread"));
    Ok(())
}

/// The limit does not apply to root.
fn detach_without_room_for_a_thread() {
    become_user(NOBODY);
    let before = descriptors();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    let (child, gate) = child();
    setrlimit(Resource::RLIMIT_NPROC, 0, hard).unwrap();
    assert_not_detached(child, libc::EAGAIN, || {
        setrlimit(Resource::RLIMIT_NPROC, soft, hard).unwrap();
    });
    drop(gate);
    assert_eq!(descriptors(), before);

    let (child, gate) = self::child();
    let pid = child.id();
    child.detach().unwrap();
    drop(gate);
    wait_until("with room, it goes", || is_gone(pid));
}

// Numbers.

/// Runs in a process-number namespace of its own, in which it can choose the next number.
fn a_reused_number_is_not_signalled() -> Result<(), Skipped> {
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let program = program("signal_a_child_whose_number_is_reused");
    let said = stdout_of(&mut under(&namespace, &program)?);
    assert_eq!(said, "lives\nlives\nkilled\n");
    Ok(())
}

fn signal_a_child_whose_number_is_reused() {
    let start = || {
        let mut command = support::command("childProcess");
        command.stdin(Stdio::null()).spawn().unwrap()
    };
    let next_number = |pid: u32| {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    };
    let child = start();
    child.wait().unwrap();
    let pid = child.id();
    next_number(pid);
    let mut stranger = process::Command::new("sleep").arg("60").spawn().unwrap();
    assert_eq!(stranger.id(), pid, "the number was not reused");

    child.kill().unwrap();
    drop(child);
    let lives = stranger.try_wait().unwrap().is_none();
    println!("{}", if lives { "lives" } else { "killed" });

    // Other code took the status of this child, so its handle does not know that it has ended.
    let child = start();
    support::reap(child.id());
    next_number(child.id());
    let (other, gate) = self::child();
    assert_eq!(other.id(), child.id(), "the number was not reused");
    drop(child);
    drop(gate);
    let lives = other.wait().unwrap().code() == Some(7);
    println!("{}", if lives { "lives" } else { "killed" });

    // Control: a signal by the number alone reaches the other process.
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    let status = stranger.wait().unwrap();
    println!("{}", if status.success() { "lives" } else { "killed" });
}
