//! Started by a service manager: the listener may be its, and it is told how things stand.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, getsockopt, setsockopt, shutdown, sockopt};
use nix::unistd::Pid;
use test_support::{LIMIT, Program, TempDir, assert_sleeps, number, reap, stat};

use crate::cut_off::connect_with_small_buffers;
use crate::models::{command, in_every_model, served};
use crate::server::{BINARY, Model, Server, random_bytes, reserved_address};
use crate::shortage::assert_rest;

/// Starts the server as sd_listen_fds(3) says, with `sockets` times this socket.
fn hand_over(socket: impl Into<OwnedFd>, sockets: i32, model: &str) -> Program {
    hand_over_to(BINARY.as_ref(), &[], socket, sockets, model)
}

/// The same with another server, and more options.
pub(crate) fn hand_over_to(
    server: &OsStr,
    options: &[&str],
    socket: impl Into<OwnedFd>,
    sockets: i32,
    model: &str,
) -> Program {
    const SCRIPT: &str = "export LISTEN_PID=$$ LISTEN_FDS=$1; shift
        exec \"$0\" \"$@\" 3<&0 4<&0 </dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", SCRIPT])
        .arg(server)
        .args([&sockets.to_string(), "--workers", "1", "--model", model])
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Program::try_start_from(socket.into(), &mut command).unwrap()
}

#[test]
fn a_listener_is_handed_over() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        if let Err(error) = TcpListener::bind(host) {
            println!("skipped, no {host} here: {error}");
            continue;
        }
        in_every_model(|model| {
            let listener = TcpListener::bind(host).unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::of(hand_over(listener, 1, model));
            assert_eq!(server.address, address);
            server.assert_serves();
            server.program.signal(Signal::SIGTERM);
            assert_eq!(server.program.exit_code(), 0);
        });
    }
}

/// It is not ours: its owner may start another server on it, and lose no client between the two.
#[test]
fn a_listener_that_was_handed_over_outlives_the_server() {
    outlives_the_server(&[]);
}

/// Its queue is not the server's to serve at TERM, and new clients must still get into it.
#[test]
fn the_queue_of_a_listener_that_was_handed_over_is_left_to_the_next_server() {
    outlives_the_server(&["--drain-backlog"]);
}

fn outlives_the_server(options: &[&str]) {
    in_every_model(|model| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let handed = listener.try_clone().unwrap();
        let mut server = Server::of(hand_over_to(BINARY.as_ref(), options, handed, 1, model));
        let session = served(&server);
        // Who has just accepted a client may accept another one before it sees that it is to stop.
        assert_sleeps(server.maker());
        server.program.signal(Signal::SIGTERM);
        server.program.stderr.next_with("no new clients");
        let mut waiting = server.connect();
        drop(session);
        assert_eq!(server.program.exit_code(), 0);
        waiting.assert_hears_nothing();

        let mut next = Server::of(hand_over(listener.try_clone().unwrap(), 1, model));
        waiting.assert_echo(b"patience");
        // Nor is it the next one's after an upgrade.
        next.program.signal(Signal::SIGUSR2);
        let line = next.program.stderr.next_with("has taken over");
        let pid = line.split(' ').find(|word| word.parse::<i32>().is_ok());
        let pid = number(pid.unwrap(), "");
        drop(waiting);
        assert_eq!(next.program.exit_code(), 0);
        kill(pid, Signal::SIGTERM).unwrap();
        reap(pid);
        TcpStream::connect(server.address).unwrap();
    });
}

models!(a_listener_that_lingers_is_served_as_any_other);
/// An accepted connection inherits SO_LINGER from its listener. With a time of 0, a client that has not
/// read everything would lose the rest at the end. With another time, the worker would wait for it.
fn a_listener_that_lingers_is_served_as_any_other(model: Model) {
    for time in [0, 60] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let linger = libc::linger { l_onoff: 1, l_linger: time };
        setsockopt(&listener, sockopt::Linger, &linger).unwrap();
        let server = Server::of(hand_over(listener.try_clone().unwrap(), 1, model.0));
        let sent = random_bytes(64 << 10);
        let mut client = connect_with_small_buffers(server.address);
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // Its bytes are in the kernel's buffer for it, and the next client does not wait for them.
        server.assert_serves();
        server.assert_is_at_rest(model);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == sent);
        // The listener is its owner's, so it keeps its setting.
        let after = getsockopt(&listener, sockopt::Linger).unwrap();
        assert_eq!((after.l_onoff, after.l_linger), (1, time));
    }
}

/// It is readable all the time then.
#[test]
fn a_listener_that_its_owner_shuts_down_costs_nothing() {
    in_every_model(|model| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::of(hand_over(listener.try_clone().unwrap(), 1, model));
        server.assert_serves();
        shutdown(listener.as_raw_fd(), socket::Shutdown::Both).unwrap();
        assert_rest(&[server.program.pid()]);
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
    });
}

#[test]
fn what_cannot_be_served_is_refused() {
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = |program: Program, reason: &str| {
        let output = program.output();
        let start = "echo-server: cannot use what LISTEN_FDS announces: ";
        assert_eq!(output.code, 69, "{output:?}");
        assert_eq!(output.stderr.len(), 1, "{output:?}");
        assert!(output.stderr[0].starts_with(start), "{output:?}");
        assert!(output.stderr[0].contains(reason), "{output:?}");
    };
    in_every_model(|model| {
        refused(hand_over(listener(), 2, model), "there are 2 sockets");
        let reason = "there are 2147483647 sockets"; // no list of them all fits into memory
        refused(hand_over(listener(), i32::MAX, model), reason);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        refused(hand_over(udp, 1, model), "it is a UDP socket, and only TCP");
        let file = File::open("/dev/null").unwrap();
        refused(hand_over(file, 1, model), "not a socket");
        let (datagrams, _other) = UnixDatagram::pair().unwrap();
        let reason = "it is a Unix datagram socket, and only TCP is served; ";
        refused(hand_over(datagrams, 1, model), reason);
        let (stream, _other) = UnixStream::pair().unwrap();
        let reason = "it is a Unix stream socket, and only TCP is served; ";
        refused(hand_over(stream, 1, model), reason);
        let kept = listener(); // or it would reset the connection
        let connection = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
        let reason = "it is a connection to one client, and not a listener; ";
        refused(hand_over(connection, 1, model), reason);
        let (unused, _) = reserved_address();
        refused(hand_over(unused, 1, model), "it does not listen; ");
    });
}

/// As by inetd for each client, or with `wait`, or by systemd with `Accept=yes`.
#[test]
fn a_network_socket_as_stdin_is_refused() {
    let start = |stdin: OwnedFd, model: &str| {
        let mut command = command(model, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Program::try_start_from(stdin, &mut command).unwrap()
    };
    in_every_model(|model| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut sockets = vec![listener.into(), accepted.into()];
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            sockets.push(listener.into());
        }
        sockets.push(UdpSocket::bind("127.0.0.1:0").unwrap().into());
        for socket in sockets {
            let output = start(socket, model).output();
            let reason = "echo-server: cannot serve a client or a listener on stdin, ";
            assert_eq!(output.code, 69, "{output:?}");
            assert_eq!(output.stderr.len(), 1, "{output:?}");
            assert!(output.stderr[0].starts_with(reason), "{output:?}");
            assert_eq!(output.stdout, [""; 0]);
        }
        drop(client);

        // Of a Unix socket, as sshd has them, nothing follows.
        let (stdin, _other) = UnixStream::pair().unwrap();
        Server::of(start(stdin.into(), model)).assert_serves();
    });
}

/// With StandardInput=socket, systemd hands over the listener twice.
#[test]
fn a_listener_that_is_stdin_as_well_is_served() {
    const SCRIPT: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" 3<&0";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, BINARY]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = Program::try_start_from(OwnedFd::from(listener), &mut command).unwrap();
    Server::of(program).assert_serves();
}

/// A service manager that listens to its services.
struct Manager {
    socket: UnixDatagram,
    /// For `NOTIFY_SOCKET`.
    path: PathBuf,
    /// Removed with the socket when the test ends.
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        // Not in the build directory: the path of a socket has to be short.
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket, path, _folder: folder }
    }

    #[track_caller]
    fn assert_hears(&self, expected: &str) {
        assert_eq!(self.next(), expected);
    }

    fn next(&self) -> String {
        let mut buffer = [0; 256];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                // As any read with a time limit, see `Client`.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.unwrap(),
            }
        };
        str::from_utf8(&buffer[..length]).unwrap().trim().to_owned()
    }
}

#[test]
fn the_service_manager_is_told() {
    in_every_model(|model| {
        let manager = Manager::new();
        let mut server = Server::run(command(model, &[]).env("NOTIFY_SOCKET", &manager.path));
        manager.assert_hears("READY=1");
        server.assert_serves();

        let session = served(&server);
        server.program.signal(Signal::SIGUSR2);
        let pid = number(&manager.next(), "MAINPID=");
        // systemd does not wait for a main process that is not its own child.
        assert_eq!(stat(pid).unwrap().parent, Pid::this());
        let line = server.program.stderr.next_with("has taken over");
        assert!(line.contains(&format!(" {pid} ")), "{line}");
        drop(session);
        assert_eq!(server.program.exit_code(), 0);

        kill(pid, Signal::SIGTERM).unwrap();
        manager.assert_hears("STOPPING=1");
        reap(pid);
        manager.socket.set_nonblocking(true).unwrap();
        manager.socket.recv(&mut [0]).unwrap_err(); // there is no more
    });
}

/// "Ready" is the truth: a client that comes then is served.
#[test]
fn ready_means_that_clients_may_come() {
    in_every_model(|model| {
        let manager = Manager::new();
        let (_reserved, address) = reserved_address();
        let mut server = Command::new(BINARY);
        server.args([&address.to_string(), "--model", model]);
        let server = Program::start(server.env("NOTIFY_SOCKET", &manager.path));
        manager.assert_hears("READY=1");
        TcpStream::connect(address).unwrap();
        drop(server);
    });
}

#[test]
fn a_service_manager_that_is_not_there_stops_nobody() {
    in_every_model(|model| {
        let nowhere = "/nonexistent/notify";
        let mut server = Server::run(command(model, &[]).env("NOTIFY_SOCKET", nowhere));
        let line = server.program.stderr.next_with("service manager");
        let start = "echo-server: cannot tell the service manager: ";
        assert!(line.starts_with(start), "{line}");
        server.assert_serves();
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
    });
}
