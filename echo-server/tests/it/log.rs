//! The log, when nobody reads it: no line waits for a reader, and those that are lost are counted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::termios::{FlowArg, LocalFlags, SetArg, tcflow, tcgetattr, tcsetattr};
use test_support::{Program, TempDir, assert_sleeps, wait_until, without_stamp};

use crate::crash::take_all_memory;
use crate::server::{BINARY, Client, Model, Server, flood, is_root, reserved_address, threads};

/// What the server gets as its stderr, and the test reads, or does not.
struct Channel {
    /// A copy of the server's: the open file description is the same.
    servers: OwnedFd,
    reader: File,
    flags: i32,
    text: String,
}

impl Channel {
    fn new(servers: OwnedFd, reader: OwnedFd) -> Self {
        // The reader's is a description of its own.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Self {
            flags: fcntl(&servers, FcntlArg::F_GETFL).unwrap(),
            servers,
            reader: File::from(reader),
            text: String::new(),
        }
    }

    fn pipe(size: i32) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)).unwrap();
        Self::new(writer.into(), reader.into())
    }

    /// With as little room as there can be.
    fn socket(kind: SockType) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (servers, reader) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        setsockopt(&servers, sockopt::SndBuf, &1).unwrap();
        Self::new(servers, reader)
    }

    fn terminal() -> Self {
        let terminal = openpty(None, None).unwrap();
        Self::new(terminal.slave, terminal.master)
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let path = format!("/proc/self/fd/{}", self.servers.as_raw_fd());
        let mut options = OpenOptions::new();
        let mut own = options.write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        while own.write(&[b'\n'; 512]).is_ok() {}
        while own.write(b"\n").is_ok() {}
    }

    fn stdio(&self) -> Stdio {
        self.servers.try_clone().unwrap().into()
    }

    #[track_caller]
    fn start(&self, command: &mut Command) -> Server {
        Server::of(self.start_program(command.stdout(Stdio::piped())))
    }

    fn start_program(&self, command: &mut Command) -> Program {
        Program::try_start(command.stderr(self.stdio())).unwrap()
    }

    /// Takes what is there.
    fn read(&mut self) -> &str {
        let mut buffer = [0; 8192];
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) | Err(_) => return &self.text,
                Ok(length) => self.text += str::from_utf8(&buffer[..length]).unwrap(),
            }
        }
    }

    #[track_caller]
    fn assert_flags_are_the_same(&self) {
        let flags = fcntl(&self.servers, FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags, self.flags, "the launcher's flags");
    }
}

fn is_stamped(line: &str) -> bool {
    without_stamp(line) != line
}

/// How many sessions the text tells of, or says that the lines about them were lost. Every line in
/// it is whole.
#[track_caller]
fn told(text: &str) -> usize {
    let of = |line: &str| {
        let event = without_stamp(line).strip_prefix("echo-server: ");
        let event = event.unwrap_or_else(|| panic!("a line that is not whole: {line:?}"));
        assert!(is_stamped(line), "{line:?}");
        if event.ends_with(" has ended its stream") {
            return 1;
        }
        let lost = event
            .strip_suffix(" lines were lost: stderr had no room")
            .or_else(|| event.strip_suffix(" line was lost: stderr had no room"));
        let others = ["sandbox: ", "no new clients"];
        assert!(lost.is_some() || others.iter().any(|start| event.starts_with(start)), "{line:?}");
        lost.map_or(0, |number| number.parse().unwrap())
    };
    text.lines().map(|line| of(line.trim_end())).sum()
}

/// Nobody reads while there are so many sessions; then somebody does. Every session is served, and
/// every one is in the log, if only as a lost line.
#[track_caller]
fn assert_loses_lines_only(
    mut channel: Channel,
    command: &mut Command,
    mut sessions: usize,
    flow: impl Fn(&Channel, FlowArg),
) {
    let server = channel.start(command);
    // The lines about the sandbox come after the one on stdout, and before that of a session.
    server.assert_serves();
    sessions += 1;
    wait_until(
        "the first session's line",
        || channel.read().to_owned(),
        |text| text.contains(" has ended its stream"),
    );
    flow(&channel, FlowArg::TCOOFF);
    (1..sessions).for_each(|_| server.assert_serves());
    // On a busy machine, clients are served and nobody has tried to log that yet.
    let states = || server.workers().into_iter().flat_map(threads).collect();
    wait_until("workers at rest", states, |all: &Vec<_>| !all.contains(&Some('R')));
    flow(&channel, FlowArg::TCOON);
    wait_until(
        "the number of lost lines",
        || {
            // Workers of a pool report with their next line.
            server.assert_serves();
            sessions += 1;
            channel.read().to_owned()
        },
        |text| text.contains(" lost: "),
    );
    channel.assert_flags_are_the_same();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
    channel.assert_flags_are_the_same();
    let text = channel.read();
    // A terminal has no room for a moment while another process writes to it, so that also this line
    // may be among the lost ones.
    let others = usize::from(!text.contains("no new clients"));
    assert_eq!(told(text), sessions + others, "{text}");
}

/// Of a terminal: Ctrl-S, Ctrl-Q.
fn flow(terminal: &Channel, action: FlowArg) {
    tcflow(&terminal.servers, action).unwrap();
}

fn no_flow(_: &Channel, _: FlowArg) {}

/// The smallest pipe has one.
const PAGE: i32 = 4096;

const OPTIONS: [&str; 3] = ["-v", "--workers", "2"];

models!(a_pipe_that_nobody_reads);
fn a_pipe_that_nobody_reads(model: Model) {
    let command = &mut model.command(&[], &OPTIONS);
    assert_loses_lines_only(Channel::pipe(PAGE), command, 400, no_flow);
}

models!(a_stream_socket_that_nobody_reads);
fn a_stream_socket_that_nobody_reads(model: Model) {
    let command = &mut model.command(&[], &OPTIONS);
    let channel = Channel::socket(SockType::Stream);
    assert_loses_lines_only(channel, command, 100, no_flow);
}

models!(a_datagram_socket_that_nobody_reads);
fn a_datagram_socket_that_nobody_reads(model: Model) {
    let command = &mut model.command(&[], &OPTIONS);
    let channel = Channel::socket(SockType::Datagram);
    assert_loses_lines_only(channel, command, 100, no_flow);
}

models!(a_terminal_that_is_stopped);
fn a_terminal_that_is_stopped(model: Model) {
    let command = &mut model.command(&[], &OPTIONS);
    assert_loses_lines_only(Channel::terminal(), command, 50, flow);
}

/// Without /proc, the pipe cannot be opened again.
const WITHOUT_PROC: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""];

fn can_hide_proc() -> bool {
    let [unshare, rest @ ..] = WITHOUT_PROC;
    let mut probe = Command::new(unshare);
    let probe = Program::try_start(probe.args(rest).arg("true"));
    let works = is_root() && probe.is_ok_and(|probe| probe.exit_code() == 0);
    if !works {
        println!("skipped: needs root, and the right to make namespaces");
    }
    works
}

models!(a_pipe_that_cannot_be_opened_again);
fn a_pipe_that_cannot_be_opened_again(model: Model) {
    if can_hide_proc() {
        let command = &mut model.command(&WITHOUT_PROC, &OPTIONS);
        assert_loses_lines_only(Channel::pipe(4 * PAGE), command, 400, no_flow);
    }
}

models!(a_terminal_that_cannot_be_opened_again);
fn a_terminal_that_cannot_be_opened_again(model: Model) {
    if can_hide_proc() {
        let command = &mut model.command(&WITHOUT_PROC, &OPTIONS);
        assert_loses_lines_only(Channel::terminal(), command, 50, flow);
    }
}

models!(a_pipe_that_is_full_from_the_start);
/// And nobody ever reads: neither the start nor the end waits for that.
fn a_pipe_that_is_full_from_the_start(model: Model) {
    let channel = Channel::pipe(PAGE);
    channel.fill();
    let server = channel.start(&mut model.command(&[], &["-v"]));
    let mut client = server.connect();
    client.assert_echo(b"served");
    server.program.signal(Signal::SIGUSR1);
    server.assert_serves();
    server.program.signal(Signal::SIGTERM);
    client.assert_echo(b"still served");
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
    channel.assert_flags_are_the_same();

    let mut command = model.command(&[], &["--user", "no-such-user"]);
    let failing = channel.start_program(command.stdout(Stdio::null()));
    assert_eq!(failing.exit_code(), 2);
}

models!(a_lost_line_is_reported_although_nothing_happens);
fn a_lost_line_is_reported_although_nothing_happens(model: Model) {
    let mut channel = Channel::pipe(PAGE);
    let server = channel.start(&mut model.command(&[], &["--workers", "1"]));
    server.assert_serves();
    server.assert_is_at_rest(model);
    channel.fill();
    server.program.signal(Signal::SIGUSR1);
    assert_sleeps(server.program.pid());
    wait_until(
        "the number of lost lines",
        || channel.read().to_owned(),
        |text| text.contains(" 1 line was lost: "),
    );
}

models!(a_first_line_for_which_there_is_no_room);
/// On stdout. Before it was written, TERM could not end the server.
fn a_first_line_for_which_there_is_no_room(model: Model) {
    let stdout = Channel::pipe(PAGE);
    stdout.fill();
    let (_reserved, address) = reserved_address();
    let mut command = Command::new(BINARY);
    command.args([&address.to_string(), "--model", model.0]);
    let mut program = Program::start_to(stdout.stdio(), &mut command);
    let line = program.stderr.next_with("stdout");
    let start = format!("echo-server: listening on {address} ({}, pid ", model.0);
    assert!(line.starts_with(&start), "{line}");
    assert!(Client::connect(address).unwrap().session(b"served").unwrap() == b"served");
    program.signal(Signal::SIGTERM);
    assert_eq!(program.exit_code(), 0);
    stdout.assert_flags_are_the_same();
}

models!(a_report_of_std_waits_for_no_reader, multiplex);
/// std reports to stderr, and not to the log, that a worker has run out of memory. See
/// `a_worker_that_runs_out_of_memory_ends`.
fn a_report_of_std_waits_for_no_reader(model: Model) {
    let channel = Channel::pipe(PAGE);
    let server = channel.start(&mut model.command(&[], &["--max-children", "0"]));
    let (mut client, worker) = server.connect_and_see_worker();
    channel.fill();
    if take_all_memory(&server, worker).is_some() {
        client.assert_is_cut_off();
        server.assert_serves();
        channel.assert_flags_are_the_same();
    }
}

models!(lines_of_many_workers_are_not_mixed);
/// Neither in a file nor in a pipe with a reader, and none is lost there.
fn lines_of_many_workers_are_not_mixed(model: Model) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log");
    let mut command = model.command(&[], &["-v", "--workers", "8"]);
    let stderr = File::create(&path).unwrap();
    let program = Program::try_start(command.stdout(Stdio::piped()).stderr(stderr)).unwrap();
    let server = Server::of(program);
    assert_eq!(flood(server.address, 60, 8), [""; 0]);
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(" lost: "), "{text}");
    assert_eq!(told(&text), 60);

    let mut server = Server::run(&mut command);
    assert_eq!(flood(server.address, 60, 8), [""; 0]);
    server.program.signal(Signal::SIGTERM);
    let lines = server.program.stderr.rest();
    let ends = lines.iter().filter(|line| line.ends_with(" has ended its stream"));
    assert_eq!(ends.count(), 60, "{lines:?}");
}

models!(the_journal_stamps_lines_itself);
/// systemd.exec(5): the variable has to name the very file that stderr is.
fn the_journal_stamps_lines_itself(model: Model) {
    for (whose, stamped) in [("2", false), ("0", true)] {
        let script = format!(
            "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/{whose}); exec \"$0\" \"$@\""
        );
        let mut channel = Channel::pipe(PAGE);
        let server = channel.start(&mut model.command(&["sh", "-c", &script], &["-v"]));
        server.assert_serves();
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
        let text = channel.read();
        assert!(text.contains(" has ended its stream"), "{text}");
        for line in text.lines() {
            assert_eq!(is_stamped(line), stamped, "{line}");
            assert!(without_stamp(line).starts_with("echo-server: "), "{line}");
        }
    }
}

models!(a_terminal_that_stops_those_who_write_in_the_background);
/// Which workers do: they are not in its foreground group (`stty tostop`).
fn a_terminal_that_stops_those_who_write_in_the_background(model: Model) {
    let terminal = openpty(None, None).unwrap();
    let mut modes = tcgetattr(&terminal.slave).unwrap();
    modes.local_flags.insert(LocalFlags::TOSTOP);
    tcsetattr(&terminal.slave, SetArg::TCSANOW, &modes).unwrap();
    let mut channel = Channel::new(terminal.slave, terminal.master);
    let mut command = model.command(&["setsid", "--wait", "--ctty"], &OPTIONS);
    command.stdout(Stdio::piped()).stderr(channel.stdio());
    let stdin = channel.servers.try_clone().unwrap();
    let program = match Program::try_start_from(stdin, &mut command) {
        Ok(program) => Server::of(program),
        Err(error) => return println!("skipped: needs setsid(1): {error}"),
    };
    program.assert_serves();
    wait_until(
        "the worker's line",
        || channel.read().to_owned(),
        |text| text.contains(" has ended its stream"),
    );
    let server = program.program.child();
    kill(server, Signal::SIGTERM).unwrap();
    assert_eq!(program.program.exit_code(), 0);
}

/// A socket may take a part of a line. The next line then begins on a line of its own.
#[test]
fn a_line_that_has_gone_out_in_part() {
    // A name that is as long as the server's longest lines, and that it logs when it is gone.
    let top = TempDir::new().unwrap();
    let place = top.path().join(vec!["d".repeat(250); 14].join("/"));
    fs::create_dir_all(&place).unwrap();
    let program = place.join("echo-server");
    symlink(BINARY, &program).unwrap();
    let mut channel = Channel::socket(SockType::Stream);
    let server = channel.start(Command::new(&program).args(["0", "--sandbox=off"]));
    fs::remove_file(&program).unwrap();

    let is_cut = |line: &str| line.contains("cannot upgrade") && !line.ends_with("still serving");
    let mut turns = 0;
    let text = wait_until(
        "a part of a line, and more lines after it",
        || {
            // With more or less in the socket before the long line.
            turns += 1;
            for _ in 0..turns % 7 {
                server.program.signal(Signal::SIGUSR1);
                assert_sleeps(server.program.pid());
            }
            server.program.signal(Signal::SIGUSR2);
            assert_sleeps(server.program.pid());
            channel.read().to_owned()
        },
        |text| text.ends_with('\n') && text.lines().any(is_cut) && text.contains(" lost: "),
    );
    for line in text.lines() {
        assert!(is_stamped(line) && line.matches("echo-server: ").count() == 1, "{line}");
    }
}

/// A pipe takes this much whole or not at all.
#[test]
fn a_line_that_is_too_long_is_cut() {
    let (reader, writer) = io::pipe().unwrap();
    let mut channel = Channel::new(writer.into(), reader.into());
    let address = "ä".repeat(4000);
    let mut command = Command::new(BINARY);
    let failing = channel.start_program(command.arg(&address).stdout(Stdio::null()));
    assert_eq!(failing.exit_code(), 2);
    let text = channel.read();
    assert!(text.len() <= libc::PIPE_BUF, "{}", text.len());
    assert!(text.len() > libc::PIPE_BUF - 4, "{}", text.len());
    assert!(text.ends_with("ä…\n"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
