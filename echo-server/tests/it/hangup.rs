//! SIGHUP: of a terminal that goes, of somebody who takes the server for one that reloads
//! something, and under nohup.

use std::fs::{self, File};
use std::iter;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{Program, number, processes, state, wait_until};

use crate::server::{Client, Model, Server, signals};
use crate::upgrade::Successor;

/// A server in a session of its own.
struct Detached {
    /// Its program is `setsid`, which waits for the server and exits with its code.
    server: Server,
    pid: Pid,
}

/// Whatever is ignored where the tests run.
const ORDINARY: [&str; 2] = ["env", "--default-signal=HUP"];
/// The same from a shell, which goes on when the server has ended.
const FROM_A_SHELL: [&str; 5] = ["env", "--default-signal=HUP", "sh", "-c", "\"$0\" \"$@\"; cat"];
const NOHUP: [&str; 1] = ["nohup"];

/// Ends those who wait for it, also when the test fails.
struct Started<'a>(&'a AtomicBool);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Detached {
    /// Without a terminal.
    #[track_caller]
    fn start(model: Model, launcher: &[&str]) -> Self {
        Self::run(model, &["setsid", "--wait"], launcher, Stdio::null())
    }

    /// On a terminal, which goes when the returned end of it is closed.
    #[track_caller]
    fn start_on_a_terminal(model: Model, launcher: &[&str]) -> (Self, PtyMaster) {
        // Close-on-exec from the start, unlike those of openpty(3): tests start programs all the time.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(ptsname_r(&master).unwrap())
            .unwrap();
        let setsid = ["setsid", "--wait", "--ctty"]; // makes stdin the terminal of the session
        (Self::run(model, &setsid, launcher, slave.into()), master)
    }

    #[track_caller]
    fn run(model: Model, setsid: &[&str], launcher: &[&str], stdin: Stdio) -> Self {
        let launcher = [setsid, launcher].concat();
        let mut command = model.command(&launcher, &["--drain-timeout", "0"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = Program::try_start_from(stdin, &mut command).unwrap();
        let line = program.stdout.next();
        let (_, pid) = line.rsplit_once("pid ").unwrap();
        let pid = number(pid.trim_end_matches(')'), "");
        let server = Server::at(program, &line);
        Self { server, pid }
    }

    /// A client that is being served.
    #[track_caller]
    fn served(&self) -> Client {
        let mut client = self.server.connect();
        client.assert_echo(b"served");
        client
    }

    /// Returns the server that takes over. This one ends, as it has no clients.
    #[track_caller]
    fn upgrade(&mut self) -> Successor {
        kill(self.pid, Signal::SIGUSR2).unwrap();
        let next = Successor::of(&mut self.server);
        wait_until("the end", || state(self.pid), Option::is_none);
        next
    }
}

const LINE: &str = "echo-server: HUP ignored: there is nothing to reload; USR2 upgrades";

models!(without_a_terminal_it_is_a_line_in_the_log);
fn without_a_terminal_it_is_a_line_in_the_log(model: Model) {
    let mut server = Detached::start(model, &ORDINARY);
    let mut client = server.served();
    for _ in 0..2 {
        kill(server.pid, Signal::SIGHUP).unwrap();
        assert_eq!(server.server.event(), LINE);
        client.assert_echo(b"not disturbed");
        server.server.assert_serves();
    }
    kill(server.pid, Signal::SIGTERM).unwrap();
    server.server.program.stderr.next_with("no new clients");
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.server.program.exit_code(), 0);
}

models!(without_a_terminal_it_may_come_during_the_start, fork, reexec);
/// These models have no children before the first client, but the process that tries out the sandbox.
fn without_a_terminal_it_may_come_during_the_start(model: Model) {
    let launcher = [&["setsid", "--wait"], &ORDINARY[..]].concat();
    let start = || {
        let program = Program::start(&mut model.command(&launcher, &[]));
        let pid = program.child();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let is_starting = || !signals(pid, "SigBlk").contains(&Signal::SIGTERM);
        while is_starting() {
            if fs::read_to_string(&children).is_ok_and(|text| !text.is_empty()) {
                return Some((program, pid));
            }
        }
        None // that process has come and gone while we were not looking
    };
    for _ in 0..3 {
        let mut starts = iter::repeat_with(start).take(200);
        let (mut program, pid) = starts.find_map(|seen| seen).unwrap();
        kill(pid, Signal::SIGHUP).unwrap();
        assert_eq!(program.stderr.next_with("HUP"), LINE);
        let line = program.stdout.next();
        Server::at(program, &line).assert_serves();
    }
}

models!(the_end_of_the_terminal_lets_sessions_finish);
fn the_end_of_the_terminal_lets_sessions_finish(model: Model) {
    let (mut server, terminal) = Detached::start_on_a_terminal(model, &ORDINARY);
    let mut client = server.served();
    drop(terminal);
    let line = server.server.event();
    assert_eq!(line, "echo-server: no new clients; 1 session left to finish");
    TcpStream::connect(server.server.address).unwrap_err();
    // Another one, as of the shell, does not cut anybody off. Nor does a TERM after that.
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGHUP] {
        kill(server.pid, signal).unwrap();
        let line = server.server.event();
        assert!(line.contains("already draining; 1 session"), "{line}");
        client.assert_echo(b"still served");
    }
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.server.program.exit_code(), 0);
}

models!(under_nohup_it_does_nothing);
fn under_nohup_it_does_nothing(model: Model) {
    let (mut server, terminal) = Detached::start_on_a_terminal(model, &NOHUP);
    let mut client = server.served();
    drop(terminal);
    kill(server.pid, Signal::SIGHUP).unwrap();
    assert!(signals(server.pid, "SigIgn").contains(&Signal::SIGHUP));
    // While the server forks, it is held back.
    let pending = || signals(server.pid, "ShdPnd");
    wait_until("nothing is pending", pending, Vec::is_empty);
    client.assert_echo(b"not disturbed");
    server.server.assert_serves();
    kill(server.pid, Signal::SIGTERM).unwrap();
    server.server.program.stderr.next_with("no new clients; ");
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.server.program.exit_code(), 0);
    let lines = server.server.program.stderr.rest();
    assert!(lines.iter().all(|line| !line.contains("HUP")), "{lines:?}");
}

models!(no_signal_is_too_early_under_nohup);
/// Whatever the server does when it starts, and whichever process it has do it.
fn no_signal_is_too_early_under_nohup(model: Model) {
    let script = "trap '' HUP; echo ignored; exec \"$0\" \"$@\"";
    for _ in 0..5 {
        let mut program = Program::start(&mut model.command(&["sh", "-c", script], &[]));
        assert_eq!(program.stdout.next(), "ignored");
        let pid = program.pid();
        let has_started = AtomicBool::new(false);
        let line = thread::scope(|scope| {
            scope.spawn(|| {
                while !has_started.load(Ordering::Relaxed) {
                    let mut processes = processes(|stat| stat.parent == pid);
                    processes.push(pid);
                    for process in processes {
                        // It may have ended since we looked.
                        let _ = kill(process, Signal::SIGHUP);
                    }
                }
            });
            let _started = Started(&has_started);
            program.stdout.next()
        });
        Server::at(program, &line).assert_serves();
    }
}

models!(after_an_upgrade_it_is_still_a_line_in_the_log);
fn after_an_upgrade_it_is_still_a_line_in_the_log(model: Model) {
    let mut server = Detached::start(model, &ORDINARY);
    let next = server.upgrade();
    let mut client = server.served();
    kill(next.id(), Signal::SIGHUP).unwrap();
    assert_eq!(server.server.program.stderr.next_with("HUP"), LINE);
    client.assert_echo(b"not disturbed");
    drop(client);
    next.terminate();
}

models!(after_an_upgrade_the_end_of_the_terminal_still_lets_sessions_finish);
fn after_an_upgrade_the_end_of_the_terminal_still_lets_sessions_finish(model: Model) {
    let (mut server, terminal) = Detached::start_on_a_terminal(model, &FROM_A_SHELL);
    let next = server.upgrade();
    let mut client = server.served();
    drop(terminal);
    server.server.program.stderr.next_with("no new clients; 1 session");
    client.assert_echo(b"still served");
    drop(client);
    let pid = next.id();
    assert_eq!(next.end(), WaitStatus::Exited(pid, 0));
}

models!(after_an_upgrade_under_nohup_it_does_nothing_either);
fn after_an_upgrade_under_nohup_it_does_nothing_either(model: Model) {
    let mut server = Detached::start(model, &NOHUP);
    let next = server.upgrade();
    let mut client = server.served();
    kill(next.id(), Signal::SIGHUP).unwrap();
    assert!(signals(next.id(), "SigIgn").contains(&Signal::SIGHUP));
    client.assert_echo(b"not disturbed");
    drop(client);
    next.terminate();
    let lines = server.server.program.stderr.rest();
    assert!(lines.iter().all(|line| !line.contains("HUP")), "{lines:?}");
}
