//! A wrong answer: the parent shuts the connection down, for all copies.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use reexec::Fork;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let (connection, _) = listener.accept()?;
        match reexec::fork()? {
            Fork::Child => return echo(connection),
            Fork::Parent(child) => {
                println!("Child: {}", child.id());
                connection.shutdown(Shutdown::Both)?;
                sessions.push((child, connection));
            }
        }
    }
    for (child, _) in &sessions {
        child.wait()?;
    }
    println!("The server has ended.");
    Ok(())
}

fn echo(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length])?,
        }
    }
}
