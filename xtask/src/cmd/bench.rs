//! `cargo xtask bench`: its options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::bench;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From the spawn of a child that does nothing until it is reaped, by parents of several sizes
    Spawn(BenchSpawn),
    Echo(BenchEcho),
}

#[derive(Args)]
pub(crate) struct BenchSpawn {
    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to draw the plot; by default bench/spawn.svg in cargo's target folder
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Echo servers, ours and rivals: new connections, messages, bulk, and the memory of idle connections
///
/// One process connects to one server at a time, on this machine, and compares every byte. What is
/// measured: sessions (connect, 24 bytes there and back, half-close, end of stream) by 32 clients at
/// once; messages of 24 bytes there and back on 16 connections; a stream on one connection; the
/// memory for each of 1,000 idle connections, as the PSS of all processes of the server, where a
/// page that several share counts as one: what the kernel needs for them is not in it. Then it looks
/// for zombies, descriptors and processes that are left. Our limits that no rival has are off, and
/// so is the sandbox but for `fork-sandboxed`; `prefork` has a worker for each of the 1,000.
///
/// Exit codes: 0 all is measured, also if a ratio misses its target, and if a rival fails or is
/// missing; 1 one of our servers fails (an error of a connection, 1,000 of them not held, an option
/// it does not know), anyone sends back other bytes, or a process is left; 2 usage, 74 output cannot
/// be written, 77 something is missing that it takes, 130 interrupted.
#[derive(Args)]
pub(crate) struct BenchEcho {
    /// Which servers; by default all
    #[arg(value_name = "SERVER", value_parser = bench::server_names())]
    pub(crate) servers: Vec<String>,

    /// How many times each server has its turn; medians are told
    #[arg(long, value_name = "N", default_value = "5", value_parser = rounds)]
    pub(crate) rounds: usize,

    /// How long each of the three rates is measured in a turn
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = length)]
    pub(crate) seconds: f64,

    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to draw the pictures; by default bench in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err("not between 1 and 1,000".to_owned()),
    }
}

fn length(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 0.1 and 60".to_owned()),
    }
}
