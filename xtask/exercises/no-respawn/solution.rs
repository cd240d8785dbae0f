//! Exercise no-respawn: the reaper waits for all workers at once, and each that ends gets a successor.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use reexec::{Child, Fork, Reaper};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    let mut workers = Reaper::new()?;
    for _ in 0..3 {
        workers.add(start_worker(&listener)?, ())?;
    }
    loop {
        for exit in workers.wait(None)? {
            println!("a worker has ended: {:?}", exit.status);
            workers.add(start_worker(&listener)?, ())?;
        }
    }
}

/// Forks a worker, which serves one client after another, for ever.
fn start_worker(listener: &TcpListener) -> io::Result<Child> {
    match reexec::fork()? {
        Fork::Parent(child) => Ok(child),
        Fork::Child => loop {
            let _ = listener.accept().and_then(|(connection, _)| echo(connection));
        },
    }
}

/// Sends back what the client sends, until it leaves.
fn echo(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length])?,
        }
    }
}
