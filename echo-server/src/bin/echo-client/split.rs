//! Input and output in two processes, so that neither waits for the other.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollTimeout;
use reexec::{Child, Fork};

use crate::blocking::readable;
use crate::failure::{EXIT_INCOMPLETE, EXIT_STDIO, Failure};
use crate::input::Input;
use crate::screen::Screen;
use crate::tally::{Tally, verdict};

const SIZE: usize = 64 * 1024;

pub(crate) fn run(connection: &TcpStream, input: Input, screen: Screen) -> Result<(), Failure> {
    let (reports, to_parent) = io::pipe()?;
    match reexec::fork()? {
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
    let mut prompted_at = None;
    let end = loop {
        let sent = sender.sent.count;
        if sender.has_sent_all() && received.count > sent {
            break Ok(()); // from a server that may never come to an end
        }
        // After the answer, so that the next line is not typed into it.
        if sender.is_sending() && received.count == sent && prompted_at != Some(sent) {
            screen.prompt()?;
            prompted_at = Some(sent);
        }
        let [data, report] = readable(
            [Some(connection.as_fd()), sender.reports()],
            PollTimeout::NONE,
        )?;
        if report {
            sender.take_report(received)?;
        }
        if !data {
            continue;
        }
        match connection.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => {
                received.add(&buffer[..length]);
                screen.show(&buffer[..length])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };

    // What it had reported before the end, it had reported by now.
    while let [true] = readable([sender.reports()], PollTimeout::ZERO)? {
        sender.take_report(received)?;
    }
    let result = match end {
        Ok(()) if sender.has_sent_all() => verdict(sender.sent, received),
        Ok(()) => {
            let reason = "the server ended the connection before the end of the input";
            Err(Failure::incomplete(sender.sent, received, reason))
        }
        Err(error) => Err(Failure::incomplete(sender.sent, received, error)),
    };
    if result.is_err() && prompted_at == Some(sender.sent.count) {
        screen.end_line()?; // the message is not to stand behind the prompt
    }
    result
}

/// The child as the parent sees it. Dropped, it is killed if need be, and reaped: it may be waiting
/// for input that never comes.
struct Sender {
    child: Child,
    reports: Reports,
    sent: Tally,
}

enum Reports {
    /// More may come.
    Open(PipeReader),
    /// The child has come to the end of the input, or the connection failed it.
    Ended { has_sent_all: bool },
}

impl Sender {
    fn new(child: Child, reports: PipeReader) -> Self {
        Self {
            child,
            reports: Reports::Open(reports),
            sent: Tally::ZERO,
        }
    }

    fn is_sending(&self) -> bool {
        matches!(self.reports, Reports::Open(_))
    }

    fn has_sent_all(&self) -> bool {
        matches!(self.reports, Reports::Ended { has_sent_all: true })
    }

    fn reports(&self) -> Option<BorrowedFd<'_>> {
        match &self.reports {
            Reports::Open(pipe) => Some(pipe.as_fd()),
            Reports::Ended { .. } => None,
        }
    }

    /// Takes the next report, or how the child has ended. To be called when there is something to
    /// read, so it does not block.
    fn take_report(&mut self, received: Tally) -> Result<(), Failure> {
        let Reports::Open(pipe) = &mut self.reports else {
            return Ok(());
        };
        let mut reports = [0; 64 * Tally::LENGTH];
        let length = pipe.read(&mut reports)?;
        // Each was written at once and so few bytes are never split, see pipe(7).
        let (reports, _) = reports[..length].as_chunks();
        if let Some(last) = reports.last() {
            self.sent = Tally::from_bytes(*last);
            return Ok(());
        }
        let status = self.child.wait()?;
        let has_sent_all = match status.code().map(u8::try_from) {
            Some(Ok(0)) => true,
            Some(Ok(EXIT_INCOMPLETE)) => false,
            Some(Ok(EXIT_STDIO)) => return Err(Failure::silent(EXIT_STDIO)), // it has said why
            _ => {
                let reason = format!("the process that sends has ended, {status}");
                return Err(Failure::incomplete(self.sent, received, reason));
            }
        };
        self.reports = Reports::Ended { has_sent_all };
        Ok(())
    }
}
