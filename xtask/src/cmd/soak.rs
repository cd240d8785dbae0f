//! `cargo xtask soak`: its options.

use clap::{Args, ValueEnum};

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
/// fork, reexec and prefork, all of them with thread and multiplex. Sessions that began up to 1 s
/// later count as open, because a process may go on for a moment after SIGKILL was sent.
///
/// Exit codes: 0 no model failed, 1 one did, 2 usage, 74 output cannot be written, 77 a required tool
/// or permission is missing, 130 interrupted.
#[derive(Args)]
pub(crate) struct Soak {
    /// Which models; by default all
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<Model>,

    /// How long the load lasts, for each model; the rests come on top
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = soak_length)]
    pub(crate) seconds: f64,

    /// Chooses sizes, pauses and moments; by default another one each time, which is printed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Soak a small server that loses a byte now and then, to prove that it is noticed: exit code 1
    #[arg(long, conflicts_with = "models")]
    pub(crate) control: bool,

    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// The models of the echo server, as on its command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    Fork,
    Reexec,
    Prefork,
    Thread,
    Multiplex,
}

fn soak_length(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (1.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 1 and 86,400".to_owned()),
    }
}
