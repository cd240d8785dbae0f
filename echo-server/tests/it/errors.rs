//! What the kernel may answer to a system call, given by strace(1) in its place. None of it ends the
//! server, and the client that was there is served.

use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill, killpg};
use test_support::{Program, wait_until};

use crate::server::{BINARY, Model, Server};

models!(accept_fails_for_want_of_something);
fn accept_fails_for_want_of_something(model: Model) {
    let errors = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM"];
    for_each_error(&errors, |error| {
        let mut server = start(model, &format!("accept4:error={error}:when=1..2"));
        server.assert_serves();
        let line = server.event();
        assert!(line.starts_with("echo-server: cannot accept: "), "{line}");
        assert_eq!(server.event(), "echo-server: accepting again");
        assert_only_says_goodbye(server);
    });
}

models!(accept_fails_because_of_a_client);
/// Which is over with that, and not worth a line.
fn accept_fails_because_of_a_client(model: Model) {
    let errors = [
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "EINTR",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPROTO",
        "ETIMEDOUT",
    ];
    for_each_error(&errors, |error| {
        let server = start(model, &format!("accept4:error={error}:when=1..5"));
        server.assert_serves();
        assert_only_says_goodbye(server);
    });
}

models!(no_room_for_another_process);
/// For the worker that a client needs, or a pool. With `thread` then for the thread, too.
fn no_room_for_another_process(model: Model) {
    for_each_error(&["EAGAIN", "ENOMEM"], |error| {
        let calls = "clone,?clone3,?fork,?vfork";
        let mut server = start(model, &format!("{calls}:error={error}:when=1..2"));
        server.assert_serves();
        let expected: &[_] = match model.0 {
            "fork" | "reexec" => &["cannot start a worker: ", "accepting again"],
            "template" => &[
                "cannot start a worker: ", // the template
                "starting workers again",
                "cannot start a worker: ", // its copy
                "accepting again",
            ],
            "prefork" | "multiplex" => &["cannot start a worker: ", "starting workers again"],
            _ => &[
                "cannot start a worker: ",
                "starting workers again",
                "cannot start a thread: ",
                "accepting again",
            ],
        };
        // A worker that has been started may be faster than the server with its line about that.
        let lines: Vec<_> = expected.iter().map(|_| server.event()).collect();
        for part in expected {
            assert!(lines.iter().any(|line| line.contains(part)), "{lines:?}");
        }
        assert_only_says_goodbye(server);
    });
}

models!(no_room_to_watch_another_client, multiplex);
fn no_room_to_watch_another_client(model: Model) {
    for_each_error(&["ENOMEM", "ENOSPC"], |error| {
        // In the worker, the first two are for its orders and for the listener.
        let mut server = start(model, &format!("epoll_ctl:error={error}:when=3"));
        server.assert_serves();
        let line = server.event();
        assert!(line.contains("cannot watch another client: "), "{line}");
        assert_eq!(server.event(), "echo-server: accepting again");
        assert_only_says_goodbye(server);
    });
}

models!(no_room_to_watch_another_worker, fork, reexec, template);
/// It is killed then, and there is nobody else for its client.
fn no_room_to_watch_another_worker(model: Model) {
    for_each_error(&["ENOMEM", "ENOSPC"], |error| {
        // In a template, the first three are for its orders, the ends of copies, and the listener.
        let when = if model.0 == "template" { 4 } else { 1 };
        let mut server = start(model, &format!("epoll_ctl:error={error}:when={when}"));
        server.assert_disconnects();
        let line = server.event();
        let start = "echo-server: a client is disconnected, as its worker cannot be watched: ";
        assert!(line.starts_with(start), "{line}");
        server.assert_serves();
        assert_eq!(server.event(), "echo-server: accepting again");
        assert_only_says_goodbye(server);
    });
}

models!(a_worker_that_has_ended_before_it_is_booked);
fn a_worker_that_has_ended_before_it_is_booked(model: Model) {
    if !strace_works() {
        return;
    }
    // The server puts its workers into the table with this.
    let server = start(model, "epoll_ctl:delay_enter=100000");
    if model.has_pool() {
        kill(server.assert_workers(1)[0], Signal::SIGKILL).unwrap();
    }
    for _ in 0..2 {
        server.assert_serves();
    }
    server.assert_is_at_rest(model);
}

models!(ctrl_c_while_a_worker_is_being_made, fork, prefork, thread, multiplex);
/// It is still in the server's group then: strace holds it back there.
fn ctrl_c_while_a_worker_is_being_made(model: Model) {
    if !strace_works() {
        return;
    }
    let server = start(model, "setpgid:delay_enter=300000");
    let mut client = server.connect();
    // strace is in the group, too, and there before any worker.
    wait_until("a worker", || server.workers(), |workers| !workers.is_empty());
    killpg(server.program.pid(), Signal::SIGINT).unwrap();
    if model.has_pool() {
        // Nobody has taken the client, and nobody will.
        client.assert_is_cut_off();
    } else {
        client.assert_echo(b"not disturbed");
    }
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
}

/// The system's error does not say what it was about.
#[test]
fn a_start_that_fails_says_at_which_step() {
    const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");
    const FORK: &str = "clone,?clone3,?fork,?vfork";
    if !strace_works() {
        return;
    }
    let server = Server::start(&[]);
    let address = server.address.to_string();
    let model = "--model=prefork";
    let no_descriptor = "Too many open files (os error 24)";
    let no_process = "Resource temporarily unavailable (os error 11)";
    for (program, option, calls, code, reason) in [
        (
            BINARY,
            model,
            "socket:error=EMFILE",
            69,
            format!("echo-server: cannot listen on 127.0.0.1:0: {no_descriptor}"),
        ),
        (
            BINARY,
            model,
            "pipe2:error=EMFILE",
            69,
            format!(
                "echo-server: cannot make a pipe to a process that tries out the sandbox: \
                 {no_descriptor}"
            ),
        ),
        (
            BINARY,
            model,
            &format!("{FORK}:error=EAGAIN"),
            69,
            format!("echo-server: cannot make a process that tries out the sandbox: {no_process}"),
        ),
        (
            BINARY,
            model,
            "memfd_create:error=EMFILE",
            70,
            format!("echo-server: cannot make the scoreboard, in memory: {no_descriptor}"),
        ),
        (
            BINARY,
            model,
            "signalfd4:error=EMFILE",
            70,
            format!(
                "echo-server: cannot get ready for signals and the ends of workers: {no_descriptor}"
            ),
        ),
        (
            CLIENT,
            &address,
            &format!("{FORK}:error=EAGAIN"),
            70,
            format!("echo-client: cannot make a process that sends: {no_process}"),
        ),
    ] {
        let (traced, _) = calls.split_once(':').unwrap();
        let mut command = Command::new("strace");
        command.args(["-fqq", "-o", "/dev/null", "-e", &format!("trace={traced}")]).args([
            "-e",
            &format!("inject={calls}"),
            program,
            option,
        ]);
        if program == BINARY {
            command.arg("127.0.0.1:0");
        }
        let output = Program::start(&mut command).output();
        assert_eq!(output.code, code, "{output:?}");
        assert_eq!(output.stderr.last(), Some(&reason), "{output:?}");
    }
}

/// All of them at the same time.
fn for_each_error(errors: &[&str], check: impl Fn(&str) + Sync) {
    if strace_works() {
        thread::scope(|scope| {
            for error in errors {
                scope.spawn(|| check(error));
            }
        });
    }
}

pub(crate) fn strace_works() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-o", "/dev/null", "true"]);
    let code = Program::try_start(&mut probe).map(|probe| probe.exit_code());
    if !matches!(code, Ok(0)) {
        println!("skipped: strace does not work here: {code:?}");
    }
    matches!(code, Ok(0))
}

/// What starts a program so that this happens to it, and to its children; see "Tampering" in strace(1).
/// strace becomes the program's grandchild (-D), and the program is ours.
pub(crate) const fn tampering<'a>(trace: &'a str, inject: &'a str) -> [&'a str; 8] {
    ["strace", "-Dfqq", "-o", "/dev/null", "-e", trace, "-e", inject]
}

/// A server to which this happens, or to its workers.
fn start(model: Model, what: &str) -> Server {
    let (calls, _) = what.split_once(':').unwrap();
    let trace = format!("trace={calls}");
    let inject = format!("inject={what}");
    // The sandbox would be tried out in a process that counts as well.
    model.start_by(&tampering(&trace, &inject), &["--workers", "1", "--sandbox", "off"])
}

#[track_caller]
fn assert_only_says_goodbye(mut server: Server) {
    server.program.signal(Signal::SIGTERM);
    let lines = server.program.stderr.rest();
    assert_eq!(lines.len(), 1, "{lines:?}");
}
