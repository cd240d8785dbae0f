//! System calls of a spawn, which strace(1) traces or delays.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reexec::{Fork, Stage};
use support::filters::{needs_filters, refuse};
use support::{
    LIMIT, Skipped, assert_contains, assert_stage, children, descriptors, is_gone, piped, program,
    read_all, under, until_stdin_ends,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("becomeAnother", || {
        let script = "sleep 1.2; head -c 200000 /dev/zero"; // longer than a stream may be held
        let error = Command::new("sh").args(["-c", script]).exec();
        panic!("{error}");
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            spawn_plainly,
            spawn_with_everything,
            spawn_by_the_standard_library_as_a_user,
            live_without_pidfds,
            spawn_an_unknown_entry,
            fork_with_a_full_table,
            fork_with_a_full_table_by_libc,
        ],
        support::trials![
            a_spawn_copies_no_page_tables,
            a_spawn_with_everything_set_copies_no_page_tables,
            std_copies_page_tables_if_a_user_is_set,
            everything_works_without_pidfds,
            a_child_asked_for_an_unknown_entry_exits_with_127,
            a_copy_does_not_run_without_room_for_its_handle,
        ],
    )
}

/// Runs a program under strace, and returns the trace. The program must succeed.
fn trace(options: &[&str], name: &str) -> Result<String, Skipped> {
    let strace = [&["strace", "-f"], options].concat();
    let mut strace = under(&strace, &program(name))?;
    let output = strace.stdin(Stdio::null()).output().unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{trace}");
    Ok(trace)
}

/// The calls that made new processes, as opposed to threads.
fn process_creations(name: &str) -> Result<Vec<String>, Skipped> {
    // A question mark: where there is such a call.
    let calls = "trace=?clone,?clone3,?fork,?vfork";
    let trace = trace(&["-qq", "-e", "signal=none", "-e", calls], name)?;
    let made = trace.lines().filter(|line| {
        !line.contains("resumed") && !line.contains("CLONE_THREAD") && line.contains('(')
    });
    Ok(made.map(str::to_owned).collect())
}

/// One process, whose parent lent it its memory until it had executed the program.
fn assert_one_vfork(calls: &[String]) {
    assert_eq!(calls.len(), 1, "{calls:?}");
    let flags = ["CLONE_VM", "CLONE_VFORK"];
    assert!(flags.iter().all(|flag| calls[0].contains(flag)), "{calls:?}");
}

fn a_spawn_copies_no_page_tables() -> Result<(), Skipped> {
    assert_one_vfork(&process_creations("spawn_plainly")?);
    Ok(())
}

fn spawn_plainly() {
    assert!(reexec::command("childProcess").status().unwrap().success());
}

fn a_spawn_with_everything_set_copies_no_page_tables() -> Result<(), Skipped> {
    assert_one_vfork(&process_creations("spawn_with_everything")?);
    Ok(())
}

fn spawn_with_everything() {
    let mut command = reexec::command("childProcess");
    command.args(["one", "two"]);
    command.env_clear().env("PATH", "/nowhere").env_remove("HOME");
    command.stdin(reexec::Stdio::piped()).stdout(reexec::Stdio::piped());
    command.stderr(reexec::Stdio::null());
    for name in ["a", "b", "c"] {
        command.fd(name, io::pipe().unwrap().0);
    }
    command.parent_death_signal(libc::SIGKILL);
    assert!(command.status().unwrap().success());
}

/// The fault that this test would see.
fn std_copies_page_tables_if_a_user_is_set() -> Result<(), Skipped> {
    let calls = process_creations("spawn_by_the_standard_library_as_a_user")?;
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(!calls[0].contains("CLONE_VM"), "{calls:?}");
    Ok(())
}

fn spawn_by_the_standard_library_as_a_user() {
    let user = fs::metadata("/proc/self").unwrap().uid(); // the one we are
    assert!(Command::new("true").uid(user).status().unwrap().success());
}

/// An old kernel, or a container, refuses the call.
fn everything_works_without_pidfds() -> Result<(), Skipped> {
    for error in ["ENOSYS", "EPERM"] {
        let refusal = format!("inject=pidfd_open:error={error}");
        let options = ["-e", "trace=pidfd_open", "-e", &refusal];
        let trace = trace(&options, "live_without_pidfds")?;
        assert!(trace.contains(error), "{trace}");
    }
    Ok(())
}

fn live_without_pidfds() {
    let before = descriptors();
    let start = || piped("childProcess").spawn().unwrap();
    let child = start();
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
    drop(child.take_stdin());
    let mut end = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut end, PollTimeout::NONE).unwrap(), 1);
    assert!(child.wait().unwrap().success());
    assert!(is_gone(child.id()));
    drop(child);

    let child = start();
    child.signal(libc::SIGTERM).unwrap();
    let status = child.wait_timeout(LIMIT).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    child.signal(libc::SIGTERM).unwrap(); // no process gets it
    drop(child);

    // When it executes another program, it seems to have ended, but has not.
    let output = reexec::command("becomeAnother").output().unwrap();
    assert_eq!(output.stdout.len(), 200_000);

    drop(start());
    reexec::command("noSuchEntry").spawn().unwrap_err();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => assert!(copy.wait().unwrap().success()),
        Fork::Child => return,
    }
    assert_eq!(children(), []);
    assert_eq!(descriptors(), before);
}

/// Usually the parent kills it before that. strace delays the parent.
fn a_child_asked_for_an_unknown_entry_exits_with_127() -> Result<(), Skipped> {
    let delay = "inject=pidfd_send_signal:delay_enter=500000";
    let calls = "trace=pidfd_send_signal";
    let trace = trace(&["-e", calls, "-e", delay], "spawn_an_unknown_entry")?;
    assert_contains(&trace, "exited with 127");
    Ok(())
}

fn spawn_an_unknown_entry() {
    let error = reexec::command("noSuchEntry").spawn().unwrap_err();
    assert_stage!(error, Stage::UnknownEntry);
}

/// Without the cure the parent would kill it early. strace delays the parent, which opens a pidfd only
/// after a fork by libc.
fn a_copy_does_not_run_without_room_for_its_handle() -> Result<(), Skipped> {
    needs_filters()?;
    let delay = "inject=pidfd_open:delay_enter=300000";
    let options = ["-e", "trace=pidfd_open,clone,clone3", "-e", delay];
    for (program, call) in
        [("fork_with_a_full_table", "clone3("), ("fork_with_a_full_table_by_libc", "pidfd_open(")]
    {
        let trace = trace(&options, program)?;
        let refused = trace.lines().filter(|line| line.contains("EMFILE"));
        assert!(
            refused.clone().count() == 1 && refused.clone().all(|line| line.contains(call)),
            "{trace}"
        );
    }
    Ok(())
}

fn fork_with_a_full_table_by_libc() {
    refuse(&["clone3"], libc::ENOSYS);
    fork_with_a_full_table();
}

fn fork_with_a_full_table() {
    let (ours, mut copys) = io::pipe().unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, most).unwrap();
    let mut all = Vec::new();
    while let Ok(another) = ours.try_clone() {
        all.push(another);
    }
    match reexec::fork() {
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
        Ok(Fork::Child) => {
            copys.write_all(b"it runs").unwrap();
            reexec::exit_now(0);
        }
        Ok(Fork::Parent(_)) => panic!("there was room"),
    }
    drop((all, copys));
    assert_eq!(read_all(ours), "");
}
