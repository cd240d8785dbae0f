//! One client's session.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// Sends back what the client sends, to the end of its stream, and then ends ours: a client that
/// has shut down its writing side still gets every byte.
///
/// A client that has gone away is a normal end.
pub(crate) fn echo(mut connection: TcpStream) -> io::Result<()> {
    match copy_back(&mut connection) {
        Err(error) if is_gone(&error) => Ok(()),
        result => result,
    }
}

fn copy_back(connection: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        connection.write_all(&buffer[..length])?; // goes on after short writes and EINTR
    }
    connection.shutdown(Shutdown::Write)
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}
