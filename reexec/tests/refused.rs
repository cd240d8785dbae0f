//! System calls that are refused: by a seccomp filter, as in a container; by the loss of the right to
//! them; or interrupted by a signal. Either it works all the same, or the error says what was
//! refused; and nothing is left.
//!
//! A filter is for one thread and for what that starts. So each case has a thread of its own, and the
//! main thread, for which nothing is refused, looks at children and descriptors afterwards.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic;
use std::path::PathBuf;
use std::process::{self, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, dup2_stdout};
use reexec::{Child, Command, Error, Fork, OutputCause, Reaper, Stage, Stdio};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use support::{
    LIMIT, NOBODY, Running, Skipped, become_user, children, descriptors, is_gone, is_zombie, needs,
    needs_root, program, read_all, reap, stat, stdout_of, until_stdin_ends, wait_until,
    without_proc,
};

/// Set for a child to which a call is refused. Should it take itself for an ordinary start, it prints
/// a line, and does not run these tests, in which it would start children like itself.
const PROBED: &str = "PROBED";

/// Set for a child that does not come to `init`: it ends, and leaves a process that holds what it held.
const LEAVES: &str = "LEAVES";

fn main() -> ExitCode {
    if env::var_os(LEAVES).is_some() {
        leave_holder();
        return ExitCode::from(3);
    }
    reexec::register("childProcess", || {
        until_stdin_ends();
        println!("the entry");
    });
    reexec::register("deafChild", || {
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        println!("deaf");
        until_stdin_ends();
    });
    reexec::register("leaveCopy", leave_copy);
    reexec::register("leaveHolder", leave_holder);
    reexec::register("becomeAnotherProgram", become_another_program);
    if let Some(code) = reexec::init() {
        return code;
    }
    if env::var_os(PROBED).is_some() {
        println!("ordinary");
        return ExitCode::SUCCESS;
    }
    support::run(
        support::programs![
            refuse_before_the_first_spawn,
            refuse_after_the_first_spawn,
            refuse_when_there_is_a_child,
            refuse_when_forking,
            refuse_to_wait,
            fork_unseen,
            drop_in_a_copy_that_may_not_wait,
            refuse_single_uses,
            fork_uncounted,
            fork_in_vain,
            drop_a_reaper_in_a_copy,
            signal_a_number_that_is_anothers,
            interrupt_everything,
            interrupt_the_older_wait,
            interrupt_what_is_not_repeated,
            lose_the_right_to_signal_by_a_filter,
            lose_the_right_to_signal_with_the_privileges,
            start_ordinarily,
            start_ordinarily_beside_another_descriptor,
            start_ordinarily_beside_a_quiet_pipe,
            refuse_pidfds_to_children_that_leave_a_copy,
            refuse_pidfds_to_children_that_become_another_program,
        ],
        support::trials![
            a_call_refused_before_the_first_spawn_fails_cleanly_if_at_all,
            a_call_refused_after_the_first_spawn_fails_cleanly_if_at_all,
            a_call_refused_when_there_is_a_child_fails_cleanly_if_at_all,
            a_call_refused_to_a_fork_fails_cleanly_if_at_all,
            a_child_that_may_not_be_waited_for_is_not_lost,
            a_copy_that_may_not_wait_ends_no_child,
            what_is_refused_is_named,
            a_fork_that_cannot_count_threads_believes_a_process_without_a_proc,
            a_copy_closes_what_its_reaper_holds_also_one_by_one,
            without_a_pidfd_a_number_that_is_anothers_is_not_signalled,
            a_child_that_cannot_tell_says_why_on_stderr,
            a_copy_that_ended_unseen_is_no_failure,
            a_child_that_may_not_have_its_name_runs,
            every_call_may_be_interrupted_by_a_signal,
            a_call_that_is_not_repeated_fails_by_a_signal,
            children_that_a_filter_protects_end_by_their_lifeline,
            children_that_lost_privileges_protect_end_by_their_lifeline,
            a_child_that_cannot_find_out_what_it_is_does_not_run_main,
            an_ordinary_start_that_is_refused_a_question_is_one,
            the_end_of_a_child_is_noticed_while_its_copy_holds_the_pipe,
            to_wait_without_a_pidfd_takes_no_processor_time,
            a_stream_that_is_held_is_noticed_without_a_pidfd,
            a_child_that_ends_early_is_noticed_without_a_pidfd,
        ],
    )
}

// Filters.

/// What the calls are refused with.
const ERRORS: [i32; 5] = [
    libc::EPERM,
    libc::ENOSYS,
    libc::ENOMEM,
    libc::EMFILE,
    libc::EAGAIN,
];

type Rules = Vec<(i64, Vec<SeccompRule>)>;

/// The system calls behind a name: mostly one; or those that do the same, of which a libc uses one;
/// or one use of one.
fn rules(name: &str) -> Rules {
    let all = |numbers: &[i64]| numbers.iter().map(|number| (*number, Vec::new())).collect();
    match name {
        "clone" => all(&[
            libc::SYS_clone,
            libc::SYS_clone3,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_vfork,
        ]),
        "close_range" => all(&[libc::SYS_close_range]),
        "dup2" => all(&[
            libc::SYS_dup3,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2,
        ]),
        "epoll_create1" => all(&[libc::SYS_epoll_create1]),
        "epoll_ctl" => all(&[libc::SYS_epoll_ctl]),
        "epoll_wait" => all(&[
            libc::SYS_epoll_pwait,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait,
        ]),
        "eventfd2" => all(&[libc::SYS_eventfd2]),
        "execve" => all(&[libc::SYS_execve]),
        "fcntl" => all(&[libc::SYS_fcntl]),
        "fcntl F_DUPFD_CLOEXEC" => {
            let command = libc::F_DUPFD_CLOEXEC as u64;
            only(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, command)
        }
        "fcntl F_GETFD" => only(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, libc::F_GETFD as u64),
        "getdents64" => all(&[libc::SYS_getdents64]),
        "getsockopt" => all(&[libc::SYS_getsockopt]),
        "kill" => all(&[libc::SYS_kill]),
        "memfd_create" => all(&[libc::SYS_memfd_create]),
        "mmap" => all(&[libc::SYS_mmap]),
        "openat" => all(&[libc::SYS_openat]),
        "pidfd_open" => all(&[libc::SYS_pidfd_open]),
        "pidfd_open of another" => {
            let own = u64::from(process::id());
            only(libc::SYS_pidfd_open, 0, SeccompCmpOp::Ne, own)
        }
        "pidfd_send_signal" => all(&[libc::SYS_pidfd_send_signal]),
        "pipe2" => all(&[libc::SYS_pipe2]),
        "poll" => all(&[
            libc::SYS_ppoll,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll,
        ]),
        "prlimit64" => all(&[libc::SYS_prlimit64]),
        "prctl" => all(&[libc::SYS_prctl]),
        "read" => all(&[libc::SYS_read]),
        "readlink" => all(&[
            libc::SYS_readlinkat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink,
        ]),
        "recvfrom" => all(&[libc::SYS_recvfrom]),
        "rt_sigprocmask" => all(&[libc::SYS_rt_sigprocmask]),
        "sendto" => all(&[libc::SYS_sendto]),
        // What a child is told is longer than the hello; its own word that it is ready is shorter.
        "sendto of a launch" => only(libc::SYS_sendto, 2, SeccompCmpOp::Gt, 40),
        "sendto of a word" => only(libc::SYS_sendto, 2, SeccompCmpOp::Lt, 8),
        "setpgid" => all(&[libc::SYS_setpgid]),
        "signalfd4" => all(&[libc::SYS_signalfd4]),
        "socketpair" => all(&[libc::SYS_socketpair]),
        "stat" => [
            all(&[libc::SYS_statx]),
            // But not of a descriptor, as the child's loader does.
            only(
                libc::SYS_newfstatat,
                3,
                SeccompCmpOp::MaskedEq(libc::AT_EMPTY_PATH as u64),
                0,
            ),
        ]
        .concat(),
        "unshare" => all(&[libc::SYS_unshare]),
        "wait4" => all(&[libc::SYS_wait4]),
        "waitid" => all(&[libc::SYS_waitid]),
        "waitid P_PIDFD" => {
            let kind = libc::P_PIDFD.into();
            only(libc::SYS_waitid, 0, SeccompCmpOp::Eq, kind)
        }
        name => panic!("which calls are {name}?"),
    }
}

/// The call with this parameter.
fn only(call: i64, parameter: u8, is: SeccompCmpOp, value: u64) -> Rules {
    let condition = SeccompCondition::new(parameter, SeccompCmpArgLen::Dword, is, value);
    vec![(
        call,
        vec![SeccompRule::new(vec![condition.unwrap()]).unwrap()],
    )]
}

fn filter(refused: &[&str], errno: i32) -> BpfProgram {
    let rules = refused.iter().flat_map(|name| rules(name)).collect();
    let refuse = SeccompAction::Errno(errno as u32);
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    filter.try_into().unwrap()
}

/// Does this in a thread to which these calls are refused.
fn refusing<T: Send>(refused: &[&str], errno: i32, act: impl FnOnce() -> T + Send) -> T {
    let filter = filter(refused, errno);
    let thread = || {
        seccompiler::apply_filter(&filter).unwrap();
        act()
    };
    match thread::scope(|scope| scope.spawn(thread).join()) {
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// Skips the test where there are no filters.
fn needs_filters() -> Result<(), Skipped> {
    let skip = |error| Skipped::because(&format!("no filter of system calls here: {error}"));
    TargetArch::try_from(env::consts::ARCH).map_err(|error| skip(error.to_string()))?;
    let filter = filter(&["unshare"], libc::EPERM);
    let applied = thread::spawn(move || seccompiler::apply_filter(&filter)).join();
    applied.unwrap().map_err(|error| skip(error.to_string()))
}

/// A case, to be named by what fails in it.
fn case(doing: &str, refused: &str, errno: i32) -> String {
    format!("{doing}, {refused} refused: {}", Errno::from_raw(errno))
}

/// What there is before a case, to be compared with what there is after it.
struct Before(BTreeMap<RawFd, PathBuf>);

impl Before {
    fn now() -> Before {
        Before(descriptors())
    }

    /// No child, no zombie and no descriptor that was not there before.
    fn is_restored(&self, case: &str) {
        assert!(!has_children(), "{case} leaves {:?}", children());
        // A thread of the library's own ends when it has nothing more to do.
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        wait_until("one thread is left", || threads() == 1);
        assert_eq!(descriptors(), self.0, "{case}");
    }

    /// The same after something that the library finishes in the background.
    fn is_restored_later(&self, case: &str) {
        wait_until(case, || !has_children());
        self.is_restored(case);
    }
}

/// Faster than to look through /proc; zombies are children, too.
fn has_children() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::All, look) {
            Err(Errno::EINTR) => {}
            result => return result != Err(Errno::ECHILD),
        }
    }
}

// Each call in turn: a spawn.

/// What a spawn needs.
const OF_A_SPAWN: &[&str] = &[
    "clone",
    "close_range",
    "dup2",
    "execve",
    "fcntl",
    "getdents64",
    "getsockopt",
    "kill",
    #[cfg(target_env = "gnu")] // for the stack on which the child borrows the parent's memory
    "mmap",
    "openat",
    "pidfd_open",
    "pidfd_open of another",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "prctl",
    "prlimit64",
    "recvfrom",
    "rt_sigprocmask",
    "sendto",
    "socketpair",
    "stat",
    "wait4",
    "waitid",
    "waitid P_PIDFD",
];

/// Changes a command.
type Setting = fn(&mut Command);

/// What a spawn needs with these settings.
const OF_A_SPAWN_WITH_MORE: [(&str, Setting); 2] = [
    ("memfd_create", |command| {
        command.sealed();
    }),
    ("setpgid", |command| {
        command.process_group(0);
    }),
];

/// What is to come of a spawn: `None` if it is to work, or the stage at which it is to fail, and
/// whether with the number that the call was refused with.
fn expected(refused: &str, errno: i32) -> Option<(&'static str, bool)> {
    let stage = match (refused, errno) {
        // There is another way for each.
        ("close_range" | "getdents64" | "getsockopt" | "kill", _) => return None,
        ("pidfd_open", libc::EPERM | libc::ENOSYS) => return None,
        ("pidfd_send_signal" | "prctl" | "prlimit64" | "rt_sigprocmask" | "stat", _) => {
            return None;
        }
        ("wait4" | "waitid" | "waitid P_PIDFD", _) => return None,
        // "Nothing there yet", says this answer; then the child has gone, who was refused it, too.
        ("recvfrom", libc::EAGAIN) => return Some(("BeforeInit", false)),
        // Used by the child only, as long as no descriptor of the parent has to be moved.
        ("fcntl", _) => return Some(("BeforeInit", false)),
        ("clone" | "mmap", _) => "NewProcess",
        // No other step of a spawn fails so without a filter.
        ("dup2" | "execve" | "setpgid", libc::EAGAIN) => "NewProcess",
        ("execve", _) => "Exec",
        ("setpgid", _) => "ProcessGroup",
        _ => "Prepare",
    };
    Some((stage, true))
}

/// Compares an error with what is to be expected.
fn assert_expected(error: &Error, expected: (&str, bool), errno: i32, case: &str) {
    let (stage, with_number) = expected;
    let found = format!("{:?}", error.stage());
    assert!(found.starts_with(stage), "{case}: {found}");
    let number = with_number.then_some(errno);
    assert_eq!(error.raw_os_error(), number, "{case}: {found}");
}

/// A whole start, which uses every call that a start can use. Says whether it works.
fn collect_output(command: &mut Command, refused: &str, errno: i32) -> bool {
    let case = case("output", refused, errno);
    match (command.env(PROBED, "").output(), expected(refused, errno)) {
        (Ok(output), None) => {
            assert_eq!(output.stdout, b"the entry\n", "{case}: {output:?}");
            true
        }
        (Err(error), Some(expected)) => {
            let OutputCause::Spawn(error) = error.cause else {
                panic!("{case}: {error:?}");
            };
            assert_expected(&error, expected, errno, &case);
            false
        }
        (Err(error), None) => panic!("{case}: {error:?}"),
        (Ok(output), Some(_)) => panic!("{case}, and yet it works: {output:?}"),
    }
}

/// The other ends of a child that was started where a call is refused.
fn kill_and_drop(refused: &str, errno: i32) {
    let case = case("kill", refused, errno);
    let start = || {
        let mut command = reexec::command("childProcess");
        let command = command.env(PROBED, "").stdin(Stdio::piped());
        command.spawn().expect(&case)
    };
    let child = start();
    child.kill().expect(&case);
    let status = child.wait().expect(&case);
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{case}");
    drop(child);
    drop(start());
    let mut command = reexec::command("noSuchEntry");
    let error = command.env(PROBED, "").spawn().unwrap_err();
    assert!(
        matches!(error.stage(), Stage::UnknownEntry),
        "{case}: {error:?}"
    );
}

fn a_call_refused_before_the_first_spawn_fails_cleanly_if_at_all() -> Result<(), Skipped> {
    needs_filters()?;
    for refused in OF_A_SPAWN {
        for errno in ERRORS {
            let mut program = program("refuse_before_the_first_spawn");
            stdout_of(program.arg(refused).arg(errno.to_string()));
        }
    }
    Ok(())
}

fn refuse_before_the_first_spawn() {
    let refused = env::args().nth(3).unwrap();
    let errno = env::args().nth(4).unwrap().parse().unwrap();
    let before = Before::now();
    let mut command = reexec::command("childProcess");
    let act = || collect_output(&mut command, &refused, errno);
    refusing(&[&refused], errno, act);
    before.is_restored(&case("first output", &refused, errno));
}

fn a_call_refused_after_the_first_spawn_fails_cleanly_if_at_all() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("refuse_after_the_first_spawn"));
    Ok(())
}

fn refuse_after_the_first_spawn() {
    let first = reexec::command("childProcess").output().unwrap();
    assert_eq!(first.stdout, b"the entry\n");
    let before = Before::now();
    for refused in OF_A_SPAWN {
        for errno in ERRORS {
            let mut command = reexec::command("childProcess");
            let act = || {
                if collect_output(&mut command, refused, errno) {
                    kill_and_drop(refused, errno);
                }
            };
            refusing(&[refused], errno, act);
            before.is_restored(&case("spawn", refused, errno));
        }
    }
    for (refused, set) in OF_A_SPAWN_WITH_MORE {
        for errno in ERRORS {
            let mut command = reexec::command("childProcess");
            set(&mut command);
            let act = || collect_output(&mut command, refused, errno);
            refusing(&[refused], errno, act);
            before.is_restored(&case("spawn with more", refused, errno));
        }
    }
}

// Each call in turn: what is done with a child.

/// Something to do with a child, which is then to be gone.
struct Act {
    name: &'static str,
    does: fn(Child) -> io::Result<()>,
    /// The calls it uses, that are refused in turn.
    uses: &'static [&'static str],
    /// Those of them that it cannot do without.
    needs: &'static [&'static str],
}

const ACTS: &[Act] = &[
    Act {
        name: "wait",
        does: |child| {
            assert!(child.wait()?.success());
            Ok(())
        },
        uses: &["waitid", "waitid P_PIDFD", "wait4", "poll"],
        needs: &[],
    },
    Act {
        name: "wait_timeout",
        does: |child| {
            drop(child.take_stdin());
            assert!(child.wait_timeout(LIMIT)?.unwrap().success());
            Ok(())
        },
        uses: &["waitid", "waitid P_PIDFD", "wait4", "poll"],
        needs: &["poll"],
    },
    Act {
        name: "kill",
        does: |child| {
            child.kill()?;
            assert_eq!(child.wait()?.signal(), Some(libc::SIGKILL));
            Ok(())
        },
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "pidfd_send_signal",
            "kill",
        ],
        needs: &[],
    },
    Act {
        name: "stop",
        does: |child| {
            assert_eq!(child.terminate(LIMIT)?.signal(), Some(libc::SIGTERM));
            Ok(())
        },
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "pidfd_send_signal",
            "kill",
        ],
        needs: &["poll"],
    },
    Act {
        name: "wait_with_output",
        does: |child| {
            let output = child.wait_with_output()?;
            assert_eq!(output.stdout, b"the entry\n");
            Ok(())
        },
        uses: &["waitid", "waitid P_PIDFD", "wait4", "poll", "read"],
        needs: &["poll", "read"],
    },
    Act {
        name: "detach",
        does: Child::detach,
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "eventfd2",
            "rt_sigprocmask",
            "clone",
        ],
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
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "epoll_create1",
            "epoll_ctl",
            "epoll_wait",
        ],
        needs: &["epoll_create1", "epoll_ctl", "epoll_wait"],
    },
    Act {
        name: "Reaper for everybody",
        does: |child| {
            drop(child.take_stdin());
            let mut reaper = Reaper::for_all_children()?;
            reaper.add(child, "owner")?;
            let exits = reaper.wait(Some(LIMIT))?;
            assert_eq!(exits[0].token, Some("owner"));
            Ok(())
        },
        uses: &[
            "waitid",
            "wait4",
            "poll",
            "prctl",
            "signalfd4",
            "epoll_create1",
            "epoll_ctl",
            "epoll_wait",
        ],
        needs: &[
            "prctl",
            "signalfd4",
            "epoll_create1",
            "epoll_ctl",
            "epoll_wait",
        ],
    },
    Act {
        name: "drop of a Reaper",
        does: |child| {
            let mut reaper = Reaper::new()?;
            reaper.add(child, "owner")
        },
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "pidfd_send_signal",
            "kill",
        ],
        needs: &[],
    },
    Act {
        name: "drop",
        does: |child| {
            drop(child);
            Ok(())
        },
        uses: &[
            "waitid",
            "waitid P_PIDFD",
            "wait4",
            "poll",
            "pidfd_send_signal",
            "kill",
        ],
        needs: &[],
    },
];

fn a_call_refused_when_there_is_a_child_fails_cleanly_if_at_all() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("refuse_when_there_is_a_child"));
    Ok(())
}

fn refuse_when_there_is_a_child() {
    let before = Before::now();
    for act in ACTS {
        for refused in act.uses {
            for errno in ERRORS {
                let case = case(act.name, refused, errno);
                let mut command = reexec::command("childProcess");
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                let child = command.spawn().unwrap();
                let result = refusing(&[refused], errno, || (act.does)(child));
                match result {
                    Ok(()) => assert!(!act.needs.contains(refused), "{case}, and yet it works"),
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

/// pthread_create(3) has one number for all that there is not enough of.
fn number_of_a_thread(refused: &str, errno: i32) -> i32 {
    match (refused, errno) {
        ("clone", libc::ENOMEM) => libc::EAGAIN,
        _ => errno,
    }
}

// Each call in turn: a fork.

/// What a fork uses, what its handle uses, and what a fork cannot do without.
const OF_A_FORK: &[&str] = &[
    "clone",
    "kill",
    "pidfd_open",
    "pidfd_open of another",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "rt_sigprocmask",
    "unshare",
    "wait4",
    "waitid",
    "waitid P_PIDFD",
];

fn a_call_refused_to_a_fork_fails_cleanly_if_at_all() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("refuse_when_forking"));
    Ok(())
}

/// A child that must not be waited for is not lost: its end is known when waiting is allowed.
fn a_child_that_may_not_be_waited_for_is_not_lost() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("refuse_to_wait"));
    Ok(())
}

fn refuse_to_wait() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let mut command = reexec::command("childProcess");
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        let tries = || [child.try_wait(), child.try_wait()];
        for result in refusing(&["waitid", "wait4"], errno, tries) {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
        }
        assert!(child.wait().unwrap().success());

        let status = || {
            reexec::command("childProcess")
                .stdin(Stdio::null())
                .status()
        };
        let error = refusing(&["waitid", "wait4"], errno, status).unwrap_err();
        assert!(
            error.to_string().starts_with("childProcess has run, but "),
            "{error}"
        );
        let mut all = Reaper::<()>::for_all_children().unwrap();
        let wait = || all.wait(Some(Duration::ZERO)).map(drop);
        let error = refusing(&["waitid", "wait4"], errno, wait).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno));

        // The older call alone finds the child that has ended, too.
        drop(refusing(&["waitid"], errno, || all.wait(Some(Duration::ZERO))).unwrap());
        let mut stranger = process::Command::new("true").spawn().unwrap();
        let exits = refusing(&["waitid"], errno, || all.wait(Some(LIMIT))).unwrap();
        assert_eq!((exits[0].token, exits[0].id), (None, stranger.id()));
        stranger.wait().unwrap_err();
        drop(all);

        // Left to us, to whom waiting is allowed.
        for child in children() {
            reap(child);
        }
    }
}

/// A forked copy has copies of the handles, and no children. Where it may not ask whose child it is,
/// that is all it knows.
fn a_copy_that_may_not_wait_ends_no_child() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("drop_in_a_copy_that_may_not_wait"));
    Ok(())
}

fn drop_in_a_copy_that_may_not_wait() {
    let mut command = reexec::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => {
            assert!(copy.wait().unwrap().success());
            assert!(child.wait().unwrap().success(), "the copy has ended it");
        }
        Fork::Child => {
            seccompiler::apply_filter(&filter(&["waitid"], libc::EPERM)).unwrap();
            drop(child);
            reexec::exit_now(0);
        }
    }
}

/// Uses of a call that only some starts come to.
fn what_is_refused_is_named() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("refuse_single_uses"));
    Ok(())
}

fn refuse_single_uses() {
    let low = fs::File::open("/dev/null").unwrap();
    assert!(
        low.as_raw_fd() < 6,
        "in the way of the child's own descriptors"
    );
    let mut beside_it = reexec::command("childProcess");
    beside_it.fd("low", low);
    let cases = [
        (
            "sendto of a launch",
            "sending the launch",
            reexec::command("childProcess"),
        ),
        ("fcntl F_DUPFD_CLOEXEC", "descriptors", beside_it),
    ];
    for (refused, step, mut command) in cases {
        let command = command.stdin(Stdio::null());
        let error = refusing(&[refused], libc::EPERM, || command.spawn().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        assert!(error.to_string().contains(step), "{error}");
        assert_eq!(children(), []);
    }
}

/// In a process with one thread that cannot be asked how many it has.
fn a_fork_that_cannot_count_threads_believes_a_process_without_a_proc() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut without_proc(&program("fork_uncounted"))?);
    stdout_of(&mut program("fork_in_vain"));
    Ok(())
}

fn fork_uncounted() {
    seccompiler::apply_filter(&filter(&["unshare"], libc::EPERM)).unwrap();
    match reexec::fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(7)),
    }
}

fn fork_in_vain() {
    seccompiler::apply_filter(&filter(&["unshare", "openat"], libc::EACCES)).unwrap();
    let error = reexec::fork().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}

/// Where a row of descriptors cannot be closed at once, each is closed by itself.
fn a_copy_closes_what_its_reaper_holds_also_one_by_one() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("drop_a_reaper_in_a_copy"));
    Ok(())
}

fn drop_a_reaper_in_a_copy() {
    let mut reaper = Reaper::new().unwrap();
    let mut command = reexec::command("childProcess");
    reaper
        .add(command.stdin(Stdio::null()).spawn().unwrap(), ())
        .unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => assert!(copy.wait().unwrap().success()),
        Fork::Child => {
            seccompiler::apply_filter(&filter(&["close_range"], libc::ENOSYS)).unwrap();
            let before = descriptors().len();
            drop(reaper);
            assert_eq!(before - descriptors().len(), 3); // a pidfd, a lifeline, its own
            reexec::exit_now(0);
        }
    }
}

/// A number that somebody else has by now, who is no child of ours. Where pidfds are refused, that
/// number is all there is.
fn without_a_pidfd_a_number_that_is_anothers_is_not_signalled() -> Result<(), Skipped> {
    needs_filters()?;
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    needs(&[&namespace[..], &["true"]].concat())?;
    let program = program("signal_a_number_that_is_anothers");
    let mut unshare = process::Command::new(namespace[0]);
    unshare.args(&namespace[1..]).arg(program.get_program());
    let said = stdout_of(unshare.args(program.get_args()));
    assert!(said.ends_with("lives\nkilled\n"), "{said}");
    Ok(())
}

fn signal_a_number_that_is_anothers() {
    let child = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.stdin(Stdio::null()).spawn().unwrap()
    });
    // A process that will start another one, when it is told to.
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
    thread::sleep(LIFE / 4); // in which it would have come to its end
    println!(
        "{}",
        if is_gone(pid) || is_zombie(pid) {
            "killed"
        } else {
            "lives"
        }
    );
    // The number alone means the other.
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    shell.wait().unwrap();
    println!("{}", if is_gone(pid) { "killed" } else { "lives" });
}

/// It does not run its entry, as its parent takes it for a failure.
fn a_child_that_cannot_tell_says_why_on_stderr() -> Result<(), Skipped> {
    needs_filters()?;
    let (reader, writer) = io::pipe().unwrap();
    let error = refusing(&["sendto of a word"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.stderr(writer).spawn().unwrap_err()
    });
    assert!(
        error
            .to_string()
            .ends_with("printed the reason to its stderr"),
        "{error}"
    );
    let said = read_all(reader);
    assert!(
        said.starts_with("reexec: cannot report Ready to the parent: Operation not permitted"),
        "{said}"
    );
    Ok(())
}

/// Without a handle, the number of a copy that the kernel has reaped is not ours to look at.
fn a_copy_that_ended_unseen_is_no_failure() -> Result<(), Skipped> {
    // The first one is of the process itself, to see whether pidfds can be had.
    let late = "inject=pidfd_open:delay_enter=300000:when=2+2";
    interrupted(&["trace=pidfd_open", late], "fork_unseen").map(drop)
}

fn fork_unseen() {
    reexec::signal::ignore(libc::SIGCHLD).unwrap();
    match reexec::fork().unwrap() {
        Fork::Child => reexec::exit_now(7),
        Fork::Parent(copy) => {
            let error = copy.wait().unwrap_err();
            assert!(error.to_string().contains("SIGCHLD is ignored"), "{error}");
        }
    }
}

/// A process that forks has one thread. So each case has a process of its own, a copy of this one,
/// which looks at itself: none of these calls takes part in that.
fn refuse_when_forking() {
    for refused in OF_A_FORK {
        for errno in ERRORS {
            match reexec::fork().unwrap() {
                Fork::Parent(copy) => {
                    let case = case("fork", refused, errno);
                    assert!(copy.wait().unwrap().success(), "{case}");
                }
                Fork::Child => {
                    fork_under_a_filter(refused, errno);
                    reexec::exit_now(0);
                }
            }
        }
    }
}

fn fork_under_a_filter(refused: &str, errno: i32) {
    let case = case("fork", refused, errno);
    let before = descriptors();
    seccompiler::apply_filter(&filter(&[refused], errno)).unwrap();
    let fails = match (refused, errno) {
        ("pidfd_open", libc::EPERM | libc::ENOSYS) => false,
        ("clone" | "pidfd_open" | "pidfd_open of another", _) => true,
        _ => false,
    };
    let fork = || match reexec::fork() {
        Ok(Fork::Child) => reexec::exit_now(7),
        Ok(Fork::Parent(copy)) => Some(copy),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(errno), "{case}");
            None
        }
    };
    let (one, other) = (fork(), fork());
    assert_eq!(one.is_none(), fails, "{case}");
    if let Some(copy) = &one {
        assert_eq!(copy.wait().expect(&case).code(), Some(7), "{case}");
    }
    drop((one, other));
    assert_eq!(children(), [], "{case}");
    assert_eq!(descriptors(), before, "{case}");
}

// A name.

fn a_child_that_may_not_have_its_name_runs() -> Result<(), Skipped> {
    needs_filters()?;
    let name = |refused: &[&str]| {
        let child = refusing(refused, libc::EPERM, || {
            let mut command = reexec::command("childProcess");
            command.stdin(Stdio::piped()).stdout(Stdio::null());
            command.spawn().unwrap()
        });
        let name = stat(child.id()).unwrap().comm;
        assert!(child.wait().unwrap().success());
        name
    };
    assert_ne!(name(&["prctl"]), "childProcess");
    assert_eq!(name(&["unshare"]), "childProcess", "without that refusal");
    Ok(())
}

// Interruptions.

/// The calls that a signal can interrupt. Every second one is, so each is repeated once.
const INTERRUPTED: &str = "?poll,?ppoll,recvfrom,sendto,waitid,?epoll_wait,?epoll_pwait";

/// Runs the program, in which calls fail as strace is told. The lines about those that were
/// interrupted.
fn interrupted(inject: &[&str], name: &str) -> Result<Vec<String>, Skipped> {
    let mut options = vec!["strace", "-f", "-e", "signal=none"];
    options.extend(inject.iter().flat_map(|inject| ["-e", inject]));
    needs(&[&options[..], &["true"]].concat())?;
    let program = program(name);
    let mut strace = process::Command::new(options[0]);
    strace.args(&options[1..]).stdin(process::Stdio::null());
    strace.arg(program.get_program()).args(program.get_args());
    let output = strace.output().unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{trace}");
    let interrupted = trace.lines().filter(|line| line.contains("EINTR"));
    Ok(interrupted.map(str::to_owned).collect())
}

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
        let mut command = reexec::command("childProcess");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        (act.does)(command.spawn().unwrap()).expect(act.name);
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
    let mut command = reexec::command("childProcess");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
    drop(command.spawn().unwrap());
    assert_eq!(children(), []);
}

/// The twin: a call that is not repeated fails.
fn a_call_that_is_not_repeated_fails_by_a_signal() -> Result<(), Skipped> {
    let trace = format!("trace={INTERRUPTED}");
    let inject = format!("inject={INTERRUPTED}:error=EINTR:when=1+2");
    let lines = interrupted(&[&trace, &inject], "interrupt_what_is_not_repeated")?;
    assert!(!lines.is_empty());
    Ok(())
}

fn interrupt_what_is_not_repeated() {
    let mut command = reexec::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut end = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut end, PollTimeout::ZERO), Err(Errno::EINTR));
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    assert_eq!(waitid(Id::All, look), Err(Errno::EINTR));
}

// Children that may not be signalled.

/// The two ways to signal.
const SIGNALLING: &[&str] = &["pidfd_send_signal", "kill"];

/// Children to be signalled in vain.
struct Protected {
    killed: Child,
    stopped: Child,
    /// A zombie.
    ended: Child,
    dropped: Child,
    put_into_a_reaper: [Child; 2],
    /// Without the cure: it has no lifeline.
    outliving: Child,
}

/// Started while they could still be signalled.
fn protected() -> Protected {
    let start = || {
        let mut command = reexec::command("childProcess");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command
    };
    let child = || start().spawn().unwrap();
    Protected {
        killed: child(),
        stopped: child(),
        ended: {
            let child = child();
            drop(child.take_stdin());
            wait_until("a zombie", || is_zombie(child.id()));
            child
        },
        dropped: child(),
        put_into_a_reaper: [child(), child()],
        outliving: start().outlive_parent().spawn().unwrap(),
    }
}

/// They end all the same.
fn signal_in_vain(children: Protected, errno: i32) {
    let child = children.killed;
    assert_eq!(
        child.signal(libc::SIGUSR1).unwrap_err().raw_os_error(),
        Some(errno)
    );
    assert_eq!(child.kill().unwrap_err().raw_os_error(), Some(errno));
    let status = child.wait_timeout(LIMIT).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM), "of the lifeline");
    child.kill().unwrap(); // as after any end

    // A zombie takes signals, without effect.
    children.ended.signal(libc::SIGUSR1).unwrap();
    assert!(children.ended.wait().unwrap().success());

    // It has ended before it would be killed.
    let status = children.stopped.terminate(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));

    let pid = children.dropped.id();
    drop(children.dropped);
    wait_until("the dropped child is reaped", || is_gone(pid));

    let pids = children.put_into_a_reaper.each_ref().map(Child::id);
    let mut reaper = Reaper::new().unwrap();
    for child in children.put_into_a_reaper {
        reaper.add(child, ()).unwrap();
    }
    drop(reaper);
    wait_until("those in the reaper are reaped", || {
        pids.iter().all(|pid| is_gone(*pid))
    });

    let child = children.outliving;
    assert_eq!(child.kill().unwrap_err().raw_os_error(), Some(errno));
    let status = child.wait().unwrap(); // the end of its stdin
    assert!(status.success(), "nothing else has ended it: {status}");
}

/// A child that the signal of its lifeline does not end, and what ends it.
fn deaf_child() -> (Child, process::ChildStdin) {
    let mut command = reexec::command("deafChild");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "deaf\n");
    let stdin = child.take_stdin().unwrap();
    (child, stdin)
}

/// They go on when nobody has a handle any more; both take a second to be given up.
fn give_up_deaf_children([dropped, stopped]: [Child; 2], errno: i32) {
    let pids = [dropped.id(), stopped.id()];
    thread::scope(|scope| {
        scope.spawn(|| drop(dropped));
        let error = stopped.terminate(Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno));
        stopped.detach().unwrap();
    });
    for pid in pids {
        assert!(!is_gone(pid) && !is_zombie(pid), "{:?}", stat(pid));
    }
}

fn children_that_a_filter_protects_end_by_their_lifeline() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("lose_the_right_to_signal_by_a_filter"));
    Ok(())
}

fn lose_the_right_to_signal_by_a_filter() {
    let before = Before::now();
    for errno in [libc::EPERM, libc::ENOSYS] {
        let children = protected();
        refusing(SIGNALLING, errno, || signal_in_vain(children, errno));
        before.is_restored("children that may not be signalled");

        // One that has to be got rid of before there is a handle, and one that failed.
        for (also, errno_known) in [("pidfd_open of another", true), ("unshare", false)] {
            let refused = [SIGNALLING, &[also]].concat();
            let error = refusing(&refused, errno, || {
                reexec::command("noSuchEntry").spawn().unwrap_err()
            });
            assert_eq!(
                error.raw_os_error(),
                errno_known.then_some(errno),
                "{error:?}"
            );
            before.is_restored_later("a spawn that failed");
        }
    }
    let ((one, its_gate), (other, others_gate)) = (deaf_child(), deaf_child());
    let errno = libc::EPERM;
    refusing(SIGNALLING, errno, || {
        give_up_deaf_children([one, other], errno)
    });
    drop((its_gate, others_gate));
    before.is_restored_later("the late end of children that may not be signalled");
}

fn children_that_lost_privileges_protect_end_by_their_lifeline() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("lose_the_right_to_signal_with_the_privileges"));
    Ok(())
}

/// The children stay root's.
fn lose_the_right_to_signal_with_the_privileges() {
    let before = Before::now();
    let children = protected();
    let ((one, its_gate), (other, others_gate)) = (deaf_child(), deaf_child());
    become_user(NOBODY);
    signal_in_vain(children, libc::EPERM);
    give_up_deaf_children([one, other], libc::EPERM);
    drop((its_gate, others_gate));
    before.is_restored_later("the late end of children that may not be signalled");
}

// What a process asks to find out whether it is a child.

/// The questions, alone and together, and what a filter may answer to them. To the last, std itself
/// does not start with the other answers.
const QUESTIONS: [(&[&str], &[i32]); 6] = [
    (&["fcntl F_GETFD"], ANSWERS),
    (&["fcntl"], ANSWERS),
    (&["getsockopt"], ANSWERS),
    (&["recvfrom"], ANSWERS),
    (&["fcntl", "getsockopt", "recvfrom"], ANSWERS),
    (ALL_QUESTIONS, &[libc::EAGAIN]),
];

const ANSWERS: &[i32] = &[libc::EPERM, libc::ENOSYS, libc::EAGAIN];

const ALL_QUESTIONS: &[&str] = &["fcntl", "getsockopt", "recvfrom", "poll"];

/// How it ended, and what it said on stdout and stderr.
type Ended = (Option<i32>, String, String);

fn a_child_that_cannot_find_out_what_it_is_does_not_run_main() -> Result<(), Skipped> {
    needs_filters()?;
    // So many descriptors that the parent does not have to move any, which takes fcntl.
    let _room: Vec<_> = (0..16).map(|_| io::pipe().unwrap()).collect();
    for (refused, answers) in QUESTIONS {
        for errno in answers.iter().copied() {
            let case = case("child", &refused.join(" and "), errno);
            let (code, stdout, stderr) = refusing(refused, errno, child_that_would_say_ordinary);
            match refused {
                // The other questions are enough to know that it is one.
                ["fcntl F_GETFD"] | ["getsockopt"] => {
                    assert_eq!(stdout, "the entry\n", "{case}: {stderr}");
                    assert_eq!(code, Some(0), "{case}: {stderr}");
                }
                _ => {
                    assert_eq!(stdout, "", "{case}");
                    assert!(
                        stderr.contains("cannot find out whether this process is a child"),
                        "{case}: {stderr}"
                    );
                    assert_eq!(code, Some(reexec::EXIT_SETUP_FAILED.into()), "{case}");
                }
            }
        }
    }
    Ok(())
}

fn child_that_would_say_ordinary() -> Ended {
    let mut command = reexec::command("childProcess");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).env(PROBED, "");
    // What it reports could not be heard here.
    let child = command.spawn_unconfirmed().unwrap();
    drop(child.take_stdin());
    let stdout = read_all(child.take_stdout().unwrap());
    let stderr = read_all(child.take_stderr().unwrap());
    (child.wait().unwrap().code(), stdout, stderr)
}

fn an_ordinary_start_that_is_refused_a_question_is_one() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut support::program_after("exec 3<&-", "start_ordinarily"));
    let beside_another = "start_ordinarily_beside_another_descriptor";
    stdout_of(&mut support::program_after("exec 3</", beside_another));
    let beside_a_pipe = "start_ordinarily_beside_a_quiet_pipe";
    stdout_of(&mut support::program_after("exec 3>&1", beside_a_pipe));
    Ok(())
}

/// Number 3 is a pipe to write to: that there is nothing to read is what the last question tells.
fn start_ordinarily_beside_a_quiet_pipe() {
    let (refused, errno) = (["getsockopt", "recvfrom"], libc::EPERM);
    let (stdout, stderr, _) = outcome_of_ordinary_start(&refused, errno);
    assert_eq!(stdout, "ordinary\n", "{stderr}");
}

/// Number 3 is a directory, which each question that is left tells.
fn start_ordinarily_beside_another_descriptor() {
    for (refused, answers) in QUESTIONS.iter().filter(|(refused, _)| refused.len() == 1) {
        for errno in answers.iter().copied() {
            let (stdout, stderr, _) = outcome_of_ordinary_start(refused, errno);
            assert_eq!(stdout, "ordinary\n", "{refused:?}, {errno}: {stderr}");
        }
    }
}

/// What an ordinary start says on stdout and stderr, and how it ends.
fn outcome_of_ordinary_start(refused: &[&str], errno: i32) -> (String, String, ExitStatus) {
    let start = || {
        let mut command = process::Command::new(env::current_exe().unwrap());
        command.env(PROBED, "").stdin(process::Stdio::null());
        command
            .stdout(process::Stdio::piped())
            .stderr(process::Stdio::piped());
        command.spawn().unwrap()
    };
    let output = refusing(refused, errno, start).wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (stdout, stderr, output.status)
}

/// Whatever is opened here is close-on-exec. So number 3 is closed in what this starts.
fn start_ordinarily() {
    for (refused, answers) in QUESTIONS {
        for errno in answers.iter().copied() {
            let case = case("ordinary start", &refused.join(" and "), errno);
            let (stdout, stderr, status) = outcome_of_ordinary_start(refused, errno);
            if refused != ALL_QUESTIONS {
                assert_eq!(stdout, "ordinary\n", "{case}: {stderr}");
                assert!(status.success(), "{case}: {stderr}");
            } else {
                // It could be a child, so it must not go on.
                assert_eq!(stdout, "", "{case}");
                assert!(
                    stderr.contains("cannot find out whether this process is a child"),
                    "{case}: {stderr}"
                );
                assert_eq!(
                    status.code(),
                    Some(reexec::EXIT_SETUP_FAILED.into()),
                    "{case}"
                );
            }
        }
    }
}

// Without a pidfd, and with a descriptor that does not tell.

/// An entry that leaves a copy of itself, which holds what the entry holds, without exec.
fn leave_copy() {
    let (wait, go) = io::pipe().unwrap();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => {
            drop(go);
            read_all(wait); // it would be killed if we ended now
            println!("{}", copy.id());
            mem::forget(copy);
        }
        Fork::Child => {
            prctl::set_pdeathsig(None).unwrap();
            // Not the stream on which somebody collects output: that is another test's concern.
            dup2_stdout(io::stderr()).unwrap();
            drop(go);
            until_stdin_ends();
            reexec::exit_now(0);
        }
    }
}

/// The parent waits in each way, while the copies live until its stdin ends.
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
        assert!(
            !is_gone(*copy) && !is_zombie(*copy),
            "all waits ended before this"
        );
    }
    parent.close_stdin();
    assert!(parent.wait().success());
    for copy in copies {
        reap(copy);
    }
    Ok(())
}

/// The ways to wait; each starts a child and returns when it has ended.
const WAYS: [fn(); 6] = [
    || assert!(child_that_leaves_a_copy().wait().unwrap().success()),
    || {
        let child = child_that_leaves_a_copy();
        wait_until("the child is a zombie", || is_zombie(child.id()));
        // The twin: whoever waits for this alone waits for the copy, too.
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

/// Its pipe ends when it executes another program: from then on that says nothing.
fn to_wait_without_a_pidfd_takes_no_processor_time() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program(
        "refuse_pidfds_to_children_that_become_another_program",
    ));
    Ok(())
}

const LIFE: Duration = Duration::from_millis(400);

fn become_another_program() -> ExitCode {
    let mut sleep = process::Command::new("sleep");
    let error = sleep.arg(LIFE.as_secs_f64().to_string()).exec();
    panic!("{error}");
}

/// The ways to wait that watch a descriptor.
const WAYS_TO_WATCH: [fn(Child); 3] = [
    |child| assert!(child.wait_timeout(LIMIT).unwrap().is_some()),
    |child| {
        let pid = child.id();
        child.detach().unwrap();
        thread::sleep(LIFE / 4);
        assert!(!is_gone(pid), "it has been looked at, and goes on");
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

fn refuse_pidfds_to_children_that_become_another_program() {
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

/// The child's end is looked for without its descriptor, so it is known that a stream outlives it.
fn a_stream_that_is_held_is_noticed_without_a_pidfd() -> Result<(), Skipped> {
    needs_filters()?;
    let (stdin, gate) = io::pipe().unwrap();
    let error = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("leaveHolder");
        command.stdin(stdin).stream_grace(Duration::from_millis(50));
        command.output().unwrap_err()
    });
    assert!(matches!(error.cause, OutputCause::StreamHeld), "{error:?}");
    assert!(error.status.unwrap().success());
    drop(gate);
    let holder = String::from_utf8(error.stdout).unwrap();
    reap(holder.trim().parse().unwrap());
    Ok(())
}

/// The channel of the child does not end, and there is no pidfd either.
fn a_child_that_ends_early_is_noticed_without_a_pidfd() -> Result<(), Skipped> {
    needs_filters()?;
    let (stdin, gate) = io::pipe().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let error = refusing(&["pidfd_open"], libc::EPERM, || {
        let mut command = reexec::command("childProcess");
        command.env(LEAVES, "").stdin(stdin).stdout(writer);
        command.ready_timeout(LIMIT).spawn().unwrap_err()
    });
    let Stage::BeforeInit {
        status: Some(status),
    } = error.stage()
    else {
        panic!("{error:?}");
    };
    assert_eq!(status.code(), Some(3));
    drop(gate);
    reap(read_all(reader).trim().parse().unwrap());
    Ok(())
}

/// Leaves a process that holds its stdout until stdin ends.
fn leave_holder() {
    let mut shell = process::Command::new("sh");
    let holder = shell.args(["-c", "cat >/dev/null"]).spawn().unwrap();
    println!("{}", holder.id());
    mem::forget(holder);
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
