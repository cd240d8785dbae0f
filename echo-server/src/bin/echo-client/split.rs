//! Sends and receives in two processes, so that neither waits for the other.

use std::io::{self, PipeWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use echo_server::exit;
use nix::poll::PollTimeout;
use reexec::{Fork, ForkOptions};

use crate::blocking::poll_readable;
use crate::failure::{Failure, cannot};
use crate::input::Input;
use crate::screen::Screen;
use crate::sender::Sender;
use crate::tally::{Tally, verdict};

const SIZE: usize = 64 * 1024;

pub(crate) fn run(connection: &TcpStream, input: Input, screen: Screen) -> Result<(), Failure> {
    let (reports, to_parent) = io::pipe().map_err(cannot("make a pipe"))?;
    match fork().map_err(cannot("make a process that sends"))? {
        Fork::Child => {
            drop(reports); // the parent's end
            send(connection, input, to_parent, &screen)
        }
        Fork::Parent(child) => {
            drop(to_parent); // with our copy open, the pipe would not end with the child
            receive(connection, Sender::new(child, reports), screen)
        }
    }
}

/// Under nohup(1), a hang-up must not end one of the two processes, and so the session.
fn fork() -> io::Result<Fork> {
    let mut options = ForkOptions::new();
    if reexec::signal::is_ignored(libc::SIGHUP)? {
        options.ignore_signal(libc::SIGHUP);
    }
    options.fork()
}

/// Sends the input and ends the stream, in the child. Reports to the parent how much it has sent.
fn send(
    mut connection: &TcpStream,
    mut input: Input,
    mut reports: PipeWriter,
    screen: &Screen,
) -> Result<(), Failure> {
    let mut sent = Tally::ZERO;
    loop {
        let piece = input.next_piece()?;
        if piece.is_empty() {
            break;
        }
        sent.add(piece);
        // First the report, then the bytes: no more can come back than the parent knows of.
        reports.write_all(&sent.to_bytes())?;
        connection.write_all(piece).map_err(is_known)?; // goes on after short writes and EINTR
    }
    if !input.was_quit() {
        screen.end_line()?; // Ctrl-D is not echoed
    }
    // 1. We end the stream.
    // 2. The server ends its stream, and the parent sees that while the reports go on.
    // It would look like a server that ended the connection too early. So the reports end first.
    drop(reports);
    // One close is not enough: the parent has a copy of the connection, which stays open.
    connection.shutdown(Shutdown::Write).map_err(is_known)
}

/// The parent sees the end of the connection, too, and knows more about it.
fn is_known(_: io::Error) -> Failure {
    Failure::silent(exit::INCOMPLETE)
}

/// Receives to the end of the server's stream, and compares, in the parent.
fn receive(
    mut connection: &TcpStream,
    mut sender: Sender,
    mut screen: Screen,
) -> Result<(), Failure> {
    let mut buffer = vec![0; SIZE];
    let mut received = Tally::ZERO;
    loop {
        // The prompt comes after the answer, so that the next line is not typed into it.
        if sender.is_sending() && received.count == sender.sent.count && !screen.is_prompting {
            screen.prompt()?;
        }
        let fds = [Some(connection.as_fd()), sender.reports()];
        let [has_come, _] = poll_readable(fds, PollTimeout::NONE)?;
        let mut end = None;
        if has_come {
            match connection.read(&mut buffer) {
                Ok(0) => end = Some(Ok(())),
                Ok(length) => {
                    received.add(&buffer[..length]);
                    screen.show(&buffer[..length])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => end = Some(Err(error)),
            }
        }
        // We read the reports after the bytes: all bytes that have come back have been reported by now.
        sender.catch_up(received)?;
        // A server that sends more than it gets may never end its stream.
        if end.is_some() || received.count > sender.sent.count {
            let result = judge(&sender, received, end.unwrap_or(Ok(())));
            if result.is_err() && screen.is_prompting {
                screen.end_line()?; // the message must not follow the prompt in its line
            }
            return result;
        }
    }
}

fn judge(sender: &Sender, received: Tally, end: io::Result<()>) -> Result<(), Failure> {
    end.map_err(|error| Failure::incomplete(sender.sent, received, error))?;
    if received.count <= sender.sent.count && !sender.has_sent_all() {
        let reason = "the server ended the connection before the end of the input";
        return Err(Failure::incomplete(sender.sent, received, reason));
    }
    verdict(sender.sent, received)
}
