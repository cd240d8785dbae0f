//! What a command sets for its child before the entry runs.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{self, ExitCode};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, geteuid, getgroups, getpgid, getresgid, getresuid, getsid, setgroups, setresgid,
    setresuid,
};
use reexec::{Child, Command, Resource, Stage, Stdio};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use support::{
    NOBODY, Running, Skipped, assert_contains, assert_stage, children, descriptors, needs_root,
    program, reap, signaled, status_line, stdout_of, under, until_stdin_ends,
};

fn main() -> ExitCode {
    reexec::register("childProcess", until_stdin_ends);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run_in_programs(
        || Ok(()),
        support::programs![
            the_kernel_accepts_such_ids_and_changes_nothing,
            the_kernel_drops_bits_that_are_not_permissions,
        ],
        support::programs![
            parent_of_a_child_of_another_user,
            set_ids_where_nothing_is_done,
            spawn_with_every_setting
        ],
        support::trials![
            a_directory,
            a_file_creation_mask,
            limits,
            a_nice_value,
            a_process_group_new_or_existing,
            a_session_of_its_own,
            no_new_privileges,
            a_user_and_groups,
            groups_in_any_order_and_repeated,
            a_user_does_not_keep_the_groups_of_root,
            a_child_of_another_user_ends_with_its_parent,
            a_setting_made_twice_has_its_last_value,
            a_setting_that_fails_is_named,
            a_setting_that_needs_privileges_fails_without_them,
            a_session_and_a_process_group_exclude_each_other,
            ids_that_mean_no_change_to_the_kernel_are_refused,
            a_mask_of_more_than_permissions_is_refused,
            ids_that_were_not_really_set_are_an_error,
            no_setting_makes_the_spawn_copy_page_tables,
        ],
    )
}

/// A child of this command that lives until its handle is dropped.
fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).spawn().unwrap()
}

fn command() -> Command {
    support::command("childProcess")
}

fn status_of(child: &Child, name: &str) -> String {
    status_line(child.id(), name)
}

// Each setting.

fn a_directory() {
    let child = start(command().current_dir("/proc/sys"));
    let directory = fs::read_link(format!("/proc/{}/cwd", child.id())).unwrap();
    assert_eq!(directory, Path::new("/proc/sys"));
}

fn a_file_creation_mask() {
    let child = start(command().umask(0o135));
    assert_eq!(status_of(&child, "Umask"), "0135");
    assert_ne!(status_line("self", "Umask"), "0135");
}

fn limits() {
    let mut command = command();
    command.rlimit(Resource::OpenFiles, 50, 60);
    command.rlimit(Resource::CoreSize, 0, 0);
    let child = start(&mut command);
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut words = line.unwrap().split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    assert_eq!(limit("Max open files"), ("50".to_owned(), "60".to_owned()));
    assert_eq!(limit("Max core file size"), ("0".to_owned(), "0".to_owned()));
}

fn a_nice_value() {
    let nice_value = |process: &str| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        fields.clone().nth(16).unwrap().parse().unwrap()
    };
    let child = start(command().nice(3));
    let expected = nice_value("self") + 3;
    assert_eq!(nice_value(&child.id().to_string()), expected.min(19));
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn a_process_group_new_or_existing() {
    let leader = start(command().process_group(0));
    assert_eq!(getpgid(Some(pid_of(&leader))).unwrap(), pid_of(&leader));
    let second = start(command().process_group(leader.id() as i32));
    assert_eq!(getpgid(Some(pid_of(&second))).unwrap(), pid_of(&leader));
}

fn a_session_of_its_own() {
    let child = start(command().setsid());
    assert_eq!(getsid(Some(pid_of(&child))).unwrap(), pid_of(&child));
    assert_ne!(getsid(None).unwrap(), Pid::this());
}

fn no_new_privileges() {
    let child = start(command().no_new_privs());
    assert_eq!(status_of(&child, "NoNewPrivs"), "1");
    assert_eq!(status_line("self", "NoNewPrivs"), "0");
}

fn a_user_and_groups() -> Result<(), Skipped> {
    needs_root()?;
    let mut command = command();
    command.uid(NOBODY).gid(NOBODY).groups(&[7, 8]);
    let child = start(&mut command);
    // Real, effective, saved, and for the file system.
    assert_eq!(status_of(&child, "Uid"), "65534 65534 65534 65534");
    assert_eq!(status_of(&child, "Gid"), "65534 65534 65534 65534");
    assert_eq!(status_of(&child, "Groups"), "7 8");
    assert_eq!(status_of(&child, "CapEff"), "0000000000000000");
    Ok(())
}

/// The kernel sorts them, so the child does not read back the bytes that it has set.
fn groups_in_any_order_and_repeated() -> Result<(), Skipped> {
    needs_root()?;
    let child = start(command().groups(&[8, 7, 7]));
    assert_eq!(status_of(&child, "Groups"), "7 7 8");
    let child = start(command().uid(NOBODY).groups(&[7, 0, 8, 0]));
    assert_eq!(status_of(&child, "Groups"), "0 0 7 8");
    Ok(())
}

fn a_user_does_not_keep_the_groups_of_root() -> Result<(), Skipped> {
    needs_root()?;
    // A parent that has groups.
    let parent = program("parent_of_a_child_of_another_user");
    let mut parent = Running::start(&mut under(&["setpriv", "--groups=4,5"], &parent)?);
    let child = parent.pid();
    assert_eq!(status_line(parent.id(), "Groups"), "4 5");
    assert_eq!(status_line(child, "Groups"), "");
    assert_eq!(status_line(child, "Uid"), "65534 65534 65534 65534");
    // A child that stays root keeps root's groups.
    assert_eq!(status_line(parent.pid(), "Groups"), "4 5");
    parent.close_stdin();
    parent.wait();
    Ok(())
}

fn parent_of_a_child_of_another_user() {
    let child = command().uid(NOBODY).spawn().unwrap();
    println!("{}", child.id());
    let another = command().spawn().unwrap();
    println!("{}", another.id());
    until_stdin_ends();
    child.wait().unwrap(); // its stdin as well
    another.wait().unwrap();
}

fn a_child_of_another_user_ends_with_its_parent() -> Result<(), Skipped> {
    needs_root()?;
    let mut parent = Running::start(&mut program("parent_of_a_child_of_another_user"));
    let (child, another) = (parent.pid(), parent.pid());
    parent.kill();
    reap(another);
    assert_eq!(reap(child), signaled(child, Signal::SIGTERM));
    Ok(())
}

fn a_setting_made_twice_has_its_last_value() {
    let mut command = command();
    command.umask(0o111).umask(0o123);
    command.rlimit(Resource::OpenFiles, 1, 1);
    command.rlimit(Resource::OpenFiles, 50, 60);
    let child = start(&mut command);
    assert_eq!(status_of(&child, "Umask"), "0123");
}

// Failures.

/// Spawns with a setting that must fail. Returns the step and the error number.
fn failure_of(command: &mut Command) -> (String, i32) {
    let before = descriptors();
    let error = command.spawn().unwrap_err();
    assert_eq!(children(), []);
    assert_eq!(descriptors(), before);
    match error.stage() {
        Stage::SetUp { step, source } => (step.clone(), source.raw_os_error().unwrap()),
        _ => panic!("{error:?}"),
    }
}

fn a_setting_that_fails_is_named() {
    let (step, errno) = failure_of(command().current_dir("/no/such/directory"));
    assert_contains(&step, "/no/such/directory");
    assert_eq!(errno, libc::ENOENT);

    let (step, errno) = failure_of(command().rlimit(Resource::OpenFiles, 60, 50));
    assert_contains(&step, "OpenFiles to 60, at most 50");
    assert_eq!(errno, libc::EINVAL);

    // The name is shortened, because the child's report must fit into one packet.
    let long = OsString::from_vec(vec![0xff; 60_000]);
    let (step, errno) = failure_of(command().current_dir(long));
    assert!(step.starts_with("changing to the directory "), "{step}");
    assert!(step.len() < 1000, "{} bytes", step.len());
    assert_eq!(errno, libc::ENAMETOOLONG);
}

fn a_setting_that_needs_privileges_fails_without_them() {
    let mut command = command();
    if geteuid().is_root() {
        // The user is set before the directory is entered, which only root may enter.
        command.uid(NOBODY).current_dir("/proc/1/fd");
        let (step, errno) = failure_of(&mut command);
        assert_contains(&step, "/proc/1/fd");
        assert_eq!(errno, libc::EACCES);
    } else {
        let (step, errno) = failure_of(command.uid(NOBODY - 1));
        assert_contains(&step, "becoming user");
        assert_eq!(errno, libc::EPERM);
    }
}

fn a_session_and_a_process_group_exclude_each_other() {
    let error = command().setsid().process_group(0).spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
}

/// Spawns, which must fail because the command is invalid. Returns the reason.
fn refusal_of(command: &mut Command) -> String {
    let before = descriptors();
    let error = command.spawn().unwrap_err();
    assert_eq!(children(), []);
    assert_eq!(descriptors(), before);
    match error.stage() {
        Stage::Invalid(reason) => reason.clone(),
        _ => panic!("{error:?}"),
    }
}

/// (uid_t) -1 and (gid_t) -1, the result of a lookup that has failed.
const NO_CHANGE: u32 = u32::MAX;

fn ids_that_mean_no_change_to_the_kernel_are_refused() {
    let reason = refusal_of(command().uid(NO_CHANGE));
    assert_eq!(reason, "there is no user 4294967295");
    let reason = refusal_of(command().gid(NO_CHANGE));
    assert_eq!(reason, "there is no group 4294967295");
    let reason = refusal_of(command().groups(&[7, NO_CHANGE]));
    assert_eq!(reason, "there is no group 4294967295");
}

/// Control: a program that gives up root in this way is still root.
fn the_kernel_accepts_such_ids_and_changes_nothing() {
    let (user, group) = (Uid::from_raw(NO_CHANGE), Gid::from_raw(NO_CHANGE));
    let before = (getresuid().unwrap(), getresgid().unwrap());
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    assert_eq!((getresuid().unwrap(), getresgid().unwrap()), before);
    // Only setgroups fails with this group.
    let is_root = geteuid().is_root();
    let refused = if is_root { Errno::EINVAL } else { Errno::EPERM };
    assert_eq!(setgroups(&[group]), Err(refused));
}

fn a_mask_of_more_than_permissions_is_refused() {
    for mask in [0o1000, 0o4022, 0o7777, u32::MAX] {
        let reason = refusal_of(command().umask(mask));
        let named = format!("umask: {mask:#o} has bits that are not permissions");
        assert_eq!(reason, named);
    }
    let child = start(command().umask(0o777));
    assert_eq!(status_of(&child, "Umask"), "0777");
}

/// Control: such a mask was meant to clear set-user-id bits, and does not.
fn the_kernel_drops_bits_that_are_not_permissions() {
    umask(Mode::from_bits_retain(0o4022));
    assert_eq!(status_line("self", "Umask"), "0022");
}

/// A filter or a security module can skip a call and report success.
fn ids_that_were_not_really_set_are_an_error() -> Result<(), Skipped> {
    if let Err(error) = TargetArch::try_from(env::consts::ARCH) {
        return Err(Skipped::because(&error.to_string()));
    }
    stdout_of(&mut program("set_ids_where_nothing_is_done"));
    Ok(())
}

fn set_ids_where_nothing_is_done() {
    let calls = [libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_umask];
    let filter = SeccompFilter::new(
        BTreeMap::from(calls.map(|call| (call, Vec::new()))),
        SeccompAction::Allow,
        SeccompAction::Errno(0), // success, without doing it
        env::consts::ARCH.try_into().unwrap(),
    );
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    seccompiler::apply_filter(&filter).unwrap();

    // Control: a program that believes this keeps its ids.
    let ids = || (getresuid().unwrap(), getresgid().unwrap(), getgroups().unwrap());
    let before = ids();
    let (user, group) = (before.0.effective.as_raw(), before.1.effective.as_raw());
    let (other_user, other_group) = (Uid::from_raw(user + 1), Gid::from_raw(group + 1));
    setgroups(&[other_group]).unwrap();
    setresgid(other_group, other_group, other_group).unwrap();
    setresuid(other_user, other_user, other_user).unwrap();
    assert_eq!(ids(), before);

    let groups: Vec<_> = before.2.iter().map(|group| group.as_raw()).collect();
    let (step, errno) = failure_of(command().umask(0o077));
    assert_eq!((&*step, errno), ("setting the umask to 077", libc::EPERM));
    // With our own groups. Otherwise root would fail at these, which it sets along with a user.
    let failure = failure_of(command().groups(&groups).uid(user + 1));
    assert_eq!(failure, (format!("becoming user {}", user + 1), libc::EPERM));
    let failure = failure_of(command().gid(group + 1));
    assert_eq!(failure, (format!("becoming group {}", group + 1), libc::EPERM));
    let failure = failure_of(command().groups(&[group + 1]));
    let step = format!("setting the supplementary groups to [{}]", group + 1);
    assert_eq!(failure, (step, libc::EPERM));
    let eight: Vec<_> = (group + 1..=group + 8).collect();
    let failure = failure_of(command().groups(&eight));
    let step = format!("setting the supplementary groups to {eight:?}");
    assert_eq!(failure, (step, libc::EPERM));
    let many: Vec<_> = (0..16_000).collect();
    let failure = failure_of(command().groups(&many));
    let step = "setting 16000 supplementary groups".to_owned();
    assert_eq!(failure, (step, libc::EPERM));

    // The ids that we have can be set.
    start(command().groups(&groups).gid(group).uid(user));
}

// How it is done.

/// With std, each of these settings makes the spawn a fork; see `syscalls.rs`.
fn no_setting_makes_the_spawn_copy_page_tables() -> Result<(), Skipped> {
    let calls = "trace=?clone,?clone3,?fork,?vfork";
    let strace = ["strace", "-f", "-qq", "-e", "signal=none", "-e", calls];
    let mut strace = under(&strace, &program("spawn_with_every_setting"))?;
    // strace writes to stderr.
    let output = strace.stdin(process::Stdio::null()).output().unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{trace}");
    let made = trace.lines().filter(|line| line.contains("SIGCHLD"));
    let made: Vec<_> = made.collect();
    assert_eq!(made.len(), 1, "{trace}");
    assert!(made[0].contains("CLONE_VM") && made[0].contains("CLONE_VFORK"), "{trace}");
    Ok(())
}

fn spawn_with_every_setting() {
    let mut command = command();
    command.stdin(Stdio::null()).fd("pipe", io::pipe().unwrap().0);
    command.setsid().current_dir("/").umask(0o077).nice(1).no_new_privs();
    command.rlimit(Resource::CoreSize, 0, 0);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY).groups(&[]);
    }
    assert!(command.status().unwrap().success());
}
