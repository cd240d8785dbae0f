//! Exercise no-respawn: `cargo xtask exercise no-respawn` says what should come true.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use reexec::{Child, Fork};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(start_worker(&listener)?);
    }
    for worker in workers {
        let status = worker.wait()?;
        println!("a worker has ended: {status}");
    }
    Ok(())
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
