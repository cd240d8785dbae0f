//! A child ends with the process that started it: not earlier, when a thread of that process
//! ends, and not later.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::mem;
use std::os::unix::process::CommandExt;
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use reexec::Child;
use support::{
    Running, Skipped, children, children_of, exited, has_one_thread, is_gone, is_zombie, piped,
    program, reap, signaled, signals, stat, under, until_stdin_ends, wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("parent", parent);
    reexec::register("deafChild", || {
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        println!("deaf");
        until_stdin_ends();
    });
    reexec::register("becomeAnotherProgram", || {
        let mut sh = process::Command::new("sh");
        panic!("{}", sh.args(["-c", "echo without; exec cat"]).exec());
    });
    reexec::register("closeDescriptors", || {
        nix::unistd::close(4).unwrap(); // the lifeline, as a daemon may close everything
        println!("without");
        until_stdin_ends();
    });
    reexec::register("startAnotherProgram", || {
        process::Command::new("cat").status().unwrap();
    });
    reexec::register("echo", echo);
    reexec::register("echoUntilTheThreadAboveEnds", || {
        prctl::set_pdeathsig(Signal::SIGTERM).unwrap();
        echo();
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[
        (
            "pr_set_pdeathsig_would_end_it_with_the_thread",
            "the parent's thread is the one that made the template",
        ),
        (
            "a_parent_killed_at_any_moment_leaves_nothing",
            "tests/template.rs kills the parent at any instant",
        ),
    ]);
    support::run(
        support::programs![
            parent,
            parent_of_a_survivor,
            grandparent,
            parent_of_many,
            parent_of_a_deaf_child,
            parent_of_a_deaf_child_to_be_killed,
            parent_that_returns,
            parent_that_becomes_another_program,
            parent_of_a_child_that_becomes_another_program,
            parent_of_a_child_that_closes_descriptors,
            parent_of_a_child_that_starts_another_program,
            parent_with_a_thread_that_spawns,
        ],
        support::trials![
            the_child_of_a_killed_parent_gets_sigterm,
            a_child_can_outlive_its_parent,
            a_grandchild_ends_with_a_killed_grandparent,
            a_child_that_blocks_sigterm_lives_on,
            a_child_that_blocks_sigterm_does_not_survive_sigkill,
            the_child_of_a_parent_that_returns_gets_sigterm,
            the_child_of_a_parent_that_becomes_another_program_gets_sigterm,
            a_child_that_becomes_another_program_lives_on,
            a_child_that_closes_its_lifeline_lives_on,
            a_grandchild_started_by_other_means_lives_on,
            a_child_survives_the_thread_that_spawned_it,
            pr_set_pdeathsig_would_end_it_with_the_thread,
            a_parent_killed_at_any_moment_leaves_nothing,
            a_child_whose_parent_is_killed_before_the_launch_exits_with_125,
            a_parent_killed_before_the_lifeline_is_armed_leaves_nothing,
        ],
    )
}

/// Starts an entry that shares our stdin, and prints its process id.
fn start(command: &mut reexec::Command) -> Child {
    let child = command.spawn().unwrap();
    println!("{}", child.id());
    child
}

fn terminated(pid: u32) -> WaitStatus {
    signaled(pid, Signal::SIGTERM)
}

// The parent is killed.

fn parent() {
    let _child = start(&mut support::command("childProcess"));
    until_stdin_ends();
}

fn the_child_of_a_killed_parent_gets_sigterm() {
    let mut parent = Running::start(&mut program("parent"));
    let child = parent.pid();
    assert_eq!(stat(child).unwrap().parent, parent.id());
    parent.kill();
    assert_eq!(reap(child), terminated(child));
}

fn parent_of_a_survivor() {
    let _child = start(support::command("childProcess").outlive_parent());
    until_stdin_ends();
}

/// Control.
fn a_child_can_outlive_its_parent() {
    let mut parent = Running::start(&mut program("parent_of_a_survivor"));
    let child = parent.pid();
    parent.kill();
    assert_eq!(stat(child).unwrap().parent, process::id(), "adopted, by us");
    parent.close_stdin(); // the child's stdin as well
    assert_eq!(reap(child), exited(child, 0));
}

fn grandparent() {
    let _child = start(&mut support::command("parent"));
    until_stdin_ends();
}

fn a_grandchild_ends_with_a_killed_grandparent() {
    let mut grandparent = Running::start(&mut program("grandparent"));
    let descendants = [grandparent.pid(), grandparent.pid()];
    grandparent.kill();
    for pid in descendants {
        assert_eq!(reap(pid), terminated(pid));
    }
}

// A child that blocks the signal.

fn parent_of_a_deaf_child() {
    let _child = start(&mut support::command("deafChild"));
    until_stdin_ends();
}

fn parent_of_a_deaf_child_to_be_killed() {
    let mut command = support::command("deafChild");
    let _child = start(command.parent_death_signal(libc::SIGKILL));
    until_stdin_ends();
}

/// Returns the process id of a child that prints this word when it is ready.
fn child_that_says(word: &str, parent: &mut Running) -> u32 {
    // Both write to the same pipe, in either order.
    let lines = [parent.line(), parent.line()];
    assert!(lines.iter().any(|line| line == word), "{lines:?}");
    lines.iter().find_map(|line| line.parse().ok()).unwrap()
}

/// Control.
fn a_child_that_blocks_sigterm_lives_on() {
    let mut parent = Running::start(&mut program("parent_of_a_deaf_child"));
    let child = child_that_says("deaf", &mut parent);
    parent.kill();
    let pending = || signals(child, "ShdPnd").contains(&Signal::SIGTERM);
    wait_until("the child has got SIGTERM", pending);
    parent.close_stdin();
    assert_eq!(reap(child), exited(child, 0));
}

fn a_child_that_blocks_sigterm_does_not_survive_sigkill() {
    let mut parent = Running::start(&mut program("parent_of_a_deaf_child_to_be_killed"));
    let child = child_that_says("deaf", &mut parent);
    parent.kill();
    assert_eq!(reap(child), signaled(child, Signal::SIGKILL));
}

// Other ways to end.

fn parent_that_returns() {
    mem::forget(start(&mut support::command("childProcess")));
}

fn the_child_of_a_parent_that_returns_gets_sigterm() {
    let mut parent = Running::start(&mut program("parent_that_returns"));
    let child = parent.pid();
    assert!(parent.wait().success());
    assert_eq!(reap(child), terminated(child));
}

fn parent_that_becomes_another_program() {
    let _child = start(&mut support::command("childProcess"));
    panic!("{}", process::Command::new("cat").exec());
}

/// The process continues, but the program that could wait for the child has ended.
fn the_child_of_a_parent_that_becomes_another_program_gets_sigterm() {
    let mut parent = Running::start(&mut program("parent_that_becomes_another_program"));
    let child = parent.pid();
    wait_until("the child is a zombie", || is_zombie(child));
    assert_eq!(stat(parent.id()).unwrap().comm, "cat");
    parent.kill();
    assert_eq!(reap(child), terminated(child));
}

// Limits: a child without its lifeline.

fn parent_of_a_child_that_becomes_another_program() {
    let _child = start(&mut support::command("becomeAnotherProgram"));
    until_stdin_ends();
}

fn a_child_that_becomes_another_program_lives_on() {
    lives_on("parent_of_a_child_that_becomes_another_program");
}

fn parent_of_a_child_that_closes_descriptors() {
    let _child = start(&mut support::command("closeDescriptors"));
    until_stdin_ends();
}

fn a_child_that_closes_its_lifeline_lives_on() {
    lives_on("parent_of_a_child_that_closes_descriptors");
}

fn parent_of_a_child_that_starts_another_program() {
    let _child = start(&mut support::command("startAnotherProgram"));
    until_stdin_ends();
}

fn a_grandchild_started_by_other_means_lives_on() {
    let name = "parent_of_a_child_that_starts_another_program";
    let mut parent = Running::start(&mut program(name));
    let child = parent.pid();
    wait_until("there is a grandchild", || !children_of(child).is_empty());
    let grandchild = children_of(child)[0];
    parent.kill();
    assert_eq!(reap(child), terminated(child));
    parent.close_stdin();
    assert_eq!(reap(grandchild), exited(grandchild, 0));
}

/// The child of this parent prints "without", and outlives its parent.
fn lives_on(parent: &str) {
    let mut parent = Running::start(&mut program(parent));
    let child = child_that_says("without", &mut parent);
    parent.kill();
    assert_eq!(stat(child).unwrap().parent, process::id(), "adopted, by us");
    parent.close_stdin();
    assert_eq!(reap(child), exited(child, 0));
}

// A thread of the parent ends.

/// Answers each line, until there are no more.
fn echo() {
    println!("ready");
    for line in io::stdin().lines() {
        println!("{}", line.unwrap());
    }
}

/// Spawns the entry named on stdin in a thread that ends before the process. Prints what the child
/// answers then, and how it ends.
fn parent_with_a_thread_that_spawns() {
    let entry = io::stdin().lines().next().unwrap().unwrap();
    let thread = thread::spawn(move || {
        let child = piped(&entry).spawn().unwrap();
        let mut stdout = BufReader::new(child.take_stdout().unwrap());
        assert_eq!(read_line(&mut stdout), "ready\n");
        (child, stdout)
    });
    let (child, mut stdout) = thread.join().unwrap();
    wait_until("the thread has ended", has_one_thread);
    // A signal for the end of the thread has come by now.
    let _ = child.take_stdin().unwrap().write_all(b"hello\n");
    println!("{:?}, {}", read_line(&mut stdout), child.wait().unwrap());
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// Runs that program, and returns what it prints.
fn after_the_thread_of(entry: &str) -> String {
    let (stdin, mut first_line) = io::pipe().unwrap();
    writeln!(first_line, "{entry}").unwrap();
    let mut program = program("parent_with_a_thread_that_spawns");
    let output = program.stdin(stdin).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn a_child_survives_the_thread_that_spawned_it() {
    let printed = after_the_thread_of("echo");
    assert_eq!(printed, "\"hello\\n\", exit status: 0\n");
}

/// Control: `PR_SET_PDEATHSIG`, which other libraries use.
fn pr_set_pdeathsig_would_end_it_with_the_thread() {
    let printed = after_the_thread_of("echoUntilTheThreadAboveEnds");
    assert!(printed.ends_with("signal: 15 (SIGTERM)\n"), "{printed}");
}

// The parent is killed while it spawns.

/// Starts so many children that the kill comes while one of them starts.
fn parent_of_many() {
    let _children: Vec<_> = (0..20).map(|_| start(&mut support::command("childProcess"))).collect();
    until_stdin_ends();
}

fn a_parent_killed_at_any_moment_leaves_nothing() {
    for step in 0..100 {
        let mut parent = Running::start(&mut program("parent_of_many"));
        let first = parent.pid(); // it is now about to start the second one
        let kill_at = Instant::now() + Duration::from_micros(50 * step);
        while Instant::now() < kill_at {
            std::hint::spin_loop();
        }
        parent.kill();
        let orphans = children();
        for orphan in orphans {
            let status = reap(orphan);
            // It has armed its lifeline, or waits in `init` for the launch.
            let gave_up = exited(orphan, reexec::EXIT_SETUP_FAILED.into());
            assert!(status == terminated(orphan) || status == gave_up, "{status:?}");
        }
        assert!(is_gone(first));
        assert_eq!(children(), []);
    }
}

// The same at the two moments that matter most, at which strace stops a process.

/// Starts the program "parent". The process that makes this system call the nth time stops after it.
fn parent_with_stop_after(call: &str, nth: u32) -> Result<Running, Skipped> {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGSTOP:when={nth}");
    let strace = ["strace", "-f", "-qq", "-e", &trace, "-e", &inject];
    let mut strace = under(&strace, &program("parent"))?;
    Ok(Running::start(strace.stderr(process::Stdio::null())))
}

/// Returns the parent that strace has started and its child, once the child has this state.
fn parent_and_child(strace: &Running, what: &str, state: impl Fn(u32) -> bool) -> (Pid, u32) {
    let mut found = None;
    wait_until(what, || {
        let parents = children_of(strace.id()).into_iter();
        let mut pairs = parents
            .flat_map(|parent| children_of(parent).into_iter().map(move |child| (parent, child)));
        found = pairs.find(|(_, child)| state(*child));
        found.is_some()
    });
    let (parent, child) = found.unwrap();
    (Pid::from_raw(parent as i32), child)
}

/// The child knows that it is a child, but not what to run.
fn a_child_whose_parent_is_killed_before_the_launch_exits_with_125() -> Result<(), Skipped> {
    // The parent opens a pidfd between the spawn and the launch. Before that, it opens one of
    // itself.
    let mut strace = parent_with_stop_after("pidfd_open", 2)?;
    let waits = format!("{} ", libc::SYS_recvfrom);
    let (parent, child) = parent_and_child(&strace, "the child waits for the launch", |child| {
        let syscall = fs::read_to_string(format!("/proc/{child}/syscall"));
        syscall.is_ok_and(|syscall| syscall.starts_with(&waits))
    });
    kill(parent, Signal::SIGKILL).unwrap();
    assert_eq!(reap(child), exited(child, 125));
    strace.wait();
    Ok(())
}

/// The child has its lifeline, but has not armed it.
fn a_parent_killed_before_the_lifeline_is_armed_leaves_nothing() -> Result<(), Skipped> {
    // The child sets its name just before it arms the lifeline.
    let mut strace = parent_with_stop_after("prctl", 1)?;
    let (parent, child) = parent_and_child(&strace, "the child has its name", |child| {
        stat(child).is_some_and(|stat| stat.comm == "childProcess" && stat.state == 't')
    });
    kill(parent, Signal::SIGKILL).unwrap();
    wait_until("the parent has ended", || {
        stat(child).is_some_and(|stat| stat.parent != parent.as_raw() as u32)
    });
    kill(Pid::from_raw(child as i32), Signal::SIGCONT).unwrap();
    assert_eq!(reap(child), terminated(child));
    strace.wait();
    Ok(())
}
