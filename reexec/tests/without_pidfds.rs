//! Children without a pidfd: a filter refuses pidfds, and the child's number is used instead.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::{Pid, dup2_stdout};
use reexec::{Child, Fork, Reaper, Stage, Stdio};
use support::filters::{Before, needs_filters, refusing};
use support::{
    LIMIT, Running, Skipped, assert_stage, is_gone, is_zombie, program, read_all, reap, stdout_of,
    under, until_stdin_ends, wait_until,
};

/// Set for a child that ends before `init`, and leaves a process that holds all its descriptors.
const LEAVES: &str = "LEAVES";

fn main() -> ExitCode {
    if env::var_os(LEAVES).is_some() {
        leave_holder();
        return ExitCode::from(3);
    }
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("leaveCopy", leave_copy);
    reexec::register("leaveHolder", leave_holder);
    reexec::register("becomeAnotherProgram", become_another_program);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_in_programs(
        needs_filters,
        support::programs![waiting_without_a_pidfd_takes_no_processor_time],
        support::programs![refuse_pidfds_to_children_that_leave_a_copy, signal_a_reused_number,],
        support::trials![
            the_end_of_a_child_is_noticed_while_its_copy_holds_the_pipe,
            a_stream_that_is_held_is_noticed_without_a_pidfd,
            a_child_that_ends_early_is_noticed_without_a_pidfd,
            without_a_pidfd_a_reused_number_is_not_signalled,
        ],
    )
}

/// An entry that leaves a forked copy of itself, with copies of its descriptors.
fn leave_copy() {
    let (wait, go) = io::pipe().unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => {
            drop(go);
            read_all(wait); // until the copy has undone its parent-death signal
            println!("{}", copy.id());
            mem::forget(copy);
        }
        Fork::Child => {
            prctl::set_pdeathsig(None).unwrap();
            // Not the stream whose output a test collects.
            dup2_stdout(io::stderr()).unwrap();
            drop(go);
            until_stdin_ends();
            reexec::exit_now(0);
        }
    }
}

/// The parent waits in each way, while the copies live on until stdin ends.
fn the_end_of_a_child_is_noticed_while_its_copy_holds_the_pipe() -> Result<(), Skipped> {
    needs_filters()?;
    let mut parent = Running::start(&mut program("refuse_pidfds_to_children_that_leave_a_copy"));
    let mut copies = Vec::new();
    loop {
        match parent.line().as_str() {
            "all have ended" => break,
            copy => copies.push(copy.parse().unwrap()),
        }
    }
    assert_eq!(copies.len(), 2 * WAYS.len());
    for copy in &copies {
        assert!(!is_gone(*copy) && !is_zombie(*copy), "all waits ended before this");
    }
    parent.close_stdin();
    assert!(parent.wait().success());
    for copy in copies {
        reap(copy);
    }
    Ok(())
}

fn refuse_pidfds_to_children_that_leave_a_copy() {
    let before = Before::now();
    for refused in [&["pidfd_open"][..], &["pidfd_open", "waitid"]] {
        for way in WAYS {
            refusing(refused, libc::EPERM, way);
            before.is_restored("a child that leaves a copy");
        }
    }
    println!("all have ended");
    until_stdin_ends();
}

/// The ways to wait. Each starts a child and returns when it has ended.
const WAYS: [fn(); 6] = [
    || assert!(child_that_leaves_a_copy().wait().unwrap().success()),
    || {
        let child = child_that_leaves_a_copy();
        wait_until("the child is a zombie", || is_zombie(child.id()));
        // Control: the descriptor alone tells of the end only when the copy has ended, too.
        let mut end = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut end, PollTimeout::ZERO).unwrap(), 0);
        assert!(child.wait_timeout(LIMIT).unwrap().unwrap().success());
    },
    || assert!(reexec::command("leaveCopy").status().unwrap().success()),
    || {
        let mut command = reexec::command("leaveCopy");
        let command = command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
        let output = command.output().unwrap();
        println!("{}", String::from_utf8(output.stdout).unwrap().trim_end());
    },
    || {
        let mut reaper = Reaper::new().unwrap();
        reaper.add(child_that_leaves_a_copy(), ()).unwrap();
        let exits = reaper.wait(None).unwrap();
        assert!(exits[0].status.as_ref().unwrap().success());
    },
    || {
        let child = child_that_leaves_a_copy();
        let pid = child.id();
        child.detach().unwrap();
        wait_until("the detached child is reaped", || is_gone(pid));
    },
];

fn child_that_leaves_a_copy() -> Child {
    reexec::command("leaveCopy").spawn().unwrap()
}

const LIFE: Duration = Duration::from_millis(400);

fn become_another_program() -> ExitCode {
    let mut sleep = process::Command::new("sleep");
    let error = sleep.arg(LIFE.as_secs_f64().to_string()).exec();
    panic!("{error}");
}

/// The ways to wait that watch the descriptor.
const WAYS_TO_WATCH: [fn(Child); 3] = [
    |child| assert!(child.wait_timeout(LIMIT).unwrap().is_some()),
    |child| {
        let pid = child.id();
        child.detach().unwrap();
        thread::sleep(LIFE / 4);
        assert!(!is_gone(pid), "it still runs");
        while !is_gone(pid) {
            thread::sleep(LIFE / 8);
        }
    },
    |child| {
        let mut reaper = Reaper::new().unwrap();
        reaper.add(child, ()).unwrap();
        assert_eq!(reaper.wait(Some(LIMIT)).unwrap().len(), 1);
    },
];

/// Its pipe ends when it executes another program: from then on that tells nothing.
fn waiting_without_a_pidfd_takes_no_processor_time() {
    let start = || reexec::command("becomeAnotherProgram").spawn().unwrap();
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let time = usage.user_time() + usage.system_time();
        Duration::from_micros(time.num_microseconds() as u64)
    };
    let child = start();
    let before = used();
    refusing(&["waitid"], libc::EPERM, || child.wait().unwrap());
    let used_by_wait = used() - before;
    assert!(used_by_wait < LIFE / 2, "{used_by_wait:?}");
    for (number, way) in WAYS_TO_WATCH.into_iter().enumerate() {
        let child = refusing(&["pidfd_open"], libc::EPERM, start);
        let before = used();
        way(child);
        let used = used() - before;
        assert!(used < LIFE / 2, "{number}: {used:?}");
    }
}

/// The end of the child is noticed without its descriptor, so the time of silence begins.
fn a_stream_that_is_held_is_noticed_without_a_pidfd() -> Result<(), Skipped> {
    needs_filters()?;
    let (stdin, gate) = io::pipe().unwrap();
    let error = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("leaveHolder");
        command.stdin(stdin).stream_grace(Duration::from_millis(50));
        command.output().unwrap_err()
    });
    assert_stage!(error, Stage::StreamHeld);
    let output = error.output().unwrap();
    assert!(output.status.unwrap().success());
    drop(gate);
    let holder = String::from_utf8(output.stdout.clone()).unwrap();
    reap(holder.trim().parse().unwrap());
    Ok(())
}

/// Another process holds a copy of the child's channel, and there is no pidfd.
fn a_child_that_ends_early_is_noticed_without_a_pidfd() -> Result<(), Skipped> {
    needs_filters()?;
    let (stdin, gate) = io::pipe().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let error = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.env(LEAVES, "").stdin(stdin).stdout(writer);
        command.ready_timeout(LIMIT).spawn().unwrap_err()
    });
    let Stage::BeforeInit { status: Some(status) } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(status.code(), Some(3));
    drop(gate);
    reap(read_all(reader).trim().parse().unwrap());
    Ok(())
}

/// Leaves a process that holds its stdout until its stdin ends.
fn leave_holder() {
    let mut shell = process::Command::new("sh");
    let holder = shell.args(["-c", "cat >/dev/null"]).spawn().unwrap();
    println!("{}", holder.id());
    mem::forget(holder);
}

/// Another process, which is no child of ours, has got the number of the child.
fn without_a_pidfd_a_reused_number_is_not_signalled() -> Result<(), Skipped> {
    needs_filters()?;
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let said = stdout_of(&mut under(&namespace, &program("signal_a_reused_number"))?);
    assert!(said.ends_with("lives\nkilled\n"), "{said}");
    Ok(())
}

fn signal_a_reused_number() {
    let child = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.stdin(Stdio::null()).spawn().unwrap()
    });
    // A process that starts another one when its stdin ends.
    let mut shell = process::Command::new("sh")
        .args(["-c", "read go; sleep 60 & echo $!; wait"])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    reap(pid);
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    drop(shell.stdin.take());
    let mut line = String::new();
    let mut stdout = BufReader::new(shell.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), pid.to_string(), "the number was not reused");

    child.kill().unwrap();
    drop(child);
    thread::sleep(LIFE / 4); // in which a signal would end it
    let is_killed = is_gone(pid) || is_zombie(pid);
    println!("{}", if is_killed { "killed" } else { "lives" });
    // Control: a signal by the number alone reaches it.
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    shell.wait().unwrap();
    println!("{}", if is_gone(pid) { "killed" } else { "lives" });
}
