//! The command line.

use std::error::Error;
use std::time::Duration;

use clap::Parser;

/// Sends stdin to an echo server, writes what comes back to stdout, and says whether that was
/// every byte.
///
/// A parent process receives while its child sends, so neither waits for the other. The input ends
/// at its end, or with a line that is q or Q and nothing else. That line is not looked for in a
/// regular file, nor after a NUL byte, which text does not have: binary data are sent whole.
///
/// Exit codes: 0 every byte came back, and nothing else; 1 not so, 2 usage, 69 cannot connect, 74
/// stdin cannot be read or stdout not be written (without a word if its reader has gone, as head
/// does), 70 any other failure.
#[derive(Parser)]
#[command(name = "echo-client", version)]
pub(crate) struct Options {
    /// Where the server listens: PORT (on 127.0.0.1) or HOST:PORT (IPv6 in brackets)
    #[arg(default_value = "9190")]
    pub(crate) address: String,

    /// Send everything and only then receive, in a single process: with much input it stalls
    #[arg(long)]
    pub(crate) one_process: bool,

    /// How long sending may make no progress before that is taken for a stall, 0 for as long as
    /// it likes
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds,
        requires = "one_process"
    )]
    pub(crate) stall_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    if text.starts_with('+') {
        return Err("leave out the +".into());
    }
    let seconds = text.parse()?;
    let time = Duration::try_from_secs_f64(seconds)?;
    if time.is_zero() && seconds != 0.0 {
        return Err("it is too little to be told from 0, which is no limit".into());
    }
    Ok(time)
}
