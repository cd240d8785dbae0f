//! A wrong answer: the server makes room by closing connections.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};

fn main() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)?; // room for twelve clients
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);

    let mut connections = Vec::new();
    loop {
        if let Ok((connection, _)) = listener.accept() {
            let connection = Arc::new(connection);
            connections.push(Arc::clone(&connection));
            thread::spawn(move || echo(&connection));
        } else {
            for connection in connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Sends back what the client sends, until it leaves.
fn echo(mut connection: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length])?,
        }
    }
}
