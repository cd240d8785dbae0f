//! What workers give up: as the kernel says of a running one, and as one finds that tries.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, User};

use crate::models::{command, in_every_model, served, start};
use crate::processes::{Output, Program};
use crate::server::{BINARY, Server, is_root, random_bytes};

/// Cargo builds examples along with the tests, but has no variable for their place.
fn example(model: &str, sandbox: &str) -> Output {
    let tests = env::current_exe().unwrap();
    let example = tests.with_file_name("../examples/sandbox");
    assert!(
        example.exists(),
        "first: cargo build -p echo-server --examples"
    );
    let mut command = Command::new(example);
    command.args(["--model", model, "--sandbox", sandbox]);
    Program::start(&mut command).output()
}

const ATTEMPTS: [&str; 5] = [
    "open a file",
    "make a socket",
    "start a program",
    "signal a sibling",
    "ask a terminal",
];

#[test]
fn a_worker_that_is_broken_into_can_do_nothing() {
    in_every_model(|model| {
        let output = example(model, "try");
        assert_eq!(output.code, 0, "{output:?}");
        let refused = |attempt| format!("{attempt}: Operation not permitted (os error 1)");
        let mut lines = output.stdout;
        lines.retain(|line| !line.starts_with("without "));
        assert_eq!(lines, ATTEMPTS.map(refused));
    });
}

/// The twin of the one above.
#[test]
fn without_the_sandbox_it_can_do_everything() {
    in_every_model(|model| {
        let output = example(model, "off");
        assert_eq!(output.code, 0, "{output:?}");
        assert_eq!(
            output.stdout,
            ATTEMPTS.map(|attempt| format!("{attempt}: done"))
        );
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
    format!(
        "echo-server: sandbox: a worker has {}, says /proc/",
        fields.join(", ")
    )
}

#[test]
fn the_kernel_says_of_a_worker_what_the_server_says() {
    in_every_model(|model| {
        let mut server = start(model, &["--workers", "1"]);
        let line = server.program.stderr.next_with("sandbox: a worker has");
        let mut client = served(&server);
        let worker = server.program.child();
        assert_eq!(status(worker, "NoNewPrivs"), "1");
        assert_eq!(status(worker, "Seccomp"), "2");
        assert_eq!(status(worker, "CapEff"), "0000000000000000");
        assert_eq!(field(worker, "limits", "Max core file size"), "0");
        let expected = expected_line(worker);
        assert!(line.starts_with(&expected), "{line}, {expected}");
        client.assert_echo(b"and it serves");
    });
}

/// The twin of the one above: a worker is like us.
#[test]
fn without_the_sandbox_a_worker_has_everything() {
    in_every_model(|model| {
        let server = start(model, &["--workers", "1", "--sandbox", "off"]);
        let client = served(&server);
        let worker = server.program.child();
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
            let worker = server.program.child();
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
            let reason = "cannot become user nobody: that takes root";
            return refused(&mut command(model, &["--user", "nobody"]), reason);
        }
        let reason = "there is no user no-such-user";
        refused(&mut command(model, &["--user", "no-such-user"]), reason);
        let mut probe = Command::new(BINARY);
        probe.arg("--help").uid(65534).stdout(Stdio::null());
        match Program::try_start(&mut probe) {
            Ok(_) => {
                let mut command = command(model, &["--user", "root"]);
                let reason = "cannot become user root: that takes root";
                refused(command.uid(65534), reason);
            }
            Err(error) => println!("skipped: user 65534 cannot run {BINARY}: {error}"),
        }
    });
}

/// The server on a kernel on which this system call fails; `None` without strace.
fn start_without(call: &str, error: &str, model: &str, options: &[&str]) -> Option<Program> {
    let inject = format!("inject={call}:error={error}");
    let strace = ["-f", "-qq", "-o/dev/null", "-e", &inject];
    let mut probe = Command::new("strace");
    probe
        .args(strace)
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !Program::try_start(&mut probe).is_ok_and(|probe| probe.exit_code() == 0) {
        println!("skipped: needs strace, and a machine that lets it work");
        return None;
    }
    let mut strace_server = Command::new("strace");
    strace_server
        .args(strace)
        .args([BINARY, "0", "--model", model]);
    Some(Program::start(strace_server.args(options)))
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
            let reason = format!("echo-server: the sandbox cannot be had: {layer}");
            assert_eq!(output.code, 69, "{output:?}");
            assert_eq!(output.stderr.len(), 1, "{output:?}");
            assert!(output.stderr[0].starts_with(&reason), "{output:?}");
            assert_eq!(output.stdout, [""; 0]);
        }
    });
}

/// The twin of the one above: nobody insists.
#[test]
fn a_layer_that_nobody_insists_on() {
    in_every_model(|model| {
        let (call, error) = ("landlock_create_ruleset", "ENOSYS");
        let Some(program) = start_without(call, error, model, &["--sandbox", "try"]) else {
            return;
        };
        let mut server = Server::of(program);
        let line = server.program.stderr.next_with("sandbox: without");
        assert!(
            line.starts_with("echo-server: sandbox: without landlock: "),
            "{line}"
        );
        server.assert_serves();
    });
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
