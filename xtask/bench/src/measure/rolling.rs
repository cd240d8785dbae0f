//! `rolling`: three echo servers behind HAProxy are replaced one after the other, in several ways, under
//! load; and how many sessions are lost.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sys::signal::Signal;
use xtask_bench_options::{Rolling, Way, name};

use crate::load::clients::{Clients, Kind};
use crate::measure::outcome::run_turns;
use crate::measure::rolling_result::{RollingResult, heading};
use crate::measure::soak::some;
use crate::output::{Failure, create_folder, say};
use crate::process::descendants;
use crate::programs::{Linking, cargo_build, target_folder};
use crate::servers::haproxy::{self, Haproxy, State};
use crate::servers::rolled::{Place, ReservedPort, Rolled};

/// How many servers there are behind HAProxy.
const SERVERS: usize = 3;

/// How many clients a server serves at once: fewer than come, so that some always wait in the kernel's
/// queue.
const AT_ONCE: &str = "4";

/// Each step of a replacement is done within this time. 30 s are for the sessions of the old server.
const STEP_WITHIN: Duration = Duration::from_secs(40);

/// Rolls in each way, and prints what came of it.
pub(crate) fn run(options: &Rolling) -> Result<(), Failure> {
    let folder = empty_folder()?;
    let haproxy = haproxy::find().map_err(Failure::missing)?;
    let server = cargo_build("echo-server", &["--bin"], "echo-server", Linking::Dynamic, &folder)
        .map_err(Failure::missing)?;
    let setting = Setting {
        haproxy,
        server,
        folder,
        options,
        seed: options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
    };
    let ways = match options.ways.as_slice() {
        [] => Way::value_variants(),
        ways => ways,
    };
    say(&format!("--seed {}; logs are in {}", setting.seed, setting.folder.display()));
    run_turns(ways, |way| roll(*way, &setting), &heading(), options.json, setting.seed)?;
    say("No session was lost, except by the control.");
    Ok(())
}

/// The folder for logs, without those of the last run.
fn empty_folder() -> Result<PathBuf, Failure> {
    let folder = target_folder().map_err(Failure::missing)?.join("rolling");
    let _ = fs::remove_dir_all(&folder); // it may not be there
    create_folder(&folder)?;
    Ok(folder)
}

/// What is the same for every way.
struct Setting<'a> {
    haproxy: PathBuf,
    server: PathBuf,
    folder: PathBuf,
    options: &'a Rolling,
    seed: u64,
}

fn roll(way: Way, setting: &Setting<'_>) -> RollingResult {
    let mut result = RollingResult { way: name(way), seed: setting.seed, ..Default::default() };
    let began = Instant::now();
    match Roll::start(way, setting) {
        Ok(mut roll) => {
            if let Err(why) = roll.replace_all(setting.options.sessions) {
                result.faults.push(why); // and this way ends here
            }
            roll.fill(&mut result);
        }
        Err(why) => result.faults.push(why),
    }
    // After a fault, servers may still run.
    result.left_over = if result.faults.is_empty() { descendants().len() } else { 0 };
    result.seconds = began.elapsed().as_secs_f64();
    result.judge(way == Way::Term);
    result
}

/// HAProxy, its servers and its clients, for one way.
struct Roll {
    way: Way,
    haproxy: Haproxy,
    servers: Vec<Rolled>,
    clients: Clients,
    replaced: u64,
}

impl Roll {
    fn start(way: Way, setting: &Setting<'_>) -> Result<Self, String> {
        let mut args = ["--max-children", AT_ONCE, "--workers", AT_ONCE, "--model"]
            .map(str::to_owned)
            .to_vec();
        args.push(name(setting.options.model));
        if way == Way::Backlog {
            args.push("--drain-backlog".to_owned());
        }
        let start = |index| {
            let log = setting.folder.join(format!("{}-s{index}.stderr", name(way)));
            Rolled::start(&setting.server, &args, place(way)?, log)
        };
        let servers = (0..SERVERS).map(start).collect::<Result<Vec<_>, _>>()?;
        let port = ReservedPort::new()?;
        let addresses = servers.iter().map(|server| server.place.address());
        let haproxy = Haproxy::start(&setting.haproxy, &setting.folder, port.address, addresses)?;
        let clients = Clients::new(port.address, &kinds(setting.options.long), setting.seed);
        let clients = clients.map_err(|error| format!("cannot make an epoll: {error}"))?;
        let mut roll = Self { way, haproxy, servers, clients, replaced: 0 };
        roll.await_start()?;
        Ok(roll)
    }

    fn await_start(&mut self) -> Result<(), String> {
        for index in 0..SERVERS {
            self.until("a server listens", false, |roll| roll.servers[index].listens())?;
        }
        self.until("haproxy listens", false, |roll| roll.haproxy.is_ready())
    }

    /// Replaces each server when its part of the sessions has begun, and at the end tells all to stop.
    fn replace_all(&mut self, sessions: u64) -> Result<(), String> {
        let parts = SERVERS as u64 + 1;
        for index in 0..SERVERS {
            self.until_begun(sessions * (index as u64 + 1) / parts)?;
            self.replace(index)?;
            self.replaced += 1;
        }
        self.until_begun(sessions)?;
        self.until("every session has ended", false, |roll| Ok(roll.clients.are_at_rest()))?;
        for index in 0..SERVERS {
            self.stop(index, false)?;
        }
        Ok(())
    }

    fn replace(&mut self, index: usize) -> Result<(), String> {
        match self.way {
            Way::Drain => {
                self.haproxy.set_state(index, State::Drain)?;
                self.until("haproxy has drained a server", true, |roll| {
                    Ok(roll.haproxy.sessions(index)? == 0)
                })?;
                self.restart(index)?;
                self.haproxy.set_state(index, State::Ready)
            }
            Way::Usr2 => self.upgrade(index),
            Way::Socket | Way::Backlog | Way::Term => self.restart(index),
        }
    }

    fn restart(&mut self, index: usize) -> Result<(), String> {
        self.stop(index, true)?;
        self.servers[index].start_next()?;
        self.until("the next server listens", true, |roll| roll.servers[index].listens())
    }

    /// Sends TERM and waits for the end, while new sessions begin if `may_begin`.
    fn stop(&mut self, index: usize, may_begin: bool) -> Result<(), String> {
        self.servers[index].signal(Signal::SIGTERM)?;
        self.until("TERM has ended a server", may_begin, |roll| roll.servers[index].has_ended())
    }

    fn upgrade(&mut self, index: usize) -> Result<(), String> {
        self.servers[index].signal(Signal::SIGUSR2)?;
        let mut next = None;
        self.until("USR2 has led to a new server", true, |roll| {
            next = roll.servers[index].next_after_upgrade()?;
            Ok(next.is_some())
        })?;
        self.until("the old server has ended", true, |roll| roll.servers[index].has_ended())?;
        next.into_iter().for_each(|pid| self.servers[index].become_next(pid));
        Ok(())
    }

    /// Goes on until so many sessions have begun. That takes as long as it takes: a session that makes no
    /// progress is given up, and the next one begins.
    fn until_begun(&mut self, sessions: u64) -> Result<(), String> {
        while self.clients.begun < sessions {
            self.step(true)?;
        }
        Ok(())
    }

    /// Goes on with the sessions until this has happened. New ones begin if `may_begin`.
    fn until(
        &mut self,
        what: &str,
        may_begin: bool,
        mut has_happened: impl FnMut(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        while !has_happened(self)? {
            if began.elapsed() > STEP_WITHIN {
                return Err(format!("not within {STEP_WITHIN:?}: {what}"));
            }
            self.step(may_begin)?;
        }
        Ok(())
    }

    fn step(&mut self, may_begin: bool) -> Result<(), String> {
        let stepped = self.clients.step(may_begin);
        stepped.map_err(|error| format!("cannot watch a connection: {error}"))
    }

    /// Adds what came of it.
    fn fill(self, result: &mut RollingResult) {
        let tally = self.clients.tally;
        result.replaced = self.replaced;
        result.sessions = tally.sessions();
        result.bytes_compared = tally.bytes_compared;
        result.refused = tally.errors.refused;
        result.reset = tally.errors.reset;
        result.short = tally.losses.len() as u64 + tally.errors.ended_early;
        result.wrong = tally.wrong.len() as u64;
        result.lost = tally.sessions() - tally.complete;
        let broken = self.clients.broken.into_iter().map(|broken| broken.sentence);
        let sentences = broken.chain(tally.losses).chain(tally.wrong);
        result.sentences = some("lost", sentences.collect());
    }
}

/// Where a server listens that is replaced in this way.
fn place(way: Way) -> Result<Place, String> {
    let port = ReservedPort::new()?;
    if way == Way::Socket {
        let address = port.address;
        return Ok(Place::Held(port.listen()?, address));
    }
    Ok(Place::Port(port))
}

/// The clients. All of them half-close: the large ones long before everything is back.
fn kinds(long: f64) -> [(Kind, usize); 3] {
    [(Kind::Short, 24), (Kind::Bulk, 6), (Kind::Long(Duration::from_secs_f64(long)), 24)]
}
