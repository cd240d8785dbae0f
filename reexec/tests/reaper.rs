//! A reaper reports the end of each of its children once, and leaves other children alone.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ChildStdin, ExitCode};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use reexec::{Child, Exit, Fork, Reaper, Stdio};
use support::{
    LIMIT, children, descriptors, first_line, is_gone, is_zombie, piped, stat, until_stdin_ends,
    wait_until,
};

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        until_stdin_ends();
        ExitCode::from(env::args().nth(1).unwrap().parse::<u8>().unwrap())
    });
    reexec::register("leaveOrphan", leave_orphan);
    reexec::register("forEver", nix::unistd::pause);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run_in_programs(
        || Ok(()),
        support::programs![
            an_end_is_reported_once_while_a_forked_copy_lives,
            a_reaper_for_all_children_reaps_orphans,
        ],
        &[],
        support::trials![
            children_that_end_at_the_same_time_are_reported_one_by_one,
            a_thousand_children_killed_at_once_are_each_reported_once,
            each_exit_has_its_token_status_and_usage,
            a_wait_ends_with_its_time,
            its_descriptor_is_readable_when_a_child_has_ended,
            other_children_are_left_alone,
            a_dropped_reaper_kills_and_reaps_its_children,
        ],
    )
}

/// Leaves a process that ends with our stdin.
#[allow(clippy::zombie_processes, reason = "for others to reap")]
fn leave_orphan() {
    let orphan = process::Command::new("cat").spawn().unwrap();
    println!("{}", orphan.id());
}

/// A child that lives until the pipe is dropped, and exits with this code then.
fn child(code: u8) -> (Child, ChildStdin) {
    let mut command = support::command("childProcess");
    let command = command.arg(code.to_string()).stdin(Stdio::piped());
    let child = command.spawn().unwrap();
    let stdin = child.take_stdin().unwrap();
    (child, stdin)
}

fn code_of<T>(exit: &Exit<T>) -> Option<i32> {
    exit.status.as_ref().unwrap().code()
}

fn children_that_end_at_the_same_time_are_reported_one_by_one() {
    const COUNT: u8 = 100; // more than one epoll_wait returns
    let before = descriptors();
    let mut reaper = Reaper::new().unwrap();
    let pipes: Vec<_> = (0..COUNT)
        .map(|slot| {
            let (child, stdin) = child(slot);
            reaper.add(child, slot).unwrap();
            stdin
        })
        .collect();
    assert_eq!(reaper.len(), usize::from(COUNT));
    let shown = format!("{reaper:?}");
    assert_eq!(shown.matches("entry: \"childProcess\"").count(), reaper.len(), "{shown}");
    drop(pipes);
    // No wait runs while they end, so their signals merge.
    wait_until("all children are zombies", || children().into_iter().all(is_zombie));
    let mut reported = Vec::new();
    while !reaper.is_empty() {
        for exit in reaper.wait(Some(LIMIT)).unwrap() {
            assert_eq!(code_of(&exit), exit.token.map(i32::from));
            reported.extend(exit.token);
        }
    }
    reported.sort();
    assert_eq!(reported, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(children(), []);
    drop(reaper);
    assert_eq!(descriptors(), before);
}

/// They are one process group, so that one call kills all of them.
fn a_thousand_children_killed_at_once_are_each_reported_once() {
    const COUNT: usize = 1000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap(); // two for each child
    let mut reaper = Reaper::new().unwrap();
    let mut group = 0;
    for slot in 0..COUNT {
        let mut command = support::command("forEver");
        let child = command.process_group(group).spawn().unwrap();
        group = if group == 0 { child.id() as i32 } else { group };
        reaper.add(child, slot).unwrap();
    }
    killpg(Pid::from_raw(group), Signal::SIGKILL).unwrap();
    let mut reported = Vec::new();
    while !reaper.is_empty() {
        for exit in reaper.wait(Some(LIMIT)).unwrap() {
            assert_eq!(exit.status.unwrap().signal(), Some(libc::SIGKILL));
            reported.extend(exit.token);
        }
    }
    reported.sort();
    assert_eq!(reported, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(children(), []);
    drop(reaper);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

fn each_exit_has_its_token_status_and_usage() {
    let mut reaper = Reaper::new().unwrap();
    let (first, _stdin) = child(0);
    let (second, _other_stdin) = child(0);
    let pid = first.id();
    reaper.add(first, "first").unwrap();
    reaper.add(second, "second").unwrap();
    for (child, name) in reaper.iter() {
        if *name == "first" {
            child.signal(libc::SIGTERM).unwrap();
        }
    }
    let exits = reaper.wait(None).unwrap();
    assert_eq!(exits.len(), 1);
    assert_eq!(exits[0].token, Some("first"));
    assert_eq!(exits[0].id, pid);
    let status = exits[0].status.as_ref().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    assert!(exits[0].usage.max_resident > 0);
    assert_eq!(reaper.len(), 1);
}

fn a_wait_ends_with_its_time() {
    let mut reaper = Reaper::new().unwrap();
    assert!(reaper.wait(Some(Duration::ZERO)).unwrap().is_empty());
    let (child, _stdin) = child(0);
    reaper.add(child, ()).unwrap();
    assert!(reaper.wait(Some(Duration::ZERO)).unwrap().is_empty());
    let exits = reaper.wait(Some(Duration::from_millis(50))).unwrap();
    assert!(exits.is_empty());
}

fn is_readable(fd: &impl AsFd, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() == 1
}

fn its_descriptor_is_readable_when_a_child_has_ended() {
    let mut reaper = Reaper::new().unwrap();
    let (child, stdin) = child(3);
    reaper.add(child, ()).unwrap();
    assert_eq!(reaper.as_raw_fd(), reaper.as_fd().as_raw_fd());
    assert!(!is_readable(&reaper, PollTimeout::ZERO));
    drop(stdin);
    assert!(is_readable(&reaper, PollTimeout::NONE));
    assert_eq!(code_of(&reaper.wait(None).unwrap()[0]), Some(3));
    assert!(!is_readable(&reaper, PollTimeout::ZERO));
}

fn other_children_are_left_alone() {
    let mut others = process::Command::new("true").spawn().unwrap();
    wait_until("the other child is a zombie", || is_zombie(others.id()));
    let (own, stdin) = child(0);
    drop(stdin);
    let mut reaper = Reaper::new().unwrap();
    reaper.add(own, ()).unwrap();
    assert_eq!(reaper.wait(None).unwrap().len(), 1);
    assert!(is_zombie(others.id()));
    assert!(others.wait().unwrap().success());
}

fn a_dropped_reaper_kills_and_reaps_its_children() {
    let mut reaper = Reaper::new().unwrap();
    let pipes: Vec<_> = (0..10)
        .map(|slot| {
            let (child, stdin) = child(slot);
            reaper.add(child, slot).unwrap();
            stdin
        })
        .collect();
    assert_eq!(children().len(), 10);
    drop(reaper);
    assert_eq!(children(), []);
    drop(pipes);
}

/// In a process of its own, with one thread. The copy has copies of the reaper's descriptors, so they
/// stay open when the parent closes them.
fn an_end_is_reported_once_while_a_forked_copy_lives() {
    let mut reaper = Reaper::new().unwrap();
    let (child, stdin) = child(6);
    reaper.add(child, ()).unwrap();
    let second = piped("childProcess").arg("0").spawn().unwrap();
    reaper.add(second, ()).unwrap();
    let (gate, gates_other_end) = io::pipe().unwrap();
    match reexec::fork().unwrap() {
        Fork::Child => {
            drop((stdin, gates_other_end));
            // Otherwise it would remove the child from the list that it shares with its parent.
            let error = reaper.wait(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            // Its copies of two pidfds, two lifelines, two pipes and the reaper's own descriptor.
            let before = descriptors().len();
            drop(reaper);
            assert_eq!(before - descriptors().len(), 7);
            support::read_all(gate);
        }
        Fork::Parent(copy) => {
            drop(stdin);
            assert_eq!(code_of(&reaper.wait(Some(LIMIT)).unwrap()[0]), Some(6));
            assert!(reaper.wait(Some(Duration::ZERO)).unwrap().is_empty());
            assert!(!is_readable(&reaper, PollTimeout::ZERO));
            drop(gates_other_end);
            assert!(copy.wait().unwrap().success());
        }
    }
}

/// In a process of its own, which adopts the orphans.
fn a_reaper_for_all_children_reaps_orphans() {
    let mut all = Reaper::for_all_children().unwrap();
    let (orphan, gate) = orphan();
    assert_eq!(stat(orphan).unwrap().parent, process::id(), "adopted");
    let (own, stdin) = child(4);
    let own_id = own.id();
    all.add(own, "own").unwrap();

    drop(gate);
    let exits = all.wait(Some(LIMIT)).unwrap();
    assert_eq!(exits.len(), 1);
    assert_eq!((exits[0].token, exits[0].id), (None, orphan));
    assert_eq!(code_of(&exits[0]), Some(0));
    assert!(is_gone(orphan));

    // A wait for any child reaps an added child, too.
    drop(stdin);
    wait_until("the own child is a zombie", || is_zombie(own_id));
    let exits = all.wait(Some(LIMIT)).unwrap();
    assert_eq!((exits[0].token, exits[0].id), (Some("own"), own_id));
    assert!(exits[0].usage.max_resident > 0);
    assert_eq!(code_of(&exits[0]), Some(4));
    drop(all);

    // Control: without this reaper, an adopted orphan stays a zombie.
    let (orphan, gate) = self::orphan();
    drop(gate);
    wait_until("the orphan is a zombie", || is_zombie(orphan));
    let mut own = Reaper::<()>::new().unwrap();
    assert!(own.wait(Some(Duration::ZERO)).unwrap().is_empty());
    assert!(is_zombie(orphan));
    support::reap(orphan);
}

/// Makes an orphan that lives until the pipe is dropped.
fn orphan() -> (u32, io::PipeWriter) {
    let (stdin, gate) = io::pipe().unwrap();
    let mut command = support::command("leaveOrphan");
    let parent = command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    let line = first_line(&parent);
    parent.wait().unwrap();
    (line.trim().parse().unwrap(), gate)
}
