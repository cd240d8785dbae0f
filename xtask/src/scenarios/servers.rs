//! Servers with many clients at once, which the Go edition left out.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::bilingual::{Text, text};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::need::LOOPBACK;
use crate::probe::procfs;
use crate::probe::ps::Row;
use crate::scenarios::ledger::{C1, C2, C49, X2, X3, X4, X5};
use crate::scenarios::{Scenario, control};
use crate::worker::Worker;
use crate::worker::thread::start_thread;

pub(super) const ALL: &[Scenario] = &[MPSERV, FIVE_CLIENTS];
pub(super) const POOLS: &[Scenario] = &[PREFORK, THREAD_MODEL, MULTIPLEX_MODEL, REEXEC_MODEL];
pub(super) const SPLIT_CLIENTS: &[Scenario] = &[SPLIT];
pub(super) const UPGRADES: &[Scenario] = &[UPGRADE];

/// How long clients wait that are not served.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const ANSWERED: &str = "an answer while all were connected";
const UNANSWERED: &str = "no answer while another client was served";

pub(crate) const CONNECTED: Text = text("five clients are connected", "五个客户端已连接");
pub(crate) const CLOSED: Text = text("the clients have left", "客户端都已离开");
const ENDED: Text = text("the server has been sent SIGTERM", "已向服务器发送 SIGTERM");

const ONE_AT_A_TIME: Scenario = control("echo-server 0 --model fork --max-children 1");

const MPSERV: Scenario = Scenario {
    name: "echo-mpserv",
    command: "echo-mpserv 127.0.0.1:0",
    needs: &[LOOPBACK],
    act: serve_five,
    shows: &[(C1, a_process_for_each)],
    ..ONE_AT_A_TIME
};

const FIVE_CLIENTS: Scenario = Scenario {
    name: "echo-server",
    command: "echo-server 0 --model fork",
    needs: &[LOOPBACK],
    act: serve_five,
    shows: &[(C1, |e| {
        a_process_for_each(e)?;
        e.succeeds("server")
    })],
    ..ONE_AT_A_TIME
};

fn serve_five(w: &mut Worker) -> Result<(), Failure> {
    let server = w.start()?;
    let clients = connect_and_ask(w, 5)?;
    w.children(server, "worker")?;
    w.snapshot(CONNECTED)?;
    drop(clients);
    w.until("no worker is left", |_| {
        procfs::children(server.pid).is_ok_and(|workers| workers.is_empty())
    })?;
    w.snapshot(CLOSED)?;
    w.signal(server, Signal::SIGTERM);
    w.snapshot_when_gone(server, ENDED)
}

fn a_process_for_each(e: Evidence<'_>) -> Check {
    e.clients_saw(5, ANSWERED)?;
    e.at(CONNECTED).live_children(5, "server")?;
    e.at(CLOSED).alive("server")?.count(1, "processes", |_| true)?;
    e.at(ENDED).nothing_listed()
}

/// The address that the server announces.
pub(crate) fn address(w: &mut Worker) -> Result<String, Failure> {
    let line = w.line("listening on ")?;
    Ok(line.split(' ').nth(2).unwrap_or_default().to_owned())
}

pub(crate) fn connect(w: &mut Worker, count: usize) -> Result<Vec<Client>, Failure> {
    let address = address(w)?;
    let clients = (1..=count).map(|number| Client::connect(&address, number));
    Ok(clients.collect::<io::Result<_>>()?)
}

/// Connects clients, and records which of them are answered while all are connected.
fn connect_and_ask(w: &mut Worker, count: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = connect(w, count)?;
    w.give_time(PATIENCE, |_| answered(&mut clients) == count)?;
    for client in &mut clients {
        client.record(w, ANSWERED, UNANSWERED);
    }
    Ok(clients)
}

/// How many of the clients are answered. Asks each of them, not only up to the first that waits.
pub(crate) fn answered(clients: &mut [Client]) -> usize {
    let answered = clients.iter_mut().map(Client::is_answered);
    answered.filter(|answered| *answered).count()
}

const MANY: usize = 20;
const SERVED: &str = "an answer in its turn";
const FIRST_SERVED: Text = text(
    "twenty clients are connected, the first have been answered",
    "二十个客户端已连接，最先的几个已得到应答",
);
const ALL_SERVED: Text = text("every client has been answered", "每个客户端都已得到应答");

const PREFORK: Scenario = Scenario {
    name: "prefork",
    command: "echo-server 0 --model prefork --workers 4",
    needs: &[LOOPBACK],
    act: |w| {
        let server = w.start()?;
        let mut clients = connect(w, MANY)?;
        w.until("as many clients as workers are served", |_| answered(&mut clients) >= 4)?;
        // A client that can be answered without waiting for a turn is, by then.
        w.give_a_moment(|_| answered(&mut clients) == MANY)?;
        w.children(server, "worker")?;
        w.snapshot(FIRST_SERVED)?;
        // Each that has been answered leaves, and makes room for the next.
        while !clients.is_empty() {
            w.until("the next client is answered", |_| answered(&mut clients) > 0)?;
            for client in clients.extract_if(.., Client::is_answered) {
                w.client(client.number, SERVED);
            }
        }
        w.snapshot(ALL_SERVED)?;
        w.signal(server, Signal::SIGTERM);
        w.until_gone(server)
    },
    shows: &[(C2, |e| {
        e.clients_saw(MANY, SERVED)?;
        e.at(FIRST_SERVED).live_children(4, "server").map(drop)
    })],
    ..control("echo-server 0 --model fork")
};

const MANY_CONNECTED: Text = text("twenty clients are connected", "二十个客户端已连接");
const THREADS: &str = "echo-server 0 --model thread";
const LOOP: &str = "echo-server 0 --model multiplex";

const THREAD_MODEL: Scenario = Scenario {
    name: "thread-model",
    command: THREADS,
    needs: &[LOOPBACK],
    act: serve_many,
    shows: &[(X3, |e| {
        one_worker_for_all(e, ["Threads:\t1", "Threads:\t21"])?;
        let is_threaded = |row: &Row| row.stat.contains('l');
        e.at(MANY_CONNECTED).is("worker 1", "shown with threads (l)", is_threaded)?;
        e.at(CLOSED).is("worker 1", "shown with one thread", |row| !is_threaded(row)).map(drop)
    })],
    ..control(LOOP)
};

const MULTIPLEX_MODEL: Scenario = Scenario {
    name: "multiplex-model",
    command: LOOP,
    needs: &[LOOPBACK],
    act: serve_many,
    shows: &[(X4, |e| {
        one_worker_for_all(e, ["Threads:\t1", "Threads:\t1"])?;
        e.at(MANY_CONNECTED).sleeps_in("worker 1", "poll").map(drop) // ep_poll, do_epoll_wait
    })],
    ..control(THREADS)
};

fn serve_many(w: &mut Worker) -> Result<(), Failure> {
    let server = w.start()?;
    let worker = w.child_of(server, "worker 1")?;
    w.read(worker, "status", &["Threads:"]);
    let clients = connect_and_ask(w, MANY)?;
    w.read(worker, "status", &["Threads:"]);
    w.children(server, "worker")?; // if there are others
    w.snapshot(MANY_CONNECTED)?;
    drop(clients);
    w.until("one thread is left", |w| w.stat(worker).is_some_and(|stat| stat.threads == 1))?;
    w.snapshot(CLOSED)?;
    w.signal(server, Signal::SIGTERM);
    w.snapshot_when_gone(server, ENDED)
}

/// Checks that one process serves all clients, and how many threads it has before them and with them.
fn one_worker_for_all(e: Evidence<'_>, threads: [&str; 2]) -> Check {
    e.clients_saw(MANY, ANSWERED)?;
    e.at(MANY_CONNECTED).live_child("worker 1", "server")?.live_children(1, "server")?;
    let read: Vec<&str> = e.readings("worker 1", "status")?.into_iter().flatten().collect();
    check!(read == threads, "before the clients, and with them, the worker had {read:?}")?;
    e.at(ENDED).nothing_listed()
}

const REEXEC_MODEL: Scenario = Scenario {
    name: "reexec-model",
    command: "echo-server 0 --model reexec",
    needs: &[LOOPBACK],
    act: serve_five,
    shows: &[(X5, |e| {
        a_process_for_each(e)?;
        let of_server = e.stack("server")?;
        for worker in (1..=5).map(|number| format!("worker {number}")) {
            let own = e.stack(&worker)?;
            check!(own != of_server || own.is_none(), "the {worker} has the server's stack")?;
            e.at(CONNECTED).shows(&worker, "echo-worker echo-worker ")?; // the name, and argv[0]
        }
        Ok(())
    })],
    ..control("echo-server 0 --model fork")
};

/// Many times what fits into the buffers between a client and a server.
const MUCH: u64 = 64 << 20;
const HALF_WAY: Text = text("half of it is on its way", "数据传了一半");
const CLIENT_ENDED: Text = text("the client has ended", "客户端已结束");

const SPLIT: Scenario = Scenario {
    name: "split",
    command: "echo-client",
    seconds: 1.0,
    needs: &[LOOPBACK],
    act: |w| {
        let server = w.start_program("echo-server 0")?;
        let address = address(w)?;
        let client = w.start_fed(&address)?;
        w.found(client.pid, "client");
        // Half-way it cannot have ended, however long ps takes.
        feed_half(w, client)?;
        if let Some(sender) = procfs::children(client.pid)?.first() {
            w.found(*sender, "sender");
        }
        w.snapshot(HALF_WAY)?;
        feed_half(w, client)?;
        drop(w.take_stdin(client));
        w.snapshot_when_gone(client, CLIENT_ENDED)?;
        w.signal(server, Signal::SIGTERM);
        w.until_gone(server)
    },
    shows: &[(C49, |e| {
        e.succeeds("client")?; // by its exit status it says whether every byte has come back
        e.at(HALF_WAY).child_of("sender", "client")?;
        e.at(CLIENT_ENDED).gone("client")?.gone("sender").map(drop)
    })],
    ..control("echo-client --one-process --stall-timeout 0.5")
};

/// Half of it, to a client that takes it, or ends.
fn feed_half(w: &mut Worker, client: Process) -> Result<(), Failure> {
    let no_stdin = || Failure::Failed("the client cannot be fed".to_owned());
    let mut stdin = w.take_stdin(client).ok_or_else(no_stdin)?;
    let feeding = start_thread(move || {
        // It fails if the client has ended.
        let _ = io::copy(&mut io::repeat(0).take(MUCH / 2), &mut stdin);
        stdin
    })?;
    w.until("the client has taken its input, or ended", |_| feeding.is_finished())?;
    let stdin = feeding.join().map_err(|_| no_stdin())?;
    w.put_stdin(client, stdin);
    Ok(())
}

const STILL_SERVED: &str = "an answer after the upgrade";
const TWO_SERVERS: Text = text(
    "the old server finishes its session, the new one has the next client",
    "旧服务器做完自己的会话，下一个客户端归新服务器",
);
const ONE_SERVER: Text = text(
    "the old client has left, and the old server with it",
    "老客户端离开了，旧服务器也随之结束",
);

const UPGRADE: Scenario = Scenario {
    name: "upgrade",
    command: "echo-server 0 --model fork --drain-timeout 0",
    needs: &[LOOPBACK],
    act: |w| {
        let old = w.start()?;
        let address = address(w)?;
        let mut first = Client::connect(&address, 1)?;
        w.until("the first client is answered", |_| first.is_answered())?;
        w.child_of(old, "old worker")?;
        w.read_descriptors(&[old]);
        w.signal(old, Signal::SIGUSR2);
        w.until_lines(2, "listening on ")?;
        let new = new_server(w)?;
        let mut second = Client::connect(&address, 2)?;
        w.until("the second client is answered", |_| second.is_answered())?;
        w.child_of(new, "new worker")?;
        // An old server that did not wait for its client would be gone by then.
        w.give_a_moment(|w| w.is_gone(old))?;
        first.ask_again();
        w.give_time(PATIENCE, |_| first.is_answered())?;
        for client in [&mut first, &mut second] {
            client.record(w, STILL_SERVED, UNANSWERED);
        }
        w.read_descriptors(&[old, new]);
        w.snapshot(TWO_SERVERS)?;
        drop(first);
        w.snapshot_when_gone(old, ONE_SERVER)?;
        drop(second);
        w.signal(new, Signal::SIGTERM);
        w.until_gone(new)
    },
    shows: &[(X2, |e| {
        e.clients_saw(2, STILL_SERVED)?;
        e.at(TWO_SERVERS)
            .live_child("old worker", "server")?
            .live_child("new worker", "new server")?
            .adopted("new server")?;
        e.at(ONE_SERVER).gone("server")?.alive("new server")?;
        e.succeeds("server")
    })],
    ..control("echo-server 0 --model fork --drain-timeout 0.1")
};

/// The server that has announced itself last.
fn new_server(w: &mut Worker) -> Result<Process, Failure> {
    let line = w.lines("listening on ").pop().unwrap_or_default();
    let pid = line.trim_end_matches(')').rsplit(' ').next().and_then(|pid| pid.parse().ok());
    let pid = pid.ok_or_else(|| Failure::Failed(format!("no process number in {line:?}")))?;
    Ok(w.found(pid, "new server"))
}

/// A client that has sent its line, and waits for it to come back.
pub(crate) struct Client {
    number: usize,
    stream: TcpStream,
    line: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: &str, number: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let line = format!("client {number}\n");
        stream.write_all(line.as_bytes())?;
        stream.set_nonblocking(true)?; // the worker has other things to look at, too
        Ok(Self { number, stream, line: line.into_bytes(), answer: Vec::new() })
    }

    /// Sends its line once more. The server may have closed the connection: then no answer comes.
    pub(crate) fn ask_again(&mut self) {
        self.answer.clear();
        let _ = self.stream.write_all(&self.line);
    }

    /// Says that it sends no more. The server may have closed the connection before.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Whether all of its bytes have come back, and no others.
    pub(crate) fn is_answered(&mut self) -> bool {
        // An error means that there is no more yet. What was read before it is in the answer.
        let _ = self.stream.read_to_end(&mut self.answer);
        self.answer == self.line
    }

    /// Whether the server has closed the connection.
    pub(crate) fn is_cut_off(&mut self) -> bool {
        let read = self.stream.read_to_end(&mut self.answer);
        !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Records that it saw `answer`, if it has been answered, or else `no_answer`.
    pub(crate) fn record(&mut self, w: &mut Worker, answer: &str, no_answer: &str) {
        w.client(self.number, if self.is_answered() { answer } else { no_answer });
    }
}
