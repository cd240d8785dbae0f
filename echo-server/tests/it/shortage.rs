//! No descriptor, or no process, left for another client: a state to get through, at rest.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use test_support::{Program, assert_sleeps, stat};

use crate::server::{BINARY, Client, Model, Server, is_root};

models!(no_descriptor_to_accept_with);
fn no_descriptor_to_accept_with(model: Model) {
    let mut server = model.start(&["--workers", "3"]);
    let (mut first, _) = server.connect_and_see_worker();
    let (mut second, _) = server.connect_and_see_worker();
    let (third, worker) = server.connect_and_see_worker();
    drop(third);
    server.assert_connections(2);
    let pid = model.acceptors(&server, vec![worker])[0];
    let limit = limit_of_descriptors(pid);
    set_limit_of_descriptors(pid, &first_free_descriptor(pid).to_string());
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.stream().write_all(b"patience").unwrap();
    }
    let line = server.event();
    assert!(line.starts_with("echo-server: cannot accept: Too many open files"), "{line}");
    assert_rest(&[pid]);
    first.assert_echo(b"not disturbed");
    second.assert_echo(b"not disturbed");

    set_limit_of_descriptors(pid, &limit);
    for mut client in waiting {
        client.assert_reads(b"patience");
    }
    assert_eq!(server.event(), "echo-server: accepting again");
}

models!(a_limit_below_what_is_open_disturbs_nobody);
fn a_limit_below_what_is_open_disturbs_nobody(model: Model) {
    let server = model.start(&["--workers", "6"]);
    let mut clients = server.connect_many(6);
    drop(clients.pop());
    let acceptors = model.acceptors(&server, server.workers());
    let limits: Vec<_> = acceptors.iter().map(|pid| limit_of_descriptors(*pid)).collect();
    for pid in &acceptors {
        set_limit_of_descriptors(*pid, "4");
    }
    let mut waiting = server.connect(); // something to do for the server
    for client in &mut clients {
        client.assert_echo(b"not disturbed");
    }
    waiting.stream().write_all(b"patience").unwrap();
    waiting.assert_hears_nothing();
    for (pid, limit) in acceptors.iter().zip(limits) {
        set_limit_of_descriptors(*pid, &limit);
    }
    waiting.assert_reads(b"patience");
}

models!(one_client_is_served_with_the_documented_limit_of_descriptors);
/// "Limits" in OPERATING.md has these figures.
fn one_client_is_served_with_the_documented_limit_of_descriptors(model: Model) {
    let limit = match model.0 {
        "fork" => 10,
        "prefork" | "thread" | "multiplex" => 11,
        "template" => 13,
        _ => 14,
    };
    let limit = format!("--nofile={limit}:");
    let mut server = model.start_by(&["prlimit", &limit], &["--workers", "1"]);
    server.assert_serves();
    server.program.signal(Signal::SIGTERM);
    let lines = server.program.stderr.rest();
    assert!(!lines.iter().any(|line| line.contains("cannot")), "{lines:?}");
}

models!(no_descriptor_for_another_worker, fork, reexec);
fn no_descriptor_for_another_worker(model: Model) {
    let server = model.start(&[]);
    let served = server.connect_many(5);
    let pid = server.program.pid();
    // For one more connection, and not for what a worker takes beside it, unless there are gaps.
    let limit = open_descriptors(pid).max().unwrap() + 2;
    set_limit_of_descriptors(pid, &limit.to_string());
    assert_gets_through(server, served, "worker", "Too many open files");
}

models!(a_client_that_waits_counts_when_it_is_cut_off, fork, reexec);
/// It has been accepted, and what it has sent will be answered by nobody.
fn a_client_that_waits_counts_when_it_is_cut_off(model: Model) {
    let mut server = model.start(&[]);
    let pid = server.program.pid();
    let limit = open_descriptors(pid).max().unwrap() + 2;
    set_limit_of_descriptors(pid, &limit.to_string());
    let mut waiting = server.connect();
    waiting.stream().write_all(b"patience").unwrap();
    server.program.stderr.next_with("cannot start a worker");
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("1 session left to finish");
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("1 session cut off");
    assert_eq!(server.program.exit_code(), 1);
}

models!(no_process_for_another_client, fork, reexec, thread);
fn no_process_for_another_client(model: Model) {
    // A thread counts, too.
    let (limit, what) = match model.0 {
        "thread" => (4, "thread"),
        _ => (3, "worker"),
    };
    if let Some((server, _)) = start_with_few_processes(model, limit, &[]) {
        let served = server.connect_many(2);
        assert_gets_through(server, served, what, "Resource temporarily unavailable");
    }
}

models!(a_pool_is_filled_as_soon_as_it_can_be, prefork);
fn a_pool_is_filled_as_soon_as_it_can_be(model: Model) {
    let Some((mut server, user)) = start_with_few_processes(model, 3, &["--workers", "4"]) else {
        return;
    };
    let line = server.event();
    assert!(
        line.starts_with("echo-server: cannot start a worker: Resource temporarily unavailable"),
        "{line}"
    );
    assert_rest(&[server.program.pid()]);
    let clients = server.connect_many(2);
    assert_eq!(server.workers().len(), 2);
    let mut prlimit = prlimit(server.program.pid(), "--nproc=9:");
    assert_eq!(Program::start(prlimit.uid(user)).exit_code(), 0);
    drop(server.connect_many(2));
    drop(clients);
    server.assert_workers(4);
}

/// As a user that may have so many processes, and has no other: only root can do that.
fn start_with_few_processes(model: Model, limit: u32, options: &[&str]) -> Option<(Server, u32)> {
    static USERS: AtomicU32 = AtomicU32::new(0);
    if !is_root() {
        println!("skipped: only root can be a user that has no other processes");
        return None;
    }
    let user = 100_000 + 100 * std::process::id() + USERS.fetch_add(1, Ordering::Relaxed);
    let mut probe = Command::new(BINARY);
    match Program::try_start(probe.arg("--help").uid(user).stdout(Stdio::null())) {
        Ok(probe) => assert_eq!(probe.exit_code(), 0),
        Err(error) => {
            println!("skipped: user {user} cannot run {BINARY}: {error}");
            return None;
        }
    }
    let limit = format!("--nproc={limit}:");
    let mut command = model.command(&["prlimit", &limit], options);
    Some((Server::run(command.uid(user)), user))
}

/// Those who are served stay undisturbed, and when they leave, those who wait are served.
fn assert_gets_through(mut server: Server, mut served: Vec<Client>, what: &str, reason: &str) {
    let mut waiting: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.stream().write_all(b"patience").unwrap();
    }
    let line = server.event();
    let start = format!("echo-server: cannot start a {what}: ");
    assert!(line.starts_with(&start), "{line}");
    assert!(line.contains(reason), "{line}");
    assert_rest(&[server.workers(), vec![server.program.pid()]].concat());
    // Without its pauses the server would have come to the last of them by now.
    waiting[7].assert_hears_nothing();
    for client in &mut served {
        client.assert_echo(b"not disturbed");
    }

    drop(served);
    for mut client in waiting {
        client.assert_reads(b"patience");
    }
    assert_eq!(server.event(), "echo-server: accepting again");
}

/// These processes use hardly any processor time. Without its pauses a server would use all of it.
#[track_caller]
pub(crate) fn assert_rest(processes: &[Pid]) {
    let ticks = || {
        let ticks = processes.iter().map(|pid| stat(*pid).unwrap().ticks);
        ticks.sum::<u64>()
    };
    let before = ticks();
    thread::sleep(Duration::from_millis(500));
    let used = ticks() - before;
    assert!(used <= 5, "{used} of 50 ticks");
}

/// Under such a limit the process can open nothing more, whereas what is open stays.
fn first_free_descriptor(pid: Pid) -> usize {
    let open: Vec<_> = open_descriptors(pid).collect();
    (0..).find(|fd| !open.contains(fd)).unwrap()
}

/// Of a process that has come to rest: otherwise it is about to close something.
fn open_descriptors(pid: Pid) -> impl Iterator<Item = usize> {
    assert_sleeps(pid);
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
}

fn limit_of_descriptors(pid: Pid) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    limit.unwrap().split_ascii_whitespace().next().unwrap().to_owned()
}

/// The soft limit of a running process.
#[track_caller]
fn set_limit_of_descriptors(pid: Pid, limit: &str) {
    let mut command = prlimit(pid, &format!("--nofile={limit}:"));
    let output = Program::start(&mut command).output();
    assert_eq!(output.code, 0, "{output:?}");
}

fn prlimit(pid: Pid, limit: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(limit);
    command
}
