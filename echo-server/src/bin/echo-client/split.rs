//! Input and output in two processes, so that neither waits for the other.

use std::io::{self, PipeWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use nix::poll::PollTimeout;
use reexec::{Fork, ForkOptions};

use crate::blocking::readable;
use crate::failure::{EXIT_INCOMPLETE, Failure, cannot};
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
            drop(to_parent); // as long as we had a copy, the pipe would not end with the child
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

/// The child: sends the input and ends the stream, and tells the parent how far it is.
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
        // Before it goes, so that no more can come back than the parent has been told of.
        reports.write_all(&sent.to_bytes())?;
        connection.write_all(piece).map_err(is_known)?; // goes on after short writes and EINTR
    }
    if !input.was_quit() {
        screen.end_line()?; // Ctrl-D is not echoed
    }
    // 1. We end the stream.
    // 2. The server ends its one, and the parent sees that while the reports go on.
    // It would take that for a server that has left early. So the reports end first.
    drop(reports);
    // One close is not enough: the parent has a copy of the connection, which stays open.
    connection.shutdown(Shutdown::Write).map_err(is_known)
}

/// The parent sees the end of the connection, too, and has more to say about it.
fn is_known(_: io::Error) -> Failure {
    Failure::silent(EXIT_INCOMPLETE)
}

/// The parent: receives to the end of the server's stream, and compares.
fn receive(
    mut connection: &TcpStream,
    mut sender: Sender,
    mut screen: Screen,
) -> Result<(), Failure> {
    let mut buffer = vec![0; SIZE];
    let mut received = Tally::ZERO;
    loop {
        // After the answer, so that the next line is not typed into it.
        if sender.is_sending() && received.count == sender.sent.count && !screen.is_prompting {
            screen.prompt()?;
        }
        let fds = [Some(connection.as_fd()), sender.reports()];
        let [has_come, _] = readable(fds, PollTimeout::NONE)?;
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
        // Now, when whatever can have come back has been reported.
        sender.catch_up(received)?;
        // A peer that sends more than it gets may never come to an end.
        if end.is_some() || received.count > sender.sent.count {
            let result = judge(&sender, received, end.unwrap_or(Ok(())));
            if result.is_err() && screen.is_prompting {
                screen.end_line()?; // the message is not to stand behind the prompt
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
