//! Exercise stops-at-emfile: after an error, the server sleeps for a moment, and tries again.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};

fn main() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?; // room for twelve clients
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    loop {
        match listener.accept() {
            Ok((connection, _)) => drop(thread::spawn(|| echo(connection))),
            Err(_) => thread::sleep(Duration::from_millis(100)), // until a client has left, perhaps
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
