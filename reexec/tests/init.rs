//! `init` tells an ordinary start from a child, whatever the start looks like, and stops a
//! program that would start itself for ever.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command, ExitCode, Output, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use reexec::Stage;
use support::{children, stdout_of};

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
            an_ordinary_start_goes_on_to_main,
            a_forged_name_does_not_make_a_child,
            forged_variables_do_not_make_a_child,
            what_happens_to_be_descriptor_3_does_not_make_a_child,
            an_error_in_a_socket_that_happens_to_be_descriptor_3_stays_there,
            a_child_whose_parent_has_gone_has_nobody_to_tell,
            what_happens_to_be_descriptor_3_does_not_disturb_children,
            init_is_for_once,
            names_that_cannot_work_are_refused,
            entries_are_not_accepted_after_init,
            a_link_of_its_name_runs_a_multicall_entry,
            a_link_of_its_name_does_not_run_an_ordinary_entry,
            a_process_that_has_not_called_init_cannot_spawn,
            an_entry_that_starts_itself_comes_to_a_limit,
        ],
    )
}

// Ordinary starts.

fn ordinary_start() {
    println!("an ordinary start");
}

fn an_ordinary_start_goes_on_to_main() {
    let output = stdout_of(&mut support::program("ordinary_start"));
    assert_eq!(output, "an ordinary start\n");
}

fn a_forged_name_does_not_make_a_child() {
    let mut program = support::program("ordinary_start");
    let output = stdout_of(program.arg0("childProcess"));
    assert_eq!(output, "an ordinary start\n");
}

fn forged_variables_do_not_make_a_child() {
    let mut program = support::program("ordinary_start");
    program
        .env("REEXEC", "childProcess")
        .env("_", "childProcess");
    assert_eq!(stdout_of(&mut program), "an ordinary start\n");
}

/// Starts a program with `fd` as its descriptor 3.
fn program_with_descriptor_3(name: &str, fd: OwnedFd) -> Command {
    let mut command = support::program_after("exec 3<&0 0</dev/null", name);
    command.stdin(fd);
    command
}

/// Both ends; what is sent on one comes out of the other message by message.
fn seqpacket() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

fn what_happens_to_be_descriptor_3_does_not_make_a_child() {
    // The real one is shorter by a byte.
    let nearly = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel.");
    let nearly = nearly.as_bytes();
    for message in [&b""[..], b"x", b"sixteen bytes...", &[0; 1000], nearly] {
        let (ours, theirs) = seqpacket();
        // Over a socket of this kind comes also the word to a child of ours; this is not it.
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

fn a_child_whose_parent_has_gone_has_nobody_to_tell() {
    let hello = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel");
    for (launch, said) in [
        (None, ""),
        (
            Some(b"x"),
            "reexec: cannot receive from the parent what to run: ",
        ),
    ] {
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
        assert_eq!(
            stderr.lines().count(),
            usize::from(launch.is_some()),
            "{stderr}"
        );
    }
}

/// Reading, if only to look, would take it away.
fn an_error_in_a_socket_that_happens_to_be_descriptor_3_stays_there() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    socket.send(b"x").unwrap(); // answered by an error, which waits in the socket
    let copy = socket.try_clone().unwrap();
    let mut program = program_with_descriptor_3("ordinary_start", copy.into());
    assert_eq!(program.output().unwrap().stdout, b"an ordinary start\n");
    let error = socket.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// An ordinary start with `theirs` leaves in it what was written to `ours`.
fn assert_untouched(ours: OwnedFd, theirs: OwnedFd, content: &str) {
    let mut program = program_with_descriptor_3("ordinary_start", theirs.try_clone().unwrap());
    assert_eq!(program.output().unwrap().stdout, b"an ordinary start\n");
    drop((ours, program));
    assert_eq!(support::read_all(theirs), content);
}

fn read_message(socket: OwnedFd) -> Vec<u8> {
    let mut message = vec![0; 2000];
    let length = File::from(socket).read(&mut message).unwrap();
    message.truncate(length);
    message
}

/// A listener at 3, as systemd passes it.
fn what_happens_to_be_descriptor_3_does_not_disturb_children() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let copy = listener.try_clone().unwrap();
    let mut program = program_with_descriptor_3("spawn_one", copy.into());
    assert_eq!(program.output().unwrap().stdout, b"the entry\n");

    client.write_all(b"still there").unwrap();
    drop(client);
    let (connection, _) = listener.accept().unwrap(); // nobody has accepted it before
    assert_eq!(support::read_all(connection), "still there");
}

fn spawn_one() {
    assert!(reexec::command("childProcess").status().unwrap().success());
}

fn init_is_for_once() {
    assert!(reexec::init().is_none(), "in a parent");
    assert!(reexec::command("callInitAgain").status().unwrap().success());
}

// Registering.

/// The program fails, saying what it has to say.
fn stderr_of_panic(name: &str) -> String {
    let output = support::program(name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(101));
    String::from_utf8(output.stderr).unwrap()
}

fn names_that_cannot_work_are_refused() {
    let output = stdout_of(&mut support::program("register_refused_names"));
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
    reexec::register("another", || ()); // still possible
}

fn entries_are_not_accepted_after_init() {
    let stderr = stderr_of_panic("register_after_init");
    assert!(stderr.contains("after init()"), "{stderr}");
}

fn register_after_init() {
    reexec::register("late", || ());
}

// Several commands in one program.

/// The program under another name, with these arguments; removed when it has run.
fn run_as(name: &str, arguments: &[&str]) -> Output {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("init-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    let link = directory.join(name);
    symlink(env::current_exe().unwrap(), &link).unwrap();
    let output = Command::new(&link).args(arguments).output();
    fs::remove_dir_all(&directory).unwrap();
    output.unwrap()
}

fn a_link_of_its_name_runs_a_multicall_entry() {
    let output = run_as("commandOfItsOwn", &["one", "two"]);
    assert_eq!(output.status.code(), Some(5));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.ends_with("commandOfItsOwn\", \"one\", \"two\"]\n"),
        "{printed}"
    );
    // It is an ordinary entry, too.
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
    let output = stdout_of(&mut support::program("spawn_before_init"));
    assert!(
        output.contains("reexec::init() has not been called"),
        "{output}"
    );
}

/// If this were possible: the child, which calls no `init` either, would come here as well.
fn spawn_before_init() {
    let error = reexec::command("childProcess").spawn().unwrap_err();
    assert!(matches!(error.stage(), Stage::InitNotCalled), "{error:?}");
    assert_eq!(children(), []);
    println!("{error}");
}

fn an_entry_that_starts_itself_comes_to_a_limit() {
    let output = reexec::command("spawnItself").output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = output.lines().collect();
    let (error, levels) = lines.split_last().unwrap();
    assert_eq!(levels.len(), 16);
    assert!(error.contains("already 16 re-executions deep"), "{error}");
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
