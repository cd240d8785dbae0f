//! `cargo xtask bench echo`: what our echo server does in each of its models, and rivals beside it.
//!
//! In each round every server has its turn: it is started, measured in every manner, and ended. So all
//! of them see the same machine, also if that becomes busier meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use super::bars::{self, Bar, figure};
use super::load::Load;
use super::servers::{OURS, ROWS, Row, Server};
use super::{Machine, Missing, folder, median};
use crate::census::Census;
use crate::cmd::bench::BenchEcho;
use crate::guarded::say;
use crate::model::failure::Failure;

/// Idle connections for whose memory we look.
pub(super) const HELD: usize = 1_000;

/// Enough for as many connections, in us and in a server of one process.
const DESCRIPTORS: u64 = 4_096;

/// What a turn takes beside the measures that have a length, in seconds.
const TURN_SECONDS: f64 = 1.2;

/// What came out for one server, a value for each round.
#[derive(Default)]
struct Record {
    sessions: Vec<f64>,
    session_p50_us: Vec<f64>,
    session_p99_us: Vec<f64>,
    messages: Vec<f64>,
    round_trip_p50_us: Vec<f64>,
    round_trip_p99_us: Vec<f64>,
    bulk_mib: Vec<f64>,
    idle_kib: Vec<f64>,
    bytes_compared: u64,
    bytes_wrong: u64,
    /// The most that was left after any turn.
    zombies: usize,
    descriptors_left: usize,
    processes_left: usize,
    failures: Vec<Trouble>,
}

/// Something that cannot be measured; it is not tried again.
#[derive(Clone, Serialize)]
struct Trouble {
    measure: &'static str,
    why: String,
}

/// A ratio that we want.
struct Target {
    of: &'static str,
    to: &'static str,
    measure: &'static str,
    values: fn(&Record) -> &[f64],
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

const TARGETS: &[Target] = &[
    sessions("fork", "c-fork", 1.0),
    sessions("fork", "socat", 2.0),
    sessions("reexec", "tcpserver", 1.3),
    sessions("reexec-static", "tcpserver", 1.3),
    sessions("prefork", "go", 1.3),
    sessions("multiplex", "c-epoll", 0.95),
    Target {
        of: "multiplex",
        to: "c-epoll",
        measure: "messages/s",
        values: |record| &record.messages,
        wanted: Wanted::AtLeast(0.95),
    },
    Target {
        of: "fork",
        to: "c-fork",
        measure: "KiB for an idle connection",
        values: |record| &record.idle_kib,
        wanted: Wanted::AtMost(1.5),
    },
];

const fn sessions(of: &'static str, to: &'static str, at_least: f64) -> Target {
    Target {
        of,
        to,
        measure: "connections/s",
        values: |record| &record.sessions,
        wanted: Wanted::AtLeast(at_least),
    }
}

pub(super) fn run(options: &BenchEcho) -> Result<(), Failure> {
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|error| Failure::writing(folder.display(), &error))?;
    let mut results = Results::prepare(options, &folder)?;
    results.play(options, &folder);

    let svg = options.svg.clone().unwrap_or(folder);
    results.draw(&svg)?;
    let text = if options.json {
        results.json()
    } else {
        results.table()
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::writing("stdout", &error))?;
    results.verdict()
}

/// Everything that is known of the servers.
struct Results {
    machine: Machine,
    missing: Vec<Missing>,
    programs: BTreeMap<&'static str, PathBuf>,
    /// Those that are here, in the order of [`ROWS`].
    rows: Vec<(&'static Row, Record)>,
}

impl Results {
    /// Builds what has to be built.
    fn prepare(options: &BenchEcho, folder: &Path) -> Result<Self, Failure> {
        let mut results = Self {
            machine: Machine::here(),
            missing: Vec::new(),
            programs: BTreeMap::new(),
            rows: Vec::new(),
        };
        let is_wanted = |row: &&Row| {
            options.servers.is_empty() || options.servers.iter().any(|key| key == row.key)
        };
        for row in ROWS.iter().filter(is_wanted) {
            let other = results
                .rows
                .iter()
                .find(|(other, _)| other.source == row.source);
            let program = match other.and_then(|(other, _)| results.programs.get(other.key)) {
                Some(program) => Ok(program.clone()),
                None => row.program(folder),
            };
            match program {
                Ok(program) => {
                    results.programs.insert(row.key, program);
                    results.rows.push((row, Record::default()));
                }
                Err(missing) if row.source == OURS => return Err(Failure::Missing(missing.why)),
                Err(missing) => {
                    say(&format!("{} is missing: {}", missing.what, missing.why));
                    results.missing.push(missing);
                }
            }
        }
        if results.rows.is_empty() {
            return Err(Failure::Missing("none of these servers is here".to_owned()));
        }
        Ok(results)
    }

    /// Round after round, each begun by another server.
    fn play(&mut self, options: &BenchEcho, folder: &Path) {
        more_descriptors();
        let count = self.rows.len();
        let turn = 3.0 * options.seconds + TURN_SECONDS;
        let seconds = turn * (options.rounds * count) as f64;
        say(&format!(
            "{count} servers, {} rounds: this takes about {seconds:.0} s",
            options.rounds
        ));
        let length = Duration::from_secs_f64(options.seconds);
        for round in 0..options.rounds {
            for index in 0..count {
                let (row, record) = &mut self.rows[(round + index) % count];
                let turn = Turn {
                    row,
                    program: &self.programs[row.key],
                    log: &folder.join(format!("{}.stderr", row.key)),
                    length,
                };
                say(&format!(
                    "round {} of {}: {}",
                    round + 1,
                    options.rounds,
                    row.name
                ));
                turn.play(record);
            }
        }
    }
}

/// Servers inherit it, too.
fn more_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
    {
        // If that fails, connections will, and say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard);
    }
}

/// One server's turn in a round.
struct Turn<'a> {
    row: &'static Row,
    program: &'a Path,
    log: &'a Path,
    length: Duration,
}

impl Turn<'_> {
    fn play(&self, record: &mut Record) {
        record.attempt("idle connections", |record| {
            let kib = self.memory(record)?;
            record.idle_kib.push(kib);
            Ok(())
        });
        record.attempt("server", |record| {
            self.with_server(None, record, |server, load, record| {
                self.rates(server, load, record)
            })
        });
    }

    fn rates(&self, server: &Server, load: &mut Load, record: &mut Record) -> Result<(), String> {
        let before = server.at_rest()?;
        record.attempt("connections", |record| {
            let rate = load.sessions(self.length)?;
            record.sessions.push(rate.per_second);
            record.session_p50_us.push(rate.p50_us);
            record.session_p99_us.push(rate.p99_us);
            Ok(())
        });
        record.attempt("messages", |record| {
            let rate = load.ping_pong(self.length)?;
            record.messages.push(rate.per_second);
            record.round_trip_p50_us.push(rate.p50_us);
            record.round_trip_p99_us.push(rate.p99_us);
            Ok(())
        });
        record.attempt("bulk", |record| {
            record.bulk_mib.push(load.bulk(self.length)?);
            Ok(())
        });
        record.count_what_is_left(before, server.back_to(before)?);
        Ok(())
    }

    /// What an idle connection takes, in KiB.
    fn memory(&self, record: &mut Record) -> Result<f64, String> {
        let held = |server: &Server, load: &mut Load| {
            let held = load.held(HELD)?;
            let kib = server.memory_kib()?;
            held.release()?;
            Ok(kib)
        };
        let (without, with) = match self.row.workers {
            None => self.with_server(None, record, |server, load, _| {
                server.at_rest()?;
                Ok((server.memory_kib()?, held(server, load)?))
            })?,
            Some([few, many]) => (
                self.with_server(Some(few), record, |server, _, _| server.memory_kib())?,
                self.with_server(Some(many), record, |server, load, _| held(server, load))?,
            ),
        };
        Ok((with as f64 - without as f64) / HELD as f64)
    }

    /// With a server of its own, which has served once.
    fn with_server<T>(
        &self,
        args: Option<&'static str>,
        record: &mut Record,
        measure: impl FnOnce(&Server, &mut Load, &mut Record) -> Result<T, String>,
    ) -> Result<T, String> {
        let server = Server::start(self.row, self.program, args, self.log)?;
        let mut load = Load::new(server.address)?;
        let result = load
            .session()
            .and_then(|()| measure(&server, &mut load, record));
        record.bytes_compared += load.compared;
        record.bytes_wrong += load.wrong;
        result
    }
}

impl Record {
    /// Measures it, unless that has failed before.
    fn attempt(
        &mut self,
        measure: &'static str,
        act: impl FnOnce(&mut Self) -> Result<(), String>,
    ) {
        if self
            .failures
            .iter()
            .any(|failure| failure.measure == measure)
        {
            return;
        }
        if let Err(why) = act(self) {
            say(&format!("{measure}: {why}"));
            self.failures.push(Trouble { measure, why });
        }
    }

    fn count_what_is_left(&mut self, before: Census, after: Census) {
        let more = |before: usize, after: usize| after.saturating_sub(before);
        self.zombies = self.zombies.max(after.zombies);
        self.descriptors_left =
            more(before.descriptors, after.descriptors).max(self.descriptors_left);
        self.processes_left = more(before.processes, after.processes).max(self.processes_left);
    }
}

/// What `--json` says of a server: medians over the rounds.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "echo")]
struct Measured<'a> {
    server: &'static str,
    name: &'static str,
    command: String,
    connections_per_s: Option<f64>,
    session_p50_us: Option<f64>,
    session_p99_us: Option<f64>,
    messages_per_s: Option<f64>,
    round_trip_p50_us: Option<f64>,
    round_trip_p99_us: Option<f64>,
    bulk_mib_per_s: Option<f64>,
    idle_connection_kib: Option<f64>,
    bytes_compared: u64,
    bytes_wrong: u64,
    zombies: usize,
    descriptors_left: usize,
    processes_left: usize,
    failures: &'a [Trouble],
}

/// What `--json` says of a target: the median of the ratios in the rounds.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "ratio")]
struct Ratio {
    of: &'static str,
    to: &'static str,
    measure: &'static str,
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    reached: bool,
}

fn middle(values: &[f64]) -> Option<f64> {
    Some(median(values)).filter(|value| value.is_finite())
}

impl Results {
    fn measured(&self) -> impl Iterator<Item = Measured<'_>> {
        self.rows.iter().map(|(row, record)| Measured {
            server: row.key,
            name: row.name,
            command: row.command(),
            connections_per_s: middle(&record.sessions),
            session_p50_us: middle(&record.session_p50_us),
            session_p99_us: middle(&record.session_p99_us),
            messages_per_s: middle(&record.messages),
            round_trip_p50_us: middle(&record.round_trip_p50_us),
            round_trip_p99_us: middle(&record.round_trip_p99_us),
            bulk_mib_per_s: middle(&record.bulk_mib),
            idle_connection_kib: middle(&record.idle_kib),
            bytes_compared: record.bytes_compared,
            bytes_wrong: record.bytes_wrong,
            zombies: record.zombies,
            descriptors_left: record.descriptors_left,
            processes_left: record.processes_left,
            failures: &record.failures,
        })
    }

    /// Those of [`TARGETS`] for which both servers are here.
    fn ratios(&self) -> Vec<Ratio> {
        let record = |key: &str| {
            let row = self.rows.iter().find(|(row, _)| row.key == key);
            row.map(|(_, record)| record)
        };
        let ratio = |target: &Target| {
            let of = (target.values)(record(target.of)?);
            let to = (target.values)(record(target.to)?);
            // Of the same round, so that what slows down both is no part of it.
            let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
            let ratio = middle(&ratios)?;
            let (at_least, at_most) = match target.wanted {
                Wanted::AtLeast(value) => (Some(value), None),
                Wanted::AtMost(value) => (None, Some(value)),
            };
            Some(Ratio {
                of: target.of,
                to: target.to,
                measure: target.measure,
                ratio,
                at_least,
                at_most,
                reached: at_least.is_none_or(|value| ratio >= value)
                    && at_most.is_none_or(|value| ratio <= value),
            })
        };
        TARGETS.iter().filter_map(ratio).collect()
    }

    fn json(&self) -> String {
        let mut lines = vec![serde_json::to_string(&self.machine)];
        lines.extend(self.missing.iter().map(serde_json::to_string));
        lines.extend(self.measured().map(|row| serde_json::to_string(&row)));
        lines.extend(self.ratios().iter().map(serde_json::to_string));
        lines
            .into_iter()
            .flatten()
            .map(|line| line + "\n")
            .collect()
    }

    fn table(&self) -> String {
        let mut out = self.machine.line();
        out += "medians of the rounds; times in microseconds; memory: for an idle connection, PSS of \
                all processes,\nwithout the kernel's; left at the end of a turn: zombies, more \
                descriptors (fds), more processes\n\n";
        let _ = writeln!(
            out,
            "{:16}{:>14}{:>8}{:>8}{:>12}{:>7}{:>7}{:>12}{:>16}{:>9}{:>5}{:>6}",
            "",
            "connections/s",
            "p50",
            "p99",
            "messages/s",
            "p50",
            "p99",
            "bulk MiB/s",
            "KiB/connection",
            "zombies",
            "fds",
            "procs",
        );
        let of = |value: Option<f64>| value.map_or("-".to_owned(), figure);
        for row in self.measured() {
            let _ = writeln!(
                out,
                "{:16}{:>14}{:>8}{:>8}{:>12}{:>7}{:>7}{:>12}{:>16}{:>9}{:>5}{:>6}",
                row.name,
                of(row.connections_per_s),
                of(row.session_p50_us),
                of(row.session_p99_us),
                of(row.messages_per_s),
                of(row.round_trip_p50_us),
                of(row.round_trip_p99_us),
                of(row.bulk_mib_per_s),
                of(row.idle_connection_kib),
                row.zombies,
                row.descriptors_left,
                row.processes_left,
            );
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            out.push('\n');
        }
        for ratio in ratios {
            let (of, to, measure) = (ratio.of, ratio.to, ratio.measure);
            let wanted = match (ratio.at_least, ratio.at_most) {
                (Some(value), _) => format!("at least {value}"),
                (_, value) => format!("at most {}", value.unwrap_or_default()),
            };
            let reached = if ratio.reached { "reached" } else { "MISSED" };
            let pair = format!("{of} / {to}, {measure}");
            let _ = writeln!(out, "{pair:50} {:5.2}  {wanted}: {reached}", ratio.ratio);
        }
        for row in self.measured() {
            for Trouble { measure, why } in row.failures {
                let _ = writeln!(out, "\nFAILED: {}: {measure}: {why}", row.name);
            }
        }
        for missing in &self.missing {
            let _ = writeln!(out, "\n{missing}");
        }
        out
    }

    /// The pictures.
    fn draw(&self, folder: &Path) -> Result<(), Failure> {
        let bars = |values: fn(&Record) -> &[f64]| -> Vec<Bar> {
            let bar = |(row, record): &(&Row, Record)| {
                Some(Bar {
                    name: row.name.to_owned(),
                    is_ours: row.is_ours(),
                    value: middle(values(record))?,
                })
            };
            self.rows.iter().filter_map(bar).collect()
        };
        let pictures = [
            (
                "echo-connections.svg",
                bars::draw(
                    "Echo servers: new connections per second",
                    "",
                    false,
                    &bars(|record| &record.sessions),
                ),
            ),
            (
                "echo-ping-pong.svg",
                bars::draw(
                    "Echo servers: messages per second, there and back, on 16 connections",
                    "",
                    false,
                    &bars(|record| &record.messages),
                ),
            ),
            (
                "echo-memory.svg",
                bars::draw(
                    "Echo servers: memory for an idle connection (less is better)",
                    "KiB",
                    true,
                    &bars(|record| &record.idle_kib),
                ),
            ),
        ];
        fs::create_dir_all(folder).map_err(|error| Failure::writing(folder.display(), &error))?;
        for (name, svg) in pictures {
            let path = folder.join(name);
            fs::write(&path, svg).map_err(|error| Failure::writing(path.display(), &error))?;
            say(&format!("a picture is in {}", path.display()));
        }
        Ok(())
    }

    /// A rival may do badly; ours may not, and nobody may send back other bytes.
    fn verdict(&self) -> Result<(), Failure> {
        let is_bad = |row: &Row, record: &Record| {
            record.bytes_wrong > 0 || row.is_ours() && !record.failures.is_empty()
        };
        let failed = self.rows.iter().filter(|(row, record)| is_bad(row, record));
        let failed: Vec<_> = failed.map(|(row, _)| row.name).collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::Failed(format!("failed: {}", failed.join("; "))))
        }
    }
}
