//! A wrong answer: dropping the handle kills the child.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use reexec::{Fork, exit_now};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    loop {
        let (connection, _) = listener.accept()?;
        match reexec::fork()? {
            Fork::Parent(_) => {}
            Fork::Child => exit_now(u8::from(echo(connection).is_err())),
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
