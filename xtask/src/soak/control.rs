//! The control: a server with a fault that a soak must notice.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, ExitCode};

use clap::ValueEnum;
use nix::sys::signal::{SigSet, Signal};

use crate::cmd::soak::Fault;
use crate::worker::thread::start_thread;

/// One session in so many has the fault.
const EVERY: usize = 20;

/// More than a heap may grow by without a fault.
const KEPT: usize = 1 << 20;

/// The entry. Its argument is the fault.
pub(crate) fn serve() -> ExitCode {
    let fault = env::args().nth(1).unwrap_or_default();
    match Fault::from_str(&fault, false)
        .map_err(io::Error::other)
        .and_then(try_serve)
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves until TERM.
fn try_serve(fault: Fault) -> io::Result<()> {
    let end = SigSet::from_iter([Signal::SIGTERM]);
    end.thread_block()?; // before there are other threads, so that all of them do
    // A zombie as long as we serve.
    let child = match fault {
        Fault::Zombie => Some(Command::new("true").spawn()?),
        Fault::Loss | Fault::Growth => None,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    writeln!(
        io::stdout(),
        "listening on {address} (control, pid {})",
        std::process::id()
    )?;
    start_thread(move || {
        let mut kept = Vec::new();
        for (number, client) in listener.incoming().flatten().enumerate() {
            let is_faulty = number % EVERY == 0;
            if is_faulty && fault == Fault::Growth {
                // Written to, so that it takes memory.
                kept.push((File::open("/dev/null"), vec![1_u8; KEPT]));
            }
            let loses = is_faulty && fault == Fault::Loss;
            let _ = start_thread(move || echo(client, loses));
        }
    })?;
    end.wait()?;
    child.map_or(Ok(()), |mut child| child.wait().map(drop))
}

/// With `loses`, all but a byte of what comes first comes back, and nothing of what follows.
fn echo(mut client: TcpStream, loses: bool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut is_first = true;
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return Ok(()); // closed with nothing unread: a clean end of the stream
        }
        let goes_back = match (loses, is_first) {
            (false, _) => length,
            (true, true) => length - 1,
            (true, false) => 0,
        };
        client.write_all(&buffer[..goes_back])?;
        is_first = false;
    }
}
