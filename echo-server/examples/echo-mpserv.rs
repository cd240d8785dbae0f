//! The chapter's `echo_mpserv.c`, a process for each client: listen, accept, fork, echo, reap.
//!
//! `cargo run -p echo-server --example echo-mpserv`, and in two other terminals
//! `cargo run -p echo-server --bin echo-client`; then `ps -o pid,ppid,stat,args -C echo-mpserv`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use program_support::{exit_code, stdout};
use reexec::{Child, Fork};

fn main() -> ExitCode {
    let address = env::args_os().nth(1).unwrap_or("127.0.0.1:9190".into());
    exit_code("echo-mpserv", serve(&address.to_string_lossy()))
}

fn serve(address: &str) -> io::Result<()> {
    // We read SIGCHLD from a descriptor. A handler would end the calls below with EINTR.
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?;
    let ends = SignalFd::with_flags(&sigchld, SfdFlags::SFD_NONBLOCK)?;
    let listener = TcpListener::bind(address).map_err(|error| {
        let sentence =
            format!("cannot listen on {address}: {error}; what helps: another HOST:PORT");
        io::Error::new(error.kind(), sentence)
    })?;
    listener.set_nonblocking(true)?; // the client may have left before accept
    writeln!(stdout(), "listening on {} (pid {})", listener.local_addr()?, process::id())?;

    let mut children = Vec::new();
    loop {
        let watched = [listener.as_fd(), ends.as_fd()];
        let mut watched = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut watched, PollTimeout::NONE)?;
        if ends.read_signal()?.is_some() {
            reap(&mut children)?;
        }
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => {
                writeln!(io::stderr(), "echo-mpserv: cannot accept: {error}")?;
                thread::sleep(Duration::from_millis(100)); // until a descriptor is free, perhaps
                continue;
            }
        };
        writeln!(stdout(), "new client connected...")?;
        match reexec::fork() {
            Ok(Fork::Parent(child)) => {
                drop(connection); // or the client would see no end: the child has a copy
                children.push(child);
            }
            Ok(Fork::Child) => {
                drop((listener, ends, children)); // only the parent needs them
                reexec::exit_now(u8::from(echo(connection).is_err())) // and not return to its loop
            }
            Err(error) => writeln!(io::stderr(), "echo-mpserv: cannot fork: {error}")?,
        }
    }
}

fn echo(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match connection.read(&mut buffer)? {
            0 => return writeln!(stdout(), "client disconnected..."),
            length => connection.write_all(&buffer[..length])?, // write may send only a part
        }
    }
}

/// Asks every child whether it has ended: signals merge, so one SIGCHLD may stand for several ends.
fn reap(children: &mut Vec<Child>) -> io::Result<()> {
    for child in children.extract_if(.., |child| !matches!(child.try_wait(), Ok(None))) {
        writeln!(stdout(), "removed proc id: {}", child.id())?;
    }
    Ok(())
}
