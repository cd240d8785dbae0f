//! USR2: another process takes over, and no client notices.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::env;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::errors::strace_works;
use crate::models::{command, in_every_model, served, start};
use crate::processes::{number, reap, stat, state, until};
use crate::server::{BINARY, Model, Server, flood, is_root};
use crate::shortage::assert_rest;

/// A directory for files of the program, which goes when the test ends.
struct Versions(PathBuf);

impl Versions {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("versions-{}-{number}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new file, in one step in the place of what had the name. It is never open for writing in
    /// this process: a program that another test starts meanwhile would have it open, too, and
    /// nobody could execute it.
    fn install(&self, name: &str, write: impl Fn(&mut Command) -> &mut Command) {
        let new = self.path("new");
        let status = write(Command::new("sh").arg("-c")).arg(&new).status();
        assert!(status.unwrap().success());
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn install_server(&self, name: &str) {
        self.install(name, |sh| sh.args(["cp \"$0\" \"$1\"", BINARY]));
    }

    fn install_script(&self, name: &str, script: &str) {
        let text = format!("#!/bin/sh\n{script}\n");
        self.install(name, |sh| sh.args(["printf %s \"$0\" >\"$1\"", &text]));
    }

    fn start(&self, name: &str, model: &str, options: &[&str]) -> Server {
        let mut command = Command::new(self.path(name));
        command.args(["0", "--model", model]).args(options);
        Server::run(&mut command)
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The server that has taken over. Dropped, it ends, and the workers with it. To be dropped after
/// the server before it, whose child it may be: then it is ours.
struct Successor(Pid);

impl Successor {
    /// Waits until it has taken over.
    #[track_caller]
    fn of(server: &mut Server) -> Self {
        let line = server.program.stdout.next();
        let (start, pid) = line.rsplit_once("pid ").unwrap();
        assert!(
            start.contains(&format!("listening on {} (", server.address)),
            "{line}"
        );
        let pid = number(pid.trim_end_matches(')'), "");
        let line = server.program.stderr.next_with("has taken over");
        assert!(line.contains(&format!(" {pid} ")), "{line}");
        Self(pid)
    }

    /// Ends it as an operator does, when the one before it has ended.
    #[track_caller]
    fn terminate(self) {
        assert_eq!(stat(self.0).unwrap().parent, Pid::this(), "an orphan");
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
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_refused_in_a_flood() {
    in_every_model(|model| {
        let versions = Versions::new();
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
            until("another round", now, |now| *now > before + 1);
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
        let versions = Versions::new();
        versions.install_server("one");
        versions.install_server("two");
        symlink("one", versions.path("current")).unwrap();
        let mut server = if is_in_path {
            // The program has to find out which of these it was started from.
            let places = [Path::new("/nonexistent"), &versions.0].map(Path::to_owned);
            let places = places.into_iter().chain(env::split_paths(&path));
            let mut command = Command::new("current");
            command
                .arg("0")
                .env("PATH", env::join_paths(places).unwrap());
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

models!(without_pidfds_the_new_one_is_watched_at_rest);
/// The handle of the new server is a pipe then, which ends when it executes its file: the old one
/// would look at it again and again, without a pause, until its last session has ended.
fn without_pidfds_the_new_one_is_watched_at_rest(model: Model) {
    const STRACE: [&str; 8] = [
        "strace",
        "-Dfqq",
        "-o",
        "/dev/null",
        "-e",
        "trace=pidfd_open",
        "-e",
        "inject=pidfd_open:error=ENOSYS",
    ];
    if !strace_works() {
        return;
    }
    let mut server = model.start_by(&STRACE, &["--workers", "1"]);
    let mut session = served(&server);
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    assert_rest(&[server.program.pid()]);
    session.assert_echo(b"not disturbed");

    kill(successor.0, Signal::SIGKILL).unwrap();
    let line = server.program.stderr.next_with("has taken over has ended");
    assert!(line.ends_with("signal: 9 (SIGKILL)"), "{line}");
    assert_rest(&[server.program.pid()]);
    drop(session);
    assert_eq!(server.program.exit_code(), 0);
}

/// The old server goes on as if nothing had happened, and says why.
#[test]
fn a_new_version_that_does_not_work_is_not_taken() {
    in_every_model(|model| {
        let versions = Versions::new();
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
    let versions = Versions::new();
    versions.install_server("server");
    let mut server = versions.start("server", "fork", &[]);
    versions.install_script("server", "exec sleep 100");
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stderr.next_with("starting ");
    let (_, pid) = line.rsplit_once(' ').unwrap();
    let hanging = number(pid, "");
    server.program.signal(Signal::SIGUSR2);
    let line = server.program.stderr.next_with("upgrade");
    assert!(line.ends_with("an upgrade is going on already"), "{line}");
    server.assert_serves();

    kill(hanging, Signal::SIGTERM).unwrap();
    let line = server.program.stderr.next_with("still serving");
    assert!(
        line.contains("it has ended: signal: 15 (SIGTERM)"),
        "{line}"
    );
    assert_eq!(state(hanging), None);
    versions.install_server("server");
    server.program.signal(Signal::SIGUSR2);
    Successor::of(&mut server);
}

#[test]
fn term_during_an_upgrade_ends_both() {
    in_every_model(|model| {
        let versions = Versions::new();
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
        let versions = Versions::new();
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
    let line = server.program.stderr.next_with("has taken over has ended");
    assert!(line.ends_with("signal: 9 (SIGKILL)"), "{line}");
    assert_refused(&server);
}

/// What somebody further up has left in the environment, or put there.
#[test]
fn an_ordinary_start_in_a_misleading_environment() {
    let parent = process::id().to_string();
    let predecessor = |value: &str| ("ECHO_SERVER_PREDECESSOR", value.to_owned());
    let environments = [
        vec![predecessor("own")],
        vec![predecessor(&format!("{parent} own"))],
        vec![("LISTEN_FDS", "1".to_owned())],
        vec![
            ("LISTEN_FDS", "1".to_owned()),
            ("LISTEN_PID", parent.clone()),
        ],
        vec![
            ("LISTEN_FDS", "x".to_owned()),
            ("LISTEN_PID", "x".to_owned()),
        ],
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

#[track_caller]
fn assert_refused(server: &Server) {
    let error = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
