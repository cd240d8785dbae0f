//! The options of `cargo xtask bench`, `soak` and `rolling`.
//!
//! A crate of its own, because two programs parse them: xtask, which prints their `--help` and
//! completions and refuses wrong ones without building xtask-bench; and xtask-bench, which obeys them.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Measure times beside those of rivals, in the same run
#[derive(Subcommand)]
pub enum Bench {
    /// Time from the spawn of a child that exits at once until it is reaped, with parents of several sizes
    Spawn(BenchSpawn),
    /// Echo servers, ours and rivals: new connections, messages, bulk, and the memory of idle connections
    ///
    /// One process connects to one server at a time, on this machine, and compares every byte. It
    /// measures sessions (connect, 24 bytes there and back, half-close, end of stream) by 32 clients at
    /// once, and the processor time of all processes of the server for each; messages of 24 bytes there
    /// and back on 16 connections; a stream on one connection; and the memory for each of 1,000 idle
    /// connections, as the PSS of all processes of the server, where a page that several share counts as
    /// one: what the kernel needs for them is not in it. Then it looks for zombies, descriptors and
    /// processes that are left.
    ///
    /// Our server runs as `cargo build --release` builds it, and with its sandbox, unless the name says
    /// `static` or `sandbox-off`. Its limits that no rival has are off; `prefork` has a worker for each
    /// of the 1,000.
    ///
    /// Exit codes: 0 everything was measured, also if a ratio misses its bound, and if a rival fails or
    /// is missing; 1 one of our servers fails (an error of a connection, 1,000 of them not held, an
    /// option it does not know), any server sends back other bytes, or a process is left; 2 usage, 74
    /// output cannot be written, 77 a required tool or permission is missing, 130 interrupted.
    Echo(BenchEcho),
}

/// Options of `bench spawn`.
#[derive(Args)]
pub struct BenchSpawn {
    /// Print the results as NDJSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Where to draw the plot; defaults to bench/spawn.svg in cargo's target folder
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Options of `bench echo`.
#[derive(Args)]
pub struct BenchEcho {
    /// Which servers to measure; defaults to all
    #[arg(value_name = "SERVER")]
    pub servers: Vec<Server>,

    /// How many times to measure each server; the results are medians
    #[arg(long, value_name = "N", default_value = "5", value_parser = rounds)]
    pub rounds: usize,

    /// How long to measure each of the three rates, in each round
    #[arg(long, value_name = "SECONDS", default_value = "0.7", value_parser = bench_seconds)]
    pub seconds: f64,

    /// Print the results as NDJSON instead of a table
    #[arg(long)]
    pub json: bool,

    /// Where to draw the charts; defaults to bench in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// The servers of `bench echo`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "a doc comment would change --help")]
pub enum Server {
    Fork,
    ForkSandboxOff,
    ForkStatic,
    ForkStaticSandboxOff,
    Template,
    TemplateSandboxOff,
    TemplateStatic,
    TemplateStaticSandboxOff,
    Reexec,
    ReexecStatic,
    Prefork,
    Thread,
    Multiplex,
    CFork,
    CEpoll,
    Go,
    Socat,
    Tcpserver,
    Ncat,
}

/// Load the echo server for minutes, kill its workers, upgrade and resize it, and count what is lost
///
/// Each model has its turn. Clients of many kinds run at the same time: short and long streams,
/// crowds, slow readers, slow writers, idle ones, and some that vanish. They compare every byte.
/// Meanwhile workers are killed (SIGKILL) at random moments, and the server gets USR2, TTIN, TTOU and
/// USR1. Every 20 s the load stops, and processes, descriptors and memory are compared with those of
/// the first such rest. At the end the server gets TERM.
///
/// A model fails if: a stream ended cleanly but incompletely (silent loss); a byte was wrong; a
/// session ended in an error that no killed worker explains; a zombie stayed for longer than 1 s; at
/// a rest there were other numbers of processes or descriptors than at the first, or more memory
/// than 1.5 times that of the first and 2 MiB; an upgrade did not succeed within 40 s; a server
/// ended with another status than 0, or 1 after a worker was killed while it drained; or a process
/// was left.
///
/// A killed worker explains errors of sessions that were open when it was killed: one of them with
/// fork, reexec, template and prefork, all of them with thread and multiplex. Sessions that began up to 1 s
/// later count as open, because a process may go on for a moment after SIGKILL was sent.
///
/// Exit codes: 0 no model failed, 1 one did, 2 usage, 74 output cannot be written, 77 a required tool
/// or permission is missing, 130 interrupted.
#[derive(Args)]
pub struct Soak {
    /// Which models to soak; defaults to all
    #[arg(value_name = "MODEL")]
    pub models: Vec<Model>,

    /// How long the load lasts, for each model; the rests come on top
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = soak_seconds)]
    pub seconds: f64,

    /// Chooses sizes, pauses and moments; by default another one each time, which is printed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Soak a small server that has this fault, to prove that the fault is noticed: exit code 1
    #[arg(long, value_name = "FAULT", conflicts_with = "models")]
    pub control: Option<Fault>,

    /// Print the results as NDJSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What is wrong with the control of a soak.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// It loses a byte now and then
    Loss,
    /// It keeps memory and a descriptor now and then
    Growth,
    /// It does not reap its child
    Zombie,
}

/// Replace three echo servers behind HAProxy, one after the other, and count the sessions that are lost
///
/// HAProxy distributes the sessions of some fifty clients to three servers on this machine, each of which
/// serves 4 at a time. So there are always some in service, and others in the kernel's queue. Sessions are
/// short, long, and large ones that half-close long before everything is back; every byte is compared.
/// When a quarter, half, and three quarters of the sessions have begun, a server is replaced by another
/// process on the same port.
///
/// A way fails if a session was refused or reset, ended too early (short), or was lost otherwise; if a
/// server ended with another status than 0; or if a process was left. The control `term` fails if it loses
/// nothing: the others would then prove nothing.
///
/// Exit codes: 0 no way failed, 1 one did, 2 usage, 74 output cannot be written, 77 a required tool, such
/// as haproxy, or permission is missing, 130 interrupted.
#[derive(Args)]
pub struct Rolling {
    /// How the servers are replaced; defaults to all ways
    #[arg(value_name = "WAY")]
    pub ways: Vec<Way>,

    /// How many sessions there are at least, for each way
    #[arg(long, value_name = "N", default_value = "2000", value_parser = sessions)]
    pub sessions: u64,

    /// How long the long sessions last at most
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = bench_seconds)]
    pub long: f64,

    /// How the servers serve their clients
    #[arg(long, value_enum, default_value_t = Model::Fork)]
    pub model: Model,

    /// Chooses sizes and pauses; by default another one each time, which is printed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Print the results as NDJSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// How a server is replaced by the next one on its port.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// HAProxy's admin socket puts the server into the state `drain`; when its last session has ended, TERM;
    /// then the next server, and the state `ready`
    Drain,
    /// USR2: the server hands its listener to the next one
    Usr2,
    /// TERM and then the next server. The listener is held by another process, which hands it to each, as a
    /// socket unit of systemd does
    Socket,
    /// TERM to servers with --drain-backlog, and then the next server
    Backlog,
    /// The control: TERM, and then the next server
    Term,
}

// Not the `Model` of echo-server: `cargo xtask` would have to compile the server before it can print a
// line. A test below keeps the two equal.
/// The models of the echo server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "a doc comment would change --help")]
pub enum Model {
    Fork,
    Reexec,
    Template,
    Prefork,
    Thread,
    Multiplex,
}

/// Returns a value's name on the command line.
pub fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err("not between 1 and 1,000".to_owned()),
    }
}

fn sessions(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(sessions @ 100..=1_000_000) => Ok(sessions),
        _ => Err("not between 100 and 1,000,000".to_owned()),
    }
}

fn bench_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 0.1 and 60".to_owned()),
    }
}

fn soak_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (1.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 1 and 86,400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<T: ValueEnum>() -> Vec<String> {
        T::value_variants().iter().cloned().map(name).collect()
    }

    #[test]
    fn soak_has_every_model_of_the_server() {
        assert_eq!(names::<Model>(), names::<echo_server::Model>());
    }
}
