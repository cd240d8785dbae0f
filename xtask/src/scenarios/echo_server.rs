//! The server that the Go edition left out.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Chapter, Claim, Scenario, Twin, words};
use crate::event::Process;
use crate::procfs;
use crate::record::{Judgement, Record, check};
use crate::stage::{Stage, Stop};

const CLIENTS: usize = 5;
/// How long clients wait that are not served.
const PATIENCE: Duration = Duration::from_secs(2);

const ANSWERED: &str = "an answer while all five were connected";
const UNANSWERED: &str = "no answer while another client was served";

const CONNECTED: &str = "five clients are connected";
const CLOSED: &str = "the clients have left";
const ENDED: &str = "the server has been sent SIGTERM";

pub(super) const FIVE_CLIENTS: Scenario = Scenario {
    name: "echo-server",
    about: "Five clients at the same time, a process for each.",
    by_hand: "cargo run -p echo-server, and nc 127.0.0.1 9190 in five other terminals",
    program: "echo-server",
    args: |_| words(&["0", "--model", "fork"]),
    seconds: 0.0,
    act: five_clients,
    claims: &[Claim {
        id: "C1",
        chapter: Chapter::Right,
        says: "a process for each client serves all of them at once, and none is left afterwards",
        judge: all_at_once,
    }],
    twin: Some(Twin {
        about: "one client at a time",
        program: "echo-server",
        args: |_| words(&["0", "--model", "fork", "--max-children", "1"]),
        refutes: &["C1"],
    }),
};

fn five_clients(stage: &mut Stage) -> Result<(), Stop> {
    let server = stage.start()?;
    let line = stage.line("listening on ")?;
    let address = line.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut clients = Vec::new();
    for number in 1..=CLIENTS {
        clients.push(Client::connect(&address, number)?);
    }
    stage.give_time(PATIENCE, |_| {
        // Each of them, not only up to the first that waits.
        clients
            .iter_mut()
            .map(Client::is_answered)
            .filter(|answered| *answered)
            .count()
            == CLIENTS
    })?;
    for (number, client) in (1..).zip(&mut clients) {
        stage.client(
            number,
            if client.is_answered() {
                ANSWERED
            } else {
                UNANSWERED
            },
        );
    }
    let workers = procfs::children(server.pid);
    let workers: Vec<Process> = (1..)
        .zip(workers)
        .map(|(number, pid)| stage.found(pid, &format!("worker {number}")))
        .collect();
    let everybody = [&[server], &workers[..]].concat();
    stage.look(CONNECTED, &everybody)?;

    drop(clients);
    stage.until("no worker is left", |_| {
        procfs::children(server.pid).is_empty()
    })?;
    stage.look(CLOSED, &everybody)?;

    stage.signal(server, Signal::SIGTERM);
    stage.until_gone(server)?;
    stage.look(ENDED, &everybody)
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
        stream.set_nonblocking(true)?; // the stage has other things to look at, too
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

fn all_at_once(run: &Record<'_>) -> Judgement {
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
