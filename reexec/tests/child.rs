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
use std::io::{self, BufRead, BufReader};
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
    LIMIT, NOBODY, Skipped, become_user, children, descriptors, is_gone, is_zombie, needs,
    needs_root, program, signals, stat, stdout_of, thread_state, until_stdin_ends, wait_until,
};

/// How long a child lives that is waited for; longer than all that this takes of a processor.
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
    support::run(
        support::programs![
            fork_around_a_detached_child,
            detach_without_room_for_a_descriptor,
            detach_without_room_for_a_thread,
            signal_a_child_whose_number_is_anothers,
        ],
        support::trials![
            many_threads_may_wait_at_once,
            a_child_can_be_killed_while_another_thread_waits,
            waiting_with_a_limit_gives_up_and_the_child_goes_on,
            waiting_goes_on_after_a_signal_handler_has_run,
            the_status_can_be_asked_for_again,
            to_wait_takes_no_processor_time,
            signals_reach_the_child,
            a_stopped_child_has_not_ended,
            signals_to_a_child_that_has_ended_are_no_error,
            a_signal_that_does_not_exist_is_an_error,
            stop_asks_first,
            stop_kills_whoever_does_not_listen,
            stop_leaves_the_lifeline_alone,
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
            a_detached_child_is_given_nothing_to_read,
            a_child_that_has_ended_can_be_detached,
            one_thread_waits_for_all_detached_children,
            the_thread_that_waits_sleeps_while_nobody_ends,
            each_detached_child_is_reaped_while_others_live,
            threads_detach_at_the_same_time,
            children_are_detached_while_the_last_one_ends,
            no_signal_comes_to_the_thread_that_waits,
            a_process_can_fork_again_after_its_last_detached_child,
            where_there_is_no_room_for_a_descriptor_a_child_is_not_detached,
            where_there_is_no_room_for_a_thread_a_child_is_not_detached,
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

/// A loop that asks again and again would take as much of it as the children live.
fn to_wait_takes_no_processor_time() {
    let child = reexec::command("waitLong").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let usage = child.usage().unwrap(); // of its children, too
    assert!(usage.user + usage.system < LIFE * 3 / 4, "{usage:?}");
}

/// In each way that there is.
fn wait_long() {
    let live = || reexec::command("live").spawn().unwrap();
    assert!(live().wait().unwrap().success());
    let status = live().wait_timeout(LIMIT).unwrap();
    assert!(status.unwrap().success());
    let mut reaper = Reaper::new().unwrap();
    reaper.add(live(), ()).unwrap();
    reaper.wait(None).unwrap();
    live().detach().unwrap();
    wait_until("the background has nothing left to do", || {
        thread::sleep(LIFE / 4);
        fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
    // Of orphans tells a signal, which must not tell for ever.
    let mut all = Reaper::for_all_children().unwrap();
    reexec::command("live")
        .outlive_parent()
        .spawn()
        .unwrap()
        .wait()
        .unwrap();
    all.add(live(), ()).unwrap();
    let before = sleeps_of(gettid().as_raw());
    all.wait(None).unwrap();
    let sleeps = sleeps_of(gettid().as_raw()) - before;
    assert!(sleeps < 20, "woken {sleeps} times");
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
    // To the kernel, 0 only asks; 32 and 33 are libc's own, and an ordinary program ignores them.
    for signal in [i32::MIN, -1, 0, 32, 33, libc::SIGRTMAX() + 1, 1000] {
        let error = child.signal(signal).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{signal}");
    }
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(libc::SIGRTMIN()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGRTMIN()));
    // As long as there is a handle, whatever has become of the child.
    let error = child.signal(0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

fn stop_asks_first() {
    let (child, _stdin) = child();
    let status = child.terminate(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    assert_eq!(
        child.terminate(LIMIT).unwrap(),
        status,
        "the second time as well"
    );
    assert_eq!(zombie().terminate(Duration::ZERO).unwrap().code(), Some(7));
}

/// Which would kill this child; asked to end, it takes its time.
fn stop_leaves_the_lifeline_alone() {
    let mut command = reexec::command("deafChild");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.parent_death_signal(libc::SIGKILL).spawn().unwrap();
    let stdin = child.take_stdin().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    stdout.read_line(&mut line).unwrap(); // it has blocked SIGTERM
    thread::scope(|scope| {
        let stopped = scope.spawn(|| child.terminate(LIMIT).unwrap());
        wait_until("the child has been asked", || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            signals(&status, "ShdPnd").contains(&Signal::SIGTERM) || is_zombie(child.id())
        });
        drop(stdin);
        assert_eq!(stopped.join().unwrap().code(), Some(0));
    });
}

fn stop_kills_whoever_does_not_listen() {
    let mut command = reexec::command("deafChild");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    stdout.read_line(&mut line).unwrap(); // it has blocked SIGTERM
    let status = child.terminate(Duration::from_millis(50)).unwrap();
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
    assert_eq!(child.as_raw_fd(), child.as_fd().as_raw_fd());
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

// Detached children.

/// Otherwise it would wait for input that nobody can send it any more.
fn a_detached_child_is_given_nothing_to_read() {
    let mut command = reexec::command("childProcess");
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

/// The threads of this process but the one that the tests run in.
fn other_threads() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let numbers = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let numbers = numbers.map(|number| number.parse().unwrap());
    numbers.filter(|tid| *tid != process::id() as i32).collect()
}

/// Waits until there is none that a test before this one has left, so that what is there then has
/// been made since.
fn no_waiting_thread() {
    wait_until("no other thread", || other_threads().is_empty());
}

/// The one thread that waits for detached children, when it has come to its work: before that, it
/// has neither its name nor its signal mask.
fn waiting_thread() -> i32 {
    let [thread] = other_threads()[..] else {
        panic!("{:?}", other_threads());
    };
    let name = || fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap();
    wait_until("it has its name", || name() == "reexec reaper\n");
    thread
}

/// How often a thread has gone to sleep.
fn sleeps_of(thread: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

fn the_thread_that_waits_sleeps_while_nobody_ends() {
    const LONG: Duration = Duration::from_millis(500);
    no_waiting_thread();
    let (child, gate) = child();
    let pid = child.id();
    child.detach().unwrap();
    let thread = waiting_thread();
    wait_until("it sleeps", || thread_state(thread) == Some('S'));
    let before = sleeps_of(thread);
    thread::sleep(LONG);
    // One that looks again and again would have slept 25 times.
    assert!(sleeps_of(thread) - before < 5, "{}", sleeps_of(thread));
    drop(gate);
    wait_until("the child is reaped", || is_gone(pid));
    no_waiting_thread();
}

/// Each of them costs a process a stack, a number, and the right to fork.
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
        // It waits for those before; so it has to be told of the next one.
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
        let threads = children
            .into_iter()
            .map(|own| scope.spawn(move || detach_all(own)));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    // Those that have detached are gone, or nearly so.
    wait_until("one thread waits", || other_threads().len() == 1);
    drop(gates);
    wait_until("all are reaped", || pids.iter().all(|pid| is_gone(*pid)));
    no_waiting_thread();
    assert_eq!(descriptors(), before);
}

/// When the thread has nothing left to do, it goes; no child may come to it then.
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

/// The program's handlers run in its own threads, and what it waits for by sigwait(3) comes there.
fn no_signal_comes_to_the_thread_that_waits() {
    no_waiting_thread();
    let blocked = |tid: i32| {
        let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
        let mut lines = status.lines();
        let bits = lines.find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let bits = u64::from_str_radix(bits.trim(), 16).unwrap();
        (1..=64)
            .filter(|signal| bits >> (signal - 1) & 1 == 1)
            .collect::<Vec<i32>>()
    };
    let own = gettid().as_raw();
    let before = blocked(own);
    let (child, gate) = child();
    child.detach().unwrap();
    assert_eq!(blocked(own), before);

    let nobodys = |signal: &i32| {
        // Nobody can block the first two; libc blocks none of those that it keeps for itself.
        [libc::SIGKILL, libc::SIGSTOP].contains(signal) || (32..libc::SIGRTMIN()).contains(signal)
    };
    let all: Vec<_> = (1..=libc::SIGRTMAX())
        .filter(|signal| !nobodys(signal))
        .collect();
    assert_ne!(before, all, "which any other thread would have");
    assert_eq!(blocked(waiting_thread()), all);
    drop(gate);
    no_waiting_thread();
}

fn a_process_can_fork_again_after_its_last_detached_child() {
    stdout_of(&mut program("fork_around_a_detached_child"));
}

fn fork_around_a_detached_child() {
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

    // What the copy detaches is its own to reap.
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

/// That of a child whose handle could not be given up: nothing is left of either.
fn assert_not_detached(child: Child, errno: i32, undo: impl FnOnce()) {
    let pid = child.id();
    let error = child.detach().unwrap_err();
    undo();
    assert_eq!(error.raw_os_error(), Some(errno));
    assert!(is_gone(pid));
    assert_eq!(children(), []);
    assert_eq!(other_threads(), []);
}

fn where_there_is_no_room_for_a_descriptor_a_child_is_not_detached() {
    stdout_of(&mut program("detach_without_room_for_a_descriptor"));
}

fn detach_without_room_for_a_descriptor() {
    let before = descriptors();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let (child, gate) = child();
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
    assert_not_detached(child, libc::EMFILE, || {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    });
    drop(gate);
    assert_eq!(descriptors(), before);

    // With a thread that waits already, none is needed.
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

fn where_there_is_no_room_for_a_thread_a_child_is_not_detached() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("detach_without_room_for_a_thread"));
    Ok(())
}

/// Root has room always.
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
    assert_eq!(support::stdout_of(&mut command), "lives\nlives\nkilled\n");
    Ok(())
}

fn signal_a_child_whose_number_is_anothers() {
    let start = || {
        let mut command = reexec::command("childProcess");
        command.stdin(Stdio::null()).spawn().unwrap()
    };
    let next_number = |pid: u32| {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    };
    let child = start();
    child.wait().unwrap();
    let pid = child.id();
    next_number(pid);
    let mut stranger = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    assert_eq!(stranger.id(), pid, "the number was not reused");

    child.kill().unwrap();
    drop(child);
    let lives = stranger.try_wait().unwrap().is_none();
    println!("{}", if lives { "lives" } else { "killed" });

    // One whose status somebody else took: the handle does not know that it has ended.
    let child = start();
    support::reap(child.id());
    next_number(child.id());
    let (other, gate) = self::child();
    assert_eq!(other.id(), child.id(), "the number was not reused");
    drop(child);
    drop(gate);
    println!(
        "{}",
        if other.wait().unwrap().code() == Some(7) {
            "lives"
        } else {
            "killed"
        }
    );

    // Without a pidfd: the number alone means the stranger.
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    let status = stranger.wait().unwrap();
    println!("{}", if status.success() { "lives" } else { "killed" });
}
