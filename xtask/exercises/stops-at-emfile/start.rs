//! Exercise stops-at-emfile: `cargo xtask exercise stops-at-emfile` says what should come true.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use nix::sys::resource::{Resource, setrlimit};

fn main() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?; // room for twelve clients
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    loop {
        let (connection, _) = listener.accept()?;
        thread::spawn(|| echo(connection));
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
