//! `init` tells an ordinary start from a child. Spawns that would never end are refused.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Output, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use reexec::Stage;
use support::{Scratch, assert_contains, assert_stage, children, program, read_all, stdout_of};

fn main() -> ExitCode {
    let before = support::programs![register_refused_names, spawn_before_init];
    if let Some(code) = support::run_program(before) {
        return code;
    }
    reexec::register("childProcess", || println!("the entry"));
    reexec::register("spawnItself", spawn_itself);
    reexec::register_multicall("commandOfItsOwn", || {
        println!("{:?}", env::args().collect::<Vec<_>>());
        ExitCode::from(5)
    });
    reexec::register("callInitAgain", || assert!(reexec::init().is_none()));
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![ordinary_start, spawn_one, register_after_init],
        support::trials![
            an_ordinary_start_runs_main,
            a_forged_name_does_not_make_a_child,
            forged_variables_do_not_make_a_child,
            an_unrelated_descriptor_3_does_not_make_a_child,
            an_error_in_an_unrelated_socket_3_stays_there,
            a_child_without_a_launch_exits_with_125,
            an_unrelated_descriptor_3_does_not_disturb_children,
            a_second_init_does_nothing,
            impossible_names_are_refused,
            entries_are_refused_after_init,
            a_link_of_its_name_runs_a_multicall_entry,
            a_link_of_its_name_does_not_run_an_ordinary_entry,
            a_process_that_has_not_called_init_cannot_spawn,
            an_entry_that_spawns_itself_reaches_a_limit,
        ],
    )
}

// Ordinary starts.

fn ordinary_start() {
    println!("an ordinary start");
}

fn an_ordinary_start_runs_main() {
    let output = stdout_of(&mut program("ordinary_start"));
    assert_eq!(output, "an ordinary start\n");
}

fn a_forged_name_does_not_make_a_child() {
    let mut program = program("ordinary_start");
    let output = stdout_of(program.arg0("childProcess"));
    assert_eq!(output, "an ordinary start\n");
}

fn forged_variables_do_not_make_a_child() {
    let mut program = program("ordinary_start");
    program.env("REEXEC", "childProcess").env("_", "childProcess");
    assert_eq!(stdout_of(&mut program), "an ordinary start\n");
}

/// Starts a program with `fd` as its descriptor 3.
fn program_with_descriptor_3(name: &str, fd: OwnedFd) -> Command {
    let mut command = support::program_after("exec 3<&0 0</dev/null", name);
    command.stdin(fd);
    command
}

/// Makes a pair of sequenced-packet sockets.
fn seqpacket() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

fn an_unrelated_descriptor_3_does_not_make_a_child() {
    // The real hello is shorter by a byte.
    let nearly = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel.");
    let nearly = nearly.as_bytes();
    for message in [&b""[..], b"x", b"sixteen bytes...", &[0; 1000], nearly] {
        let (ours, theirs) = seqpacket();
        // The control channel is a socket of this kind, but has another hello.
        nix::unistd::write(&ours, message).unwrap();
        let mut program = program_with_descriptor_3("ordinary_start", theirs.try_clone().unwrap());
        assert_eq!(program.output().unwrap().stdout, b"an ordinary start\n");
        drop((ours, program));
        assert_eq!(read_message(theirs), message, "nothing was read from it");
    }

    let (ours, theirs) = UnixStream::pair().unwrap();
    (&ours).write_all(b"bytes").unwrap();
    assert_untouched(ours.into(), theirs.into(), "bytes");

    let (theirs, ours) = io::pipe().unwrap();
    (&ours).write_all(b"bytes").unwrap();
    assert_untouched(ours.into(), theirs.into(), "bytes");
}

fn a_child_without_a_launch_exits_with_125() {
    let hello = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel");
    let error = "reexec: cannot receive from the parent what to run: ";
    for (launch, said) in [(None, ""), (Some(b"x"), error)] {
        let (ours, theirs) = seqpacket();
        nix::unistd::write(&ours, hello.as_bytes()).unwrap();
        if let Some(launch) = launch {
            nix::unistd::write(&ours, launch).unwrap();
        }
        drop(ours);
        let mut program = program_with_descriptor_3("ordinary_start", theirs);
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(reexec::EXIT_SETUP_FAILED.into()));
        assert_eq!(output.stdout, b"");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(said), "{stderr}");
        let lines = usize::from(launch.is_some());
        assert_eq!(stderr.lines().count(), lines, "{stderr}");
    }
}

/// A read, even a peek, would clear it.
fn an_error_in_an_unrelated_socket_3_stays_there() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    socket.send(b"x").unwrap(); // makes an error that waits in the socket
    let copy = socket.try_clone().unwrap();
    let mut program = program_with_descriptor_3("ordinary_start", copy.into());
    assert_eq!(program.output().unwrap().stdout, b"an ordinary start\n");
    let error = socket.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Checks that an ordinary start reads nothing from descriptor 3.
fn assert_untouched(ours: OwnedFd, theirs: OwnedFd, content: &str) {
    let mut program = program_with_descriptor_3("ordinary_start", theirs.try_clone().unwrap());
    assert_eq!(program.output().unwrap().stdout, b"an ordinary start\n");
    drop((ours, program));
    assert_eq!(read_all(theirs), content);
}

fn read_message(socket: OwnedFd) -> Vec<u8> {
    let mut message = vec![0; 2000];
    let length = File::from(socket).read(&mut message).unwrap();
    message.truncate(length);
    message
}

/// systemd passes a listener as descriptor 3.
fn an_unrelated_descriptor_3_does_not_disturb_children() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let copy = listener.try_clone().unwrap();
    let mut program = program_with_descriptor_3("spawn_one", copy.into());
    assert_eq!(program.output().unwrap().stdout, b"the entry\n");

    client.write_all(b"still there").unwrap();
    drop(client);
    let (connection, _) = listener.accept().unwrap(); // it was not accepted before
    assert_eq!(read_all(connection), "still there");
}

fn spawn_one() {
    assert!(reexec::command("childProcess").status().unwrap().success());
}

fn a_second_init_does_nothing() {
    assert!(reexec::init().is_none(), "in a parent");
    assert!(reexec::command("callInitAgain").status().unwrap().success());
}

// Registering.

/// Runs a program that must panic, and returns its stderr.
fn stderr_of_panic(name: &str) -> String {
    let output = program(name).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    String::from_utf8(output.stderr).unwrap()
}

fn impossible_names_are_refused() {
    let output = stdout_of(&mut program("register_refused_names"));
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(
        lines,
        [
            "the name of an entry must not be empty",
            r#"the name of an entry must not contain '/' or NUL: "a/b""#,
            r#"the name of an entry must not contain '/' or NUL: "a\0b""#,
            r#"an entry named "twice" is registered already"#,
        ]
    );
}

fn register_refused_names() {
    let refused = |name: &'static str| {
        let result = std::panic::catch_unwind(|| reexec::register(name, || ()));
        let payload = result.unwrap_err();
        match payload.downcast::<String>() {
            Ok(message) => println!("{message}"),
            Err(payload) => println!("{}", payload.downcast_ref::<&str>().unwrap()),
        }
    };
    refused("");
    refused("a/b");
    refused("a\0b");
    reexec::register("twice", || ());
    refused("twice");
    reexec::register("another", || ()); // the list still works
}

fn entries_are_refused_after_init() {
    let stderr = stderr_of_panic("register_after_init");
    assert_contains(&stderr, "after init()");
}

fn register_after_init() {
    reexec::register("late", || ());
}

// Several commands in one program.

/// Runs this program by a link of this name.
fn run_as(name: &str, arguments: &[&str]) -> Output {
    let scratch = Scratch::new();
    let link = scratch.0.join(name);
    symlink(env::current_exe().unwrap(), &link).unwrap();
    Command::new(link).args(arguments).output().unwrap()
}

fn a_link_of_its_name_runs_a_multicall_entry() {
    let output = run_as("commandOfItsOwn", &["one", "two"]);
    assert_eq!(output.status.code(), Some(5));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.ends_with("commandOfItsOwn\", \"one\", \"two\"]\n"), "{printed}");
    // A command can run it, too.
    let child = reexec::command("commandOfItsOwn").output().unwrap();
    assert_eq!(child.stdout, b"[\"commandOfItsOwn\"]\n");
    assert_eq!(child.status.code(), Some(5));
}

fn a_link_of_its_name_does_not_run_an_ordinary_entry() {
    let output = run_as("childProcess", &["as", "ordinary_start"]);
    assert_eq!(output.stdout, b"an ordinary start\n");
}

// Loops.

fn a_process_that_has_not_called_init_cannot_spawn() {
    let output = stdout_of(&mut program("spawn_before_init"));
    assert_contains(&output, "reexec::init() has not been called");
}

/// If this worked, the child, which does not call `init` either, would spawn another one here.
fn spawn_before_init() {
    let error = reexec::command("childProcess").spawn().unwrap_err();
    assert_stage!(error, Stage::InitNotCalled);
    assert_eq!(children(), []);
    println!("{error}");
}

fn an_entry_that_spawns_itself_reaches_a_limit() {
    let output = reexec::command("spawnItself").output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    let (error, levels) = lines.split_last().unwrap();
    assert_eq!(levels.len(), 16);
    assert_contains(&error, "already 16 re-executions deep");
}

fn spawn_itself() {
    println!("{}", env::args().next().unwrap());
    match reexec::command("spawnItself").status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            assert!(matches!(error.stage(), Stage::TooDeep { limit: 16 }));
            println!("{error}");
        }
    }
}
