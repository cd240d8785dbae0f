//! How sessions end that do not come to their own end. One that is cut off while its worker has
//! bytes that it has read and not sent ends in an error: the regular end of the stream would tell
//! the client that it has got everything.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::panic;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use test_support::{LIMIT, Program, reap, wait_until};

use crate::errors::{strace_works, tampering};
use crate::models::in_every_model;
use crate::server::{Client, Model, Server, random_bytes, threads};

/// Why a session is cut off.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cause {
    WriteTimeout,
    SessionTimeout,
    DrainTimeout,
    Quit,
    WorkerKilled,
    SupervisorKilled,
}

impl Cause {
    fn is_timeout(self) -> bool {
        matches!(self, Cause::WriteTimeout | Cause::SessionTimeout)
    }
}

/// Those that come as soon as we want.
const CAUSES: [Cause; 4] =
    [Cause::DrainTimeout, Cause::Quit, Cause::WorkerKilled, Cause::SupervisorKilled];

models!(a_session_that_is_cut_off_ends_in_an_error);
fn a_session_that_is_cut_off_ends_in_an_error(model: Model) {
    with_small_buffers(|| for_each_cause(&CAUSES, |cause| assert_error(model, cause)));
}

/// All models at the same time, as each waits for its timeouts.
#[test]
fn a_timeout_that_cuts_off_a_session_ends_it_in_an_error() {
    let causes = [Cause::WriteTimeout, Cause::SessionTimeout];
    with_small_buffers(|| {
        in_every_model(|model| for_each_cause(&causes, |cause| assert_error(Model(model), cause)));
    });
}

fn assert_error(model: Model, cause: Cause) {
    let (sent, received, end) = cut_off(model, &[], cause);
    assert!(sent.starts_with(&received), "{cause:?}");
    let error = end.map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::ConnectionReset), "{cause:?}");
}

models!(without_linger_bytes_are_lost_in_silence);
/// The control of the tests above.
fn without_linger_bytes_are_lost_in_silence(model: Model) {
    if strace_works() {
        with_small_buffers(|| for_each_cause(&CAUSES, |cause| assert_silence(model, cause)));
    }
}

#[test]
fn without_linger_a_timeout_loses_bytes_in_silence() {
    if strace_works() {
        with_small_buffers(|| in_every_model(|it| assert_silence(Model(it), Cause::WriteTimeout)));
    }
}

/// setsockopt(2) says that it has set SO_LINGER, and has not.
fn assert_silence(model: Model, cause: Cause) {
    const STRACE: [&str; 8] = tampering("trace=setsockopt", "inject=setsockopt:retval=0");
    let (sent, received, end) = cut_off(model, &STRACE, cause);
    assert!(sent.starts_with(&received), "{cause:?}");
    assert!(received.len() < sent.len(), "{cause:?}");
    end.unwrap_or_else(|error| panic!("{cause:?}: {error}"));
}

models!(with_small_buffers_a_slow_reader_gets_every_byte);
/// It ends its stream long before it has read everything. Bytes for it are still in the kernel's
/// buffers when its worker has finished.
fn with_small_buffers_a_slow_reader_gets_every_byte(model: Model) {
    with_small_buffers(|| {
        let server = model.start(&["--workers", "1"]);
        let mut client = connect_with_small_buffers(server.address);
        let sent = random_bytes(400_000);
        let mut received = Vec::new();
        thread::scope(|scope| {
            let mut writer = client.try_clone().unwrap();
            let sent = &sent;
            scope.spawn(move || {
                writer.write_all(sent).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut piece = [0; 4096];
            loop {
                match client.read(&mut piece).unwrap() {
                    0 => break,
                    length => received.extend_from_slice(&piece[..length]),
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        assert_eq!(received.len(), sent.len());
        assert!(received == sent);
    });
}

models!(an_idle_timeout_is_a_proper_end);
/// The worker has sent everything, although the client has not read it yet.
fn an_idle_timeout_is_a_proper_end(model: Model) {
    assert_ends_properly(model, "--idle-timeout=0.3", "was silent for too long");
}

models!(a_session_timeout_is_a_proper_end_when_nothing_is_unsent);
fn a_session_timeout_is_a_proper_end_when_nothing_is_unsent(model: Model) {
    assert_ends_properly(model, "--session-timeout=0.5", "was connected for too long");
}

fn assert_ends_properly(model: Model, timeout: &str, reason: &str) {
    let mut server = model.start(&["--verbose", timeout]);
    let mut client = server.connect();
    let sent = random_bytes(10_000);
    client.stream().write_all(&sent).unwrap();
    server.program.stderr.next_with(reason);
    let mut received = Vec::new();
    client.stream().read_to_end(&mut received).unwrap();
    assert!(received == sent);
}

models!(a_client_that_is_refused_sees_an_error);
/// It may have sent something already, which nobody has read.
fn a_client_that_is_refused_sees_an_error(model: Model) {
    let server = model.start(&["--max-per-source", "1", "--workers", "2"]);
    let _served = server.connect_many(1);
    // The reset may come before connect(2) has returned.
    let refused = Client::connect(server.address);
    let end = refused.and_then(|mut client| client.stream().read(&mut [0]));
    let error = end.map_err(|error| error.kind());
    assert_eq!(error, Err(ErrorKind::ConnectionReset));
}

/// All of them at the same time, as they wait most of the time.
fn for_each_cause(causes: &[Cause], check: impl Fn(Cause) + Sync) {
    thread::scope(|scope| {
        for cause in causes {
            scope.spawn(|| check(*cause));
        }
    });
}

/// Cuts off a session while its worker has bytes that it cannot send. Returns what the client has
/// sent, what it has received, and how its stream has ended.
fn cut_off(model: Model, launcher: &[&str], cause: Cause) -> (Vec<u8>, Vec<u8>, io::Result<usize>) {
    let (mut server, mut stuck) = start_and_get_stuck(model, launcher, cause);
    let worker = stuck.worker;
    match cause {
        Cause::WriteTimeout => {
            server.program.stderr.next_with("took nothing for too long");
        }
        Cause::SessionTimeout => {
            let line = server.program.stderr.next_with("for too long");
            let end = " was connected for too long, disconnected";
            assert!(line.ends_with(end), "{line}");
        }
        Cause::DrainTimeout => {
            server.program.signal(Signal::SIGTERM);
            assert_eq!(server.program.exit_code(), 1);
        }
        Cause::Quit => {
            server.program.signal(Signal::SIGQUIT);
            assert_eq!(server.program.exit_code(), 1);
        }
        Cause::WorkerKilled => {
            kill(worker, Signal::SIGKILL).unwrap();
            server.program.stderr.next_with("failed: signal: 9");
        }
        Cause::SupervisorKilled => {
            server.program.signal(Signal::SIGKILL);
            reap(worker);
        }
    }
    // The worker logs the end a moment before it closes the connection. If the client read now, the
    // worker might still send something.
    let connection = || queues(stuck.server, stuck.client);
    wait_until("the end of the connection", connection, |queues| {
        queues.is_none_or(|queues| !queues.is_open)
    });
    let mut received = Vec::new();
    let end = stuck.stream.read_to_end(&mut received);
    (stuck.sent, received, end)
}

fn start_and_get_stuck(model: Model, launcher: &[&str], cause: Cause) -> (Server, Stuck) {
    // On a busy machine, a timeout may be over before we have seen that the worker is stuck. Then we
    // begin again with a longer one.
    let mut times = 1;
    loop {
        let timeout = match cause {
            // From the moment when the worker is stuck.
            Cause::WriteTimeout => format!("--write-timeout={}", 2 * times),
            // From the beginning of the session.
            Cause::SessionTimeout => format!("--session-timeout={}", 8 * times),
            _ => "--drain-timeout=0.1".to_owned(),
        };
        let server = model.start_by(launcher, &["--workers=1", "--verbose", &timeout]);
        match Stuck::try_new(&server) {
            Ok(stuck) => return (server, stuck),
            Err(_) if cause.is_timeout() && times < 8 => times *= 2,
            Err(error) => panic!("{cause:?}: {error}"),
        }
    }
}

/// A client that reads nothing. Its worker has read bytes that it cannot send, and there is nothing
/// more for the worker to read.
pub(crate) struct Stuck {
    pub(crate) stream: TcpStream,
    pub(crate) sent: Vec<u8>,
    /// Before the last of it was.
    pub(crate) last_sent: Instant,
    client: SocketAddr,
    server: SocketAddr,
    worker: Pid,
}

impl Stuck {
    /// Of a server with one worker.
    #[track_caller]
    pub(crate) fn new(server: &Server) -> Self {
        Self::try_new(server).unwrap()
    }

    /// Fails if the server ends the session first.
    fn try_new(server: &Server) -> io::Result<Self> {
        let stream = connect_with_small_buffers(server.address);
        let mut stuck = Self {
            client: stream.local_addr()?,
            server: server.address,
            worker: server.worker(),
            stream,
            sent: Vec::new(),
            last_sent: Instant::now(),
        };
        // Each is less than the worker reads at a time.
        while !stuck.is_stuck_after(8_000)? {}
        Ok(stuck)
    }

    /// Sends so many bytes, and waits until they are back here, or with the worker.
    fn is_stuck_after(&mut self, length: usize) -> io::Result<bool> {
        let piece = random_bytes(length);
        self.last_sent = Instant::now();
        self.stream.write_all(&piece)?;
        self.sent.extend(piece);
        // We read one queue after the other, and bytes may move in between. So we trust only what two
        // looks in a row have shown.
        let mut before = None;
        let look = || {
            let is_asleep = threads(self.worker).iter().all(|it| *it == Some('S'));
            let [ours, servers] = both_queues(self.client, self.server);
            if !ours.is_some_and(|ours| ours.is_established) {
                return Some(Err(io::Error::other("the server has ended the session")));
            }
            let now = ours.zip(servers)?;
            let is_same = before.replace(now) == Some(now);
            let has_arrived = now.0.to_send == 0 && now.1.to_read == 0;
            (is_same && is_asleep && has_arrived).then_some(Ok(now))
        };
        let (ours, servers) = wait_until("bytes at rest", look, Option::is_some).unwrap()?;
        // Bytes that have arrived and are not acknowledged yet count twice, so this never claims too
        // much.
        Ok(self.sent.len() > ours.to_read + servers.to_send)
    }
}

/// What the kernel says of one end of a connection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Queues {
    to_send: usize,
    to_read: usize,
    /// Whether a process has it.
    is_open: bool,
    /// Whether neither end has closed it.
    is_established: bool,
    /// 2: the next one that expires is that of keepalive.
    pub(crate) timer: u8,
}

/// `None` if there is no such socket in the network of this thread.
pub(crate) fn queues(own: SocketAddr, others: SocketAddr) -> Option<Queues> {
    queues_in(&connections(), own, others)
}

/// Of a connection between two sockets of this thread's network.
fn both_queues(one: SocketAddr, other: SocketAddr) -> [Option<Queues>; 2] {
    let table = connections();
    [queues_in(&table, one, other), queues_in(&table, other, one)]
}

/// See `proc_net_tcp` among the kernel's documents.
fn connections() -> String {
    // With room from the start: for each read, the kernel goes through a table of all networks.
    let mut table = String::with_capacity(1 << 16);
    let mut file = fs::File::open("/proc/thread-self/net/tcp").unwrap();
    file.read_to_string(&mut table).unwrap();
    table
}

fn queues_in(table: &str, own: SocketAddr, others: SocketAddr) -> Option<Queues> {
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let port = |address: &str| address.rsplit_once(':').map(|(_, port)| number(port));
    let mut sockets = table.lines().skip(1).map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields
    });
    let ports = [own, others].map(|address| Some(address.port().into()));
    let fields = sockets.find(|fields| [port(fields[1]), port(fields[2])] == ports)?;
    let (to_send, to_read) = fields[4].split_once(':').unwrap();
    let (timer, _) = fields[5].split_once(':').unwrap();
    Some(Queues {
        to_send: number(to_send),
        to_read: number(to_read),
        is_open: fields[9] != "0",
        is_established: fields[3] == "01",
        timer: number(timer).try_into().unwrap(),
    })
}

/// A client for whom few bytes fit into the buffer that it reads from.
pub(crate) fn connect_with_small_buffers(address: SocketAddr) -> TcpStream {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &4096).unwrap();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Runs a test in a network of its own, in which the kernel buffers little of what is sent.
pub(crate) fn with_small_buffers(test: impl FnOnce() + Send) {
    // The namespace is that of one thread, and of the processes and threads that it starts.
    let in_namespace = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("skipped: needs the right to make a network namespace: {error}");
            return;
        }
        let mut up = Command::new("ip");
        up.args(["link", "set", "lo", "up"]);
        match Program::try_start(&mut up).map(|up| up.exit_code()) {
            Ok(0) => {}
            result => {
                println!("skipped: needs ip(8): {result:?}");
                return;
            }
        }
        fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 16384 65536").unwrap();
        test();
    };
    thread::scope(|scope| {
        if let Err(failure) = scope.spawn(in_namespace).join() {
            panic::resume_unwind(failure);
        }
    });
}
