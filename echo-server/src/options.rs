//! The command line.

use std::error::Error;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// An echo server (RFC 862): everything a client sends comes back, until it ends its stream.
///
/// The first line on stdout says where it listens; events go to stderr, one a line. TERM or INT:
/// no new clients, sessions may finish; a second one: at once.
///
/// Exit codes: 0 every session finished, 1 some were cut off: at the deadline, by the second signal,
/// or by the end of their process meanwhile; 2 usage, 69 cannot listen, 70 any other failure.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Where to listen: PORT (on 127.0.0.1), HOST:PORT (IPv6 in brackets), or :PORT (everywhere);
    /// port 0 picks a free one
    #[arg(default_value = "9190")]
    pub(crate) address: String,

    /// How clients are served at the same time
    #[arg(long, value_enum, default_value_t = Model::Fork)]
    pub(crate) model: Model,

    /// How many clients to serve at once, 0 for any number; others wait in the kernel's queue
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_children: usize,

    /// How long sessions may go on after TERM or INT, 0 for as long as they like
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) drain_timeout: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Model {
    /// A process for each connection
    Fork,
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
