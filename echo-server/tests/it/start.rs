//! The first line on stdout, and the reasons for not getting there.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use test_support::{NOT_SECONDS, Output, Program, closed_pipe, full_device, wait_until};

use crate::server::{BINARY, Client, Model, Server, descriptors, is_known_here, is_root};

fn server(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args);
    command
}

fn output(args: &[&str]) -> Output {
    Program::start(&mut server(args)).output()
}

/// The server has not started: one sentence, this exit code.
#[track_caller]
fn assert_refuses(output: &Output, code: i32, start: &str) {
    assert_eq!(output.code, code, "{output:?}");
    let lines = output.stderr.iter();
    let lines: Vec<_> = lines.filter(|line| !line.contains(": sandbox: ")).collect();
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(lines[0].starts_with(start), "{output:?}");
    assert_eq!(output.stdout, [""; 0]);
}

models!(the_first_line_says_where_it_listens);
/// It comes while the server runs, so it was flushed; and nothing comes after it.
fn the_first_line_says_where_it_listens(model: Model) {
    let mut program = Program::start(&mut model.command(&[], &[]));
    let line = program.stdout.next();
    let (name, pid) = (model.0, program.pid());
    let port = line
        .strip_prefix("listening on 127.0.0.1:")
        .and_then(|rest| rest.strip_suffix(&format!(" ({name}, pid {pid})")))
        .and_then(|port| port.parse::<u16>().ok())
        .unwrap_or_else(|| panic!("{line:?}"));
    assert_ne!(port, 0);
    let client = Client::connect(([127, 0, 0, 1], port).into()).unwrap();
    assert!(client.session(b"hello").unwrap() == b"hello");
    program.signal(Signal::SIGTERM);
    assert_eq!(program.stdout.rest(), [""; 0]);
}

models!(on_a_terminal_too_that_line_is_the_first);
/// There, stdout and stderr are one stream.
fn on_a_terminal_too_that_line_is_the_first(model: Model) {
    let one_stream = ["sh", "-c", r#"exec "$0" "$@" 2>&1"#];
    let mut program = Program::start(&mut model.command(&one_stream, &[]));
    let line = program.stdout.next();
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
    program.stdout.next_with(": sandbox: ");
}

#[test]
fn the_model_is_fork_unless_another_is_given() {
    let server = Server::start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    assert_eq!(server.workers(), [worker]);
}

models!(a_second_server_cannot_have_the_port);
fn a_second_server_cannot_have_the_port(model: Model) {
    let server = model.start(&[]);
    let port = server.address.port().to_string();
    let reason = format!("echo-server: cannot listen on {port}: Address already in use");
    assert_refuses(&output(&[&port, "--model", model.0]), 69, &reason);
    server.assert_serves();
}

#[test]
fn the_forms_of_an_address() {
    let addresses = ["0", "127.0.0.1:0", "localhost:0"];
    for address in addresses.into_iter().filter(|address| is_known_here(address)) {
        let server = Server::run(&mut server(&[address]));
        assert!(server.address.ip().is_loopback(), "{}", server.address);
        server.assert_serves();
    }
    let everywhere = Server::run(&mut server(&[":0"]));
    assert!(everywhere.address.ip().is_unspecified(), "{}", everywhere.address);
    let port = everywhere.address.port();
    let client = Client::connect(([127, 0, 0, 1], port).into()).unwrap();
    assert!(client.session(b"hello").unwrap() == b"hello");

    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("skipped, no IPv6 here: {error}");
        return;
    }
    Server::run(&mut server(&["[::1]:0"])).assert_serves();
    let client = Client::connect(([0, 0, 0, 0, 0, 0, 0, 1], port).into()).unwrap();
    assert!(client.session(b"hello").unwrap() == b"hello");
}

#[test]
fn the_port_is_in_use() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let reason = format!("echo-server: cannot listen on {address}: Address already in use");
    assert_refuses(&output(&[&address]), 69, &reason);

    let port = other.local_addr().unwrap().port().to_string();
    let reason = format!("echo-server: cannot listen on {port}: Address already in use");
    assert_refuses(&output(&[&port]), 69, &reason);
}

#[test]
fn the_port_is_in_use_under_ipv6() {
    let Ok(other) = TcpListener::bind("[::1]:0") else {
        println!("skipped: no IPv6 here");
        return;
    };
    let address = format!(":{}", other.local_addr().unwrap().port());
    let reason = format!("echo-server: cannot listen on {address}: Address already in use");
    assert_refuses(&output(&[&address]), 69, &reason);
}

#[test]
fn addresses_that_are_none() {
    for address in [
        "",
        "x",
        "99999",
        "no:such:address",
        "127.0.0.1",
        "127.0.0.1:",
        ":",
        "+0",
        ":+0",
        "127.0.0.1:+0",
        " 0",
    ] {
        let reason = format!("echo-server: cannot listen on {address}: ");
        assert_refuses(&output(&[address]), 2, &reason);
    }
    // For documentation (RFC 5737), so no machine has it.
    let reason = "echo-server: cannot listen on 192.0.2.1:0: Cannot assign requested address";
    assert_refuses(&output(&["192.0.2.1:0"]), 69, reason);
}

#[test]
fn a_port_that_needs_a_right() {
    const NOBODY: u32 = 65_534;
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = first.ok().and_then(|text| text.trim().parse::<u16>().ok());
    if !is_root() || first.is_none_or(|first| first <= 1) {
        println!("skipped: needs root, and ports that are privileged");
        return;
    }
    let program = Program::try_start(
        server(&["1"])
            .uid(NOBODY)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
    );
    match program {
        Ok(program) => {
            let reason = "echo-server: cannot listen on 1: Permission denied";
            assert_refuses(&program.output(), 69, reason);
        }
        Err(error) => println!("skipped: user {NOBODY} cannot run {BINARY}: {error}"),
    }
}

#[test]
fn usage() {
    output(&["--no-such-option"]).assert_usage("--no-such-option");
    output(&["0", "--model", "none"]).assert_usage("--model");
    output(&["0", "0"]).assert_usage("'0'");
    // The last one would be 0 in whole nanoseconds, and so no limit at all.
    for value in NOT_SECONDS.into_iter().chain(["1e-10", "+5", " 5"]) {
        output(&["0", &format!("--drain-timeout={value}")]).assert_usage("--drain-timeout");
    }
    for option in ["--workers", "--max-children", "--max-per-source", "--backlog"] {
        for value in ["-1", "abc", "", "1.5", "99999999999999999999", "+5", " 5"] {
            output(&["0", &format!("{option}={value}")]).assert_usage(option);
        }
    }
    // Not user 5, and not no user.
    for value in ["+5", "5:+5", ""] {
        output(&["0", &format!("--user={value}")]).assert_usage("--user");
    }
}

models!(nobody_can_read_the_first_line);
fn nobody_can_read_the_first_line(model: Model) {
    for (stdout, error) in [(closed_pipe(), "Broken pipe"), (full_device(), "No space left")] {
        let reason = format!("echo-server: cannot write to stdout: {error}");
        let program = Program::start_to(stdout, &mut model.command(&[], &[]));
        assert_refuses(&program.output(), 70, &reason);
    }
}

/// std opens the null device in the place of a standard stream that is missing, so that no
/// connection is mistaken for it.
#[test]
fn without_standard_streams() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" 0 <&- >&- 2>&-", BINARY]);
    let program = Program::start(&mut command);
    // It takes signals from there, instead of being ended by them.
    let ready = |open: &Vec<String>| open.contains(&"anon_inode:[signalfd]".to_owned());
    wait_until("signalfd", || descriptors(program.pid()), ready);
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code(), 0);
}
