//! Exercise one-at-a-time: `cargo xtask exercise one-at-a-time` says what should come true.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    loop {
        let (connection, _) = listener.accept()?;
        let _ = echo(connection); // an error concerns this client alone
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
