//! Process groups: signals to all members, and the kill of what a child leaves behind.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use reexec::{Child, Command, Fork, ForkOptions, Reaper, Stage};
use support::filters::{needs_filters, refuse, refusing};
use support::{
    LIMIT, NOBODY, Skipped, assert_contains, assert_stage, become_user, is_gone, is_zombie,
    needs_root, piped, program, reap, signaled, stat, stdout_of, under, until_stdin_ends,
    wait_until,
};

fn main() -> ExitCode {
    reexec::register("leader", || lead(|sleep| sleep));
    reexec::register("leaderOfLeavers", || lead(|sleep| sleep.process_group(0)));
    reexec::register("storm", storm);
    reexec::register("childProcess", until_stdin_ends);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            signal_the_group_of_a_copy,
            reap_all_children,
            drop_a_copy_of_the_handle,
            ignore_the_ends_of_children,
            signal_a_reused_number,
            drop_the_leader_as_another_user,
        ],
        support::trials![
            a_signal_to_the_group_reaches_every_member,
            a_signal_to_the_child_reaches_no_other_member,
            a_forked_copy_can_lead_a_group,
            a_child_that_leads_no_group_is_refused,
            a_group_is_signalled_after_its_leader_was_reaped,
            a_group_with_a_reused_number_is_not_signalled,
            a_session_that_is_not_yet_made_is_an_error,
            a_group_is_killed_with_its_leader_whatever_reaps_it,
            a_group_lives_on_without_the_option_whatever_reaps_its_leader,
            a_group_is_killed_whatever_a_filter_refuses,
            a_session_is_killed_with_its_leader,
            a_reaper_of_all_children_kills_the_group_first,
            a_copy_of_the_parent_kills_no_group,
            a_group_is_killed_if_the_kernel_reaps_its_leader,
            a_storm_of_forks_is_killed_with_its_leader,
            a_storm_of_forks_outlives_its_leader_without_the_option,
            a_process_that_leaves_the_group_escapes,
            a_process_of_another_user_escapes,
            only_a_group_of_its_own_is_killed_with_the_child,
        ],
    )
}

/// An entry that starts two other members of its group, and prints their numbers.
fn lead(change: fn(&mut process::Command) -> &mut process::Command) {
    for _ in 0..2 {
        let mut sleep = process::Command::new("sleep");
        // Without our streams: a test waits for their ends.
        let sleep = sleep.arg("1000").stdout(process::Stdio::null()).stderr(process::Stdio::null());
        print!("{} ", change(sleep).spawn().unwrap().id());
    }
    println!();
    until_stdin_ends();
}

/// The leader of a group, and the other members.
struct Group {
    leader: Child,
    members: Vec<u32>,
}

impl Group {
    fn start(command: &mut Command) -> Group {
        let leader = command.spawn().unwrap();
        let line = support::first_line(&leader);
        let members = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        Group { leader, members }
    }

    /// Starts a group that lives on without its leader.
    fn plain() -> Group {
        Group::start(piped("leader").process_group(0))
    }

    /// Starts a group that is killed with its leader.
    fn killed() -> Group {
        Group::start(piped("leader").kill_group_with_child())
    }
}

/// Fails unless this signal ends these processes, which we have adopted or will adopt.
fn assert_ended_by(signal: Signal, members: &[u32]) {
    for member in members {
        assert_eq!(reap(*member), signaled(*member, signal));
    }
}

/// Fails unless these processes live. Then ends them.
fn assert_live(members: &[u32]) {
    thread::sleep(Duration::from_millis(20)); // in which a signal would end them
    let is_dead = |pid: &&u32| is_gone(**pid) || is_zombie(**pid);
    let dead: Vec<_> = members.iter().filter(is_dead).collect();
    for member in members {
        kill(Pid::from_raw(*member as i32), Signal::SIGKILL).unwrap();
    }
    assert!(dead.is_empty(), "{dead:?} of {members:?}");
    assert_ended_by(Signal::SIGKILL, members);
}

/// A signal that reaches a group by its pidfd.
const BY_PIDFD: &str = "pidfd_send_signal to a group";

/// Whether the kernel signals groups by pidfds: Linux 6.9 and later.
fn signals_groups_by_pidfd() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>());
    let mut next = || numbers.next().unwrap().unwrap();
    (next(), next()) >= (6, 9)
}

fn needs_groups_by_pidfd() -> Result<(), Skipped> {
    match signals_groups_by_pidfd() {
        true => Ok(()),
        false => Err(Skipped::because("Linux is older than 6.9")),
    }
}

// Signals to a group.

fn a_signal_to_the_group_reaches_every_member() {
    for command in [piped("leader").process_group(0), piped("leader").setsid()] {
        let group = Group::start(command);
        group.leader.signal_group(libc::SIGTERM).unwrap();
        assert_eq!(group.leader.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert_ended_by(Signal::SIGTERM, &group.members);
    }
}

/// Control.
fn a_signal_to_the_child_reaches_no_other_member() {
    let group = Group::plain();
    group.leader.signal(libc::SIGTERM).unwrap();
    assert_eq!(group.leader.wait().unwrap().signal(), Some(libc::SIGTERM));
    assert_live(&group.members);
}

fn a_forked_copy_can_lead_a_group() {
    assert_eq!(stdout_of(&mut program("signal_the_group_of_a_copy")), "both ended\n");
}

fn signal_the_group_of_a_copy() {
    prctl::set_child_subreaper(true).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    match ForkOptions::new().new_process_group().fork().unwrap() {
        Fork::Child => {
            let mut sleep = process::Command::new("sleep");
            let sleep = sleep.arg("1000").stdout(process::Stdio::null()).spawn().unwrap();
            io::Write::write_all(&mut &writer, format!("{}\n", sleep.id()).as_bytes()).unwrap();
            drop(writer);
            mem::forget(sleep); // this process must not reap it
            loop {
                thread::park();
            }
        }
        Fork::Parent(copy) => {
            drop(writer);
            let member: u32 = support::read_all(reader).trim().parse().unwrap();
            copy.signal_group(libc::SIGTERM).unwrap();
            assert_eq!(copy.wait().unwrap().signal(), Some(libc::SIGTERM));
            assert_ended_by(Signal::SIGTERM, &[member]);
            println!("both ended");
        }
    }
}

/// A signal to the group of the child would end this process.
fn a_child_that_leads_no_group_is_refused() {
    let other = Group::plain();
    let other_id = other.leader.id() as i32;
    for command in [&mut piped("childProcess"), piped("childProcess").process_group(other_id)] {
        let child = command.spawn().unwrap();
        let error = child.signal_group(libc::SIGTERM).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_contains(&error, "leads no process group");
        assert!(child.try_wait().unwrap().is_none());
    }
    assert_eq!(other.leader.signal_group(-1).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    other.leader.kill().unwrap();
    other.leader.wait().unwrap();
    assert_live(&other.members);
}

fn a_group_is_signalled_after_its_leader_was_reaped() -> Result<(), Skipped> {
    needs_filters()?;
    let group = Group::plain();
    group.leader.wait().unwrap();
    // On an older kernel, or if a filter refuses the flag, it is too late.
    for errno in [libc::EINVAL, libc::ENOSYS] {
        let signal = || group.leader.signal_group(libc::SIGTERM);
        let error = refusing(&[BY_PIDFD], errno, signal).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_contains(&error, "has been reaped");
    }
    let signal = || group.leader.signal_group(libc::SIGTERM);
    let refused = refusing(&[BY_PIDFD], libc::EPERM, signal).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    if let Err(skipped) = needs_groups_by_pidfd() {
        assert_live(&group.members);
        return Err(skipped);
    }
    group.leader.signal_group(libc::SIGTERM).unwrap();
    assert_ended_by(Signal::SIGTERM, &group.members);
    // No member is left.
    group.leader.signal_group(libc::SIGTERM).unwrap();
    Ok(())
}

/// Another process, which leads another group, has got the number of the child.
fn a_group_with_a_reused_number_is_not_signalled() -> Result<(), Skipped> {
    needs_filters()?;
    needs_groups_by_pidfd()?;
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let said = stdout_of(&mut under(&namespace, &program("signal_a_reused_number"))?);
    assert_eq!(said, "lives\nkilled\n");
    Ok(())
}

fn signal_a_reused_number() {
    let child = piped("childProcess").process_group(0).spawn().unwrap();
    child.wait().unwrap();
    let id = child.id();
    fs::write("/proc/sys/kernel/ns_last_pid", (id - 1).to_string()).unwrap();
    let mut stranger = process::Command::new("sleep");
    let mut stranger = stranger.arg("1000").process_group(0).spawn().unwrap();
    assert_eq!(stranger.id(), id, "the number was not reused");

    child.signal_group(libc::SIGKILL).unwrap();
    let refused = refusing(&[BY_PIDFD], libc::EINVAL, || child.signal_group(libc::SIGKILL));
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
    thread::sleep(Duration::from_millis(50)); // in which a signal would end it
    println!("{}", if is_zombie(id) { "killed" } else { "lives" });
    // Control: a signal by the number alone reaches it.
    killpg(Pid::from_raw(id as i32), Signal::SIGKILL).unwrap();
    stranger.wait().unwrap();
    println!("{}", if is_gone(id) { "killed" } else { "lives" });
}

fn a_session_that_is_not_yet_made_is_an_error() {
    // The child is stopped before it reads what to do.
    let child = piped("childProcess").setsid().spawn_unconfirmed().unwrap();
    child.signal(libc::SIGSTOP).unwrap();
    wait_until("it is stopped", || stat(child.id()).unwrap().state == 'T');
    let is_leader = stat(child.id()).unwrap().group == child.id();
    let signalled = child.signal_group(libc::SIGKILL);
    match is_leader {
        true => signalled.unwrap(),
        false => assert_eq!(signalled.unwrap_err().raw_os_error(), Some(libc::ESRCH)),
    }
}

// The kill of a group with its leader.

/// The ways in which a leader is reaped. Each returns when it has been.
const WAYS: [fn(Child); 11] = [
    drop,
    |leader| assert!(leader.wait().unwrap().success()),
    |leader| {
        leader.kill().unwrap();
        leader.wait().unwrap();
    },
    |leader| {
        drop(leader.take_stdin());
        assert!(leader.wait_timeout(LIMIT).unwrap().is_some());
    },
    |leader| {
        drop(leader.take_stdin());
        // Without a pause, so that it ends at any moment of the call.
        while leader.try_wait().unwrap().is_none() {}
    },
    |leader| {
        leader.terminate(LIMIT).unwrap();
    },
    |leader| assert!(leader.wait_with_output().unwrap().status.success()),
    |leader| {
        let id = leader.id();
        leader.detach().unwrap();
        wait_until("the detached leader is reaped", || is_gone(id));
    },
    |leader| {
        drop(leader.take_stdin());
        let mut reaper = Reaper::new().unwrap();
        reaper.add(leader, ()).unwrap();
        assert_eq!(reaper.wait(None).unwrap().len(), 1);
    },
    |leader| Reaper::new().unwrap().add(leader, ()).unwrap(),
    |leader| {
        let unwinding = thread::spawn(move || {
            let _dropped = leader;
            std::panic::resume_unwind(Box::new("expected"));
        });
        unwinding.join().unwrap_err();
    },
];

fn a_group_is_killed_with_its_leader_whatever_reaps_it() {
    for way in WAYS {
        let group = Group::killed();
        way(group.leader);
        assert_ended_by(Signal::SIGKILL, &group.members);
    }
    let mut command = piped("leader");
    command.stdin(reexec::Stdio::null()).kill_group_with_child();
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let members: Vec<u32> = output.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_ended_by(Signal::SIGKILL, &members);
}

/// Control.
fn a_group_lives_on_without_the_option_whatever_reaps_its_leader() {
    for way in WAYS {
        let group = Group::plain();
        way(group.leader);
        assert_live(&group.members);
    }
}

fn a_group_is_killed_whatever_a_filter_refuses() -> Result<(), Skipped> {
    needs_filters()?;
    let filters: [(&[&str], i32); 6] = [
        (&["pidfd_open"], libc::EPERM),
        (&[BY_PIDFD], libc::EINVAL), // as before Linux 6.9
        (&[BY_PIDFD], libc::EPERM),
        (&["pidfd_open", BY_PIDFD], libc::ENOSYS),
        (&["waitid P_PIDFD"], libc::EINVAL),
        (&["waitid"], libc::EPERM),
    ];
    for (refused, errno) in filters {
        for way in WAYS {
            let members = refusing(refused, errno, || {
                let group = Group::killed();
                way(group.leader);
                group.members
            });
            assert_ended_by(Signal::SIGKILL, &members);
        }
    }
    // Nothing tells whether the leader has ended, but a drop need not know.
    let members = refusing(&["pidfd_open", "waitid"], libc::EPERM, || Group::killed().members);
    assert_ended_by(Signal::SIGKILL, &members);
    Ok(())
}

fn a_session_is_killed_with_its_leader() {
    for way in WAYS {
        let group = Group::start(piped("leader").setsid().kill_group_with_child());
        way(group.leader);
        assert_ended_by(Signal::SIGKILL, &group.members);
    }
}

fn a_reaper_of_all_children_kills_the_group_first() -> Result<(), Skipped> {
    needs_filters()?;
    assert_eq!(stdout_of(&mut program("reap_all_children")), "all ended\n");
    Ok(())
}

/// Also without the flag: then the group must be killed before the leader is reaped.
fn reap_all_children() {
    let mut reaper = Reaper::for_all_children().unwrap();
    for round in 0..2 {
        if round == 1 {
            refuse(&[BY_PIDFD], libc::EINVAL);
        }
        let Group { leader, members } = Group::killed();
        drop(leader.take_stdin());
        // Then the reaper's wait for any child finds it, before its pidfd is watched.
        wait_until("the leader has ended", || is_zombie(leader.id()));
        reaper.add(leader, "leader").unwrap();
        let mut ends = Vec::new();
        while ends.len() < 3 {
            let more = reaper.wait(Some(LIMIT)).unwrap();
            assert!(!more.is_empty(), "a member lives: {ends:?} of {members:?}");
            ends.extend(more);
        }
        for end in ends {
            let status = end.status.unwrap();
            match end.token {
                Some("leader") => assert!(status.success()),
                _ => assert!(members.contains(&end.id) && status.signal() == Some(libc::SIGKILL)),
            }
        }
    }
    println!("all ended");
}

fn a_copy_of_the_parent_kills_no_group() {
    assert_eq!(stdout_of(&mut program("drop_a_copy_of_the_handle")), "refused\nlive\n");
}

fn drop_a_copy_of_the_handle() {
    prctl::set_child_subreaper(true).unwrap();
    let Group { leader, members } = Group::killed();
    match reexec::fork().unwrap() {
        Fork::Child => {
            let error = leader.signal_group(libc::SIGKILL).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            println!("refused");
            drop(leader.take_stdin());
            leader.try_wait().unwrap_err();
            drop(leader);
            reexec::exit_now(0);
        }
        Fork::Parent(copy) => {
            assert!(copy.wait().unwrap().success());
            thread::sleep(Duration::from_millis(20)); // in which a signal would end them
            let live = members.iter().all(|pid| stat(*pid).unwrap().state == 'S');
            println!("{}", if live { "live" } else { "dead" });
            // Control: the same in the parent.
            drop(leader);
            assert_ended_by(Signal::SIGKILL, &members);
        }
    }
}

fn a_group_is_killed_if_the_kernel_reaps_its_leader() -> Result<(), Skipped> {
    needs_groups_by_pidfd()?;
    assert_eq!(stdout_of(&mut program("ignore_the_ends_of_children")), "lost\n");
    Ok(())
}

fn ignore_the_ends_of_children() {
    prctl::set_child_subreaper(true).unwrap();
    reexec::signal::ignore(libc::SIGCHLD).unwrap();
    let Group { leader, members } = Group::killed();
    assert_contains(&leader.wait().unwrap_err(), "status is lost");
    println!("lost");
    wait_until("the members have ended", || members.iter().all(|pid| is_gone(*pid)));
}

// A group that never stops forking.

/// An entry that starts processes again and again. Eight of them are chains, in which each process
/// starts the next one and ends.
fn storm() {
    let script = "chain() { chain & }
        for i in 1 2 3 4 5 6 7 8; do chain & done
        echo storm
        while :; do sleep 1000 & done";
    let error = process::Command::new("sh").args(["-c", script]).exec();
    panic!("{error}");
}

fn start_storm(command: &mut Command) -> Child {
    let storm = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(storm.take_stdout().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "storm\n");
    storm
}

/// Returns whether the group has members. Reaps those that have ended.
fn has_members(group: u32) -> bool {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG))
        && status != WaitStatus::StillAlive
    {}
    let is_member = |pid: &u32| stat(*pid).is_some_and(|stat| stat.group == group);
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .any(|pid| is_member(&pid))
}

fn a_storm_of_forks_is_killed_with_its_leader() {
    for round in 0..20 {
        let storm = start_storm(piped("storm").kill_group_with_child());
        let group = storm.id();
        thread::sleep(Duration::from_millis(round));
        drop(storm);
        wait_until("nothing is left of the storm", || !has_members(group));
    }
}

/// Control.
fn a_storm_of_forks_outlives_its_leader_without_the_option() {
    let storm = start_storm(piped("storm").process_group(0));
    let group = storm.id();
    drop(storm);
    assert!(has_members(group));
    // As long as it has members, no other group gets its number.
    killpg(Pid::from_raw(group as i32), Signal::SIGKILL).unwrap();
    wait_until("nothing is left of the storm", || !has_members(group));
}

// What escapes.

fn a_process_that_leaves_the_group_escapes() {
    let group = Group::start(piped("leaderOfLeavers").kill_group_with_child());
    drop(group.leader);
    assert_live(&group.members);
}

fn a_process_of_another_user_escapes() -> Result<(), Skipped> {
    needs_root()?;
    let said = stdout_of(&mut program("drop_the_leader_as_another_user"));
    let members: Vec<u32> = said.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_live(&members);
    Ok(())
}

/// The members are root's. The leader ends by its lifeline.
fn drop_the_leader_as_another_user() {
    let Group { leader, members } = Group::killed();
    become_user(NOBODY);
    drop(leader);
    println!("{} {}", members[0], members[1]);
}

fn only_a_group_of_its_own_is_killed_with_the_child() {
    let mut command = reexec::command("childProcess");
    let error = command.process_group(7).kill_group_with_child().spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
    assert_contains(&error, "process_group(7)");
    let child = piped("childProcess").process_group(0).kill_group_with_child().spawn().unwrap();
    assert_eq!(stat(child.id()).unwrap().group, child.id());
}
