//! System calls on a running child that a filter refuses or a signal interrupts. Either the method
//! still works, or its error has the number of the refusal, and leaves nothing.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use reexec::{Child, Fork, Reaper};
use support::filters::{Before, ERRORS, case, needs_filters, refusing};
use support::{LIMIT, Skipped, children, interrupted, piped, reap, until_stdin_ends};

fn main() -> ExitCode {
    reexec::register("childProcess", || {
        until_stdin_ends();
        println!("the entry");
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_in_programs(
        needs_filters,
        support::programs![
            a_call_refused_when_there_is_a_child_fails_cleanly_if_at_all,
            a_child_that_may_not_be_waited_for_is_not_lost,
        ],
        support::programs![
            interrupt_everything,
            interrupt_the_older_wait,
            interrupt_what_is_not_repeated,
        ],
        support::trials![
            every_call_may_be_interrupted_by_a_signal,
            a_call_that_is_not_repeated_fails_by_a_signal,
        ],
    )
}

/// A method of a child, after which the child is gone.
struct Act {
    name: &'static str,
    does: fn(Child) -> io::Result<()>,
    /// The calls that it uses besides [`WAITING`]. They are refused in turn.
    uses: &'static [&'static str],
    /// The calls that it cannot do without.
    needs: &'static [&'static str],
}

const WAITING: &[&str] = &["waitid", "waitid P_PIDFD", "wait4", "poll"];
const SIGNALLING: &[&str] = &["pidfd_send_signal", "kill"];
const EPOLL: &[&str] = &["epoll_create1", "epoll_ctl", "epoll_wait"];

const ACTS: &[Act] = &[
    Act {
        name: "wait",
        does: |child| {
            assert!(child.wait()?.success());
            Ok(())
        },
        uses: &[],
        needs: &[],
    },
    Act {
        name: "wait_timeout",
        does: |child| {
            drop(child.take_stdin());
            assert!(child.wait_timeout(LIMIT)?.unwrap().success());
            Ok(())
        },
        uses: &[],
        needs: &["poll"],
    },
    Act {
        name: "kill",
        does: |child| {
            child.kill()?;
            assert_eq!(child.wait()?.signal(), Some(libc::SIGKILL));
            Ok(())
        },
        uses: SIGNALLING,
        needs: &[],
    },
    Act {
        name: "terminate",
        does: |child| {
            assert_eq!(child.terminate(LIMIT)?.signal(), Some(libc::SIGTERM));
            Ok(())
        },
        uses: SIGNALLING,
        needs: &["poll"],
    },
    Act {
        name: "wait_with_output",
        does: |child| {
            let output = child.wait_with_output()?;
            assert_eq!(output.stdout, b"the entry\n");
            Ok(())
        },
        uses: &["read"],
        needs: &["poll", "read"],
    },
    Act {
        name: "detach",
        does: Child::detach,
        uses: &["eventfd2", "rt_sigprocmask", "clone"],
        needs: &["eventfd2", "clone"],
    },
    Act {
        name: "Reaper",
        does: |child| {
            drop(child.take_stdin());
            let mut reaper = Reaper::new()?;
            reaper.add(child, "owner")?;
            let exits = reaper.wait(Some(LIMIT))?;
            assert_eq!(exits[0].token, Some("owner"));
            assert!(exits[0].status.as_ref().unwrap().success());
            Ok(())
        },
        uses: EPOLL,
        needs: EPOLL,
    },
    Act {
        name: "Reaper for all children",
        does: |child| {
            drop(child.take_stdin());
            let mut reaper = Reaper::for_all_children()?;
            reaper.add(child, "owner")?;
            let exits = reaper.wait(Some(LIMIT))?;
            assert_eq!(exits[0].token, Some("owner"));
            Ok(())
        },
        uses: &["prctl", "signalfd4", "epoll_create1", "epoll_ctl", "epoll_wait"],
        needs: &["prctl", "signalfd4", "epoll_create1", "epoll_ctl", "epoll_wait"],
    },
    Act {
        name: "drop of a Reaper",
        does: |child| {
            let mut reaper = Reaper::new()?;
            reaper.add(child, "owner")
        },
        uses: SIGNALLING,
        needs: &[],
    },
    Act {
        name: "drop",
        does: |child| {
            drop(child);
            Ok(())
        },
        uses: SIGNALLING,
        needs: &[],
    },
];

fn a_call_refused_when_there_is_a_child_fails_cleanly_if_at_all() {
    let before = Before::now();
    for act in ACTS {
        for refused in WAITING.iter().chain(act.uses) {
            for errno in ERRORS {
                let case = case(act.name, refused, errno);
                let child = piped("childProcess").spawn().unwrap();
                let result = refusing(&[refused], errno, || (act.does)(child));
                match result {
                    Ok(()) => assert!(!act.needs.contains(refused), "{case}, which should fail"),
                    Err(error) => {
                        assert!(act.needs.contains(refused), "{case}: {error}");
                        let numbers = [errno, number_of_a_thread(refused, errno)];
                        let number = error.raw_os_error().unwrap();
                        assert!(numbers.contains(&number), "{case}: {error:?}");
                    }
                }
                before.is_restored_later(&case);
            }
        }
    }
}

/// pthread_create(3) returns one number for all kinds of shortage.
fn number_of_a_thread(refused: &str, errno: i32) -> i32 {
    match (refused, errno) {
        ("clone", libc::ENOMEM) => libc::EAGAIN,
        _ => errno,
    }
}

/// Its end is known as soon as waiting is allowed.
fn a_child_that_may_not_be_waited_for_is_not_lost() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let child = piped("childProcess").spawn().unwrap();
        let tries = || [child.try_wait(), child.try_wait()];
        for result in refusing(&["waitid", "wait4"], errno, tries) {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
        }
        assert!(child.wait().unwrap().success());

        let status = || piped("childProcess").status();
        let error = refusing(&["waitid", "wait4"], errno, status).unwrap_err();
        assert!(error.to_string().starts_with("childProcess has run, but "), "{error}");
        let mut all = Reaper::<()>::for_all_children().unwrap();
        let wait = || all.wait(Some(Duration::ZERO)).map(drop);
        let error = refusing(&["waitid", "wait4"], errno, wait).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno));

        // wait4 alone finds the child that has ended, too.
        drop(refusing(&["waitid"], errno, || all.wait(Some(Duration::ZERO))).unwrap());
        let mut stranger = process::Command::new("true").spawn().unwrap();
        let exits = refusing(&["waitid"], errno, || all.wait(Some(LIMIT))).unwrap();
        assert_eq!((exits[0].token, exits[0].id), (None, stranger.id()));
        stranger.wait().unwrap_err();
        drop(all);

        // This thread may wait for the rest.
        for child in children() {
            reap(child);
        }
    }
}

// Interruptions.

/// The calls that a signal can interrupt. Every second one is interrupted, so each is repeated once.
const INTERRUPTED: &str = "?poll,?ppoll,recvfrom,sendto,waitid,?epoll_wait,?epoll_pwait";

fn every_call_may_be_interrupted_by_a_signal() -> Result<(), Skipped> {
    let trace = format!("trace={INTERRUPTED}");
    let inject = format!("inject={INTERRUPTED}:error=EINTR:when=1+2");
    let lines = interrupted(&[&trace, &inject], "interrupt_everything")?;
    for call in ["poll(", "recvfrom(", "sendto(", "waitid(", "epoll_"] {
        assert!(
            lines.iter().any(|line| line.contains(call)),
            "{call} was not interrupted: {lines:?}"
        );
    }

    let refuse = "inject=waitid:error=ENOSYS";
    let inject = "inject=wait4:error=EINTR:when=1+2";
    let inject = ["trace=waitid,wait4", refuse, inject];
    let lines = interrupted(&inject, "interrupt_the_older_wait")?;
    assert!(lines.iter().any(|line| line.contains("wait4(")));
    Ok(())
}

fn interrupt_everything() {
    let before = Before::now();
    for act in ACTS {
        (act.does)(piped("childProcess").spawn().unwrap()).expect(act.name);
        before.is_restored_later(act.name);
    }
    let output = reexec::command("childProcess").output().unwrap();
    assert_eq!(output.stdout, b"the entry\n");
    assert!(reexec::command("childProcess").status().unwrap().success());
    match reexec::fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
    }
    before.is_restored("all of it");
}

fn interrupt_the_older_wait() {
    let mut command = piped("childProcess");
    assert!(command.status().unwrap().success());
    drop(command.spawn().unwrap());
    assert_eq!(children(), []);
}

/// Control: a call that is not repeated fails.
fn a_call_that_is_not_repeated_fails_by_a_signal() -> Result<(), Skipped> {
    let trace = format!("trace={INTERRUPTED}");
    let inject = format!("inject={INTERRUPTED}:error=EINTR:when=1+2");
    let lines = interrupted(&[&trace, &inject], "interrupt_what_is_not_repeated")?;
    assert!(!lines.is_empty());
    Ok(())
}

fn interrupt_what_is_not_repeated() {
    let child = piped("childProcess").spawn().unwrap();
    let mut end = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut end, PollTimeout::ZERO), Err(Errno::EINTR));
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    assert_eq!(waitid(Id::All, look), Err(Errno::EINTR));
}
