//! A server under test, and its clients.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use test_support::{LIMIT, Program, assert_sleeps, processes, state, wait_until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_echo-server");

/// What follows `--model`.
#[derive(Clone, Copy)]
pub(crate) struct Model(pub(crate) &'static str);

impl Model {
    /// On a free port of this machine.
    #[track_caller]
    pub(crate) fn start(self, options: &[&str]) -> Server {
        self.start_by(&[], options)
    }

    /// By a program that becomes the server in the end, such as `env`.
    #[track_caller]
    pub(crate) fn start_by(self, launcher: &[&str], options: &[&str]) -> Server {
        Server::run(&mut self.command(launcher, options))
    }

    /// A script for the shell, too, can be the launcher: the server is `"$0" "$@"` there.
    pub(crate) fn command(self, launcher: &[&str], options: &[&str]) -> Command {
        let server = [BINARY, "0", "--model", self.0];
        let words = [launcher, &server, options].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Workers wait for clients, instead of being started for them.
    pub(crate) fn has_pool(self) -> bool {
        !matches!(self.0, "fork" | "reexec" | "template")
    }

    /// All clients have the same one.
    pub(crate) fn has_one_worker(self) -> bool {
        matches!(self.0, "thread" | "multiplex")
    }

    /// The option that says how many clients are served at once.
    pub(crate) fn limit(self) -> &'static str {
        if self.0 == "prefork" { "--workers" } else { "--max-children" }
    }

    /// Who accepts the next client, if these workers do it in a pool.
    pub(crate) fn acceptors(self, server: &Server, workers: Vec<Pid>) -> Vec<Pid> {
        match self.0 {
            "template" => server.template().into_iter().collect(),
            _ if self.has_pool() => workers,
            _ => vec![server.program.pid()],
        }
    }
}

/// An address where nobody listens, and that is the test's while the socket lives: the kernel gives its
/// port to nobody who asks for any, and SO_REUSEADDR lets in who asks for this one.
/// A listener that is closed for it would not do: another thread may have started a program in
/// between, which keeps a copy of the listener until it has called exec.
pub(crate) fn reserved_address() -> (OwnedFd, SocketAddr) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    let any_port = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    bind(socket.as_raw_fd(), &any_port).unwrap();
    let address: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    (socket, SocketAddrV4::from(address).into())
}

/// A running server. Dropped, it is killed, and its workers with it.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// On a free port of this machine.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::run(Command::new(BINARY).arg("0").args(options))
    }

    /// A shell runs `script`, in which `"$0" 0` is the server.
    #[allow(dead_code, reason = "the tests of all models have `Model::start_by`")]
    pub(crate) fn start_by_shell(script: &str) -> Self {
        Self::run(Command::new("sh").args(["-c", script, BINARY]))
    }

    #[track_caller]
    pub(crate) fn run(command: &mut Command) -> Self {
        Self::of(Program::start(command))
    }

    /// Waits for the line that says where it listens, so that clients may come.
    #[track_caller]
    pub(crate) fn of(mut program: Program) -> Self {
        let line = program.stdout.next();
        Self::at(program, &line)
    }

    /// The server that has said so.
    #[track_caller]
    pub(crate) fn at(program: Program, line: &str) -> Self {
        let address = line.strip_prefix("listening on ");
        let address = address.and_then(|rest| rest.split_once(" (")?.0.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { program, address }
    }

    /// The next line on stderr but those about the sandbox.
    #[track_caller]
    pub(crate) fn event(&mut self) -> String {
        loop {
            let line = self.program.stderr.next();
            if !line.contains(": sandbox: ") {
                return line;
            }
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// The next client is disconnected at once. The reset may come before connect(2) has returned.
    #[track_caller]
    pub(crate) fn assert_disconnects(&self) {
        match Client::connect(self.address) {
            Ok(mut client) => client.assert_is_cut_off(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    /// So many clients that are being served.
    #[track_caller]
    pub(crate) fn connect_many(&self, number: usize) -> Vec<Client> {
        let mut clients: Vec<_> = (0..number).map(|_| self.connect()).collect();
        for client in &mut clients {
            client.assert_echo(b"served");
        }
        clients
    }

    /// A client that is being served, and the worker that serves it.
    #[track_caller]
    pub(crate) fn connect_and_see_worker(&self) -> (Client, Pid) {
        let all = || [self.workers(), vec![self.program.pid()]].concat();
        let before: BTreeSet<_> = all().into_iter().flat_map(sockets).collect();
        let mut client = self.connect();
        client.assert_echo(b"served");
        let mut workers = self.workers();
        workers.retain(|worker| !sockets(*worker).is_subset(&before));
        assert_eq!(workers.len(), 1);
        (client, workers[0])
    }

    /// A whole session in which everything comes back.
    #[track_caller]
    pub(crate) fn assert_serves(&self) {
        assert!(self.connect().session(b"still there?").unwrap() == b"still there?");
    }

    /// Its children; with the model `template`, the children of the template.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        workers_of(self.program.pid())
    }

    /// Waits until there is one worker, and returns that.
    #[track_caller]
    pub(crate) fn worker(&self) -> Pid {
        wait_until("one worker", || self.workers(), |all| all.len() == 1)[0]
    }

    /// The process that makes and reaps the workers.
    pub(crate) fn maker(&self) -> Pid {
        self.template().unwrap_or(self.program.pid())
    }

    /// The process that makes the workers of the model `template`.
    pub(crate) fn template(&self) -> Option<Pid> {
        self.program.children().into_iter().find(|pid| is_template(*pid))
    }

    /// What workers have and the server has not: the clients that are being served.
    pub(crate) fn connections(&self) -> BTreeSet<String> {
        let workers = self.workers().into_iter();
        let all: BTreeSet<_> = workers.flat_map(sockets).collect();
        &all - &sockets(self.program.pid())
    }

    /// Waits until so many clients are being served.
    #[track_caller]
    pub(crate) fn assert_connections(&self, number: usize) {
        let wanted = |all: &BTreeSet<_>| all.len() == number;
        wait_until("connections", || self.connections(), wanted);
    }

    /// Waits until as many workers are there; zombies count.
    #[track_caller]
    pub(crate) fn assert_workers(&self, number: usize) -> Vec<Pid> {
        let workers = wait_until("workers", || self.workers(), |all| all.len() >= number);
        assert_eq!(workers.len(), number);
        workers
    }

    /// Waits until every worker has gone for good.
    #[track_caller]
    pub(crate) fn assert_no_worker_is_left(&self) {
        let look = || self.workers().into_iter().map(|pid| (pid, state(pid)));
        wait_until("no workers", || look().collect::<Vec<_>>(), Vec::is_empty);
    }

    /// Waits until no client is left; of the workers, those of a pool.
    #[track_caller]
    pub(crate) fn assert_is_at_rest(&self, model: Model) {
        let look = || {
            let mut workers = self.workers();
            workers.retain(|pid| !model.has_pool() || threads(*pid) != [Some('S')]);
            (self.connections(), workers)
        };
        wait_until(
            "no connections, and only workers that wait for some",
            look,
            |(connections, workers)| connections.is_empty() && workers.is_empty(),
        );
        // They may have something left to close.
        assert_sleeps(self.program.pid());
        assert_sleeps(self.maker());
    }

    /// Whatever clients do in `trouble`, there is no zombie after it, no process, thread or
    /// descriptor more than before, and the next client is served.
    #[track_caller]
    pub(crate) fn assert_leaves_no_trace(&self, model: Model, trouble: impl FnOnce()) {
        // After these, every worker of a pool is there and has what it needs.
        drop(self.connect_many(16));
        self.assert_is_at_rest(model);
        let look = || {
            let processes = [self.workers(), vec![self.program.pid()]].concat();
            let open = |pid| (pid, descriptors(pid));
            processes.into_iter().map(open).collect::<Vec<_>>()
        };
        let before = look();
        trouble();
        self.assert_serves();
        self.assert_is_at_rest(model);
        wait_until("no trace", look, |after| *after == before);
    }
}

/// A client whose reads and writes fail when they take too long.
#[derive(Debug)]
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.0
    }

    /// These bytes come back while the session goes on.
    #[track_caller]
    pub(crate) fn assert_echo(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.assert_reads(bytes);
    }

    #[track_caller]
    pub(crate) fn assert_reads(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert!(bytes == expected, "not what was sent");
    }

    /// Not served: nothing comes within a while in which a worker would have done it.
    #[track_caller]
    pub(crate) fn assert_hears_nothing(&mut self) {
        let short = Duration::from_millis(200);
        self.0.set_read_timeout(Some(short)).unwrap();
        let error = self.0.read_exact(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        self.0.set_read_timeout(Some(LIMIT)).unwrap();
    }

    /// The session is over: its end has come, or a reset.
    #[track_caller]
    pub(crate) fn assert_is_cut_off(&mut self) {
        let error = self.0.read_exact(&mut [0]).unwrap_err();
        let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    }

    /// Sends without reading until all buffers are full and the worker waits. Returns what was sent.
    #[track_caller]
    pub(crate) fn fill(&mut self, worker: Pid) -> Vec<u8> {
        self.fill_with(worker, &random_bytes(99_991))
    }

    /// The same with these bytes, again and again.
    #[track_caller]
    pub(crate) fn fill_with(&mut self, worker: Pid, piece: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        self.0.set_nonblocking(true).unwrap();
        wait_until(
            "buffers are full, and the worker sleeps",
            || match self.0.write(piece) {
                Ok(length) => {
                    sent.extend_from_slice(&piece[..length]);
                    vec![]
                }
                Err(_) => threads(worker),
            },
            |states| !states.is_empty() && states.iter().all(|state| *state == Some('S')),
        );
        self.0.set_nonblocking(false).unwrap();
        sent
    }

    /// The worker gets an error, and not the end of the stream.
    pub(crate) fn reset(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.0.as_fd(), sockopt::Linger, &at_once).unwrap();
    }

    /// Sends these bytes and then the end of the stream, and meanwhile reads what comes.
    pub(crate) fn session(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.session_of([bytes])
    }

    /// The same with the bytes in pieces, each in a write of its own.
    pub(crate) fn session_of<'a>(
        mut self,
        pieces: impl IntoIterator<Item = &'a [u8]> + Send,
    ) -> io::Result<Vec<u8>> {
        let mut writer = self.0.try_clone()?;
        thread::scope(|scope| {
            let sent = scope.spawn(move || {
                for piece in pieces {
                    writer.write_all(piece)?;
                }
                writer.shutdown(Shutdown::Write)
            });
            let mut received = Vec::new();
            self.0.read_to_end(&mut received)?;
            sent.join().unwrap()?;
            Ok(received)
        })
    }
}

/// Has so many sessions with the server at `address`, so many at a time, each with as many bytes
/// as its number, and returns what went wrong in any.
pub(crate) fn flood(address: SocketAddr, count: usize, parallel: usize) -> Vec<String> {
    let failure = |number| {
        let sent = random_bytes(number);
        match Client::connect(address).and_then(|client| client.session(&sent)) {
            Ok(received) if received == sent => None,
            Ok(_) => Some(format!("{number} bytes came back wrong")),
            Err(error) => Some(error.to_string()),
        }
    };
    let next = AtomicUsize::new(0);
    let numbers = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number < count).then_some(number)
    };
    let sessions = || std::iter::from_fn(numbers).filter_map(failure);
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..parallel).map(|_| scope.spawn(|| sessions().collect::<Vec<_>>())).collect();
        let failures = threads.into_iter().map(|thread| thread.join().unwrap());
        failures.flatten().collect()
    })
}

/// Bytes of every value, zero too, in no order (xorshift).
pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ length as u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Where a process's descriptors lead, such as `socket:[4711]`; sorted. None if it has ended.
pub(crate) fn descriptors(pid: Pid) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
    let entries = entries.flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
    links.sort();
    links
}

/// The processes of a server that serve, or are about to.
pub(crate) fn workers_of(server: Pid) -> Vec<Pid> {
    let children = processes(|stat| stat.parent == server);
    let options = fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap_or_default();
    if !options.contains("template") {
        return children;
    }
    let templates: Vec<_> = children.into_iter().filter(|pid| is_template(*pid)).collect();
    processes(|stat| templates.contains(&stat.parent))
}

pub(crate) fn is_template(pid: Pid) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name.trim_end() == "echo-template")
}

fn sockets(pid: Pid) -> BTreeSet<String> {
    let links = descriptors(pid).into_iter();
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// The state of each thread; that of the process is only its first one's.
pub(crate) fn threads(pid: Pid) -> Vec<Option<char>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let names = entries.flatten().flatten().map(|entry| entry.file_name());
    let numbers = names.map(|name| name.to_str().unwrap().parse().unwrap());
    numbers.map(Pid::from_raw).map(state).collect()
}

#[track_caller]
pub(crate) fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_until("T", || state(pid), |state| *state == Some('T'));
}

/// The signals in one of the sets of a /proc/PID/status, such as `SigBlk`.
pub(crate) fn signals(pid: Pid, set: &str) -> Vec<Signal> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let mask = line.unwrap().trim_start_matches(':').trim();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    Signal::iterator().filter(|signal| mask & (1 << (*signal as i32 - 1)) != 0).collect()
}

/// Whether this machine knows `localhost`: a bare root without /etc/hosts does not.
pub(crate) fn is_known_here(address: &str) -> bool {
    let is_known = !address.contains("localhost") || ("localhost", 0).to_socket_addrs().is_ok();
    if !is_known {
        println!("skipped, localhost has no address here");
    }
    is_known
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
