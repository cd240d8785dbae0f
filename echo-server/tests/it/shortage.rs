//! No descriptor, or no process, left for another client: a state to get through, at rest.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use crate::processes::{Program, stat, until};
use crate::server::{BINARY, Client, Server, is_root};

#[test]
fn no_descriptor_to_accept_with() {
    let mut server = Server::start(&[]);
    let (mut first, _) = server.connect_and_see_worker();
    let (mut second, _) = server.connect_and_see_worker();

    let pid = server.program.pid();
    let limit = limit_of_descriptors(pid);
    set_limit_of_descriptors(pid, &first_free_descriptor(pid).to_string());
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.stream().write_all(b"patience").unwrap();
    }
    let line = server.event();
    assert!(
        line.starts_with("echo-server: cannot accept: Too many open files"),
        "{line}"
    );
    assert_rests(&server);
    first.assert_echo(b"not disturbed");
    second.assert_echo(b"not disturbed");

    set_limit_of_descriptors(pid, &limit);
    for client in &mut waiting {
        client.assert_reads(b"patience");
    }
    assert_eq!(server.event(), "echo-server: accepting again");
}

#[test]
fn no_descriptor_for_another_worker() {
    // What a launcher may have left open is closed, for the sake of the count.
    let server =
        Server::start_by_shell("exec 3<&- 4<&- 5<&- 6<&- 7<&-; ulimit -n 9; exec \"$0\" 0");
    assert_gets_through(server, "Too many open files");
}

#[test]
fn no_process_for_another_client() {
    if !is_root() {
        println!("skipped: only root can be a user that has no other processes");
        return;
    }
    // A user of this test's own: the limit counts all processes of a user.
    let user = 100_000 + std::process::id();
    match Program::try_start(
        Command::new(BINARY)
            .arg("--help")
            .uid(user)
            .stdout(Stdio::null()),
    ) {
        Ok(probe) => assert_eq!(probe.exit_code(), 0),
        Err(error) => {
            println!("skipped: user {user} cannot run {BINARY}: {error}");
            return;
        }
    }
    let mut command = Command::new("prlimit");
    command.args(["--nproc=3", BINARY, "0"]).uid(user);
    assert_gets_through(
        Server::run(&mut command),
        "Resource temporarily unavailable",
    );
}

/// The server has room for two workers or three, of which the first two stay undisturbed, and
/// serves again when they have left.
fn assert_gets_through(mut server: Server, reason: &str) {
    let (mut first, _) = server.connect_and_see_worker();
    let (mut second, _) = server.connect_and_see_worker();
    let mut waiting: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    let line = server.event();
    assert!(
        line.starts_with("echo-server: cannot start a worker"),
        "{line}"
    );
    assert!(line.contains(reason), "{line}");
    assert_rests(&server);
    // Without its pauses the server would have come to the last of them by now.
    waiting[7].assert_hears_nothing();
    first.assert_echo(b"not disturbed");
    second.assert_echo(b"not disturbed");

    drop((first, second, waiting));
    until("served", || session(&server), |served| *served);
    assert_eq!(server.event(), "echo-server: accepting again");
    server.assert_no_worker_is_left();
    assert!(stat(server.program.pid()).is_some());
}

#[test]
fn a_limit_below_what_is_open_disturbs_nobody() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.assert_echo(b"hello");
    }
    set_limit_of_descriptors(server.program.pid(), "4");
    let mut waiting = server.connect(); // something to do for the server
    for client in &mut clients {
        client.assert_echo(b"not disturbed");
    }
    waiting.stream().write_all(b"patience").unwrap();
    waiting.assert_hears_nothing();
    set_limit_of_descriptors(server.program.pid(), "1024");
    waiting.assert_reads(b"patience");
}

#[test]
fn a_client_without_room_waits_until_there_is() {
    let server =
        Server::start_by_shell("exec 3<&- 4<&- 5<&- 6<&- 7<&-; ulimit -n 9; exec \"$0\" 0");
    let (first, _) = server.connect_and_see_worker();
    let (_second, _) = server.connect_and_see_worker();
    let mut third = server.connect();
    third.stream().write_all(b"patience").unwrap();
    third.assert_hears_nothing();
    drop(first);
    third.assert_reads(b"patience");
}

fn session(server: &Server) -> bool {
    let received = server.connect().session(b"room?");
    received.is_ok_and(|received| received == b"room?")
}

/// The server uses hardly any processor time. Without its pauses it would use all of a second.
#[track_caller]
fn assert_rests(server: &Server) {
    let ticks = || stat(server.program.pid()).unwrap().ticks;
    let before = ticks();
    thread::sleep(Duration::from_secs(1));
    let used = ticks() - before;
    assert!(used <= 10, "{used} of 100 ticks");
}

/// Under such a limit the process can open nothing more, whereas what is open stays.
fn first_free_descriptor(pid: Pid) -> usize {
    let mut numbers = 0..;
    let free = numbers.find(|fd| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_err());
    free.unwrap()
}

fn limit_of_descriptors(pid: Pid) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    limit
        .unwrap()
        .split_ascii_whitespace()
        .next()
        .unwrap()
        .to_owned()
}

/// The soft limit of a running process.
fn set_limit_of_descriptors(pid: Pid, limit: &str) {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}:"));
    let output = Program::start(&mut command).output();
    assert_eq!(output.code, 0, "{output:?}");
}
