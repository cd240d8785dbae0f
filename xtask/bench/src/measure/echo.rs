//! `bench echo`: measures our echo server, in each of its models, and rivals beside it.
//!
//! In each round every server has its turn: it is started, measured in every way, and ended. So all of
//! them see the same machine, also if that becomes busier meanwhile.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use xtask_bench_options::{BenchEcho, Server as Name, name};

use crate::load::rates::Load;
use crate::measure::echo_results::{Figures, Measured, Results};
use crate::measure::machine::Machine;
use crate::output::{Failure, create_folder, print, say};
use crate::programs::target_folder;
use crate::servers::compared::{IDLE, OURS, Row, Server};

/// Enough for [`IDLE`] connections, in us and in a server of one process.
const DESCRIPTORS: u64 = 4_096;

/// How long a turn lasts in addition to the measures that have a length.
const TURN_SECONDS: f64 = 1.2;

/// Measures the servers, draws the charts, and prints the results.
pub(crate) fn run(options: &BenchEcho) -> Result<(), Failure> {
    let folder = target_folder().map_err(Failure::missing)?.join("bench");
    create_folder(&folder)?;
    let mut results = find_servers(options, &folder)?;
    measure_all(&mut results.servers, options, &folder);
    results.draw(options.svg.as_deref().unwrap_or(&folder))?;
    print(&match options.json {
        true => results.json(),
        false => results.table(),
    })?;
    results.verdict()
}

/// Finds or builds the programs. Ours must be there; rivals may be missing.
fn find_servers(options: &BenchEcho, folder: &Path) -> Result<Results, Failure> {
    let mut results =
        Results { machine: Machine::here(), missing: Vec::new(), servers: Vec::new() };
    for server in Name::value_variants() {
        if !options.servers.is_empty() && !options.servers.contains(server) {
            continue;
        }
        let row = Row::of(*server);
        let mut others = results.servers.iter();
        let program = match others.find(|other| other.row.source == row.source) {
            Some(other) => Ok(other.program.clone()),
            None => row.program(folder),
        };
        match program {
            Ok(program) => results.servers.push(Measured {
                server: *server,
                row,
                program,
                figures: Figures::default(),
            }),
            Err(missing) if row.source == OURS => return Err(Failure::missing(missing.why)),
            Err(missing) => {
                say(&format!("{} is missing: {}", missing.what, missing.why));
                results.missing.push(missing);
            }
        }
    }
    if results.servers.is_empty() {
        let why = "none of these servers is here".to_owned();
        return Err(Failure::missing(why));
    }
    Ok(results)
}

/// Round after round, each begun by another server.
fn measure_all(servers: &mut [Measured], options: &BenchEcho, folder: &Path) {
    raise_descriptor_limit();
    let count = servers.len();
    let turn = 3.0 * options.seconds + TURN_SECONDS;
    let seconds = turn * (options.rounds * count) as f64;
    say(&format!("{count} servers, {} rounds: this takes about {seconds:.0} s", options.rounds));
    for round in 0..options.rounds {
        for index in 0..count {
            let measured = &mut servers[(round + index) % count];
            say(&format!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                measured.row.full_name()
            ));
            let turn = Turn {
                row: &measured.row,
                program: &measured.program,
                log: &folder.join(format!("{}.stderr", name(measured.server))),
                length: Duration::from_secs_f64(options.seconds),
            };
            turn.measure(&mut measured.figures);
        }
    }
}

/// For us and for the servers, which inherit it.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < DESCRIPTORS
    {
        // If that fails, connections fail, and the results say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard);
    }
}

/// One server's turn in a round.
struct Turn<'a> {
    row: &'a Row,
    program: &'a Path,
    log: &'a Path,
    length: Duration,
}

impl Turn<'_> {
    fn measure(&self, figures: &mut Figures) {
        figures.attempt("idle connections", |figures| {
            let kib = self.memory(figures)?;
            figures.idle_connection_kib.push(kib);
            Ok(())
        });
        figures.attempt("server", |figures| {
            self.with_server(None, figures, |server, load, figures| {
                self.rates(server, load, figures);
                Ok(())
            })
        });
    }

    fn rates(&self, server: &Server, load: &mut Load, figures: &mut Figures) {
        figures.linking = server.linking();
        let before = server.at_rest();
        figures.attempt("connections", |figures| {
            let (time_before, made_before) = (server.processor_time(), load.made);
            let rate = load.sessions(self.length)?;
            // When its processes have ended and are reaped, as far as it reaps them.
            server.back_to(before);
            let time = server.processor_time().saturating_sub(time_before);
            let made = load.made - made_before;
            figures.connection_processor_us.push(time.as_secs_f64() * 1e6 / made as f64);
            figures.connections_per_s.push(rate.per_second);
            figures.session_p50_us.push(rate.p50_us);
            figures.session_p99_us.push(rate.p99_us);
            Ok(())
        });
        figures.attempt("messages", |figures| {
            let rate = load.messages(self.length)?;
            figures.messages_per_s.push(rate.per_second);
            figures.round_trip_p50_us.push(rate.p50_us);
            figures.round_trip_p99_us.push(rate.p99_us);
            Ok(())
        });
        figures.attempt("bulk", |figures| {
            figures.bulk_mib_per_s.push(load.bulk(self.length)?);
            Ok(())
        });
        figures.count_what_is_left(before, server.back_to(before));
    }

    /// Returns what an idle connection takes, in KiB.
    fn memory(&self, figures: &mut Figures) -> Result<f64, String> {
        let while_idle = |server: &Server, load: &mut Load| {
            let idle = load.hold(IDLE)?;
            let kib = server.memory_kib()?;
            load.release(idle)?;
            Ok(kib)
        };
        let (without, with) = match self.row.workers {
            None => self.with_server(None, figures, |server, load, _| {
                server.at_rest();
                Ok((server.memory_kib()?, while_idle(server, load)?))
            })?,
            Some([few, many]) => (
                self.with_server(Some(few), figures, |server, _, _| server.memory_kib())?,
                self.with_server(Some(many), figures, |server, load, _| while_idle(server, load))?,
            ),
        };
        Ok((with as f64 - without as f64) / IDLE as f64)
    }

    /// Measures with a server of its own, which has served once.
    fn with_server<T>(
        &self,
        args: Option<&'static str>,
        figures: &mut Figures,
        measure: impl FnOnce(&Server, &mut Load, &mut Figures) -> Result<T, String>,
    ) -> Result<T, String> {
        let server = Server::start(self.row, self.program, args, self.log)?;
        let mut load = Load::new(server.address)?;
        let result = load.session().and_then(|()| measure(&server, &mut load, figures));
        figures.bytes_compared += load.compared;
        figures.bytes_wrong += load.wrong;
        result
    }
}
