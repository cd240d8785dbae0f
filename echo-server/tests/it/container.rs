//! As process 1 of a container: signals without a handler are lost there, and all orphans are its.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{Program, assert_zombie, processes, stat, state, wait_until};

use crate::models::{command, in_every_model, served};
use crate::server::{Server, is_root, workers_of};

/// A server in a process namespace of its own.
struct Container {
    /// Whose program is unshare(1); its exit code is the server's.
    server: Server,
    /// The server.
    init: Pid,
}

/// What makes namespaces: root may, and perhaps others, as the root of one of users.
pub(crate) fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command
}

/// What becomes part of such a namespace.
fn nsenter(init: Pid) -> Command {
    let mut command = Command::new("nsenter");
    if !is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--pid", "--target", &init.to_string()]);
    command
}

pub(crate) fn containers_work() -> bool {
    let mut probe = unshare();
    probe.arg("true").stdout(Stdio::null()).stderr(Stdio::null());
    let work = Program::try_start(&mut probe).is_ok_and(|probe| probe.exit_code() == 0);
    if !work {
        println!("skipped: needs unshare(1), and the right to make namespaces");
    }
    work
}

/// For every model, if there can be containers here.
fn in_a_container(options: &[&str], test: impl Fn(Container, &str) + Sync) {
    if !containers_work() {
        return;
    }
    in_every_model(|model| {
        let server = command(model, options);
        let mut container = unshare();
        container.arg(server.get_program()).args(server.get_args());
        let server = Server::run(&mut container);
        let init = only_child(&server);
        test(Container { server, init }, model);
    });
}

/// The first process in the namespace.
#[track_caller]
fn only_child(server: &Server) -> Pid {
    wait_until("one child", || server.program.children(), |all| all.len() == 1)[0]
}

impl Container {
    fn signal(&self, signal: Signal) {
        kill(self.init, signal).unwrap();
    }

    /// Processes of others that have lost their parent.
    fn orphans(&self) -> Vec<Pid> {
        processes(|stat| stat.parent == self.init && stat.name == "sleep")
    }
}

#[test]
fn signals_end_it_as_elsewhere() {
    in_a_container(&["--drain-timeout", "0"], |mut container, _| {
        let mut session = served(&container.server);
        container.signal(Signal::SIGTERM);
        container.server.program.stderr.next_with("no new clients");
        session.assert_echo(b"still served");
        drop(session);
        assert_eq!(container.server.program.exit_code(), 0);
    });
    in_a_container(&[], |container, _| {
        container.signal(Signal::SIGINT);
        assert_eq!(container.server.program.exit_code(), 0);
    });
    in_a_container(&[], |container, _| {
        let mut session = served(&container.server);
        container.signal(Signal::SIGQUIT);
        assert_eq!(container.server.program.exit_code(), 1);
        session.assert_is_cut_off();
    });
}

#[test]
fn its_number_is_1() {
    in_a_container(&[], |mut container, model| {
        container.signal(Signal::SIGUSR2);
        let line = container.server.program.stderr.next_with("process 1");
        let reason = "process 1 cannot be replaced by another; restart the container";
        assert_eq!(line, format!("echo-server: {reason}"));
        container.server.assert_serves();
        let name = stat(container.init).unwrap().name;
        assert_eq!(name, "echo-server", "{model}");
    });
}

/// The new server would be adopted by process 1 of the container.
#[test]
fn a_parent_outside_would_lose_it() {
    in_a_container(&[], |container, model| {
        let start = |options: &[&str]| {
            let server = command(model, options);
            let mut inside = nsenter(container.init);
            inside.arg(server.get_program()).args(server.get_args());
            let server = Server::run(&mut inside);
            let pid = only_child(&server);
            (server, pid)
        };
        let (mut server, pid) = start(&[]);
        kill(pid, Signal::SIGUSR2).unwrap();
        let line = server.program.stderr.next_with("no upgrade: ");
        assert!(line.contains("our parent is outside this container"), "{line}");
        server.assert_serves();

        let (mut server, pid) = start(&["--upgrade-anyway"]);
        kill(pid, Signal::SIGUSR2).unwrap();
        server.program.stderr.next_with("has taken over");
        server.assert_serves();
    });
}

/// Process 1 that is no service manager may end the container with the process that it waits for.
#[test]
fn process_1_would_lose_it() {
    if !containers_work() {
        return;
    }
    in_every_model(|model| {
        let start = |options: &[&str]| {
            let server = command(model, options);
            let mut container = unshare();
            container.args(["sh", "-c", "\"$0\" \"$@\"; exit $?"]);
            container.arg(server.get_program()).args(server.get_args());
            container
        };
        let child = |server: &Server| {
            let init = only_child(server);
            wait_until("the server", || processes(|it| it.parent == init), |all| all.len() == 1)[0]
        };
        let mut server = Server::run(&mut start(&[]));
        kill(child(&server), Signal::SIGUSR2).unwrap();
        let line = server.program.stderr.next_with("no upgrade: ");
        assert!(line.contains("our parent, process 1 (sh)"), "{line}");
        server.assert_serves();

        // A manager is told of the new process, whatever its name.
        let mut told = start(&[]);
        let mut server = Server::run(told.env("NOTIFY_SOCKET", "/nonexistent/notify"));
        let _session = served(&server);
        kill(child(&server), Signal::SIGUSR2).unwrap();
        server.program.stderr.next_with("has taken over");
        server.assert_serves();
    });
}

/// The sandbox is looked at in /proc, which may be missing, or be that of other processes.
#[test]
fn proc_is_not_its_own() {
    if !is_root() || !Program::try_start(unshare().arg("true")).is_ok_and(|it| it.exit_code() == 0)
    {
        println!("skipped: needs root, and the right to make namespaces");
        return;
    }
    for (script, sandbox) in [
        ("exec unshare --pid --fork --kill-child \"$0\" \"$@\"", "try"),
        ("mount -t tmpfs none /proc && exec \"$0\" \"$@\"", "try"),
        ("mount -t tmpfs none /proc && exec \"$0\" \"$@\"", "require"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, crate::server::BINARY]);
        command.args(["0", "--sandbox", sandbox]);
        let mut server = Server::run(&mut command);
        let line = server.program.stderr.next();
        let start = "echo-server: sandbox: cannot look up in /proc what a worker has: ";
        assert!(line.starts_with(start), "{script}: {line}");
        assert!(server.connect().session(b"served").unwrap() == b"served");
    }
}

#[test]
fn orphans_of_others_are_reaped() {
    const ORPHANS: usize = 20;
    in_a_container(&["--workers", "1"], |mut container, _| {
        let mut session = served(&container.server);
        let script = format!("for i in $(seq {ORPHANS}); do sleep 1000 & done");
        let mut shell = nsenter(container.init);
        shell.args(["sh", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
        // Kept, or they would be killed with its process group.
        let shell = Program::try_start(&mut shell).unwrap();
        assert_eq!(shell.exit_code(), 0);
        let adopted = |orphans: &Vec<Pid>| orphans.len() == ORPHANS;
        let orphans = wait_until("orphans", || container.orphans(), adopted);

        // While the server cannot reap, the same look shows zombies.
        container.signal(Signal::SIGSTOP);
        for orphan in &orphans {
            kill(*orphan, Signal::SIGKILL).unwrap();
            assert_zombie(*orphan);
        }
        container.signal(Signal::SIGCONT);
        let left = || orphans.iter().filter(|orphan| state(**orphan).is_some());
        wait_until("none is left", || left().collect::<Vec<_>>(), Vec::is_empty);

        // Nor are they taken for workers.
        container.signal(Signal::SIGUSR1);
        let line = container.server.program.stderr.next();
        let line = match line.contains(": sandbox: ") {
            true => container.server.program.stderr.next(),
            false => line,
        };
        assert!(line.ends_with("1 accepted, 0 refused, 0 reaped, 0 killed by signal"), "{line}");
        session.assert_echo(b"not disturbed");
        drop(session);
        container.signal(Signal::SIGTERM);
        assert_eq!(container.server.program.exit_code(), 0);
    });
}

/// Workers are reaped as well, by the same process.
#[test]
fn a_worker_that_is_killed_is_replaced() {
    in_a_container(&["--workers", "1"], |mut container, _| {
        let mut session = served(&container.server);
        let workers = workers_of(container.init);
        assert_eq!(workers.len(), 1);
        kill(workers[0], Signal::SIGKILL).unwrap();
        session.assert_is_cut_off();
        let line = container.server.program.stderr.next_with("failed");
        assert!(line.ends_with("signal: 9 (SIGKILL)"), "{line}");
        assert_eq!(state(workers[0]), None);
        container.server.assert_serves();
    });
}
