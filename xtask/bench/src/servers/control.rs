//! The control: a server with a fault that a soak must notice.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::sys::signal::{SigSet, Signal};
use xtask_bench_options::Fault;

use crate::servers::WARM_UP;

/// One session in so many has the fault.
const EVERY: usize = 20;

/// More than a heap may grow by without a fault.
const KEPT: usize = 1 << 20;

/// Serves until TERM.
pub(crate) fn serve(fault: Fault) -> io::Result<()> {
    let end = SigSet::from_iter([Signal::SIGTERM]);
    end.thread_block()?; // before there are other threads, so that all of them do
    // A zombie as long as we serve.
    let child = match fault {
        Fault::Zombie => Some(Command::new("true").spawn()?),
        Fault::Loss | Fault::Growth => None,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    writeln!(io::stdout(), "listening on {address} (control, pid {})", std::process::id())?;
    thread::Builder::new().spawn(move || {
        let mut kept = Vec::new();
        let mut first = None;
        for (number, client) in listener.incoming().flatten().enumerate() {
            let is_faulty = number % EVERY == 0;
            let is_warm = first.get_or_insert_with(Instant::now).elapsed() > WARM_UP;
            if is_faulty && is_warm && fault == Fault::Growth {
                // We write to the memory: only then it takes room.
                kept.push((File::open("/dev/null"), vec![1_u8; KEPT]));
            }
            let loses = is_faulty && fault == Fault::Loss;
            let _ = thread::Builder::new().spawn(move || echo(client, loses));
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
