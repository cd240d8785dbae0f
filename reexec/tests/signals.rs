//! A child starts with an empty signal mask and default dispositions, whatever its parent had; and
//! a program started by somebody else can have the same.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::fs::{self, File};
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
use reexec::{chapter, signal};
use support::{
    Skipped, children, descriptors, is_gone, is_zombie, needs, run_under_fire, signals, stdout_of,
    until_stdin_ends, wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("countRealTimeSignals", count_real_time_signals);
    reexec::register("endAfterAWhile", end_after_a_while);
    reexec::register("startOthers", start_others);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            compare_masks,
            compare_dispositions,
            start_clean,
            terminate_children,
            lose_statuses,
            count_signals,
            start_programs_with_ignored_signals,
            let_children_go,
            hear_of_ends_only,
            start_ignoring_children_under_fire,
            start_ordinary_children_under_fire,
        ],
        support::trials![
            signals_that_the_parent_blocks_are_not_blocked_in_the_child,
            signals_that_the_parent_ignores_are_not_ignored_in_the_child,
            a_child_of_a_parent_deaf_to_sigterm_can_be_terminated,
            an_ordinary_start_can_be_made_clean,
            a_process_with_threads_is_not_made_clean,
            where_sigchld_is_ignored_waiting_says_that_the_status_is_lost,
            noted_signals_are_counted_and_merge,
            real_time_signals_are_counted_and_do_not_merge,
            what_is_ignored_stays_so_in_an_executed_program_and_not_in_a_child,
            without_child_wait_there_is_no_zombie,
            without_child_stop_only_ends_are_told,
            what_cannot_be_changed_is_refused,
            a_child_ignores_what_its_command_says_and_nothing_else,
            what_a_child_ignores_is_ignored_by_what_it_executes_and_not_by_its_children,
            no_signal_is_too_early_for_a_child_that_ignores_it,
            other_children_are_ended_by_it,
        ],
    )
}

/// What some parents ignore, and shells cannot: dash does not take `trap '' CHLD` seriously.
const IGNORE: &str = "--ignore-signal=HUP,INT,USR1,USR2,CHLD";

/// Runs a parent that ignores these signals from birth.
fn run_ignoring(name: &str) -> Result<(), Skipped> {
    needs(&["env", IGNORE, "true"])?;
    let program = support::program(name);
    let mut env = Command::new("env");
    env.arg(IGNORE)
        .arg(program.get_program())
        .args(program.get_args());
    stdout_of(&mut env);
    Ok(())
}

fn block_signals() {
    let mut blocked = SigSet::empty();
    blocked.extend([Signal::SIGTERM, Signal::SIGHUP]);
    blocked.thread_block().unwrap();
}

/// A child by this library.
fn child() -> reexec::Child {
    let mut command = reexec::command("childProcess");
    command.stdin(reexec::Stdio::piped()).spawn().unwrap()
}

/// The same by the standard library, to see what the difference is.
fn standard_child() -> process::Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn status_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap()
}

fn signals_that_the_parent_blocks_are_not_blocked_in_the_child() {
    stdout_of(&mut support::program("compare_masks"));
}

fn compare_masks() {
    block_signals();

    let child = child();
    assert_eq!(signals(&status_of(child.id()), "SigBlk"), []);

    let mut standard = standard_child();
    let blocked = signals(&status_of(standard.id()), "SigBlk");
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
    let status = status_of(child.id());
    // The start-up code of every Rust program ignores this one.
    assert_eq!(signals(&status, "SigIgn"), [Signal::SIGPIPE]);
    // And handles these, to report a stack overflow.
    let handled = [Signal::SIGBUS, Signal::SIGSEGV];
    assert_eq!(signals(&status, "SigCgt"), handled);

    let mut standard = standard_child();
    let ignored = signals(&status_of(standard.id()), "SigIgn");
    for signal in [Signal::SIGINT, Signal::SIGUSR1, Signal::SIGCHLD] {
        assert!(ignored.contains(&signal), "{ignored:?}");
    }
    drop(standard.stdin.take());
    standard.wait().unwrap_err(); // its status is lost
}

fn a_child_of_a_parent_deaf_to_sigterm_can_be_terminated() {
    stdout_of(&mut support::program("terminate_children"));
}

fn terminate_children() {
    block_signals();

    let child = child();
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));

    let mut standard = standard_child();
    let pid = Pid::from_raw(standard.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the signal is pending", || {
        signals(&status_of(standard.id()), "ShdPnd").contains(&Signal::SIGTERM)
    });
    assert!(standard.try_wait().unwrap().is_none());
    drop(standard.stdin.take());
    assert!(standard.wait().unwrap().success(), "it never noticed");
}

fn an_ordinary_start_can_be_made_clean() -> Result<(), Skipped> {
    run_ignoring("start_clean")
}

fn start_clean() {
    let own = || status_of(process::id());
    block_signals();
    let careless = File::from(nix::unistd::dup(io::stdin()).unwrap()); // without close-on-exec
    let careful = File::open("/dev/null").unwrap();
    assert!(signals(&own(), "SigIgn").contains(&Signal::SIGCHLD));
    reexec::chapter::count(libc::SIGUSR2).unwrap();

    // As if the process had started with all this.
    let number = careless.into_raw_fd();
    reexec::start_clean().unwrap();
    assert_eq!(signals(&own(), "SigBlk"), []);
    // What a library handles since the start is none of this function's concern.
    assert!(signals(&own(), "SigCgt").contains(&Signal::SIGUSR2));
    // By nohup(1), for instance, and not by accident.
    let meant = [Signal::SIGHUP, Signal::SIGPIPE];
    assert_eq!(signals(&own(), "SigIgn"), meant);
    assert!(signal::is_ignored(libc::SIGHUP).unwrap());
    assert!(!signal::is_ignored(libc::SIGCHLD).unwrap());
    let open = descriptors();
    assert!(!open.contains_key(&number), "{open:?}");
    assert!(open.contains_key(&careful.as_raw_fd()), "{open:?}");
    assert!(
        Command::new("true").status().unwrap().success(),
        "its status is not lost"
    );
}

/// They may have opened something that they own.
fn a_process_with_threads_is_not_made_clean() {
    let error = thread::scope(|scope| {
        scope
            .spawn(|| reexec::start_clean().unwrap_err())
            .join()
            .unwrap()
    });
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

fn where_sigchld_is_ignored_waiting_says_that_the_status_is_lost() -> Result<(), Skipped> {
    run_ignoring("lose_statuses")
}

fn lose_statuses() {
    let child = child();
    let pid = child.id();
    let error = child.wait().unwrap_err(); // does not hang, but comes when the child has ended
    assert!(is_gone(pid));
    assert!(error.to_string().contains("status is lost"), "{error}");
    assert!(error.to_string().contains("SIGCHLD is ignored"), "{error}");
    child.try_wait().unwrap_err();
    child.kill().unwrap();

    reexec::command("childProcess").status().unwrap_err();

    let killed_by_drop = self::child();
    let pid = killed_by_drop.id();
    drop(killed_by_drop);
    assert!(is_gone(pid));
    assert_eq!(children(), []);
}

fn noted_signals_are_counted_and_merge() {
    stdout_of(&mut support::program("count_signals"));
}

fn count_signals() {
    let send = || kill(Pid::this(), Signal::SIGUSR1).unwrap();
    let own = || status_of(process::id());
    chapter::count(libc::SIGUSR1).unwrap();
    assert!(signals(&own(), "SigCgt").contains(&Signal::SIGUSR1));
    (0..3).for_each(|_| send()); // to a process with one thread: each has come when kill returns
    assert_eq!(chapter::counted(libc::SIGUSR1), 3);

    let held_back = SigSet::from(Signal::SIGUSR1);
    held_back.thread_block().unwrap();
    (0..10).for_each(|_| send());
    assert_eq!(chapter::counted(libc::SIGUSR1), 3);
    held_back.thread_unblock().unwrap();
    assert_eq!(chapter::counted(libc::SIGUSR1), 4, "the ten have merged");

    signal::ignore(libc::SIGUSR1).unwrap();
    send();
    assert_eq!(chapter::counted(libc::SIGUSR1), 4);
    signal::reset(libc::SIGUSR1).unwrap();
    assert!(!signals(&own(), "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals(&own(), "SigCgt").contains(&Signal::SIGUSR1));
    assert_eq!(chapter::counted(libc::SIGUSR2), 0);
}

/// From outside; the twin is a child that does not count them, and is ended by the first.
fn real_time_signals_are_counted_and_do_not_merge() {
    let mut command = reexec::command("countRealTimeSignals");
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
    chapter::count(libc::SIGRTMIN()).unwrap();
    signal::ignore(libc::SIGRTMAX()).unwrap();
    println!("ready");
    wait_until("three have come", || {
        chapter::counted(libc::SIGRTMIN()) == 3
    });
    assert_eq!(chapter::counted(libc::SIGRTMAX()), 0);
    println!("three");
    signal::reset(libc::SIGRTMIN()).unwrap();
    signal::reset(libc::SIGRTMAX()).unwrap();
}

fn what_is_ignored_stays_so_in_an_executed_program_and_not_in_a_child() {
    stdout_of(&mut support::program("start_programs_with_ignored_signals"));
}

fn start_programs_with_ignored_signals() {
    signal::ignore(libc::SIGUSR1).unwrap();
    chapter::count(libc::SIGUSR2).unwrap();

    let child = child();
    let status = status_of(child.id());
    assert!(!signals(&status, "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals(&status, "SigCgt").contains(&Signal::SIGUSR2));

    let mut standard = standard_child();
    let status = status_of(standard.id());
    assert!(signals(&status, "SigIgn").contains(&Signal::SIGUSR1));
    assert!(!signals(&status, "SigCgt").contains(&Signal::SIGUSR2));
    drop(standard.stdin.take());
    standard.wait().unwrap();
}

fn a_child_ignores_what_its_command_says_and_nothing_else() {
    let mut command = reexec::command("childProcess");
    command.stdin(reexec::Stdio::piped());
    command.parent_death_signal(libc::SIGKILL);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGTERM] {
        command.ignore_signal(signal);
    }
    command.ignore_signal(libc::SIGRTMAX());
    let child = command.spawn().unwrap();
    let status = status_of(child.id());
    let ignored = [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM];
    assert_eq!(signals(&status, "SigIgn"), ignored);
    assert_eq!(signals(&status, "SigBlk"), []);
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGRTMAX()] {
        child.signal(signal).unwrap();
    }
    drop(child.take_stdin());
    assert!(child.wait().unwrap().success());
}

fn what_a_child_ignores_is_ignored_by_what_it_executes_and_not_by_its_children() {
    let mut command = reexec::command("startOthers");
    command.ignore_signal(libc::SIGUSR1);
    assert!(command.status().unwrap().success());
}

fn start_others() {
    let ignores = |pid| signals(&status_of(pid), "SigIgn").contains(&Signal::SIGUSR1);
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

/// The twin: the signals do come.
fn other_children_are_ended_by_it() {
    let line = run_under_fire("start_ordinary_children_under_fire");
    assert_ne!(line, "0 ended by it");
}

fn start_ignoring_children_under_fire() {
    let mut command = reexec::command("endAfterAWhile");
    start_under_fire(command.ignore_signal(libc::SIGTERM));
}

fn start_ordinary_children_under_fire() {
    start_under_fire(&mut reexec::command("endAfterAWhile"));
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

/// So that a signal that comes at any time of its life comes in time.
fn end_after_a_while() {
    thread::sleep(Duration::from_millis(1));
}

fn without_child_wait_there_is_no_zombie() {
    stdout_of(&mut support::program("let_children_go"));
}

fn let_children_go() {
    let end = |mut child: process::Child| {
        drop(child.stdin.take());
        child.id()
    };
    let zombie = end(standard_child());
    wait_until("a zombie", || is_zombie(zombie));

    chapter::set_no_child_wait().unwrap();
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

fn without_child_stop_only_ends_are_told() {
    stdout_of(&mut support::program("hear_of_ends_only"));
}

fn hear_of_ends_only() {
    chapter::count(libc::SIGCHLD).unwrap();
    for (only_ends, told) in [(false, 3), (true, 1)] {
        if only_ends {
            chapter::set_no_child_stop().unwrap();
        }
        let before = chapter::counted(libc::SIGCHLD);
        let child = child();
        let is = |wanted| support::stat(child.id()).is_some_and(|stat| stat.state == wanted);
        child.signal(libc::SIGSTOP).unwrap();
        wait_until("stopped", || {
            is('T') && (only_ends || chapter::counted(libc::SIGCHLD) > before)
        });
        child.signal(libc::SIGCONT).unwrap();
        wait_until("continued", || {
            is('S') && (only_ends || chapter::counted(libc::SIGCHLD) > before + 1)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("told of the end", || {
            chapter::counted(libc::SIGCHLD) > before
        });
        assert_eq!(chapter::counted(libc::SIGCHLD) - before, told);
    }
}

fn what_cannot_be_changed_is_refused() {
    let refused = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    };
    // 32 and 33 are libc's own; what comes after the last one is none.
    for wrong in [
        libc::SIGKILL,
        libc::SIGSTOP,
        0,
        -1,
        i32::MIN,
        32,
        33,
        libc::SIGRTMAX() + 1,
        4711,
    ] {
        refused(signal::ignore(wrong));
        refused(signal::reset(wrong));
        refused(chapter::count(wrong));
    }
    for wrong in [0, -1, 32, 33, libc::SIGRTMAX() + 1] {
        refused(signal::is_ignored(wrong).map(drop));
    }
    refused(chapter::count(libc::SIGSEGV));
    assert_eq!(chapter::counted(4711), 0);
}
