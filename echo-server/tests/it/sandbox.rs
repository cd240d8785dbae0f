//! What workers give up: as the kernel says of a running one, and as one finds that tries.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use test_support::{Output, Program, example, state, wait_until};

use crate::errors::strace_works;
use crate::models::{command, in_every_model, served, start};
use crate::server::{BINARY, Client, Server, is_root, random_bytes};

fn attempts(model: &str, sandbox: &str) -> Output {
    let args = ["--model", model, "--sandbox", sandbox];
    Program::start(&mut example("sandbox", &args)).output()
}

const ATTEMPTS: [&str; 6] = [
    "open a file",
    "make a socket",
    "start a program",
    "signal a sibling",
    "ask a terminal",
    "make writes to stderr wait",
];

#[test]
fn a_worker_that_is_broken_into_can_do_nothing() {
    in_every_model(|model| {
        let output = attempts(model, "try");
        assert_eq!(output.code, 0, "{output:?}");
        let refused = |attempt| format!("{attempt}: Operation not permitted (os error 1)");
        let mut lines = output.stdout;
        lines.retain(|line| !line.starts_with("without "));
        assert_eq!(lines, ATTEMPTS.map(refused));
    });
}

/// The control of the test above.
#[test]
fn without_the_sandbox_it_can_do_everything() {
    in_every_model(|model| {
        let output = attempts(model, "off");
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(output.stdout, ATTEMPTS.map(|attempt| format!("{attempt}: done")));
    });
}

/// The first word under this name in a file such as /proc/PID/status.
fn field(pid: Pid, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
    let words = value.trim_start_matches(':').split_ascii_whitespace();
    words.take(1).collect()
}

fn status(pid: Pid, name: &str) -> String {
    field(pid, "status", name)
}

/// The fields of the line that the server prints, of this worker.
fn expected_line(worker: Pid) -> String {
    let of_status = ["Uid", "CapEff", "NoNewPrivs", "Seccomp"].map(|name| ("status", name));
    let of_limits = ["Max processes", "Max open files"].map(|name| ("limits", name));
    let fields = of_status.into_iter().chain(of_limits);
    let fields = fields.map(|(file, name)| format!("{name} {}", field(worker, file, name)));
    let fields: Vec<_> = fields.collect();
    format!("echo-server: sandbox: a worker has {}, according to /proc/", fields.join(", "))
}

#[test]
fn the_kernel_says_of_a_worker_what_the_server_says() {
    in_every_model(|model| {
        let mut server = start(model, &["--workers", "1"]);
        let line = server.program.stderr.next_with("sandbox: a worker has");
        let mut client = served(&server);
        let worker = server.worker();
        assert_eq!(status(worker, "NoNewPrivs"), "1");
        assert_eq!(status(worker, "Seccomp"), "2");
        assert_eq!(status(worker, "CapEff"), "0000000000000000");
        assert_eq!(field(worker, "limits", "Max core file size"), "0");
        let expected = expected_line(worker);
        assert!(line.starts_with(&expected), "{line}, {expected}");
        client.assert_echo(b"and it serves");
    });
}

/// The control of the test above: a worker is like us.
#[test]
fn without_the_sandbox_a_worker_has_everything() {
    in_every_model(|model| {
        let server = start(model, &["--workers", "1", "--sandbox", "off"]);
        let client = served(&server);
        let worker = server.worker();
        for name in ["NoNewPrivs", "Seccomp", "CapEff", "Uid"] {
            let (own, workers) = (status(Pid::this(), name), status(worker, name));
            assert_eq!(own, workers, "{name}");
        }
        drop(client);
        server.program.signal(Signal::SIGTERM);
        let lines = server.program.output().stderr.concat();
        assert!(!lines.contains("sandbox"), "{lines}");
    });
}

#[test]
fn a_worker_is_somebody_else() {
    if !is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let (user, group) = (nobody.uid.to_string(), nobody.gid.to_string());
    in_every_model(|model| {
        for sandbox in ["try", "off"] {
            let options = ["--workers=1", "--user=nobody", "--sandbox", sandbox];
            let mut server = start(model, &options);
            let mut client = served(&server);
            let worker = server.worker();
            assert_eq!(status(worker, "Uid"), user);
            assert_eq!(status(worker, "Gid"), group);
            assert_eq!(status(worker, "Groups"), "");
            assert_eq!(status(server.program.pid(), "Uid"), "0");
            if sandbox == "try" {
                let line = server.program.stderr.next_with("sandbox: a worker has");
                assert!(line.starts_with(&expected_line(worker)), "{line}");
            }
            client.assert_echo(b"and it serves");

            // The tie to the server has survived the change of user.
            server.program.signal(Signal::SIGKILL);
            client.assert_is_cut_off();
        }
    });
}

#[test]
fn users_that_nobody_can_become() {
    let refused = |command: &mut Command, reason: &str| {
        let output = Program::start(command).output();
        assert_eq!(output.code, 2, "{output:?}");
        assert_eq!(output.stderr, [format!("echo-server: {reason}")]);
    };
    in_every_model(|model| {
        if !is_root() {
            let reason = "cannot become user nobody: only root can";
            return refused(&mut command(model, &["--user", "nobody"]), reason);
        }
        let reason = "there is no user no-such-user";
        refused(&mut command(model, &["--user", "no-such-user"]), reason);
        for user in ["4294967295:0", "0:4294967295"] {
            let reason = "4294967295 is not a valid number of a user or group";
            let reason = format!("cannot become user {user}: {reason}");
            refused(&mut command(model, &["--user", user]), &reason);
        }
        for (user, part) in [("nobody:1", "nobody"), ("1:", ""), ("1:-1", "-1")] {
            let reason = format!(
                "cannot become user {user}: {part:?} is not a number; give NAME, UID or UID:GID"
            );
            refused(&mut command(model, &["--user", user]), &reason);
        }
        let mut probe = Command::new(BINARY);
        probe.arg("--help").uid(65534).stdout(Stdio::null());
        match Program::try_start(&mut probe) {
            Ok(_) => {
                let mut command = command(model, &["--user", "root"]);
                let reason = "cannot become user root: only root can";
                refused(command.uid(65534), reason);
            }
            Err(error) => println!("skipped: user 65534 cannot run {BINARY}: {error}"),
        }
    });
}

/// Its numbers, where it has no name.
#[test]
fn a_worker_is_somebody_without_a_name() {
    const HIDE: &str = "mount -t tmpfs none /etc && exec \"$0\" \"$@\"";
    let without_passwd = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", HIDE]).args(words);
        command
    };
    let probe = Program::try_start(&mut without_passwd(&["true"]));
    if !is_root() || !probe.is_ok_and(|probe| probe.exit_code() == 0) {
        println!("skipped: needs root, and the right to make namespaces");
        return;
    }
    in_every_model(|model| {
        let words = |user| [BINARY, "0", "--workers=1", "--model", model, "--user", user];
        let server = Server::run(&mut without_passwd(&words("65532:65531")));
        let mut client = served(&server);
        let worker = server.worker();
        assert_eq!(status(worker, "Uid"), "65532");
        assert_eq!(status(worker, "Gid"), "65531");
        assert_eq!(status(worker, "Groups"), "");
        client.assert_echo(b"and it serves");

        for (user, reason) in [
            ("65532", "cannot look up the group of user 65532; give it, too: 65532:GID"),
            ("nobody", "there is no user nobody"),
        ] {
            let output = Program::start(&mut without_passwd(&words(user))).output();
            assert_eq!(output.code, 2, "{output:?}");
            assert_eq!(output.stderr, [format!("echo-server: {reason}")]);
        }
    });
}

#[test]
fn the_number_of_a_user_with_a_name() {
    if !is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let server = start("fork", &["--user", &nobody.uid.to_string()]);
    let _client = served(&server);
    let worker = server.worker();
    assert_eq!(status(worker, "Uid"), nobody.uid.to_string());
    assert_eq!(status(worker, "Gid"), nobody.gid.to_string());
}

/// A server run by root with these rights only; `None` if that cannot be had here.
fn with_rights(rights: &str, model: &str, options: &[&str]) -> Option<Command> {
    let setpriv = || {
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-all{rights}"));
        command.args(["--inh-caps=-all", BINARY]);
        command
    };
    let mut probe = setpriv();
    probe.arg("--help").stdout(Stdio::null()).stderr(Stdio::null());
    if !is_root() || !Program::try_start(&mut probe).is_ok_and(|probe| probe.exit_code() == 0) {
        println!("skipped: needs root, and setpriv(1)");
        return None;
    }
    let mut command = setpriv();
    command.args(["0", "--model", model]).args(options);
    Some(command)
}

/// Without the first of these, it could not end its workers, nor would the kernel do it when the
/// server ends: they would go on for ever.
#[test]
fn other_users_are_for_root_with_all_rights_that_this_takes() {
    in_every_model(|model| {
        for (missing, rights) in [
            ("CAP_KILL", ",+setuid,+setgid"),
            ("CAP_SETGID", ",+setuid,+kill"),
            ("CAP_SETUID", ",+setgid,+kill"),
        ] {
            let options = ["--user=nobody", "--sandbox=off"];
            let Some(mut command) = with_rights(rights, model, &options) else {
                return;
            };
            let output = Program::start(&mut command).output();
            let start = "echo-server: cannot run workers as user nobody: this process lacks";
            assert_eq!(output.code, 69, "{output:?}");
            assert_eq!(output.stderr.len(), 1, "{output:?}");
            assert!(output.stderr[0].starts_with(&format!("{start} {missing}; ")), "{output:?}");
            assert_eq!(output.stdout, [""; 0]);
        }
    });
}

/// The control of the test above.
#[test]
fn root_with_no_other_right_ends_workers_of_other_users() {
    in_every_model(|model| {
        for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
            let options = ["--workers=1", "--user=nobody"];
            let Some(mut command) = with_rights(",+setuid,+setgid,+kill", model, &options) else {
                return;
            };
            let server = Server::run(&mut command);
            let mut client = served(&server);
            let worker = server.worker();
            assert_ne!(status(worker, "Uid"), "0");
            server.program.signal(signal);
            client.assert_is_cut_off();
            let look = || state(worker).filter(|state| *state != 'Z');
            wait_until("the end of the worker", look, Option::is_none);
        }
    });
}

/// What makes the change does not do it, and says that it has.
#[test]
fn a_worker_that_is_still_root_serves_nobody() {
    if !is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    in_every_model(|model| {
        for call in ["setuid", "setgid"] {
            let tampering = format!("{call}:retval=0");
            let Some(program) = start_tampered(&tampering, model, &["--user=nobody"]) else {
                return;
            };
            let output = program.output();
            let nobody = User::from_name("nobody").unwrap().unwrap().uid;
            let reason = "the calls succeeded, but the user or group is not the right one";
            let reason = format!("echo-server: cannot become user {nobody}: {reason}");
            assert_eq!(output.code, 69, "{output:?}");
            assert_eq!(output.stderr, [reason]);
        }
    });
}

/// The server with something done to a system call, see "Tampering" in strace(1); `None` without
/// strace.
fn start_tampered(tampering: &str, model: &str, options: &[&str]) -> Option<Program> {
    if !strace_works() {
        return None;
    }
    let mut strace = Command::new("strace");
    strace
        .args(["-fqq", "-o/dev/null", "-e", &format!("inject={tampering}")])
        .args([BINARY, "0", "--model", model]);
    Some(Program::start(strace.args(options)))
}

/// The server on a kernel on which this system call fails; `None` without strace.
pub(crate) fn start_without(
    call: &str,
    error: &str,
    model: &str,
    options: &[&str],
) -> Option<Program> {
    start_tampered(&format!("{call}:error={error}"), model, options)
}

#[test]
fn a_layer_that_is_missing() {
    const LAYERS: [(&str, &str, &str); 3] = [
        ("landlock_create_ruleset", "ENOSYS", "landlock: "),
        ("seccomp", "EINVAL", "seccomp: "),
        ("capset", "EPERM", "no capabilities: "),
    ];
    in_every_model(|model| {
        for (call, error, layer) in LAYERS {
            let require = ["--sandbox", "require"];
            let Some(program) = start_without(call, error, model, &require) else {
                return;
            };
            let output = program.output();
            let reason = format!("echo-server: cannot enter the sandbox: {layer}");
            assert_eq!(output.code, 69, "{output:?}");
            assert_eq!(output.stderr.len(), 1, "{output:?}");
            assert!(output.stderr[0].starts_with(&reason), "{output:?}");
            assert_eq!(output.stdout, [""; 0]);
        }
    });
}

/// The control of the test above: nobody insists.
#[test]
fn a_layer_that_nobody_insists_on() {
    in_every_model(|model| {
        let (call, error) = ("landlock_create_ruleset", "ENOSYS");
        let Some(program) = start_without(call, error, model, &["--sandbox", "try"]) else {
            return;
        };
        let mut server = Server::of(program);
        let line = server.program.stderr.next_with("sandbox: without");
        assert!(line.starts_with("echo-server: sandbox: without landlock: "), "{line}");
        server.assert_serves();
    });
}

/// As by a filter of somebody else, or for want of memory: what it has not said is not "nothing is
/// missing".
#[test]
fn a_probe_that_is_killed_has_not_tried() {
    in_every_model(|model| {
        for options in [["--sandbox", "require"], ["--sandbox", "try"]] {
            let tampering = "landlock_restrict_self:signal=KILL";
            let Some(program) = start_tampered(tampering, model, &options) else {
                return;
            };
            let output = program.output();
            assert_eq!(output.code, 69, "{output:?}");
            let reason = "echo-server: cannot try out the sandbox: \
                the process that tried has ended: signal: 9 (SIGKILL); --sandbox off serves without it";
            assert_eq!(output.stderr, [reason]);
            assert_eq!(output.stdout, [""; 0]);
        }
    });
}

/// The twins are all other tests, in which nothing fails later, and `a_layer_that_nobody_insists_on`,
/// in which it fails from the start.
#[test]
fn a_layer_that_fails_later_is_not_done_without() {
    in_every_model(|model| {
        for (call, error, layer) in
            [("landlock_restrict_self", "ENOMEM", "landlock"), ("seccomp", "ENOMEM", "seccomp")]
        {
            let mut server = start(model, &["--workers", "1", "--sandbox", "try"]);
            server.assert_serves();
            let Some(strace) = attach(&server, call, error) else {
                return;
            };
            let has_pool = !["fork", "reexec"].contains(&model);
            if has_pool {
                // The next one will find out.
                let worker = server.template().unwrap_or_else(|| server.worker());
                kill(worker, Signal::SIGKILL).unwrap();
            }
            let mut client = has_pool.then(|| server.connect());
            if !has_pool {
                server.assert_disconnects();
            }
            let line = server.program.stderr.next_with("cannot enter the sandbox");
            assert!(line.contains(&format!("cannot enter the sandbox: {layer}: ")), "{line}");
            client.iter_mut().for_each(Client::assert_hears_nothing);
            server.program.stderr.next_with("failed: exit status: ");

            strace.signal(Signal::SIGTERM);
            strace.end();
            if let Some(mut client) = client {
                client.assert_echo(b"patience");
            }
            server.assert_serves();
        }
    });
}

/// Nor tries again whether a file can be opened. Either would end the worker here.
#[test]
fn a_forked_worker_makes_no_ruleset_of_its_own() {
    let server = start("fork", &["--sandbox", "require"]);
    server.assert_serves();
    let Some(_strace) = attach(&server, "landlock_create_ruleset,openat", "ENFILE") else {
        return;
    };
    server.assert_serves();
}

/// From now on, this system call fails in the processes that the server starts. `None` if there is
/// no strace, or it may not do that to a running process.
fn attach(server: &Server, call: &str, error: &str) -> Option<Program> {
    if !strace_works() {
        return None;
    }
    let server = server.program.pid();
    let mut command = Command::new("strace");
    command
        .args(["-fqq", "-o/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error={error}")])
        .args(["-p", &server.to_string()]);
    let strace = Program::start(&mut command);
    let look = || (status(server, "TracerPid"), state(strace.pid()));
    let (tracer, _) =
        wait_until("strace", look, |(tracer, strace)| tracer != "0" || *strace == Some('Z'));
    if tracer == "0" {
        println!("skipped: strace may not attach: {:?}", strace.output());
        return None;
    }
    Some(strace)
}

#[test]
fn every_byte_comes_back_from_the_sandbox() {
    let sent = random_bytes(1 << 20);
    in_every_model(|model| {
        for options in [&["-v"][..], &[], &["--sandbox", "off"]] {
            let mut server = start(model, options);
            assert!(server.connect().session(&sent).unwrap() == sent);
            if options == ["-v"] {
                let line = server.program.stderr.next_with("ended");
                assert!(line.ends_with(" has ended its stream"), "{line}");
                assert!(line.starts_with("echo-server: 127.0.0.1:"), "{line}");
            }
        }
    });
}
