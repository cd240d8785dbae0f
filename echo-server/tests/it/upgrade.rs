//! USR2: another process takes over, and no client notices.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::env;
use std::fs;
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use test_support::{
    Program, Stat, TempDir, assert_sleeps, assert_zombie, number, processes, reap, stat, state,
    wait_until,
};

use crate::errors::{strace_works, tampering};
use crate::models::{command, in_every_model, served, start};
use crate::server::{BINARY, Client, Model, Server, descriptors, flood, is_root, stop, workers_of};
use crate::shortage::assert_rest;

/// A directory for files of the program, which goes when the test ends.
pub(crate) struct Directory(TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new file, in one step in the place of what had the name. It is never open for writing in
    /// this process: a program that another test starts meanwhile would have it open, too, and
    /// nobody could execute it.
    pub(crate) fn install(&self, name: &str, write: impl Fn(&mut Command) -> &mut Command) {
        let new = self.path("new");
        let status = write(Command::new("sh").arg("-c")).arg(&new).status();
        assert!(status.unwrap().success());
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn install_server(&self, name: &str) {
        self.install(name, |sh| sh.args(["cp \"$0\" \"$1\"", BINARY]));
    }

    pub(crate) fn install_script(&self, name: &str, script: &str) {
        let text = format!("#!/bin/sh\n{script}\n");
        self.install(name, |sh| sh.args(["printf %s \"$0\" >\"$1\"", &text]));
    }

    fn start(&self, name: &str, model: &str, options: &[&str]) -> Server {
        let mut command = Command::new(self.path(name));
        command.args(["0", "--model", model]).args(options);
        Server::run(&mut command)
    }
}

/// The server that has taken over, and that we have adopted. Dropped, it ends, and the workers with
/// it.
pub(crate) struct Successor(Pid);

impl Successor {
    /// Waits until it has taken over.
    #[track_caller]
    pub(crate) fn of(server: &mut Server) -> Self {
        let line = server.program.stdout.next();
        let (start, pid) = line.rsplit_once("pid ").unwrap();
        assert!(start.contains(&format!("listening on {} (", server.address)), "{line}");
        let pid = number(pid.trim_end_matches(')'), "");
        let line = server.program.stderr.next_with("has taken over");
        assert!(line.contains(&format!(" {pid} ")), "{line}");
        // It is a child of the process that started the first server, which can so wait for it.
        assert_eq!(stat(pid).unwrap().parent, Pid::this());
        Self(pid)
    }

    pub(crate) fn id(&self) -> Pid {
        self.0
    }

    #[track_caller]
    pub(crate) fn end(self) -> WaitStatus {
        reap(self.0)
    }

    /// Ends it as an operator does, when the one before it has ended.
    #[track_caller]
    pub(crate) fn terminate(self) {
        kill(self.0, Signal::SIGTERM).unwrap();
        assert_eq!(reap(self.0), WaitStatus::Exited(self.0, 0));
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Only one that is ours, and so has not been reaped, still has its number for certain.
        if waitpid(self.0, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
            let _ = kill(self.0, Signal::SIGKILL);
            let _ = waitpid(self.0, None);
        }
    }
}

/// Lets the clients end also when the test fails.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_in_a_flood() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &["--workers", "4"]);
        let address = server.address;
        let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let sessions = || {
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                failures.extend(flood(address, 50, 4));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            failures
        };
        let another_round = || {
            let before = rounds.load(Ordering::Relaxed);
            let now = || rounds.load(Ordering::Relaxed);
            wait_until("another round", now, |now| *now > before + 1);
        };
        let mut session = served(&server);
        let third = thread::scope(|scope| {
            let clients = scope.spawn(sessions);
            let _stop = Stop(&stop);
            another_round();
            versions.install_server("server");
            server.program.signal(Signal::SIGUSR2);
            let second = Successor::of(&mut server);
            // It goes on in the old one.
            session.assert_echo(b"not disturbed");
            assert!(session.session(b"the end").unwrap() == b"the end");
            assert_eq!(server.program.exit_code(), 0);
            another_round();
            // And once more, from the second to a third.
            kill(second.0, Signal::SIGUSR2).unwrap();
            let third = Successor::of(&mut server);
            assert_eq!(reap(second.0), WaitStatus::Exited(second.0, 0));
            another_round();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(clients.join().unwrap(), [""; 0]);
            third
        });
        assert_eq!(flood(address, 50, 4), [""; 0]);
        third.terminate();
        assert_refused(&server);
        assert_eq!(server.program.rest_of_group(), []);
    });
}

#[test]
fn a_symbolic_link_leads_to_the_next_version() {
    let path = env::var_os("PATH").unwrap_or_default();
    for is_in_path in [false, true] {
        let versions = Directory::new();
        versions.install_server("one");
        versions.install_server("two");
        symlink("one", versions.path("current")).unwrap();
        let mut server = if is_in_path {
            // The program has to find out which of these it was started from.
            let places = [Path::new("/nonexistent"), versions.0.path()].map(Path::to_owned);
            let places = places.into_iter().chain(env::split_paths(&path));
            let mut command = Command::new("current");
            command.arg("0").env("PATH", env::join_paths(places).unwrap());
            Server::run(&mut command)
        } else {
            versions.start("current", "fork", &[])
        };
        symlink("two", versions.path("next")).unwrap();
        fs::rename(versions.path("next"), versions.path("current")).unwrap();
        server.program.signal(Signal::SIGUSR2);
        let successor = Successor::of(&mut server);
        assert_runs(&successor, &versions.path("two"));
        assert_eq!(server.program.exit_code(), 0);
        server.assert_serves();
        successor.terminate();
    }
}

/// Who starts a program may call it anything.
#[test]
fn a_false_name_leads_to_no_other_program() {
    for name in ["/bin/true", "true", "no-such-program", "./no/such", ""] {
        let mut server = Server::run(Command::new(BINARY).arg0(name).arg("0"));
        server.program.signal(Signal::SIGUSR2);
        let successor = Successor::of(&mut server);
        assert_runs(&successor, Path::new(BINARY));
        assert_eq!(server.program.exit_code(), 0, "{name}");
        successor.terminate();
    }
}

#[track_caller]
fn assert_runs(successor: &Successor, file: &Path) {
    let running = fs::read_link(format!("/proc/{}/exe", successor.0)).unwrap();
    assert_eq!(running, fs::canonicalize(file).unwrap());
}

/// Where the kernel does not say which file is running, the name does not say where it is either.
#[test]
fn without_proc_it_finds_its_file() {
    if !mounts_work() {
        return;
    }
    let script = "mount -t tmpfs none /proc && PATH=${0%/*}:$PATH && exec ${0##*/} 0";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, BINARY]);
    let mut server = Server::run(&mut command);
    server.assert_serves();
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    assert_runs(&successor, Path::new(BINARY));
    assert_eq!(server.program.exit_code(), 0);
    server.assert_serves();
    successor.terminate();
}

const WITHOUT_PIDFDS: [&str; 8] = tampering("trace=pidfd_open", "inject=pidfd_open:error=ENOSYS");

models!(without_pidfds_the_new_one_takes_over);
fn without_pidfds_the_new_one_takes_over(model: Model) {
    if !strace_works() {
        return;
    }
    let mut server = model.start_by(&WITHOUT_PIDFDS, &["--workers", "1"]);
    let mut session = served(&server);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    assert_rest(&[server.program.pid()]);
    session.assert_echo(b"not disturbed");

    kill(successor.0, Signal::SIGKILL).unwrap();
    server.program.stderr.next_with("has taken over has ended");
    assert_rest(&[server.program.pid()]);
    drop(session);
    assert_eq!(server.program.exit_code(), 0);
}

/// An older version sets SO_LINGER for each connection, and not for its listener. What follows it must do
/// so, too, or a client would take the end of a killed worker for a regular end.
#[test]
fn a_listener_of_an_older_version_is_served_as_any_other() {
    // In the first server, its second call: SO_LINGER of the listener. In the next one, SO_KEEPALIVE of the
    // first connection.
    const OLDER: [&str; 8] = tampering("trace=setsockopt", "inject=setsockopt:retval=0:when=2");
    if !strace_works() {
        return;
    }
    let mut server = Model("fork").start_by(&OLDER, &["--sandbox", "off"]);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    assert_eq!(server.program.exit_code(), 0);
    let mut client = Client::connect(server.address).unwrap();
    client.assert_echo(b"served");
    for worker in processes(|stat| stat.parent == successor.id()) {
        kill(worker, Signal::SIGKILL).unwrap();
    }
    let error = client.stream().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// The handle of the new process is a pipe then, which ends when it executes its file: the guardian
/// would look at it again and again, without a pause, until it serves.
#[test]
fn without_pidfds_the_new_one_is_watched_at_rest() {
    if !strace_works() {
        return;
    }
    let versions = Directory::new();
    versions.install_server("server");
    let mut command = Command::new(WITHOUT_PIDFDS[0]);
    command.args(&WITHOUT_PIDFDS[1..]);
    let mut server = Server::run(command.arg(versions.path("server")).arg("0"));
    let (guardian, hanging) = hang(&versions, &mut server);
    assert_rest(&[server.program.pid(), guardian]);
    kill(hanging, Signal::SIGKILL).unwrap();
    let line = server.program.stderr.next_with("still serving");
    assert!(line.contains("it has ended: signal: 9 (SIGKILL)"), "{line}");
    server.assert_serves();
}

/// Asks for an upgrade to a version that does nothing. Returns its parent and itself.
#[track_caller]
fn hang(versions: &Directory, server: &mut Server) -> (Pid, Pid) {
    versions.install_script("server", "exec sleep 100");
    upgrade_to_one_that_hangs(server)
}

/// Asks for an upgrade to the version that is installed. Returns its parent and itself.
#[track_caller]
fn upgrade_to_one_that_hangs(server: &mut Server) -> (Pid, Pid) {
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stderr.next_with("starting ");
    let (_, pid) = line.rsplit_once(' ').unwrap();
    let hanging = number(pid, "");
    let guardian = stat(hanging).unwrap().parent;
    let named =
        |guardian: &Option<Stat>| guardian.as_ref().is_some_and(|it| it.name == "echo-upgrade");
    let guardian_stat = wait_until("the guardian's name", || stat(guardian), named).unwrap();
    assert_eq!(guardian_stat.parent, server.program.pid());
    (guardian, hanging)
}

/// Asks for an upgrade, and stops the old server meanwhile: the new one cannot know whether it is to
/// take over. Returns it.
#[track_caller]
fn upgrade_that_stands_still(versions: &Directory, server: &mut Server) -> Pid {
    let old = server.program.pid();
    let script = format!("kill -STOP {old}; exec {BINARY} \"$@\"");
    versions.install_script("server", &script);
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stdout.next_with("listening on ");
    let (_, pid) = line.rsplit_once("pid ").unwrap();
    let new = number(pid.trim_end_matches(')'), "");
    // It has nothing left to do but to wait for an answer.
    assert_sleeps(new);
    new
}

/// The old server goes on as if nothing had happened, and says why.
#[test]
fn a_new_version_that_does_not_work_is_not_taken() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let mut session = served(&server);
        let mut assert_fails = |reason: &str| {
            server.program.signal(Signal::SIGUSR2);
            let line = server.program.stderr.next_with("still serving");
            assert!(line.contains(reason), "{reason}: {line}");
            session.assert_echo(b"not disturbed");
            server.assert_serves();
        };

        versions.install_script("server", "exit 7");
        assert_fails("the upgrade has failed: it has ended: exit status: 7");
        versions.install_script("server", "kill -KILL $$");
        assert_fails("it has ended: signal: 9 (SIGKILL)");
        fs::set_permissions(versions.path("server"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_fails("it has ended: exit status: 70");
        fs::remove_file(versions.path("server")).unwrap();
        assert_fails("cannot upgrade: ");
        fs::create_dir(versions.path("server")).unwrap();
        assert_fails("it has ended: exit status: 70");
        fs::remove_dir(versions.path("server")).unwrap();
        // It has the listener, and answers on its stdin, but it is no server.
        for answer in ["r", "g", "8:1", "hello, who is there?"] {
            let answers = format!("printf '{answer}' >&0");
            versions.install_script("server", &format!("{answers}; exec sleep 100"));
            assert_fails("it does not answer as an echo server that has our listener");
            // We see its answer first, or its end.
            versions.install_script("server", &answers);
            assert_fails("the upgrade has failed: it ");
        }

        versions.install_server("server");
        server.program.signal(Signal::SIGUSR2);
        let successor = Successor::of(&mut server);
        drop(session);
        assert_eq!(server.program.exit_code(), 0);
        server.assert_serves();
        successor.terminate();
    });
}

/// In the name of the operator, who sees that nothing comes of it. After 30 s it would be the
/// server that does.
#[test]
fn a_new_version_that_hangs_can_be_killed() {
    let versions = Directory::new();
    versions.install_server("server");
    let mut server = versions.start("server", "fork", &[]);
    let (guardian, hanging) = hang(&versions, &mut server);
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stderr.next_with("upgrade");
    assert!(line.ends_with("an upgrade is already going on"), "{line}");
    server.assert_serves();

    kill(hanging, Signal::SIGTERM).unwrap();
    let line = server.program.stderr.next_with("still serving");
    assert!(line.contains("it has ended: signal: 15 (SIGTERM)"), "{line}");
    assert_eq!([state(hanging), state(guardian)], [None; 2]);
    versions.install_server("server");
    server.program.signal(Signal::SIGUSR2);
    Successor::of(&mut server);
}

/// Nobody else would end the new one, and it would serve.
#[test]
fn the_end_of_the_old_one_during_an_upgrade_ends_the_new_one() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let (guardian, hanging) = hang(&versions, &mut server);
        server.program.signal(Signal::SIGKILL);
        assert_eq!(reap(guardian), WaitStatus::Exited(guardian, 0));
        assert_eq!(state(hanging), None);
    });
}

/// Only the kernel can wake it then. Otherwise it would stay, and so would the new one, which has the
/// listener.
#[test]
fn a_stopped_guardian_does_not_outlive_the_old_one() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let (guardian, hanging) = hang(&versions, &mut server);
        stop(guardian);
        server.program.signal(Signal::SIGKILL);
        assert_eq!(reap(guardian), WaitStatus::Exited(guardian, 0));
        assert_eq!(state(hanging), None);
        // A worker of a pool has a listener, too, until it is killed as well.
        let connect = || TcpStream::connect(server.address).is_err();
        wait_until("a free port", connect, |is_refused| *is_refused);
    });
}

/// The new one has its own copy.
#[test]
fn the_guardian_does_not_keep_the_listener() {
    let versions = Directory::new();
    versions.install_server("server");
    let mut server = versions.start("server", "fork", &[]);
    let listener = descriptors(server.program.pid());
    let (guardian, hanging) = hang(&versions, &mut server);
    let shared = |pid| {
        let mut shared = descriptors(pid);
        shared.retain(|it| it.starts_with("socket:") && listener.contains(it));
        shared
    };
    wait_until("no copy", || shared(guardian), Vec::is_empty);
    // The control: this is how one would be seen.
    assert_eq!(shared(hanging).len(), 1);
}

/// The guardian kills what the new version has started, even if the guardian was stopped.
#[test]
fn nothing_is_left_of_a_new_version_that_is_not_taken() {
    // The parent of the second process ends at once.
    const SCRIPT: &str = "sleep 100 & (sleep 100 &); exec tail -f /dev/null";
    let hang = |server: &mut Server| {
        let (guardian, new) = upgrade_to_one_that_hangs(server);
        let parents = [guardian, new];
        let started = || processes(|it| it.name == "sleep" && parents.contains(&it.parent));
        let sleepers = wait_until("two processes", started, |all| all.len() == 2);
        (guardian, new, sleepers)
    };
    let assert_ended = |pids: &[Pid]| {
        let states: Vec<_> = pids.iter().map(|pid| state(*pid)).collect();
        assert_eq!(states, [None; 2]);
    };
    in_every_model(|model| {
        for end in [Signal::SIGKILL, Signal::SIGQUIT] {
            let versions = Directory::new();
            versions.install_server("server");
            let mut server = versions.start("server", model, &[]);
            versions.install_script("server", SCRIPT);

            let (_, new, sleepers) = hang(&mut server);
            kill(new, Signal::SIGTERM).unwrap();
            server.program.stderr.next_with("still serving");
            assert_ended(&sleepers);

            let (guardian, new, sleepers) = hang(&mut server);
            stop(guardian);
            server.program.signal(end);
            server.program.end();
            if end == Signal::SIGKILL {
                assert_eq!(reap(guardian), WaitStatus::Exited(guardian, 0));
            }
            assert_ended(&[guardian, new]);
            assert_ended(&sleepers);
        }
    });
}

/// The new one would have lost its guardian, and the old one all knowledge of it.
#[test]
fn the_end_of_the_guardian_ends_the_new_one() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let (guardian, hanging) = hang(&versions, &mut server);
        kill(guardian, Signal::SIGKILL).unwrap();
        let line = server.program.stderr.next_with("still serving");
        let reason = "the process that starts it has ended: signal: 9 (SIGKILL)";
        assert!(line.contains(reason), "{line}");
        let killed = WaitStatus::Signaled(hanging, Signal::SIGKILL, false);
        assert_eq!(reap(hanging), killed);
        assert_eq!(state(guardian), None);
        server.assert_serves();
    });
}

/// Clients wait in the queue until a server accepts them.
#[test]
fn the_new_one_serves_nobody_before_it_takes_over() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &["--workers", "1"]);
        // The only worker of prefork would take the client.
        let session = served(&server);
        let new = Successor(upgrade_that_stands_still(&versions, &mut server));
        let (mut client, workers) = (server.connect(), || workers_of(new.0));
        if model == "prefork" {
            client.assert_hears_nothing();
        }
        assert_eq!(workers(), []);
        server.program.signal(Signal::SIGCONT);
        server.program.stderr.next_with("has taken over");
        client.assert_echo(b"patience");
        drop((client, session));
        assert_eq!(server.program.exit_code(), 0);
        new.terminate();
    });
}

/// It is taken as soon as it can be.
#[test]
fn term_to_the_new_one_before_it_takes_over_is_not_lost() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let new = Successor(upgrade_that_stands_still(&versions, &mut server));
        kill(new.0, Signal::SIGTERM).unwrap();
        server.program.signal(Signal::SIGCONT);
        server.program.stderr.next_with("has taken over");
        assert_eq!(server.program.exit_code(), 0);
        assert_eq!(reap(new.0), WaitStatus::Exited(new.0, 0));
        assert_refused(&server);
    });
}

/// Only a server that is told to take over does.
#[test]
fn the_new_one_ends_if_nobody_tells_it_to_take_over() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let new = upgrade_that_stands_still(&versions, &mut server);
        let guardian = stat(new).unwrap().parent;
        // Otherwise it is the guardian that ends it.
        kill(guardian, Signal::SIGKILL).unwrap();
        assert_zombie(guardian);
        assert_sleeps(new);
        server.program.signal(Signal::SIGKILL);
        let line = server.program.stderr.next_with("cannot take the place");
        assert!(line.ends_with("it has ended, or has given us up; it may still serve"), "{line}");
        assert_eq!(reap(new), WaitStatus::Exited(new, 70));
    });
}

/// The guardian has no time to report it.
#[test]
fn a_new_version_that_ends_when_it_is_ready_is_not_taken() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let new = upgrade_that_stands_still(&versions, &mut server);
        stop(stat(new).unwrap().parent);
        kill(new, Signal::SIGKILL).unwrap();
        assert_zombie(new);
        server.program.signal(Signal::SIGCONT);
        let line = server.program.stderr.next_with("still serving");
        let reason = format!("failed: process {new} ended just when it was ready");
        assert!(line.contains(&reason), "{line}");
        server.assert_serves();
        reap(new);
    });
}

models!(the_new_one_ends_after_the_old_one);
/// systemd kills the rest of the service when the main process has ended.
fn the_new_one_ends_after_the_old_one(model: Model) {
    let mut server = model.start(&[]);
    let mut session = served(&server);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    kill(successor.0, Signal::SIGTERM).unwrap();
    server.program.stderr.next_with("waiting for the server before this one");
    assert_refused(&server);
    session.assert_echo(b"not disturbed");
    assert_rest(&[successor.0]);
    assert_eq!(state(successor.0), Some('S'));
    assert!(session.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.program.exit_code(), 0);
    assert_eq!(reap(successor.0), WaitStatus::Exited(successor.0, 0));
}

models!(the_first_term_after_an_upgrade_cuts_nobody_off);
/// A service manager stops both servers, and the old one has not been asked to end before.
fn the_first_term_after_an_upgrade_cuts_nobody_off(model: Model) {
    let mut server = model.start(&[]);
    let mut session = served(&server);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    server.program.signal(Signal::SIGTERM);
    let line = server.program.stderr.next_with("already draining");
    assert!(line.ends_with("1 session left to finish"), "{line}");
    session.assert_echo(b"not disturbed");
    server.program.signal(Signal::SIGTERM);
    session.assert_is_cut_off();
    assert_eq!(server.program.exit_code(), 1);
    server.assert_serves();
    successor.terminate();
}

#[test]
fn term_during_an_upgrade_ends_both() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        let session = served(&server);
        versions.install_script("server", "exec sleep 100");
        server.program.signal(Signal::SIGUSR2);
        server.program.stderr.next_with("starting ");
        server.program.signal(Signal::SIGTERM);
        server.program.stderr.next_with("no new clients; 1 session");
        assert_refused(&server);
        assert!(session.session(b"the end").unwrap() == b"the end");
        assert_eq!(server.program.exit_code(), 0);
        assert_eq!(server.program.rest_of_group(), []);
    });
}

/// QUIT is heard by the old one only; the new one would find it gone, and serve.
#[test]
fn quit_during_an_upgrade_ends_both() {
    in_every_model(|model| {
        let versions = Directory::new();
        versions.install_server("server");
        let mut server = versions.start("server", model, &[]);
        versions.install_script("server", "exec sleep 100");
        server.program.signal(Signal::SIGUSR2);
        server.program.stderr.next_with("starting ");
        server.program.signal(Signal::SIGQUIT);
        assert_eq!(server.program.exit_code(), 0);
        assert_eq!(server.program.rest_of_group(), []);
    });
}

/// Whatever can fail in the new one fails before it says that it serves.
#[test]
fn a_new_version_without_dev_null_is_not_taken() {
    // An empty folder, for this server only.
    let script = "mount -t tmpfs none /dev && exec \"$0\" 0";
    if !mounts_work() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, BINARY]);
    let mut server = Server::run(&mut command);
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stderr.next_with("still serving");
    assert!(line.contains("it has ended: exit status: 70"), "{line}");
    server.assert_serves();
}

fn mounts_work() -> bool {
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "true"]);
    let work = is_root() && probe.status().is_ok_and(|status| status.success());
    if !work {
        println!("skipped: needs root, and the right to make namespaces");
    }
    work
}

/// Its sessions, too, have only so long.
#[test]
fn the_old_one_ends_at_its_deadline() {
    in_every_model(|model| {
        let mut server = start(model, &["--drain-timeout", "0.3"]);
        let mut session = served(&server);
        server.program.signal(Signal::SIGUSR2);
        let successor = Successor::of(&mut server);
        session.assert_is_cut_off();
        assert_eq!(server.program.exit_code(), 1);
        server.assert_serves();
        successor.terminate();
    });
}

/// Killed, the new server is missed by the old one as long as that drains.
#[test]
fn the_end_of_the_new_one_is_worth_a_line() {
    let mut server = start("fork", &[]);
    let _session = served(&server);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    kill(successor.0, Signal::SIGKILL).unwrap();
    server.program.stderr.next_with("has taken over has ended");
    assert_refused(&server);
}

/// What somebody further up has left in the environment, or put there.
#[test]
fn an_ordinary_start_in_a_misleading_environment() {
    let parent = process::id().to_string();
    let predecessor = |value: &str| ("ECHO_SERVER_PREDECESSOR", value.to_owned());
    let environments = [
        vec![predecessor("own")],
        vec![predecessor(&format!("own:{parent}:1:1"))],
        vec![("LISTEN_FDS", "1".to_owned())],
        vec![("LISTEN_FDS", "1".to_owned()), ("LISTEN_PID", parent.clone())],
        vec![("LISTEN_FDS", "x".to_owned()), ("LISTEN_PID", "x".to_owned())],
        vec![
            predecessor("own"),
            ("LISTEN_FDS", "1".to_owned()),
            ("LISTEN_PID", "1".to_owned()),
            ("LISTEN_FDS_FIRST_FD", "0".to_owned()),
        ],
    ];
    in_every_model(|model| {
        for environment in &environments {
            let mut command = command(model, &[]);
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            let server = Server::run(&mut command);
            server.assert_serves();
            server.program.signal(Signal::SIGTERM);
            assert_eq!(server.program.exit_code(), 0, "{environment:?}");
        }
    });
}

/// Of the process and the stdin that the variable names, the server has one.
#[test]
fn a_variable_that_was_meant_for_another_process() {
    let (mut ours, stdin) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = fs::File::from(stdin.as_fd().try_clone_to_owned().unwrap());
    let socket = socket.metadata().unwrap();
    let (device, inode) = (socket.dev(), socket.ino());
    for proof in [
        format!("{}:{device}:{inode}", process::id()),
        format!("$$:{device}:{}", inode + 1),
        format!("$$:{}:{inode}", device + 1),
        format!("$$:{device}:{inode}:"),
    ] {
        let script = format!("ECHO_SERVER_PREDECESSOR=own:{proof} exec \"$0\" 0");
        let mut command = Command::new("sh");
        command.args(["-c", &script, BINARY]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let stdin = stdin.as_fd().try_clone_to_owned().unwrap();
        let server = Server::of(Program::try_start_from(stdin, &mut command).unwrap());
        server.assert_serves();
        let heard = ours.read(&mut [0]).unwrap_err();
        assert_eq!(heard.kind(), io::ErrorKind::WouldBlock, "{proof}");
    }
}

#[track_caller]
fn assert_refused(server: &Server) {
    let error = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
