//! A forked child has copies of all descriptors, but there is only one connection, which ends when
//! its last copy is closed. If a server forgets to close its own copy, the client waits for ever.
//!
//! `cargo run -p echo-server --example one-close-too-few`, and `ls -l /proc/N/fd` with the child's
//! pid; then with `-- --close` (the parent does close its copy) and
//! `-- --shutdown` (the child ends the connection itself, for all copies).

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use program_support::{exit_code, seconds, stdout, wait_until_readable};
use reexec::{Child, Fork};

/// Holds a connection in two processes, of which one ends.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Close the parent's copy at once, as a forking server must
    #[arg(long)]
    close: bool,

    /// Let the child shut the connection down for writing, which counts for all copies
    #[arg(long)]
    shutdown: bool,

    /// How long the child lives, and how long the client waits for the end of the connection
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    sleep: Duration,
}

fn main() -> ExitCode {
    exit_code("one-close-too-few", serve(&Options::parse()))
}

fn serve(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (connection, _) = listener.accept()?;
    writeln!(stdout(), "Parent's descriptor: {}", connection.as_raw_fd())?;
    match reexec::fork()? {
        Fork::Child => {
            drop(client); // the child's copy; the parent also plays the client
            child_process(connection, options)
        }
        Fork::Parent(child) => {
            writeln!(stdout(), "Child's pid: {}", child.id())?;
            parent(client, connection, &child, options)
        }
    }
}

fn child_process(mut connection: TcpStream, options: &Options) -> io::Result<()> {
    writeln!(stdout(), "Child's descriptor: {}", connection.as_raw_fd())?;
    connection.write_all(b"bye")?;
    if options.shutdown {
        connection.shutdown(Shutdown::Write)?;
    }
    thread::sleep(options.sleep);
    Ok(())
} // the child's copy is closed here

fn parent(
    mut client: TcpStream,
    connection: TcpStream,
    child: &Child,
    options: &Options,
) -> io::Result<()> {
    let forgotten = (!options.close).then_some(connection); // with --close, it is closed here
    child.wait()?;
    writeln!(stdout(), "The child has ended, and its copy is closed.")?;
    look_for_the_end(&mut client, options.sleep)?;
    if let Some(connection) = forgotten {
        drop(connection);
        writeln!(stdout(), "The parent has closed its copy, too.")?;
        look_for_the_end(&mut client, options.sleep)?;
    }
    writeln!(stdout(), "End parent process.")
}

fn look_for_the_end(client: &mut TcpStream, limit: Duration) -> io::Result<()> {
    while wait_until_readable(&*client, Some(limit))? {
        if client.read(&mut [0; 64])? == 0 {
            return writeln!(stdout(), "The client has seen the end.");
        }
    }
    writeln!(stdout(), "The client has waited for the end, in vain.")
}
