//! The client: with the real server, and with peers that do what a server must not do.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::wait::WaitStatus;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use test_support::{
    LIMIT, NOT_SECONDS, Output, Program, TempDir, assert_sleeps, closed_pipe, full_device, reap,
    wait_until,
};

use crate::server::{Server, is_known_here, random_bytes, reserved_address};

const CLIENT: &str = env!("CARGO_BIN_EXE_echo-client");
const PROMPT: &str = "Input message(Q to quit): ";

/// More than all buffers between two programs can hold.
const MUCH: usize = 64 << 20;

/// A shell runs `script`, in which `"$0" "$1"` is the client with its address, and `"$2"` a path.
fn shell(script: &str, address: impl ToString, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, CLIENT, &address.to_string()]);
    command.arg(path);
    command
}

/// The client, with stdin from `path`.
fn client(address: impl ToString, path: &Path) -> Command {
    shell("exec \"$0\" \"$1\" <\"$2\"", address, path)
}

/// A file in a folder that is removed at the end of the test.
struct TempFile {
    path: PathBuf,
    _folder: TempDir,
}

impl TempFile {
    fn new(content: &[u8]) -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content).unwrap();
        Self { path, _folder: folder }
    }
}

/// Runs `command` to its end, and returns what was on its stdout to the byte.
fn bytes(command: &mut Command) -> (Output, Vec<u8>) {
    let result = TempFile::new(b"");
    let out = File::create(&result.path).unwrap();
    let output = Program::start_to(out, command).output();
    (output, fs::read(&result.path).unwrap())
}

/// Exactly these bytes on stdout, nothing on stderr, and exit code 0.
#[track_caller]
fn assert_result(command: &mut Command, expected: &[u8]) {
    let (output, received) = bytes(command);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(output.stderr, [""; 0]);
    assert_eq!(received.len(), expected.len());
    assert!(received == expected, "not the same bytes");
}

/// One sentence on stderr, with all of `parts` in it.
#[track_caller]
fn assert_fails(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    assert_eq!(output.stderr.len(), 1, "{output:?}");
    assert!(output.stderr[0].starts_with("echo-client: "), "{output:?}");
    for part in parts {
        assert!(output.stderr[0].contains(part), "no {part:?}: {output:?}");
    }
}

/// Treats one client like this, and closes the connection.
fn peer(treat: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(LIMIT)).unwrap();
        connection.set_write_timeout(Some(LIMIT)).unwrap();
        treat(&mut connection);
    });
    address
}

type Alter = fn(Vec<u8>) -> Vec<u8>;

/// Sends back what `alter` makes of everything, which it has only at the end of the stream.
fn answering_peer(alter: Alter) -> SocketAddr {
    peer(move |connection| {
        let mut all = Vec::new();
        connection.read_to_end(&mut all).unwrap();
        connection.write_all(&alter(all)).unwrap();
    })
}

/// A client whose stdin is a pipe: what the test writes, and when.
struct Piped {
    program: Program,
    stdin: io::PipeWriter,
}

impl Piped {
    fn start(address: SocketAddr) -> Self {
        let (reader, stdin) = io::pipe().unwrap();
        let program = Program::start(&mut client(address, &path_of(&reader)));
        // Opened by the shell before it becomes the client, which has a child then.
        program.child();
        Self { program, stdin }
    }

    /// With one line sent, and come back.
    fn start_and_talk(address: SocketAddr) -> Self {
        let mut client = Self::start(address);
        client.stdin.write_all(b"hello\n").unwrap();
        assert_eq!(client.program.stdout.next(), "hello");
        client
    }

    /// Its end, while its stdin stays open.
    #[track_caller]
    fn output(self) -> Output {
        let Self { program, stdin } = self;
        program.end();
        assert_eq!(program.rest_of_group(), []);
        let output = program.output();
        drop(stdin);
        output
    }
}

/// By which another process can open what this one has.
fn path_of(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/{}/fd/{}", process::id(), fd.as_raw_fd()).into()
}

fn set_nonblocking(fd: &impl AsFd) {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

#[test]
fn a_file_comes_back_to_the_byte() {
    let server = Server::start(&[]);
    for size in [0, 1, 65_535, 65_536, 65_537, MUCH] {
        let sent = random_bytes(size);
        let file = TempFile::new(&sent);
        assert_result(&mut client(server.address, &file.path), &sent);
    }
    server.assert_no_worker_is_left();
}

/// Binary data, by the NUL byte at the start, so what looks like a line `q` is none.
#[test]
fn a_pipe_comes_back_to_the_byte() {
    let server = Server::start(&[]);
    for size in [0, 1, MUCH] {
        let mut sent = random_bytes(size);
        sent.extend_from_slice(b"\nq\nQ\n");
        sent.insert(0, 0);
        let file = TempFile::new(&sent);
        let script = "cat \"$2\" | \"$0\" \"$1\"";
        assert_result(&mut shell(script, server.address, &file.path), &sent);
    }
}

#[test]
fn a_line_with_q_ends_what_comes_through_a_pipe() {
    let cases: [(&[u8], &[u8]); 12] = [
        (b"hello\nq\nmore\n", b"hello\n"),
        (b"hello\nQ\nmore\n", b"hello\n"),
        (b"q\n", b""),
        (b"Q\n", b""),
        (b"\nq\n", b"\n"),
        (b"q", b"q"),
        (b"hello\nQ", b"hello\nQ"),
        (b"q \n q\nqq\n", b"q \n q\nqq\n"),
        (b"q\r\n", b"q\r\n"),
        (b"no line: q\n", b"no line: q\n"),
        (b"a\0b\nq\nc", b"a\0b\nq\nc"),
        (b"a\nq\nb\0", b"a\n"),
    ];
    let server = Server::start(&[]);
    for (sent, expected) in cases {
        let file = TempFile::new(sent);
        let script = "cat \"$2\" | \"$0\" \"$1\"";
        assert_result(&mut shell(script, server.address, &file.path), expected);
        // The control: from a file it is a line like any other.
        assert_result(&mut client(server.address, &file.path), sent);
    }
}

#[test]
fn a_line_with_q_may_come_in_pieces() {
    let server = Server::start(&[]);
    let mut client = Piped::start_and_talk(server.address);
    client.stdin.write_all(b"q").unwrap();
    assert_sleeps(client.program.child());
    client.stdin.write_all(b"ueue\n").unwrap();
    assert_eq!(client.program.stdout.next(), "queue");
    client.stdin.write_all(b"Q").unwrap();
    assert_sleeps(client.program.child());
    client.stdin.write_all(b"\nmore\n").unwrap();
    let output = client.output();
    assert_eq!((output.code, output.stdout), (0, vec![]));
}

#[test]
fn whatever_is_sent_comes_back() {
    let server = Server::start(&[]);
    let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&vec(any::<u8>(), 0..2_000), |sent| {
            let file = TempFile::new(&sent);
            assert_result(&mut client(server.address, &file.path), &sent);
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_server_sees_the_end_of_the_stream_and_may_answer_then() {
    let sent = random_bytes(1 << 20);
    let file = TempFile::new(&sent);
    let address = answering_peer(|all| all);
    assert_result(&mut client(address, &file.path), &sent);
}

#[test]
fn a_peer_that_is_no_echo_server() {
    let cases: [(Alter, &str); 4] = [
        (|all| all[1..].to_vec(), "5 bytes came back: then the server ended"),
        (|_| Vec::new(), "0 bytes came back: then the server ended"),
        (|all| all.to_ascii_uppercase(), "6 bytes came back: but not the same ones"),
        (|all| [all, vec![0]].concat(), "7 bytes came back: more than was sent"),
    ];
    let file = TempFile::new(b"hello\n");
    for (alter, reason) in cases {
        for option in ["", "--one-process"] {
            let script = "exec \"$0\" $OPTION \"$1\" <\"$2\"";
            let mut command = shell(script, answering_peer(alter), &file.path);
            let output = Program::start(command.env("OPTION", option)).output();
            assert_fails(&output, 1, &["6 bytes sent, ", reason]);
        }
    }
}

#[test]
fn a_peer_that_sends_for_ever() {
    let address = peer(|connection| {
        // Until the client has gone.
        while connection.write_all(&[b'x'; 1000]).is_ok() {}
    });
    let (output, _) = bytes(&mut client(address, Path::new("/dev/null")));
    assert_fails(&output, 1, &["0 bytes sent, ", "more than was sent"]);
}

/// The child waits for input then, and would for ever.
#[test]
fn the_server_leaves_early() {
    let address = peer(|connection| {
        let mut line = [0; 6];
        connection.read_exact(&mut line).unwrap();
        connection.write_all(&line).unwrap();
    });
    let output = Piped::start_and_talk(address).output();
    let reason = "6 bytes sent, 6 bytes came back: the server ended the connection before the end";
    assert_fails(&output, 1, &[reason]);
}

#[test]
fn the_servers_worker_is_killed() {
    let server = Server::start(&[]);
    let client = Piped::start_and_talk(server.address);
    kill(server.workers()[0], Signal::SIGKILL).unwrap();
    assert_fails(&client.output(), 1, &["6 bytes sent, 6 bytes came back: "]);
}

/// The child is stuck in a write, or about to write, when the reset comes.
#[test]
fn the_connection_is_reset() {
    let file = TempFile::new(&random_bytes(MUCH));
    let address = peer(|connection| {
        connection.read_exact(&mut [0; 1000]).unwrap();
        reset_on_close(connection);
    });
    let output = Program::start(&mut client(address, &file.path)).output();
    assert_fails(&output, 1, &[" bytes sent, 0 bytes came back: "]);

    // The child waits for input.
    let address = peer(|connection| {
        let mut line = [0; 6];
        connection.read_exact(&mut line).unwrap();
        connection.write_all(&line).unwrap();
        connection.read_exact(&mut [0; 6]).unwrap();
        reset_on_close(connection);
    });
    let mut client = Piped::start_and_talk(address);
    client.stdin.write_all(b"again\n").unwrap();
    let reason = "12 bytes sent, 6 bytes came back: Connection reset by peer";
    assert_fails(&client.output(), 1, &[reason]);
}

fn reset_on_close(connection: &TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(connection, sockopt::Linger, &at_once).unwrap();
}

#[test]
fn one_process_is_enough_for_little() {
    let server = Server::start(&[]);
    for size in [0, 1, 100_000] {
        let sent = random_bytes(size);
        let file = TempFile::new(&sent);
        let script = "exec \"$0\" --one-process \"$1\" <\"$2\"";
        assert_result(&mut shell(script, server.address, &file.path), &sent);
    }
}

/// Two processes manage the same input, in `a_file_comes_back_to_the_byte`.
#[test]
fn one_process_stalls_when_all_buffers_are_full() {
    let server = Server::start(&[]);
    let file = TempFile::new(&random_bytes(MUCH));
    let script = "exec \"$0\" --one-process --stall-timeout 0.3 \"$1\" <\"$2\"";
    let (output, received) = bytes(&mut shell(script, server.address, &file.path));
    let parts = ["stalled after ", " bytes: ", "300ms", "leave out --one-process"];
    assert_fails(&output, 1, &parts);
    assert!(received.is_empty());
    let words: Vec<&str> = output.stderr[0].split(' ').collect();
    let sent: usize = words[3].parse().unwrap();
    assert!((100_000..MUCH).contains(&sent), "{sent}");
    server.assert_no_worker_is_left();
    server.assert_serves();
}

#[test]
fn nobody_listens() {
    let (_reserved, address) = reserved_address();
    let port = address.port();
    for address in [port.to_string(), format!("127.0.0.1:{port}")] {
        let output = Program::start(Command::new(CLIENT).arg(&address)).output();
        let reason = format!("cannot connect to 127.0.0.1:{port}: Connection refused");
        assert_fails(&output, 69, &[&reason, "start one"]);
    }
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
        "+1",
        "127.0.0.1:+1",
        " 1",
    ] {
        let output = Program::start(Command::new(CLIENT).arg(address)).output();
        let reason = format!("cannot connect to {address}: ");
        assert_fails(&output, 2, &[&reason, "ADDRESS is PORT or HOST:PORT"]);
    }
}

#[test]
fn usage() {
    let output = |args: &[&str]| Program::start(Command::new(CLIENT).args(args)).output();
    output(&["--no-such-option"]).assert_usage("--no-such-option");
    output(&["1", "2"]).assert_usage("'2'");
    output(&["--stall-timeout", "1"]).assert_usage("--one-process");
    for value in NOT_SECONDS.into_iter().chain(["+5", " 5"]) {
        let timeout = format!("--stall-timeout={value}");
        output(&["--one-process", &timeout]).assert_usage("--stall-timeout");
    }
    let help = output(&["--help"]).stdout.join(" ");
    for code in ["0 every byte", "1 something else", "2 wrong usage", "69 cannot", "74", "70 any"] {
        assert!(help.contains(code), "{code}: {help}");
    }
}

#[test]
fn the_forms_of_an_address() {
    let file = TempFile::new(b"hello");
    let server = Server::start(&[]);
    let port = server.address.port();
    let addresses = [format!("{port}"), format!("localhost:{port}")];
    for address in addresses.into_iter().filter(|address| is_known_here(address)) {
        assert_result(&mut client(address, &file.path), b"hello");
    }
    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("skipped, no IPv6 here: {error}");
        return;
    }
    let server = Server::run(Command::new(crate::server::BINARY).arg("[::1]:0"));
    assert_result(&mut client(server.address, &file.path), b"hello");
}

/// The parent's copy keeps the connection open, so the end of the stream will not come.
#[test]
fn the_child_is_killed() {
    let server = Server::start(&[]);
    let client = Piped::start_and_talk(server.address);
    kill(client.program.child(), Signal::SIGKILL).unwrap();
    let parts = ["6 bytes sent, 6 bytes came back: ", "signal: 9"];
    assert_fails(&client.output(), 1, &parts);
    server.assert_no_worker_is_left();
}

#[test]
fn the_parent_is_killed() {
    let server = Server::start(&[]);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let client = Piped::start_and_talk(server.address);
        let (parent, child) = (client.program.pid(), client.program.child());
        client.program.signal(signal);
        let end = WaitStatus::Signaled(parent, signal, false);
        assert_eq!(client.program.end(), end);
        let killed = WaitStatus::Signaled(child, Signal::SIGKILL, false);
        assert_eq!(reap(child), killed);
        server.assert_no_worker_is_left();
    }
}

/// As a terminal sends it: to all processes of its foreground group.
#[test]
fn ctrl_c_ends_both() {
    let server = Server::start(&[]);
    let client = Piped::start_and_talk(server.address);
    let (parent, child) = (client.program.pid(), client.program.child());
    killpg(parent, Signal::SIGINT).unwrap();
    let end = WaitStatus::Signaled(parent, Signal::SIGINT, false);
    assert_eq!(client.program.end(), end);
    assert!(matches!(reap(child), WaitStatus::Signaled(..)));
    server.assert_no_worker_is_left();
}

/// As a terminal sends it when it goes, to the same group.
#[test]
fn a_hang_up_ends_both_but_not_under_nohup() {
    let server = Server::start(&[]);
    let start = |launcher: &str| {
        let (reader, stdin) = io::pipe().unwrap();
        let script = format!("exec {launcher} \"$0\" \"$1\" <\"$2\"");
        let program = Program::start(&mut shell(&script, server.address, &path_of(&reader)));
        let mut client = Piped { program, stdin };
        client.stdin.write_all(b"hello\n").unwrap();
        assert_eq!(client.program.stdout.next(), "hello");
        killpg(client.program.pid(), Signal::SIGHUP).unwrap();
        client
    };
    let client = start("env --default-signal=HUP");
    let end = WaitStatus::Signaled(client.program.pid(), Signal::SIGHUP, false);
    assert_eq!(client.program.end(), end);
    drop(client);

    let mut client = start("nohup");
    client.stdin.write_all(b"not disturbed\n").unwrap();
    assert_eq!(client.program.stdout.next(), "not disturbed");
    let Piped { program, stdin } = client;
    drop(stdin);
    assert_eq!(program.exit_code(), 0);
    server.assert_no_worker_is_left();
}

/// We could not wait for the child then.
#[test]
fn the_launcher_ignores_sigchld() {
    let server = Server::start(&[]);
    let file = TempFile::new(b"hello");
    let script = "exec env --ignore-signal=CHLD --block-signal=TERM \"$0\" \"$1\" <\"$2\"";
    assert_result(&mut shell(script, server.address, &file.path), b"hello");
}

#[test]
fn stdin_that_cannot_be_read() {
    let server = Server::start(&[]);
    let output = Program::start(&mut client(server.address, Path::new("/"))).output();
    assert_fails(&output, 74, &["cannot read stdin: Is a directory"]);

    let script = "exec \"$0\" \"$1\" 0>/dev/null";
    let output = Program::start(&mut shell(script, server.address, Path::new(""))).output();
    assert_fails(&output, 74, &["cannot read stdin: Bad file descriptor"]);

    // std opens the null device in its place, which is at its end.
    let script = "exec \"$0\" \"$1\" <&-";
    assert_result(&mut shell(script, server.address, Path::new("")), b"");
}

#[test]
fn stdout_that_cannot_be_written() {
    let server = Server::start(&[]);
    let file = TempFile::new(b"hello");
    let output = Program::start_to(full_device(), &mut client(server.address, &file.path)).output();
    assert_fails(&output, 74, &["cannot write to stdout: No space left"]);

    let script = "exec \"$0\" \"$1\" <\"$2\" 1</dev/null";
    let output = Program::start(&mut shell(script, server.address, &file.path)).output();
    assert_fails(&output, 74, &["cannot write to stdout: Bad file descriptor"]);
    server.assert_no_worker_is_left();
}

/// As with `| head -1`, also while the child has more to send.
#[test]
fn nobody_reads_stdout_any_more() {
    let server = Server::start(&[]);
    for size in [1, MUCH] {
        let file = TempFile::new(&random_bytes(size));
        let mut client = client(server.address, &file.path);
        let output = Program::start_to(closed_pipe(), &mut client).output();
        assert_eq!((output.code, output.stderr), (74, vec![]));
    }
    server.assert_no_worker_is_left();
}

/// Terminals and pipes are shared, and others may set them so.
#[test]
fn streams_that_do_not_block() {
    let server = Server::start(&[]);
    let sent = random_bytes(1 << 20);
    let file = TempFile::new(&sent);
    let (mut reader, writer) = io::pipe().unwrap();
    set_nonblocking(&writer);
    let program = Program::start_to(writer, &mut client(server.address, &file.path));
    // Full, and it waits for us.
    assert_sleeps(program.pid());
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!(program.exit_code(), 0);
    assert!(received == sent);
}

/// What somebody sees who sits at the terminal, and what they type.
struct Terminal {
    screen: File,
    unseen: String,
    path: PathBuf,
    /// Without it, a terminal that nobody has opened yet is a broken one.
    _line: std::os::fd::OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        set_nonblocking(&pty.master);
        Self {
            screen: pty.master.into(),
            unseen: String::new(),
            path: path_of(&pty.slave),
            _line: pty.slave,
        }
    }

    fn types(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).unwrap();
    }

    /// This comes next on the screen, and nothing else before it.
    #[track_caller]
    fn assert_shows(&mut self, text: &str) {
        let look = || {
            let mut bytes = [0; 1000];
            let length = self.screen.read(&mut bytes).unwrap_or(0);
            self.unseen += &String::from_utf8_lossy(&bytes[..length]);
            self.unseen.clone()
        };
        wait_until("on the screen", look, |unseen| unseen.len() >= text.len());
        let rest = self.unseen.strip_prefix(text);
        self.unseen = rest.unwrap_or_else(|| panic!("{text:?}, not {:?}", self.unseen)).to_owned();
    }
}

#[test]
fn at_a_terminal_there_is_a_prompt() {
    let server = Server::start(&[]);
    for (keys, shown) in [("q\n", "q\r\n"), ("Q\n", "Q\r\n"), ("\x04", "\r\n")] {
        for option in ["", "--one-process"] {
            let mut terminal = Terminal::new();
            let script = "exec \"$0\" $OPTION \"$1\" <\"$2\" >\"$2\"";
            let mut command = shell(script, server.address, &terminal.path);
            let program = Program::start(command.env("OPTION", option));
            terminal.assert_shows(PROMPT);
            terminal.types("hello\n");
            let (first, last) = match option {
                "" => ("Message from server: hello\r\n", ""),
                _ => ("", "Message from server: hello\r\n"),
            };
            terminal.assert_shows(&format!("hello\r\n{first}{PROMPT}"));
            terminal.types(keys);
            terminal.assert_shows(&format!("{shown}{last}"));
            assert_eq!(program.exit_code(), 0);
            assert_eq!(program.output().stderr, [""; 0]);
        }
    }
}

#[test]
fn at_a_terminal_the_server_leaves() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let script = "exec \"$0\" \"$1\" <\"$2\" >\"$2\"";
    let program = Program::start(&mut shell(script, server.address, &terminal.path));
    terminal.assert_shows(PROMPT);
    kill(server.assert_workers(1)[0], Signal::SIGKILL).unwrap();
    terminal.assert_shows("\r\n");
    assert_eq!(program.exit_code(), 1);
    assert_eq!(program.rest_of_group(), []);
}

/// The twins of the above.
#[test]
fn no_prompt_unless_both_streams_are_a_terminal() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut program = Program::start(&mut client(server.address, &terminal.path));
    terminal.types("hello\nq\n");
    assert_eq!(program.stdout.rest(), ["hello"]);
    assert_eq!(program.exit_code(), 0);
    terminal.assert_shows("hello\r\nq\r\n"); // the terminal's own echo

    let file = TempFile::new(b"from a file\n");
    let mut terminal = Terminal::new();
    let out = File::options().write(true).open(&terminal.path).unwrap();
    let program = Program::start_to(out, &mut client(server.address, &file.path));
    terminal.assert_shows("from a file\r\n");
    assert_eq!(program.exit_code(), 0);
    assert_eq!(terminal.unseen, "");
}
