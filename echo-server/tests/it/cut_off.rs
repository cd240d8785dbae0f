//! How sessions end that do not come to their own end. One that is cut off while its worker has
//! bytes that it has read and not sent ends in an error: the regular end of the stream would tell
//! the client that it has got everything.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::panic;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv,
    send, setsockopt, socket, sockopt,
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
            Cause::SessionTimeout => format!("--session-timeout={}", 2 * times),
            _ => "--drain-timeout=0.1".to_owned(),
        };
        let server = model.start_by(launcher, &["--workers=1", "--verbose", &timeout]);
        match Stuck::try_new(&server) {
            Ok(stuck) => return (server, stuck),
            Err(_) if cause.is_timeout() && times < 4 => times *= 2,
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
            let [ours, servers] =
                [queues(self.client, self.server), queues(self.server, self.client)];
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
///
/// We ask for this one; see sock_diag(7). To read `/proc/net/tcp`, the kernel would look through the sockets
/// of the whole machine. That takes 10 ms after a load test, and a test that looks again and again has no
/// time for anything else.
pub(crate) fn queues(own: SocketAddr, others: SocketAddr) -> Option<Queues> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    let (SocketAddr::V4(own), SocketAddr::V4(others)) = (own, others) else {
        panic!("not IPv4: {own} {others}");
    };
    let pad = |ip: Ipv4Addr| [&ip.octets()[..], &[0; 12]].concat();
    let request = [
        // nlmsghdr: length, type, flags, number, port.
        &72_u32.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &(libc::NLM_F_REQUEST as u16).to_ne_bytes(),
        &[0; 8],
        // inet_diag_req_v2: family, protocol, no extensions, states that do not matter here.
        &[libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0],
        &u32::MAX.to_ne_bytes(),
        // inet_diag_sockid: ports, addresses, any interface, any cookie.
        &own.port().to_be_bytes(),
        &others.port().to_be_bytes(),
        &pad(*own.ip()),
        &pad(*others.ip()),
        &[0; 4],
        &[0xff; 8],
    ]
    .concat();
    let protocol = SockProtocol::NetlinkSockDiag;
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    send(netlink.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    let mut reply = [0; 1024];
    recv(netlink.as_raw_fd(), &mut reply, MsgFlags::empty()).unwrap();
    let number = |at: usize| u32::from_ne_bytes(reply[at..at + 4].try_into().unwrap());
    if reply[4..6] != SOCK_DIAG_BY_FAMILY.to_ne_bytes() {
        assert_eq!(number(16) as i32, -libc::ENOENT);
        return None;
    }
    // inet_diag_msg: family, state, timer; 48 bytes about who it is; expiry, queues, user, inode.
    let (state, established, listening) = (reply[17], 1, 10);
    // The kernel returns the listener instead if the connection is gone.
    (state != listening).then(|| Queues {
        is_established: state == established,
        timer: reply[18],
        to_read: number(72) as usize,
        to_send: number(76) as usize,
        is_open: number(84) != 0,
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
