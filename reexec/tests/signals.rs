//! A child starts with an empty signal mask and default dispositions, whatever its parent had; and
//! a program started by somebody else can have the same.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use reexec::{signal, workspace};
use support::{
    Skipped, assert_contains, children, descriptors, is_gone, is_zombie, program, run_under_fire,
    signals, stdout_of, under, until_stdin_ends, wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("countRealTimeSignals", count_real_time_signals);
    reexec::register("endAfterAWhile", end_after_a_while);
    reexec::register("startOthers", start_others);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[(
        "with_no_child_wait_there_is_no_zombie",
        "waits until no child is left, and the template is one",
    )]);
    support::run_in_programs(
        || Ok(()),
        support::programs![
            signals_that_the_parent_blocks_are_not_blocked_in_the_child,
            sigterm_ends_a_child_whose_parent_blocks_it,
            counted_signals_merge,
            an_executed_program_inherits_ignored_signals_and_a_child_does_not,
            with_no_child_wait_there_is_no_zombie,
            with_no_child_stop_only_ends_are_reported,
        ],
        support::programs![
            compare_dispositions,
            start_clean,
            lose_statuses,
            start_ignoring_children_under_fire,
            start_ordinary_children_under_fire,
        ],
        support::trials![
            signals_that_the_parent_ignores_are_not_ignored_in_the_child,
            start_clean_resets_signals_and_closes_descriptors,
            start_clean_fails_with_several_threads,
            with_sigchld_ignored_a_wait_says_that_the_status_is_lost,
            counted_real_time_signals_do_not_merge,
            impossible_dispositions_are_refused,
            a_child_ignores_exactly_the_signals_of_its_command,
            a_childs_ignored_signals_reach_programs_it_executes_but_not_its_children,
            no_signal_is_too_early_for_a_child_that_ignores_it,
            a_signal_ends_children_that_do_not_ignore_it,
        ],
    )
}

/// Signals that some parents ignore. A shell cannot do this: dash ignores `trap '' CHLD`.
const IGNORE: &str = "--ignore-signal=HUP,INT,USR1,USR2,CHLD";

/// Runs a parent that ignores these signals from birth.
fn run_ignoring(name: &str) -> Result<(), Skipped> {
    stdout_of(&mut under(&["env", IGNORE], &program(name))?);
    Ok(())
}

fn block_signals() {
    let mut blocked = SigSet::empty();
    blocked.extend([Signal::SIGTERM, Signal::SIGHUP]);
    blocked.thread_block().unwrap();
}

/// Starts a child by this library.
fn child() -> reexec::Child {
    let mut command = support::command("childProcess");
    command.stdin(reexec::Stdio::piped()).spawn().unwrap()
}

/// Control: starts a child by std.
fn standard_child() -> process::Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn signals_that_the_parent_blocks_are_not_blocked_in_the_child() {
    block_signals();

    let child = child();
    assert_eq!(signals(child.id(), "SigBlk"), []);

    let mut standard = standard_child();
    let blocked = signals(standard.id(), "SigBlk");
    assert!(blocked.contains(&Signal::SIGTERM), "{blocked:?}");
    assert!(blocked.contains(&Signal::SIGHUP), "{blocked:?}");
    drop(standard.stdin.take());
    standard.wait().unwrap();
}

fn signals_that_the_parent_ignores_are_not_ignored_in_the_child() -> Result<(), Skipped> {
    run_ignoring("compare_dispositions")
}

fn compare_dispositions() {
    let child = child();
    // The start-up code of every Rust program ignores this one.
    assert_eq!(signals(child.id(), "SigIgn"), [Signal::SIGPIPE]);
    // And handles these, to report a stack overflow.
    let handled = [Signal::SIGBUS, Signal::SIGSEGV];
    assert_eq!(signals(child.id(), "SigCgt"), handled);

    let mut standard = standard_child();
    let ignored = signals(standard.id(), "SigIgn");
    for signal in [Signal::SIGINT, Signal::SIGUSR1, Signal::SIGCHLD] {
        assert!(ignored.contains(&signal), "{ignored:?}");
    }
    drop(standard.stdin.take());
    standard.wait().unwrap_err(); // its status is lost
}

fn sigterm_ends_a_child_whose_parent_blocks_it() {
    block_signals();

    let child = child();
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));

    let mut standard = standard_child();
    let pid = Pid::from_raw(standard.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the signal is pending", || {
        signals(standard.id(), "ShdPnd").contains(&Signal::SIGTERM)
    });
    assert!(standard.try_wait().unwrap().is_none());
    drop(standard.stdin.take());
    assert!(standard.wait().unwrap().success(), "it never noticed");
}

fn start_clean_resets_signals_and_closes_descriptors() -> Result<(), Skipped> {
    run_ignoring("start_clean")
}

fn start_clean() {
    block_signals();
    let careless = File::from(nix::unistd::dup(io::stdin()).unwrap()); // without close-on-exec
    let careful = File::open("/dev/null").unwrap();
    assert!(signals("self", "SigIgn").contains(&Signal::SIGCHLD));
    reexec::workspace::count(libc::SIGUSR2).unwrap();

    // As if the process had started with all this.
    let number = careless.into_raw_fd();
    reexec::start_clean().unwrap();
    assert_eq!(signals("self", "SigBlk"), []);
    // A handler that a library has installed since the start stays.
    assert!(signals("self", "SigCgt").contains(&Signal::SIGUSR2));
    // An ignored SIGHUP is no accident: nohup(1), for instance.
    let intended = [Signal::SIGHUP, Signal::SIGPIPE];
    assert_eq!(signals("self", "SigIgn"), intended);
    assert!(signal::is_ignored(libc::SIGHUP).unwrap());
    assert!(!signal::is_ignored(libc::SIGCHLD).unwrap());
    let open = descriptors();
    assert!(!open.contains_key(&number), "{open:?}");
    assert!(open.contains_key(&careful.as_raw_fd()), "{open:?}");
    assert!(Command::new("true").status().unwrap().success(), "its status is not lost");
}

/// The threads may own descriptors.
fn start_clean_fails_with_several_threads() {
    let error =
        thread::scope(|scope| scope.spawn(|| reexec::start_clean().unwrap_err()).join().unwrap());
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

fn with_sigchld_ignored_a_wait_says_that_the_status_is_lost() -> Result<(), Skipped> {
    run_ignoring("lose_statuses")
}

fn lose_statuses() {
    let child = child();
    let pid = child.id();
    let error = child.wait().unwrap_err(); // does not hang, but comes when the child has ended
    assert!(is_gone(pid));
    assert_contains(&error, "status is lost");
    assert_contains(&error, "SIGCHLD is ignored");
    child.try_wait().unwrap_err();
    child.kill().unwrap();

    support::command("childProcess").status().unwrap_err();

    let killed_by_drop = self::child();
    let pid = killed_by_drop.id();
    drop(killed_by_drop);
    assert!(is_gone(pid));
    assert_eq!(children(), []);
}

fn counted_signals_merge() {
    let send = || kill(Pid::this(), Signal::SIGUSR1).unwrap();
    workspace::count(libc::SIGUSR1).unwrap();
    assert!(signals("self", "SigCgt").contains(&Signal::SIGUSR1));
    (0..3).for_each(|_| send()); // to a process with one thread: each has come when kill returns
    assert_eq!(workspace::counted(libc::SIGUSR1), 3);

    let held_back = SigSet::from(Signal::SIGUSR1);
    held_back.thread_block().unwrap();
    (0..10).for_each(|_| send());
    assert_eq!(workspace::counted(libc::SIGUSR1), 3);
    held_back.thread_unblock().unwrap();
    assert_eq!(workspace::counted(libc::SIGUSR1), 4, "the ten have merged");

    signal::ignore(libc::SIGUSR1).unwrap();
    send();
    assert_eq!(workspace::counted(libc::SIGUSR1), 4);
    signal::reset(libc::SIGUSR1).unwrap();
    assert!(!signals("self", "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals("self", "SigCgt").contains(&Signal::SIGUSR1));
    assert_eq!(workspace::counted(libc::SIGUSR2), 0);
}

/// The control is a child that does not count them: the first one ends it.
fn counted_real_time_signals_do_not_merge() {
    let mut command = support::command("countRealTimeSignals");
    let command = command.stdin(reexec::Stdio::null());
    let counting = command.stdout(reexec::Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(counting.take_stdout().unwrap()).lines();
    assert_eq!(stdout.next().unwrap().unwrap(), "ready");
    for _ in 0..3 {
        counting.signal(libc::SIGRTMAX()).unwrap();
        counting.signal(libc::SIGRTMIN()).unwrap();
    }
    assert_eq!(stdout.next().unwrap().unwrap(), "three");
    assert!(counting.wait().unwrap().success());

    let ended = child();
    ended.signal(libc::SIGRTMIN()).unwrap();
    assert_eq!(ended.wait().unwrap().signal(), Some(libc::SIGRTMIN()));
}

fn count_real_time_signals() {
    workspace::count(libc::SIGRTMIN()).unwrap();
    signal::ignore(libc::SIGRTMAX()).unwrap();
    println!("ready");
    wait_until("three have come", || workspace::counted(libc::SIGRTMIN()) == 3);
    assert_eq!(workspace::counted(libc::SIGRTMAX()), 0);
    println!("three");
    signal::reset(libc::SIGRTMIN()).unwrap();
    signal::reset(libc::SIGRTMAX()).unwrap();
}

fn an_executed_program_inherits_ignored_signals_and_a_child_does_not() {
    signal::ignore(libc::SIGUSR1).unwrap();
    workspace::count(libc::SIGUSR2).unwrap();

    let child = child();
    assert!(!signals(child.id(), "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals(child.id(), "SigCgt").contains(&Signal::SIGUSR2));

    let mut standard = standard_child();
    assert!(signals(standard.id(), "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals(standard.id(), "SigCgt").contains(&Signal::SIGUSR2));
    drop(standard.stdin.take());
    standard.wait().unwrap();
}

fn a_child_ignores_exactly_the_signals_of_its_command() {
    let mut command = support::command("childProcess");
    command.stdin(reexec::Stdio::piped());
    command.parent_death_signal(libc::SIGKILL);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGTERM] {
        command.ignore_signal(signal);
    }
    command.ignore_signal(libc::SIGRTMAX());
    let child = command.spawn().unwrap();
    let ignored = [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM];
    assert_eq!(signals(child.id(), "SigIgn"), ignored);
    assert_eq!(signals(child.id(), "SigBlk"), []);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGRTMAX()] {
        child.signal(signal).unwrap();
    }
    drop(child.take_stdin());
    assert!(child.wait().unwrap().success());
}

fn a_childs_ignored_signals_reach_programs_it_executes_but_not_its_children() {
    let mut command = support::command("startOthers");
    command.ignore_signal(libc::SIGUSR1);
    assert!(command.status().unwrap().success());
}

fn start_others() {
    let ignores = |pid| signals(pid, "SigIgn").contains(&Signal::SIGUSR1);
    assert!(ignores(process::id()));
    let mut standard = standard_child();
    assert!(ignores(standard.id()));
    drop(standard.stdin.take());
    standard.wait().unwrap();
    assert!(!ignores(child().id()));
    match reexec::fork().unwrap() {
        reexec::Fork::Child => reexec::exit_now(ignores(process::id()).into()),
        reexec::Fork::Parent(copy) => assert!(copy.wait().unwrap().success()),
    }
}

const UNDER_FIRE: usize = 100;

fn no_signal_is_too_early_for_a_child_that_ignores_it() {
    let line = run_under_fire("start_ignoring_children_under_fire");
    assert_eq!(line, "0 ended by it");
}

/// Control: the signals do come.
fn a_signal_ends_children_that_do_not_ignore_it() {
    let line = run_under_fire("start_ordinary_children_under_fire");
    assert_ne!(line, "0 ended by it");
}

fn start_ignoring_children_under_fire() {
    let mut command = support::command("endAfterAWhile");
    start_under_fire(command.ignore_signal(libc::SIGTERM));
}

fn start_ordinary_children_under_fire() {
    start_under_fire(&mut support::command("endAfterAWhile"));
}

fn start_under_fire(command: &mut reexec::Command) {
    signal::ignore(libc::SIGTERM).unwrap();
    println!("ready");
    command.parent_death_signal(libc::SIGKILL);
    let ended_by_it = (0..UNDER_FIRE).filter(|_| {
        let child = command.spawn_unconfirmed().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(libc::SIGTERM));
        !status.success()
    });
    println!("{} ended by it", ended_by_it.count());
}

/// Lives long enough for a signal to come.
fn end_after_a_while() {
    thread::sleep(Duration::from_millis(1));
}

fn with_no_child_wait_there_is_no_zombie() {
    let end = |mut child: process::Child| {
        drop(child.stdin.take());
        child.id()
    };
    let zombie = end(standard_child());
    wait_until("a zombie", || is_zombie(zombie));

    workspace::set_no_child_wait().unwrap();
    let child = end(standard_child());
    wait_until("nothing is left of it", || is_gone(child));
    assert!(is_zombie(zombie), "it was one before");
    let zombie = Pid::from_raw(zombie as i32);
    assert_eq!(waitpid(None, None).unwrap().pid(), Some(zombie));
    assert_eq!(waitpid(None, None), Err(Errno::ECHILD));

    signal::reset(libc::SIGCHLD).unwrap(); // which takes the flag off again
    let zombie = end(standard_child());
    wait_until("a zombie", || is_zombie(zombie));
    waitpid(None, None).unwrap();
}

fn with_no_child_stop_only_ends_are_reported() {
    workspace::count(libc::SIGCHLD).unwrap();
    for (only_ends, told) in [(false, 3), (true, 1)] {
        if only_ends {
            workspace::set_no_child_stop().unwrap();
        }
        let before = workspace::counted(libc::SIGCHLD);
        let child = child();
        let is = |wanted| support::stat(child.id()).is_some_and(|stat| stat.state == wanted);
        child.signal(libc::SIGSTOP).unwrap();
        wait_until("stopped", || {
            is('T') && (only_ends || workspace::counted(libc::SIGCHLD) > before)
        });
        child.signal(libc::SIGCONT).unwrap();
        wait_until("continued", || {
            is('S') && (only_ends || workspace::counted(libc::SIGCHLD) > before + 1)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("told of the end", || workspace::counted(libc::SIGCHLD) > before);
        assert_eq!(workspace::counted(libc::SIGCHLD) - before, told);
    }
}

fn impossible_dispositions_are_refused() {
    let refused = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    };
    // 32 and 33 are libc's own; what comes after the last one is none.
    for wrong in [libc::SIGKILL, libc::SIGSTOP, 0, -1, i32::MIN, 32, 33, libc::SIGRTMAX() + 1, 4711]
    {
        refused(signal::ignore(wrong));
        refused(signal::reset(wrong));
        refused(workspace::count(wrong));
    }
    for wrong in [0, -1, 32, 33, libc::SIGRTMAX() + 1] {
        refused(signal::is_ignored(wrong).map(drop));
    }
    refused(workspace::count(libc::SIGSEGV));
    assert_eq!(workspace::counted(4711), 0);
}
