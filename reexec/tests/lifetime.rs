//! A child ends with the process that started it: not earlier, when a thread of that process
//! ends, and not later.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

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
use reexec::{Child, Stdio};
use support::{
    Running, Skipped, children, children_of, is_gone, is_zombie, needs, program, reap, signals,
    stat, until_stdin_ends, wait_until,
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
        panic!("{}", sh.args(["-c", "echo untied; exec cat"]).exec());
    });
    reexec::register("closeDescriptors", || {
        nix::unistd::close(4).unwrap(); // the lifeline, as a daemon might that closes everything
        println!("untied");
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
            a_child_may_be_let_live_on,
            a_grandchild_ends_with_a_killed_grandparent,
            a_child_that_blocks_sigterm_lives_on,
            a_child_that_blocks_sigterm_does_not_survive_sigkill,
            the_child_of_a_parent_that_returns_gets_sigterm,
            the_child_of_a_parent_that_becomes_another_program_gets_sigterm,
            a_child_that_becomes_another_program_lives_on,
            a_child_that_closes_its_lifeline_lives_on,
            what_a_child_starts_by_other_means_lives_on,
            a_child_survives_the_thread_that_spawned_it,
            a_parent_death_signal_would_end_it_with_the_thread,
            a_parent_killed_at_any_moment_leaves_nothing,
            a_child_that_gets_no_word_from_its_parent_exits_with_125,
            a_parent_killed_before_the_child_is_tied_leaves_nothing,
        ],
    )
}

/// Starts an entry that shares our stdin, and says its number.
fn start(command: &mut reexec::Command) -> Child {
    let child = command.spawn().unwrap();
    println!("{}", child.id());
    child
}

fn terminated(pid: u32) -> WaitStatus {
    WaitStatus::Signaled(Pid::from_raw(pid as i32), Signal::SIGTERM, false)
}

fn killed(pid: u32) -> WaitStatus {
    WaitStatus::Signaled(Pid::from_raw(pid as i32), Signal::SIGKILL, false)
}

fn gave_up(pid: u32) -> WaitStatus {
    WaitStatus::Exited(Pid::from_raw(pid as i32), 125)
}

fn ended_by_itself(pid: u32) -> WaitStatus {
    WaitStatus::Exited(Pid::from_raw(pid as i32), 0)
}

// The parent is killed.

fn parent() {
    let _child = start(&mut reexec::command("childProcess"));
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
    let _child = start(reexec::command("childProcess").outlive_parent());
    until_stdin_ends();
}

/// Without the cure.
fn a_child_may_be_let_live_on() {
    let mut parent = Running::start(&mut program("parent_of_a_survivor"));
    let child = parent.pid();
    parent.kill();
    assert_eq!(stat(child).unwrap().parent, process::id(), "adopted, by us");
    parent.close_stdin(); // the child's stdin as well
    assert_eq!(reap(child), ended_by_itself(child));
}

fn grandparent() {
    let _child = start(&mut reexec::command("parent"));
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

// A child that does not want to end.

fn parent_of_a_deaf_child() {
    let _child = start(&mut reexec::command("deafChild"));
    until_stdin_ends();
}

fn parent_of_a_deaf_child_to_be_killed() {
    let mut command = reexec::command("deafChild");
    let _child = start(command.parent_death_signal(libc::SIGKILL));
    until_stdin_ends();
}

/// The number of a child that says this when it is ready.
fn child_that_says(word: &str, parent: &mut Running) -> u32 {
    // Both write to the same pipe, in either order.
    let lines = [parent.line(), parent.line()];
    assert!(lines.iter().any(|line| line == word), "{lines:?}");
    lines.iter().find_map(|line| line.parse().ok()).unwrap()
}

/// Without the cure.
fn a_child_that_blocks_sigterm_lives_on() {
    let mut parent = Running::start(&mut program("parent_of_a_deaf_child"));
    let child = child_that_says("deaf", &mut parent);
    parent.kill();
    let pending = || {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        signals(&status, "ShdPnd").contains(&Signal::SIGTERM)
    };
    wait_until("the child has got SIGTERM", pending);
    parent.close_stdin();
    assert_eq!(reap(child), ended_by_itself(child));
}

fn a_child_that_blocks_sigterm_does_not_survive_sigkill() {
    let mut parent = Running::start(&mut program("parent_of_a_deaf_child_to_be_killed"));
    let child = child_that_says("deaf", &mut parent);
    parent.kill();
    assert_eq!(reap(child), killed(child));
}

// Other ways to end.

fn parent_that_returns() {
    mem::forget(start(&mut reexec::command("childProcess")));
}

fn the_child_of_a_parent_that_returns_gets_sigterm() {
    let mut parent = Running::start(&mut program("parent_that_returns"));
    let child = parent.pid();
    assert!(parent.wait().success());
    assert_eq!(reap(child), terminated(child));
}

fn parent_that_becomes_another_program() {
    let _child = start(&mut reexec::command("childProcess"));
    panic!("{}", process::Command::new("cat").exec());
}

/// The process goes on, but the program that could wait for the child has gone.
fn the_child_of_a_parent_that_becomes_another_program_gets_sigterm() {
    let mut parent = Running::start(&mut program("parent_that_becomes_another_program"));
    let child = parent.pid();
    wait_until("the child is a zombie", || is_zombie(child));
    assert_eq!(stat(parent.id()).unwrap().comm, "cat");
    parent.kill();
    assert_eq!(reap(child), terminated(child));
}

// How a child gets rid of the tie; these are limits.

fn parent_of_a_child_that_becomes_another_program() {
    let _child = start(&mut reexec::command("becomeAnotherProgram"));
    until_stdin_ends();
}

fn a_child_that_becomes_another_program_lives_on() {
    lives_on("parent_of_a_child_that_becomes_another_program");
}

fn parent_of_a_child_that_closes_descriptors() {
    let _child = start(&mut reexec::command("closeDescriptors"));
    until_stdin_ends();
}

fn a_child_that_closes_its_lifeline_lives_on() {
    lives_on("parent_of_a_child_that_closes_descriptors");
}

fn parent_of_a_child_that_starts_another_program() {
    let _child = start(&mut reexec::command("startAnotherProgram"));
    until_stdin_ends();
}

fn what_a_child_starts_by_other_means_lives_on() {
    let name = "parent_of_a_child_that_starts_another_program";
    let mut parent = Running::start(&mut program(name));
    let child = parent.pid();
    wait_until("there is a grandchild", || !children_of(child).is_empty());
    let grandchild = children_of(child)[0];
    parent.kill();
    assert_eq!(reap(child), terminated(child));
    parent.close_stdin();
    assert_eq!(reap(grandchild), ended_by_itself(grandchild));
}

/// The child of this parent says "untied" and survives it.
fn lives_on(parent: &str) {
    let mut parent = Running::start(&mut program(parent));
    let child = child_that_says("untied", &mut parent);
    parent.kill();
    assert_eq!(stat(child).unwrap().parent, process::id(), "adopted, by us");
    parent.close_stdin();
    assert_eq!(reap(child), ended_by_itself(child));
}

// A thread of the parent ends.

/// Answers each line, until there are no more.
fn echo() {
    println!("ready");
    for line in io::stdin().lines() {
        println!("{}", line.unwrap());
    }
}

/// Lets a thread spawn the entry named on stdin, and outlives that thread. Prints what the child
/// answers then, and how it ends.
fn parent_with_a_thread_that_spawns() {
    let entry = io::stdin().lines().next().unwrap().unwrap();
    let thread = thread::spawn(move || {
        let mut command = reexec::command(&entry);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.take_stdout().unwrap());
        assert_eq!(read_line(&mut stdout), "ready\n");
        (child, stdout)
    });
    let (child, mut stdout) = thread.join().unwrap();
    wait_until("the thread has ended", || {
        fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
    // What a child gets when its thread ends, it has got by now.
    let _ = child.take_stdin().unwrap().write_all(b"hello\n");
    println!("{:?}, {}", read_line(&mut stdout), child.wait().unwrap());
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// What that program prints.
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

/// Without the cure: the signal of prctl(2) `PR_SET_PDEATHSIG`, which others use for the purpose.
fn a_parent_death_signal_would_end_it_with_the_thread() {
    let printed = after_the_thread_of("echoUntilTheThreadAboveEnds");
    assert!(printed.ends_with("signal: 15 (SIGTERM)\n"), "{printed}");
}

// The parent is killed while it spawns.

/// So many that the kill meets one of them on its way.
fn parent_of_many() {
    let _children: Vec<_> = (0..20)
        .map(|_| start(&mut reexec::command("childProcess")))
        .collect();
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
            let pid = Pid::from_raw(orphan as i32);
            // Tied to the parent, or still waiting in `init` for its word.
            let gave_up = WaitStatus::Exited(pid, reexec::EXIT_SETUP_FAILED.into());
            assert!(
                status == terminated(orphan) || status == gave_up,
                "{status:?}"
            );
        }
        assert!(is_gone(first));
        assert_eq!(children(), []);
    }
}

// The same at the two moments that matter most; strace makes them last.

/// Starts the program "parent" so that whoever makes this system call the nth time is stopped
/// after it.
fn parent_with_stop_after(call: &str, nth: u32) -> Result<Running, Skipped> {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=SIGSTOP:when={nth}");
    let options = ["strace", "-f", "-qq", "-e", &trace, "-e", &inject];
    needs(&[&options[..], &["true"]].concat())?;
    let parent = program("parent");
    let mut strace = process::Command::new(options[0]);
    strace.args(&options[1..]).stderr(process::Stdio::null());
    strace.arg(parent.get_program()).args(parent.get_args());
    Ok(Running::start(&mut strace))
}

/// The parent that strace has started and its child, once this can be said of the child.
fn parent_and_child(strace: &Running, what: &str, state: impl Fn(u32) -> bool) -> (Pid, u32) {
    let mut found = None;
    wait_until(what, || {
        let parents = children_of(strace.id()).into_iter();
        let mut pairs = parents.flat_map(|parent| {
            children_of(parent)
                .into_iter()
                .map(move |child| (parent, child))
        });
        found = pairs.find(|(_, child)| state(*child));
        found.is_some()
    });
    let (parent, child) = found.unwrap();
    (Pid::from_raw(parent as i32), child)
}

/// The child has found out that it is one, but not yet what for.
fn a_child_that_gets_no_word_from_its_parent_exits_with_125() -> Result<(), Skipped> {
    // The parent opens a pidfd between starting the child and telling it what to do. Before that,
    // it has opened one of itself, to see whether it can.
    let mut strace = parent_with_stop_after("pidfd_open", 2)?;
    let waits = format!("{} ", libc::SYS_recvfrom);
    let (parent, child) = parent_and_child(&strace, "the child waits for word", |child| {
        let syscall = fs::read_to_string(format!("/proc/{child}/syscall"));
        syscall.is_ok_and(|syscall| syscall.starts_with(&waits))
    });
    kill(parent, Signal::SIGKILL).unwrap();
    assert_eq!(reap(child), gave_up(child));
    strace.wait();
    Ok(())
}

/// The child knows that it is to end with its parent, but has not armed the signal.
fn a_parent_killed_before_the_child_is_tied_leaves_nothing() -> Result<(), Skipped> {
    // The child names itself just before it arms the signal.
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
