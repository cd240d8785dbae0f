//! Exercises about servers and their clients.

use std::ops::RangeInclusive;

use nix::sys::signal::Signal;

use crate::evidence::check;
use crate::exercises::{Exercise, exercise};
use crate::model::bilingual::{Text, text};
use crate::model::event::Stream;
use crate::model::failure::Failure;
use crate::model::process::Stat;
use crate::probe::procfs;
use crate::scenarios::servers::{ANSWERED, CLOSED, CONNECTED, Client, PATIENCE, address, answered};
use crate::worker::Worker;

/// As many clients as can connect: the server may have ended.
fn connect(w: &mut Worker, numbers: RangeInclusive<usize>) -> Result<Vec<Client>, Failure> {
    let address = address(w)?;
    Ok(numbers.map_while(|number| Client::connect(&address, number).ok()).collect())
}

const CUT_OFF: &str = "the connection closed by the server";

pub(super) const ONE_AT_A_TIME: Exercise = exercise!(
    "one-at-a-time",
    section 1,
    |w| {
        let server = w.start()?;
        let mut clients = connect(w, 1..=5)?;
        w.give_time(PATIENCE, |_| answered(&mut clients) == 5)?;
        let children = w.children(server, "child")?;
        for client in &mut clients {
            let no_answer = if client.is_cut_off() { CUT_OFF } else { "no answer" };
            client.record(w, ANSWERED, no_answer);
        }
        w.snapshot(CONNECTED)?;
        drop(clients);
        w.give_time(PATIENCE, |w| children.iter().all(|child| w.has_ended(*child)))?;
        w.give_a_moment(|w| w.has_ended(server))?; // one that waits for its children, and ends
        w.snapshot(CLOSED)
    },
    ("server-ends", CLOSED, "server", |e| {
        e.at(CONNECTED).alive("server").and(e.at(CLOSED).alive("server")).map(drop)
    }),
    ("drops-child", CONNECTED, "server", |e| e.clients_saw(0, CUT_OFF)),
    ("waits-for-child", CONNECTED, "server", |e| {
        e.clients_saw(5, ANSWERED).or(e.at(CONNECTED).live_children(0, "server").map(drop))
    }),
    ("one-at-a-time", CONNECTED, "server", |e| e.clients_saw(5, ANSWERED)),
    ("one-process", CONNECTED, "server", |e| e.at(CONNECTED).live_children(5, "server").map(drop)),
    ("child-stays", CLOSED, "server", |e| e.at(CLOSED).live_children(0, "server").map(drop)),
);

const FULL: Text = text("more clients have come than find room", "来的客户端比容得下的多");
const LEFT: Text = text("most clients have left, one has come", "多数客户端离开了，来了一个");
const NEW_SERVED: &str = "an answer, after others had left";
const STILL_SERVED: &str = "an answer, as before";

/// The processor time of a server that never sleeps, in ticks.
const BUSY: u64 = 20;

pub(super) const STOPS_AT_EMFILE: Exercise = exercise!(
    "stops-at-emfile",
    section 9,
    |w| {
        let server = w.start()?;
        let mut clients = connect(w, 1..=20)?;
        let is_busy = |w: &mut Worker| w.stat(server).is_none_or(|stat| stat.ticks >= BUSY);
        w.give_time(PATIENCE, |w| answered(&mut clients) == 20 || is_busy(w))?;
        w.until("the server sleeps, or never does", |w| w.is_asleep(server) || is_busy(w))?;
        w.read(server, "limits", &["Max open files"]);
        w.read(server, "stat", &[""]);
        w.snapshot(FULL)?;
        clients.truncate(1);
        clients.iter_mut().for_each(Client::ask_again);
        clients.extend(connect(w, 21..=21)?);
        w.give_time(PATIENCE, |_| answered(&mut clients) == 2)?;
        for (client, answer) in clients.iter_mut().zip([STILL_SERVED, NEW_SERVED]) {
            client.record(w, answer, "no answer");
        }
        w.snapshot(LEFT)
    },
    ("stops-at-emfile", FULL, "server", |e| e.at(FULL).alive("server").map(drop)),
    ("limit-raised", FULL, "server", |e| {
        e.reads("server", "limits", |limit| limit.split_whitespace().nth(3) == Some("16"))
    }),
    ("spins", FULL, "server", |e| {
        let Stat { ticks, .. } = Stat::try_from(e.reading("server", "stat")?.to_owned())?;
        let lines = e.lines().len() + e.lines_of(Stream::Stderr).len(); // one that prints waits for us
        check!(ticks < BUSY && lines < 1000, "the server used {ticks} ticks, printed {lines} lines")
    }),
    ("cuts-off", LEFT, "server", |e| e.clients_saw(1, STILL_SERVED)),
    ("accepts-no-more", LEFT, "server", |e| e.clients_saw(1, NEW_SERVED)),
);

const REFILLED: Text = text("two workers have been killed", "两个 worker 已被杀死");

pub(super) const NO_RESPAWN: Exercise = exercise!(
    "no-respawn",
    section 11,
    |w| {
        let parent = w.start()?;
        let workers = || procfs::children(parent.pid).unwrap_or_default();
        w.until("the supervisor has three workers", |_| workers().len() == 3)?;
        let first = w.children(parent, "worker")?;
        first.iter().skip(1).for_each(|worker| w.signal(*worker, Signal::SIGKILL));
        w.give_time(PATIENCE, |w| {
            let are_reaped = first.iter().skip(1).all(|worker| w.is_gone(*worker));
            w.has_ended(parent) || are_reaped && workers().len() >= 3
        })?;
        w.give_a_moment(|w| w.has_ended(parent) || workers().len() > 3)?;
        let is_new = |pid: &i32| first.iter().all(|worker| worker.pid != *pid);
        for (number, pid) in (1..).zip(workers().into_iter().filter(is_new)) {
            w.found(pid, &format!("new worker {number}"));
        }
        w.snapshot(REFILLED)
    },
    ("supervisor-ends", REFILLED, "parent", |e| e.at(REFILLED).alive("parent").map(drop)),
    ("kills-healthy", REFILLED, "worker 1", |e| e.at(REFILLED).alive("worker 1").map(drop)),
    ("no-respawn", REFILLED, "worker 2", |e| {
        e.at(REFILLED).gone("worker 2")?.gone("worker 3").map(drop)
    }),
    ("reaps-only", REFILLED, "parent", |e| e.at(REFILLED).alive("new worker 2").map(drop)),
    ("pool-grows", REFILLED, "parent", |e| e.at(REFILLED).live_children(3, "parent").map(drop)),
);
