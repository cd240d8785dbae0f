//! Sends everything and then receives everything, in one process. With much input it stalls. That is why
//! the other way has two processes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use echo_server::exit;

use crate::failure::Failure;
use crate::input::Input;
use crate::screen::Screen;
use crate::tally::{Tally, verdict};

const SIZE: usize = 64 * 1024;

/// Sends, receives and compares. A `stall_timeout` of 0 is no limit, as on the command line.
pub(crate) fn run(
    connection: &TcpStream,
    input: Input,
    mut screen: Screen,
    stall_timeout: Duration,
) -> Result<(), Failure> {
    // 1. We send, and read nothing.
    // 2. What comes back fills the buffers towards us; then the server is stuck in a write.
    // 3. It reads no more, so the buffers towards it fill; then we are stuck in a write, too.
    // Each waits for ever until the other reads. So a write may take no longer than the limit.
    connection.set_write_timeout(Some(stall_timeout).filter(|limit| !limit.is_zero()))?;

    let sent = send(connection, input, &mut screen, stall_timeout)?;
    let received = receive(connection, screen, sent)?;
    verdict(sent, received)
}

fn send(
    mut connection: &TcpStream,
    mut input: Input,
    screen: &mut Screen,
    stall_timeout: Duration,
) -> Result<Tally, Failure> {
    let mut sent = Tally::ZERO;
    loop {
        screen.prompt()?;
        let mut piece = input.next_piece()?;
        if piece.is_empty() {
            break;
        }
        while !piece.is_empty() {
            match connection.write(piece) {
                Ok(length) => {
                    sent.add(&piece[..length]);
                    piece = &piece[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(stalled(sent, stall_timeout));
                }
                Err(error) => return Err(Failure::incomplete(sent, Tally::ZERO, error)),
            }
        }
    }
    if !input.was_quit() {
        screen.end_line()?; // Ctrl-D is not echoed
    }
    connection
        .shutdown(Shutdown::Write)
        .map_err(|error| Failure::incomplete(sent, Tally::ZERO, error))?;
    Ok(sent)
}

fn receive(mut connection: &TcpStream, mut screen: Screen, sent: Tally) -> Result<Tally, Failure> {
    let mut buffer = vec![0; SIZE];
    let mut received = Tally::ZERO;
    while received.count <= sent.count {
        match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                received.add(&buffer[..length]);
                screen.show(&buffer[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::incomplete(sent, received, error)),
        }
    }
    Ok(received)
}

fn stalled(sent: Tally, stall_timeout: Duration) -> Failure {
    let message = format!(
        "stalled after {sent}: nothing could be sent for {stall_timeout:?}, because all buffers are \
         full; with --one-process we read only after everything is sent, so the server cannot write, \
         and stops reading; leave out --one-process, and another process reads meanwhile"
    );
    Failure::new(exit::INCOMPLETE, message)
}
