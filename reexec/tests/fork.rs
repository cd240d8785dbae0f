//! `fork`: only from one thread, into a copy that dies with its parent and does it no harm.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, dup2_stderr, getgid, getpgid, getpgrp, gettid, setgid, setsid};
use reexec::{Fork, ForkOptions, exit_now, fork};
use support::filters::needs_filters;
use support::{
    Running, Scratch, Skipped, WITHOUT_CLONE3, assert_contains, children, children_of, descriptors,
    exited, first_line, has_one_thread, is_gone, is_without_clone3, is_zombie, needs, piped,
    program, reap, run_under_fire, signaled, signals, stat, status_line, stdout_of, under,
    until_stdin_ends, wait_until, without_proc,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("echo", || io::copy(&mut io::stdin(), &mut io::stdout()).map(drop));
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_also_without_clone3();
    support::run_in_programs(
        || Ok(()),
        support::programs![
            a_copy_continues_and_its_status_comes_back,
            a_copy_has_threads_and_locks,
            a_copys_abort_is_an_abort,
            a_copy_reports_a_stack_overflow,
            a_copys_descriptor_is_its_pidfd,
            a_copy_ignores_exactly_the_signals_of_its_options,
            a_copy_ignores_what_its_parent_ignores_if_asked_to,
            a_copys_handles_do_nothing_to_its_siblings,
            a_lost_status_of_a_copy_is_an_error_without_an_entry,
        ],
        support::programs![
            fork_with_two_threads,
            fork_beside_a_thread,
            fork_and_drop,
            fork_and_be_killed,
            fork_an_independent_copy,
            fork_into_a_pid_namespace,
            fork_with_text_in_stdout,
            fork_with_text_in_another_buffer,
            fork_after_blocking_and_ignoring,
            fork_after_changing_every_disposition,
            fork_once,
            fork_with_and_without_atfork_handlers,
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
            a_copy_in_another_pid_namespace_lives_as_long_as_its_parent,
            the_buffer_of_stdout_is_written_once,
            the_buffers_of_other_writers_are_written_twice,
            a_copy_has_no_blocked_signals_and_no_handlers,
            dispositions_are_the_same_by_clone3_and_by_libc,
            one_system_call_makes_the_copy_and_its_pidfd,
            handlers_of_pthread_atfork_run_if_asked_for,
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

// How the copy is made.

/// The kernel makes no process if there is no room for the pidfd.
fn one_system_call_makes_the_copy_and_its_pidfd() -> Result<(), Skipped> {
    let strace =
        ["strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=clone,clone3,pidfd_open"];
    let mut strace = under(&strace, &program("fork_once"))?;
    let output = strace.output().unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{trace}");
    let calls = |text: &str| trace.lines().filter(|line| line.contains(text)).count();
    let expected = if is_without_clone3() { [1, 0, 1, 2] } else { [1, 1, 0, 0] };
    let found = ["clone3(", " => {pidfd=[", "clone(", "pidfd_open("];
    assert_eq!(found.map(calls), expected, "{trace}");
    Ok(())
}

fn fork_once() {
    match fork().unwrap() {
        Fork::Child => exit_now(7),
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
    }
}

fn a_copys_descriptor_is_its_pidfd() {
    let before = descriptors();
    match fork().unwrap() {
        Fork::Child => exit_now(u8::from(descriptors() != before)),
        Fork::Parent(copy) => {
            let info = format!("/proc/self/fdinfo/{}", copy.as_raw_fd());
            let info = fs::read_to_string(info).unwrap();
            assert!(info.lines().any(|line| line == format!("Pid:\t{}", copy.id())), "{info}");
            let flags = FdFlag::from_bits_retain(fcntl(&copy, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
            let mut end = [PollFd::new(copy.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut end, PollTimeout::NONE).unwrap(), 1);
            assert!(copy.try_wait().unwrap().unwrap().success());
        }
    }
}

fn handlers_of_pthread_atfork_run_if_asked_for() -> Result<(), Skipped> {
    const LIBRARY: &str = r#"
        #include <pthread.h>
        #include <unistd.h>
        static void in_child(void) { write(1, "handler\n", 8); }
        __attribute__((constructor)) static void start(void) { pthread_atfork(0, 0, in_child); }
    "#;
    needs(&["cc", "--version"])?;
    let scratch = Scratch::new();
    let (source, library) = (scratch.0.join("atfork.c"), scratch.0.join("atfork.so"));
    fs::write(&source, LIBRARY).unwrap();
    stdout_of(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source));
    let mut program = program("fork_with_and_without_atfork_handlers");
    let printed = stdout_of(program.env("LD_PRELOAD", library));
    let expected = if is_without_clone3() {
        "handler\nplain\nhandler\nasked\n"
    } else {
        "plain\nhandler\nasked\n"
    };
    assert_eq!(printed, expected);
    Ok(())
}

fn fork_with_and_without_atfork_handlers() {
    for (options, name) in
        [(&mut ForkOptions::new(), "plain"), (ForkOptions::new().run_atfork_handlers(), "asked")]
    {
        match options.fork().unwrap() {
            Fork::Child => exit_now(0),
            Fork::Parent(copy) => assert!(copy.wait().unwrap().success()),
        }
        println!("{name}");
    }
}

// What libc and std keep about the process.

fn a_copy_has_threads_and_locks() {
    thread::spawn(|| ()).join().unwrap(); // with the first thread, libc takes a signal for itself
    match fork().unwrap() {
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
        Fork::Child => {
            assert_eq!(gettid(), Pid::this());
            let shared = Arc::new(Mutex::new(0));
            let add = |shared: Arc<Mutex<i32>>| {
                move || (0..1000).for_each(|_| *shared.lock().unwrap() += 1)
            };
            let running: Vec<_> = (0..4).map(|_| thread::spawn(add(shared.clone()))).collect();
            running.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(*shared.lock().unwrap(), 4000);

            let (gate, gates_other_end) = io::pipe().unwrap();
            let thread = thread::spawn(move || support::read_all(gate));
            setgid(getgid()).unwrap(); // libc sends its signal to the other thread, which must do the same
            drop(gates_other_end);
            thread.join().unwrap();

            // To the number of the first thread that libc keeps.
            let has_come = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(libc::SIGUSR1, has_come.clone()).unwrap();
            let first = pthread_self();
            thread::spawn(move || pthread_kill(first, Signal::SIGUSR1)).join().unwrap().unwrap();
            assert!(has_come.load(Ordering::SeqCst));
            assert!(Command::new("true").status().unwrap().success());
            exit_now(7);
        }
    }
}

fn a_copys_abort_is_an_abort() {
    match fork().unwrap() {
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().signal(), Some(libc::SIGABRT)),
        Fork::Child => {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            process::abort();
        }
    }
}

fn a_copy_reports_a_stack_overflow() {
    let (ours, copys) = io::pipe().unwrap();
    match fork().unwrap() {
        Fork::Parent(copy) => {
            drop(copys);
            assert_contains(&support::read_all(ours), "overflowed its stack");
            assert_eq!(copy.wait().unwrap().signal(), Some(libc::SIGABRT));
        }
        Fork::Child => {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            dup2_stderr(copys).unwrap();
            println!("{}", overflow(1));
        }
    }
}

#[expect(unconditional_recursion, reason = "that is what a stack overflow is")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box([depth; 128]);
    overflow(depth + 1) + 1
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

fn a_copy_in_another_pid_namespace_lives_as_long_as_its_parent() -> Result<(), Skipped> {
    let mut parent = Running::start(&mut program("fork_into_a_pid_namespace"));
    let first_line = parent.line();
    if let Some(error) = first_line.strip_prefix("refused: ") {
        return Err(Skipped::because(&format!("no PID namespace here: {error}")));
    }
    assert_eq!(first_line, "Some(5)");
    let copy = parent.pid();
    parent.kill();
    assert_eq!(reap(copy), signaled(copy, Signal::SIGKILL));
    Ok(())
}

/// Forks two copies, for both of which the parent has the number 0. The second shows that a copy does not
/// take its parent for one that has ended. The first would not show that: it is process 1, which cannot
/// kill itself.
fn fork_into_a_pid_namespace() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID) {
        println!("refused: {error}");
        return;
    }
    let (mut read, mut write) = io::pipe().unwrap();
    let Fork::Parent(first) = fork().unwrap() else {
        // From now on, the end of the parent ends it. It would not notice an end before that.
        write.write_all(b"!").unwrap();
        return until_stdin_ends();
    };
    read.read_exact(&mut [0]).unwrap();
    match fork().unwrap() {
        Fork::Child => exit_now(5),
        Fork::Parent(second) => println!("{:?}", second.wait().unwrap().code()),
    }
    println!("{}", first.id());
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

fn a_copy_ignores_what_its_parent_ignores_if_asked_to() {
    reexec::signal::ignore(libc::SIGUSR1).unwrap();
    signal_hook::flag::register(libc::SIGUSR2, Arc::default()).unwrap();
    let mut options = ForkOptions::new();
    options.keep_ignored_signals().ignore_signal(libc::SIGTERM);
    match options.fork().unwrap() {
        Fork::Child => {
            let expected = [Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGTERM];
            assert_eq!(signals("self", "SigIgn"), expected);
            assert!(!signals("self", "SigCgt").contains(&Signal::SIGUSR2));
            exit_now(7);
        }
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
    }
}

/// Also of the signals that only libc knows.
fn dispositions_are_the_same_by_clone3_and_by_libc() -> Result<(), Skipped> {
    needs_filters()?;
    for shift in ["0", "1", "2"] {
        let print = |way: &mut Command| stdout_of(way.env("SHIFT", shift));
        let by_clone3 =
            print(program("fork_after_changing_every_disposition").env_remove(WITHOUT_CLONE3));
        let by_libc =
            print(program("fork_after_changing_every_disposition").env(WITHOUT_CLONE3, "1"));
        assert_eq!(by_clone3, by_libc);
        assert_eq!(by_clone3.lines().count(), 3 * 3, "{by_clone3}");
    }
    Ok(())
}

/// Ignores every third signal, and handles every third one. Then prints the sets of copies.
fn fork_after_changing_every_disposition() {
    thread::spawn(|| ()).join().unwrap(); // with the first thread, libc takes a signal for itself
    let shift: i32 = env::var("SHIFT").unwrap().parse().unwrap();
    for signal in 1..=libc::SIGRTMAX() {
        match (signal + shift) % 3 {
            0 => drop(reexec::signal::ignore(signal)),
            1 if !signal_hook::consts::FORBIDDEN.contains(&signal) => {
                drop(signal_hook::flag::register(signal, Arc::default()));
            }
            _ => {}
        }
    }
    for options in [
        &mut ForkOptions::new(),
        ForkOptions::new().ignore_signal(libc::SIGHUP).new_process_group(),
        ForkOptions::new().ignore_signal(libc::SIGHUP).keep_ignored_signals(),
    ] {
        match options.fork().unwrap() {
            Fork::Child => {
                for set in ["SigBlk", "SigIgn", "SigCgt"] {
                    println!("{set} {}", status_line("self", set));
                }
                io::stdout().flush().unwrap();
                exit_now(0);
            }
            Fork::Parent(copy) => drop(copy.wait()), // the status is lost if SIGCHLD is ignored
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
