//! The server that the Go edition left out.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ChildStdin;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::evidence::{Check, Evidence, check};
use crate::model::failure::Failure;
use crate::model::process::Process;
use crate::probe::procfs;
use crate::scenarios::{Claim, Control, Scenario, words};
use crate::worker::Worker;
use crate::worker::thread::start_thread;

const CLIENTS: usize = 5;
/// How long clients wait that are not served.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a client that waits for its turn is given to show that it need not.
const TIME_FOR_MORE: Duration = Duration::from_millis(500);

const ANSWERED: &str = "an answer while all five were connected";
const UNANSWERED: &str = "no answer while another client was served";

const CONNECTED: &str = "five clients are connected";
const CLOSED: &str = "the clients have left";
const ENDED: &str = "the server has been sent SIGTERM";

pub(super) const FIVE_CLIENTS: Scenario = Scenario {
    name: "echo-server",
    about: "Five clients at the same time, a process for each; one before them only tries out their \
            sandbox.",
    by_hand: "cargo run -p echo-server, and nc 127.0.0.1 9190 in five other terminals",
    program: "echo-server",
    args: |_| words(&["0", "--model", "fork"]),
    seconds: 0.0,
    act: five_clients,
    claims: &[Claim {
        id: "C1",
        says: "a process for each client serves all of them at once, and none is left afterwards",
        judge: all_at_once,
    }],
    control: Some(Control {
        about: "one client at a time",
        program: "echo-server",
        args: |_| words(&["0", "--model", "fork", "--max-children", "1"]),
        refutes: &["C1"],
    }),
};

fn five_clients(worker: &mut Worker) -> Result<(), Failure> {
    let server = worker.start()?;
    let line = worker.line("listening on ")?;
    let address = line.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        clients.push(Client::connect(&address, number)?);
    }
    worker.give_time(PATIENCE, |_| {
        // Each of them, not only up to the first that waits.
        clients
            .iter_mut()
            .map(Client::is_answered)
            .filter(|answered| *answered)
            .count()
            == CLIENTS
    })?;
    for (number, client) in (1..).zip(&mut clients) {
        worker.client(
            number,
            if client.is_answered() {
                ANSWERED
            } else {
                UNANSWERED
            },
        );
    }
    let workers = procfs::children(server.pid)?;
    let workers: Vec<Process> = (1..)
        .zip(workers)
        .map(|(number, pid)| worker.found(pid, &format!("worker {number}")))
        .collect();
    let everybody = [&[server], &workers[..]].concat();
    worker.snapshot(CONNECTED, &everybody)?;

    drop(clients);
    worker.until("no worker is left", |_| {
        procfs::children(server.pid).is_ok_and(|workers| workers.is_empty())
    })?;
    worker.snapshot(CLOSED, &everybody)?;

    worker.signal(server, Signal::SIGTERM);
    worker.until_gone(server)?;
    worker.snapshot(ENDED, &everybody)
}

const POOL: usize = 4;
const MANY: usize = 20;

const SERVED: &str = "an answer in its turn";
const FIRST_SERVED: &str = "twenty clients are connected, the first have been answered";
const ALL_SERVED: &str = "every client has been answered";

pub(super) const PREFORK: Scenario = Scenario {
    name: "prefork",
    about: "Twenty clients, and a pool of four workers; a process before them only tries out their \
            sandbox.",
    by_hand: "cargo run -p echo-server -- --model prefork --workers 4, and more clients than that",
    program: "echo-server",
    args: |_| words(&["0", "--model", "prefork", "--workers", "4"]),
    seconds: 0.0,
    act: twenty_clients,
    claims: &[Claim {
        id: "C2",
        says: "there are more than the three models: a pool of 4 processes serves 20 clients, each \
               in its turn",
        judge: four_serve_twenty,
    }],
    control: Some(Control {
        about: "a process for each client",
        program: "echo-server",
        args: |_| words(&["0", "--model", "fork"]),
        refutes: &["C2"],
    }),
};

fn twenty_clients(worker: &mut Worker) -> Result<(), Failure> {
    let server = worker.start()?;
    let line = worker.line("listening on ")?;
    let address = line.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut clients = Vec::new();
    for number in 1..=MANY {
        clients.push((number, Client::connect(&address, number)?));
    }
    let answered = |clients: &mut Vec<(usize, Client)>| {
        let all = clients.iter_mut();
        all.filter_map(|(_, client)| client.is_answered().then_some(()))
            .count()
    };
    worker.until("as many clients as workers are served", |_| {
        answered(&mut clients) >= POOL
    })?;
    // Whoever could be answered without waiting for a turn is, by then.
    worker.give_time(TIME_FOR_MORE, |_| answered(&mut clients) == MANY)?;
    let workers: Vec<Process> = (1..)
        .zip(procfs::children(server.pid)?)
        .map(|(number, pid)| worker.found(pid, &format!("worker {number}")))
        .collect();
    let everybody = [&[server], &workers[..]].concat();
    worker.snapshot(FIRST_SERVED, &everybody)?;

    // Each that has been answered leaves, and makes room for the next.
    while !clients.is_empty() {
        let mut answered = Vec::new();
        worker.until("the next client is answered", |_| {
            clients.retain_mut(|(number, client)| {
                let is_answered = client.is_answered();
                if is_answered {
                    answered.push(*number);
                }
                !is_answered
            });
            !answered.is_empty()
        })?;
        for number in answered {
            worker.client(number, SERVED);
        }
    }
    worker.snapshot(ALL_SERVED, &everybody)?;
    worker.signal(server, Signal::SIGTERM);
    worker.until_gone(server)
}

fn four_serve_twenty(run: &Evidence<'_>) -> Check {
    let served = run.clients_that_saw(SERVED);
    check(served == MANY, || {
        format!("{served} of {MANY} clients were answered")
    })?;
    let server = run.parent()?;
    let rows = run.rows(FIRST_SERVED)?;
    let workers = rows
        .iter()
        .filter(|row| row.ppid == server.pid && row.is_alive())
        .count();
    check(workers == POOL, || {
        format!("ps listed {workers} workers for {MANY} clients")
    })
}

/// Many times what fits into the buffers between a client and a server.
const MUCH: u64 = 64 << 20;

const HALF_WAY: &str = "half of it is on its way";
const CLIENT_ENDED: &str = "the client has ended";

pub(super) const SPLIT: Scenario = Scenario {
    name: "split",
    about: "64 MiB to the server and back, by a client that is two processes.",
    by_hand: "head -c 64M /dev/zero | cargo run -p echo-server --bin echo-client >/dev/null",
    program: "echo-client",
    args: |_| Vec::new(),
    seconds: 1.0,
    act: much_there_and_back,
    claims: &[Claim {
        id: "C49",
        says: "a client whose sending and receiving are two processes need not wait for the answer \
               before it goes on sending: 64 MiB come back",
        judge: comes_back,
    }],
    control: Some(Control {
        about: "one process that sends everything before it receives",
        program: "echo-client",
        args: |_| words(&["--one-process", "--stall-timeout", "0.5"]),
        refutes: &["C49"],
    }),
};

fn much_there_and_back(worker: &mut Worker) -> Result<(), Failure> {
    let server = worker.start_program("echo-server", &words(&["0"]))?;
    let line = worker.line("listening on ")?;
    let address = line.split(' ').nth(2).unwrap_or_default().to_owned();
    let (client, stdin) = worker.start_fed(&address)?;
    worker.found(client.pid, "client");
    // Half-way it cannot have ended, however long ps takes.
    let stdin = feed(worker, stdin)?;
    let sender = procfs::children(client.pid)?.first().copied();
    let sender = sender.map(|pid| worker.found(pid, "sender"));
    let everybody: Vec<Process> = [client].into_iter().chain(sender).collect();
    worker.snapshot(HALF_WAY, &everybody)?;
    drop(feed(worker, stdin)?);
    worker.until_gone(client)?;
    worker.snapshot(CLIENT_ENDED, &everybody)?;
    worker.signal(server, Signal::SIGTERM);
    worker.until_gone(server)
}

/// Half of it, to a client that takes it, or ends.
fn feed(worker: &mut Worker, mut stdin: ChildStdin) -> Result<ChildStdin, Failure> {
    let feeding = start_thread(move || {
        // It fails if the client has ended.
        let _ = io::copy(&mut io::repeat(0).take(MUCH / 2), &mut stdin);
        stdin
    })?;
    worker.until("the client has taken its input, or ended", |_| {
        feeding.is_finished()
    })?;
    feeding
        .join()
        .map_err(|_| Failure::Failed("the client could not be fed".to_owned()))
}

fn comes_back(run: &Evidence<'_>) -> Check {
    let client = run.role("client")?;
    // By its exit status the client says whether every byte has come back.
    let status = run.reaped(client)?;
    check(status == "exit status: 0", || {
        format!("the client ended with {status}")
    })?;
    let sender = run.row(HALF_WAY, run.role("sender")?)?;
    check(sender.ppid == client.pid, || {
        format!("the sender was a child of {}", sender.ppid)
    })?;
    run.nothing_listed(CLIENT_ENDED)
}

/// A client that has sent its line, and waits for it to come back.
struct Client {
    stream: TcpStream,
    missing: Vec<u8>,
}

impl Client {
    fn connect(address: &str, number: usize) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let line = format!("client {number}\n");
        stream.write_all(line.as_bytes())?;
        stream.set_nonblocking(true)?; // the worker has other things to look at, too
        Ok(Self {
            stream,
            missing: line.into_bytes(),
        })
    }

    /// Whether all of its bytes have come back, and no others.
    fn is_answered(&mut self) -> bool {
        let mut answer = [0; 64];
        while let Ok(length @ 1..) = self.stream.read(&mut answer) {
            if self.missing.get(..length) != Some(&answer[..length]) {
                return false;
            }
            self.missing.drain(..length);
        }
        self.missing.is_empty()
    }
}

fn all_at_once(run: &Evidence<'_>) -> Check {
    let answered = run.clients_that_saw(ANSWERED);
    check(answered == CLIENTS, || {
        format!("{answered} of {CLIENTS} clients were answered")
    })?;
    let server = run.parent()?;
    let rows = run.rows(CONNECTED)?;
    let workers = rows
        .iter()
        .filter(|row| row.ppid == server.pid && row.is_alive())
        .count();
    check(workers == CLIENTS, || {
        format!("ps listed {workers} workers")
    })?;
    let left = run.rows(CLOSED)?;
    check(left.len() == 1 && left[0].pid == server.pid, || {
        format!("left were {left:?}")
    })?;
    run.nothing_listed(ENDED)?;
    let status = run.reaped(server)?;
    check(status == "exit status: 0", || {
        format!("the server ended with {status}")
    })
}
