//! `fork`: only from one thread, into a copy that dies with its parent and does it no harm.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::io::{self, BufWriter, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getpgid, getpgrp, setsid};
use reexec::{Fork, ForkOptions, exit_now, fork};
use support::{
    Running, Skipped, assert_contains, children, children_of, descriptors, exited, first_line,
    has_one_thread, is_gone, is_zombie, piped, program, reap, run_under_fire, signaled, signals,
    stat, stdout_of, under, until_stdin_ends, wait_until, without_proc,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("echo", || io::copy(&mut io::stdin(), &mut io::stdout()).map(drop));
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_in_programs(
        || Ok(()),
        support::programs![
            a_copy_continues_and_its_status_comes_back,
            a_copy_ignores_exactly_the_signals_of_its_options,
            a_copys_handles_do_nothing_to_its_siblings,
            a_lost_status_of_a_copy_is_an_error_without_an_entry,
        ],
        support::programs![
            fork_with_two_threads,
            fork_beside_a_thread,
            fork_and_drop,
            fork_and_be_killed,
            fork_an_independent_copy,
            fork_with_text_in_stdout,
            fork_with_text_in_another_buffer,
            fork_after_blocking_and_ignoring,
            fork_a_copy_that_holds_a_lifeline,
            fork_out_of_a_group,
            fork_ignoring_copies_under_fire,
            fork_ordinary_copies_under_fire,
        ],
        support::trials![
            a_process_with_two_threads_is_refused,
            a_process_with_two_threads_is_refused_also_without_a_proc,
            a_dropped_handle_kills_and_reaps_the_copy,
            a_copy_is_killed_when_its_parent_is,
            a_copy_without_the_death_signal_lives_on,
            the_buffer_of_stdout_is_written_once,
            the_buffers_of_other_writers_are_written_twice,
            a_copy_has_no_blocked_signals_and_no_handlers,
            a_signal_to_the_parents_group_does_not_reach_a_copy,
            no_signal_is_too_early_for_a_copy_that_ignores_it,
            a_signal_ends_copies_that_do_not_ignore_it,
            signals_that_cannot_be_ignored_are_refused,
            a_copy_holds_the_lifelines_of_its_siblings,
        ],
    )
}

fn a_copy_continues_and_its_status_comes_back() {
    let before = descriptors();
    match fork().unwrap() {
        Fork::Parent(child) => {
            assert_eq!(child.wait().unwrap().code(), Some(101), "of the panic");
            assert!(is_gone(child.id()));
            drop(child);
            assert_eq!(descriptors(), before);
        }
        Fork::Child => panic!("on purpose"),
    }
}

fn a_lost_status_of_a_copy_is_an_error_without_an_entry() {
    match fork().unwrap() {
        Fork::Parent(copy) => {
            reap(copy.id());
            let error = copy.wait_with_output().unwrap_err();
            assert_eq!(error.entry(), "");
            assert_contains(&error, "the forked copy has run, but its status is unknown");
        }
        Fork::Child => exit_now(0),
    }
}

// Threads.

fn a_process_with_two_threads_is_refused() {
    let printed = stdout_of(&mut program("fork_with_two_threads"));
    assert_contains(&printed, "has 2 threads");
}

fn fork_with_two_threads() {
    let (gate, gates_other_end) = io::pipe().unwrap();
    let thread = thread::spawn(move || support::read_all(gate));
    let error = fork().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert_eq!(children(), []);
    println!("{error}");

    drop(gates_other_end);
    thread.join().unwrap();
    wait_until("the thread has ended", has_one_thread);
    if let Fork::Parent(child) = fork().unwrap() {
        assert!(child.wait().unwrap().success());
    }
}

fn a_process_with_two_threads_is_refused_also_without_a_proc() -> Result<(), Skipped> {
    let mut program = without_proc(&program("fork_beside_a_thread"))?;
    let printed = stdout_of(&mut program);
    assert_contains(&printed, "threads");
    Ok(())
}

fn fork_beside_a_thread() {
    let (gate, gates_other_end) = io::pipe().unwrap();
    let thread = thread::spawn(move || support::read_all(gate));
    println!("{}", fork().unwrap_err());
    drop(gates_other_end);
    thread.join().unwrap();
}

// The end of one of the two.

fn a_dropped_handle_kills_and_reaps_the_copy() {
    // The copy waits for the end of this stdin, which does not come before the program ends.
    let mut program = Running::start(&mut program("fork_and_drop"));
    assert_eq!(program.line(), "gone");
}

fn fork_and_drop() {
    match fork().unwrap() {
        Fork::Parent(child) => {
            let pid = child.id();
            drop(child);
            assert!(is_gone(pid));
            println!("gone");
        }
        Fork::Child => until_stdin_ends(),
    }
}

fn a_copy_is_killed_when_its_parent_is() {
    let mut parent = Running::start(&mut program("fork_and_be_killed"));
    let copy = parent.pid();
    assert_eq!(stat(copy).unwrap().parent, parent.id());
    parent.kill();
    assert_eq!(reap(copy), signaled(copy, Signal::SIGKILL));
}

fn fork_and_be_killed() {
    let forked = fork().unwrap();
    if let Fork::Child = forked {
        println!("{}", process::id());
    }
    until_stdin_ends(); // both
}

/// Control.
fn a_copy_without_the_death_signal_lives_on() {
    let mut parent = Running::start(&mut program("fork_an_independent_copy"));
    let copy = parent.pid();
    parent.kill();
    assert_eq!(stat(copy).unwrap().parent, process::id(), "adopted");
    parent.close_stdin();
    assert_eq!(reap(copy), exited(copy, 0));
}

fn fork_an_independent_copy() {
    let forked = fork().unwrap();
    if let Fork::Child = forked {
        prctl::set_pdeathsig(None).unwrap();
        println!("{}", process::id());
    }
    until_stdin_ends();
}

// Buffers.

fn the_buffer_of_stdout_is_written_once() {
    let printed = stdout_of(&mut program("fork_with_text_in_stdout"));
    assert_eq!(printed, "banner copy parent");
}

fn fork_with_text_in_stdout() {
    print!("banner"); // stays in the buffer, as the line has not ended
    match fork().unwrap() {
        Fork::Child => print!(" copy"),
        Fork::Parent(child) => {
            assert!(child.wait().unwrap().success());
            print!(" parent");
        }
    }
}

/// Control: `fork` does not know other writers.
fn the_buffers_of_other_writers_are_written_twice() {
    let printed = stdout_of(&mut program("fork_with_text_in_another_buffer"));
    assert_eq!(printed, "banner copy\nbanner parent\n");
}

fn fork_with_text_in_another_buffer() {
    let mut out = BufWriter::new(io::stdout());
    write!(out, "banner").unwrap();
    match fork().unwrap() {
        Fork::Child => writeln!(out, " copy").unwrap(),
        Fork::Parent(child) => {
            assert!(child.wait().unwrap().success());
            writeln!(out, " parent").unwrap();
        }
    }
}

// Signals.

fn a_copy_has_no_blocked_signals_and_no_handlers() -> Result<(), Skipped> {
    let program = program("fork_after_blocking_and_ignoring");
    stdout_of(&mut under(&["env", "--ignore-signal=USR1"], &program)?);
    Ok(())
}

fn fork_after_blocking_and_ignoring() {
    SigSet::from(Signal::SIGTERM).thread_block().unwrap();
    signal_hook::flag::register(libc::SIGUSR2, Arc::default()).unwrap();
    let sets = || ["SigBlk", "SigIgn", "SigCgt"].map(|set| signals("self", set));
    match fork().unwrap() {
        Fork::Child => {
            let [blocked, ignored, handled] = sets();
            assert_eq!(blocked, []);
            assert_eq!(ignored, [Signal::SIGPIPE]); // as in every Rust program
            assert!(!handled.contains(&Signal::SIGUSR2), "{handled:?}");
        }
        Fork::Parent(child) => {
            assert!(child.wait().unwrap().success());
            // Control: fork(2) alone would have copied these.
            let [blocked, ignored, handled] = sets();
            assert!(blocked.contains(&Signal::SIGTERM), "{blocked:?}");
            assert!(ignored.contains(&Signal::SIGUSR1), "{ignored:?}");
            assert!(handled.contains(&Signal::SIGUSR2), "{handled:?}");
        }
    }
}

fn a_copy_ignores_exactly_the_signals_of_its_options() {
    SigSet::from(Signal::SIGTERM).thread_block().unwrap();
    let mut options = ForkOptions::new();
    options.new_process_group().ignore_signal(libc::SIGTERM).ignore_signal(libc::SIGHUP);
    match options.fork().unwrap() {
        Fork::Child => {
            let ignored = [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM];
            assert_eq!(signals("self", "SigIgn"), ignored);
            assert_eq!(signals("self", "SigBlk"), []);
            assert_eq!(getpgrp(), Pid::this());
        }
        Fork::Parent(child) => {
            child.signal(libc::SIGTERM).unwrap();
            assert!(child.wait().unwrap().success());
            assert!(!reexec::signal::is_ignored(libc::SIGTERM).unwrap());
        }
    }
}

/// 1. The copy is born into its parent's group.
/// 2. A signal comes to the group.
/// 3. The copy leaves the group, and unblocks signals.
///
/// strace delays the third step.
fn a_signal_to_the_parents_group_does_not_reach_a_copy() -> Result<(), Skipped> {
    let late = "inject=setpgid:delay_enter=500000";
    let strace = ["strace", "-f", "-qq", "-e", "trace=setpgid", "-e", late];
    let mut strace = under(&strace, &program("fork_out_of_a_group"))?;
    let mut strace = Running::start(strace.stderr(process::Stdio::null()));
    assert_eq!(strace.line(), "ready");
    let [parent] = children_of(strace.id())[..] else {
        panic!("{:?}", children_of(strace.id()));
    };
    wait_until("there is a copy", || !children_of(parent).is_empty());
    let parent = Pid::from_raw(parent as i32);
    let copy = Pid::from_raw(children_of(parent.as_raw() as u32)[0] as i32);
    if getpgid(Some(copy)).unwrap() != parent {
        return Err(Skipped::because("half a second was too little to see it"));
    }
    killpg(parent, Signal::SIGTERM).unwrap();
    assert_eq!(strace.line(), "exit status: 7");
    strace.wait();
    Ok(())
}

fn fork_out_of_a_group() {
    setsid().unwrap(); // so that strace is in another group
    reexec::workspace::count(libc::SIGTERM).unwrap();
    println!("ready");
    match ForkOptions::new().new_process_group().fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => println!("{}", copy.wait().unwrap()),
    }
}

fn no_signal_is_too_early_for_a_copy_that_ignores_it() {
    let line = run_under_fire("fork_ignoring_copies_under_fire");
    assert_eq!(line, "0 ended by it");
}

/// Control: the signals do come.
fn a_signal_ends_copies_that_do_not_ignore_it() {
    let line = run_under_fire("fork_ordinary_copies_under_fire");
    assert_ne!(line, "0 ended by it");
}

fn fork_ignoring_copies_under_fire() {
    fork_under_fire(ForkOptions::new().ignore_signal(libc::SIGTERM));
}

fn fork_ordinary_copies_under_fire() {
    fork_under_fire(&ForkOptions::new());
}

fn fork_under_fire(options: &ForkOptions) {
    reexec::signal::ignore(libc::SIGTERM).unwrap();
    println!("ready");
    let mut ended_by_it = 0;
    for _ in 0..300 {
        match options.fork().unwrap() {
            Fork::Child => {
                // Long enough for a signal to come in its life.
                thread::sleep(Duration::from_millis(1));
                reexec::exit_now(0);
            }
            Fork::Parent(copy) => {
                let status = copy.wait().unwrap();
                assert!(status.success() || status.signal() == Some(libc::SIGTERM));
                ended_by_it += usize::from(!status.success());
            }
        }
    }
    println!("{ended_by_it} ended by it");
}

fn signals_that_cannot_be_ignored_are_refused() {
    let beyond = libc::SIGRTMAX() + 1;
    for wrong in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 32, 33, beyond] {
        let mut options = ForkOptions::new();
        let error = options.ignore_signal(wrong).fork().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let expected = format!("ignore_signal: signal {wrong} cannot be ignored");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(children(), []);
}

// Siblings.

fn a_copys_handles_do_nothing_to_its_siblings() {
    let sibling = piped("echo").spawn().unwrap();
    match fork().unwrap() {
        Fork::Child => {
            let error = sibling.kill().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            let error = sibling.try_wait().unwrap_err();
            assert_contains(&error, "forked copy");
            drop(sibling); // in the parent, this would kill it
        }
        Fork::Parent(copy) => {
            assert!(copy.wait().unwrap().success());
            let mut stdin = sibling.take_stdin().unwrap();
            writeln!(stdin, "alive").unwrap();
            assert_eq!(first_line(&sibling), "alive\n");
            sibling.signal(libc::SIGTERM).unwrap();
            assert_eq!(sibling.wait().unwrap().signal(), Some(libc::SIGTERM));
        }
    }
}

/// A limit: a lifeline ends with its last holder. Copies die with their parent, so this needs a copy
/// without the death signal, or one that another library has made.
fn a_copy_holds_the_lifelines_of_its_siblings() {
    let mut parent = Running::start(&mut program("fork_a_copy_that_holds_a_lifeline"));
    let (sibling, copy) = (parent.pid(), parent.pid());
    parent.kill();
    assert_eq!(stat(sibling).unwrap().parent, process::id(), "adopted");
    assert_eq!(signals(sibling, "ShdPnd"), []);
    assert!(!is_zombie(sibling), "the copy lives");

    parent.close_stdin(); // of the copy only; it ends
    assert_eq!(reap(copy), exited(copy, 0));
    assert_eq!(reap(sibling), signaled(sibling, Signal::SIGTERM));
}

fn fork_a_copy_that_holds_a_lifeline() {
    // Reads from a pipe that never ends as long as the child lives: it holds the other end, too.
    let (stdin, other_end) = io::pipe().unwrap();
    let mut command = reexec::command("childProcess");
    let sibling = command.stdin(stdin).fd("other end", other_end).spawn().unwrap();
    println!("{}", sibling.id());
    let forked = fork().unwrap();
    if let Fork::Child = forked {
        prctl::set_pdeathsig(None).unwrap();
        println!("{}", process::id());
    }
    until_stdin_ends();
}
