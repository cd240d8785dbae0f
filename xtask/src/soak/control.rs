//! The control: a server that loses a byte now and then. A soak of it must fail.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

use crate::worker::thread::start_thread;

/// One session in so many loses a byte.
const LOSES_EVERY: usize = 20;

/// The entry.
pub(crate) fn serve() -> ExitCode {
    match try_serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Serves until TERM.
fn try_serve() -> io::Result<()> {
    let end = SigSet::from_iter([Signal::SIGTERM]);
    end.thread_block()?; // before there are other threads, so that all of them do
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    writeln!(
        io::stdout(),
        "listening on {address} (control, pid {})",
        std::process::id()
    )?;
    start_thread(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let loses = number % LOSES_EVERY == 0;
            let _ = start_thread(move || echo(client, loses));
        }
    })?;
    end.wait()?;
    Ok(())
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
