//! The command line.

use std::time::Duration;

use clap::Parser;
use echo_server::seconds;

/// Sends stdin to an echo server, writes what comes back to stdout, and checks that it is every byte.
///
/// A parent process receives while its child sends, so neither waits for the other. A line that is q or
/// Q and nothing else ends the input, too. Such a line is ignored in a regular file and after a NUL byte,
/// which text does not have: binary data are sent as a whole.
///
/// Exit codes: 0 every byte came back, and nothing else; 1 something else came back; 2 wrong usage; 69
/// cannot connect; 74 cannot read stdin, or cannot write stdout (without a message if the reader has
/// gone, as with head); 70 any other failure.
#[derive(Parser)]
#[command(name = "echo-client", version)]
pub(crate) struct Options {
    /// Where the server listens: PORT (on 127.0.0.1) or HOST:PORT (IPv6 in brackets)
    #[arg(default_value = "9190")]
    pub(crate) address: String,

    /// Send everything and only then receive, in a single process: with much input it stalls
    #[arg(long)]
    pub(crate) one_process: bool,

    /// How long sending may make no progress before it counts as stalled, 0 for no limit
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds,
        requires = "one_process"
    )]
    pub(crate) stall_timeout: Duration,
}
