//! A wrong answer: the child goes back to the loop, and accepts clients, too.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use reexec::Fork;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    let mut children = Vec::new();
    loop {
        let (connection, _) = listener.accept()?;
        match reexec::fork()? {
            Fork::Parent(child) => children.push(child),
            Fork::Child => drop(echo(connection)),
        }
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
