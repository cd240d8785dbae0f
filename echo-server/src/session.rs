//! One client's session, the same in every model.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::log;
use crate::options::Options;

/// How much is read at a time.
pub(crate) const BUFFER: usize = 16 * 1024;

/// How long a client may keep us waiting; `None` is as long as it likes.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For its next byte.
    pub(crate) idle: Option<Duration>,
    /// For it to take a byte of ours.
    pub(crate) write: Option<Duration>,
}

impl Patience {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            idle: options.idle_timeout(),
            write: options.write_timeout(),
        }
    }
}

/// How a session has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// As it should: the client has ended its stream, and so did we.
    Finished,
    /// The client was gone before.
    Gone,
    /// It kept silent for too long.
    Silent,
    /// It took nothing for too long.
    Stuck,
}

impl End {
    fn sentence(self) -> &'static str {
        match self {
            End::Finished => "has ended its stream",
            End::Gone => "has gone away",
            End::Silent => "was silent for too long, disconnected",
            End::Stuck => "took nothing for too long, disconnected",
        }
    }
}

/// Serves one client to its end, in a process or a thread of its own.
pub(crate) fn serve(
    connection: TcpStream,
    patience: Patience,
    buffer: &mut [u8; BUFFER],
) -> io::Result<()> {
    let name = Name::of(&connection);
    name.log(echo(connection, patience, buffer)?);
    Ok(())
}

/// The same in a process that has one session at a time.
pub(crate) fn serve_in_process(connection: TcpStream, patience: Patience) -> io::Result<()> {
    // Not on the stack, where it would have to be cleared first: here, a page of it exists once
    // something is read into it.
    static PROCESS: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);
    let mut buffer = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    serve(connection, patience, &mut buffer)
}

/// What the log calls a client, once it may be gone.
pub(crate) struct Name(Option<SocketAddr>);

impl Name {
    pub(crate) fn of(connection: &TcpStream) -> Self {
        Self(
            log::is_about_sessions()
                .then(|| connection.peer_addr().ok())
                .flatten(),
        )
    }

    pub(crate) fn log(&self, end: End) {
        if let Some(address) = self.0 {
            log::session(format_args!("{address} {}", end.sentence()));
        }
    }
}

fn echo(connection: TcpStream, patience: Patience, buffer: &mut [u8; BUFFER]) -> io::Result<End> {
    connection.set_read_timeout(patience.idle)?;
    connection.set_write_timeout(patience.write)?;
    let mut session = Session::new(connection);
    loop {
        match session.turn(buffer) {
            Ok(Turn::Done) => {}
            Ok(Turn::Ended(end)) => return Ok(end),
            Err(error) if is_not_now(&error) => return Ok(session.is_late()),
            Err(error) => return Err(error),
        }
    }
}

/// A session between two turns.
pub(crate) struct Session {
    connection: TcpStream,
    /// What has been read and did not fit into the connection; empty almost always.
    unsent: Vec<u8>,
    /// How much of `unsent` has gone since.
    sent: usize,
}

/// What a turn has come to.
pub(crate) enum Turn {
    /// Some bytes went on.
    Done,
    /// The session is over.
    Ended(End),
}

impl Session {
    pub(crate) fn new(connection: TcpStream) -> Self {
        Self {
            connection,
            unsent: Vec::new(),
            sent: 0,
        }
    }

    pub(crate) fn connection(&self) -> &TcpStream {
        &self.connection
    }

    /// Whether the next turn writes; otherwise it reads.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What it means that nothing could be done for too long.
    pub(crate) fn is_late(&self) -> End {
        if self.has_unsent() {
            End::Stuck
        } else {
            End::Silent
        }
    }

    /// Sends what is left, or else reads once and sends that back. When the client has ended its
    /// stream, ends ours: one that has shut down its writing side has got every byte by then.
    ///
    /// # Errors
    ///
    /// Those of read(2) and write(2) but what a client that has gone away leads to.
    /// [`io::ErrorKind::WouldBlock`] if nothing can be done now, or, of a socket that blocks,
    /// within its timeout.
    pub(crate) fn turn(&mut self, buffer: &mut [u8]) -> io::Result<Turn> {
        match self.try_turn(buffer) {
            Err(error) if is_gone(&error) => Ok(Turn::Ended(End::Gone)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Turn::Done),
            result => result,
        }
    }

    fn try_turn(&mut self, buffer: &mut [u8]) -> io::Result<Turn> {
        if self.has_unsent() {
            self.sent += self.connection.write(&self.unsent[self.sent..])?;
            if self.sent == self.unsent.len() {
                // With its memory: most sessions never need it again.
                self.unsent = Vec::new();
                self.sent = 0;
            }
            return Ok(Turn::Done);
        }
        let length = self.connection.read(buffer)?;
        if length == 0 {
            self.connection.shutdown(Shutdown::Write)?;
            return Ok(Turn::Ended(End::Finished));
        }
        let result = self.connection.write(&buffer[..length]);
        let sent = *result.as_ref().unwrap_or(&0);
        self.unsent.extend_from_slice(&buffer[sent..length]);
        result.map(|_| Turn::Done)
    }
}

pub(crate) fn is_not_now(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Also where the way to it is: TCP tells of the last error of a router when it gives up (tcp(7)).
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionReset, HostUnreachable, NetworkUnreachable, NotConnected, TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionReset
            | NotConnected
            | TimedOut
            | HostUnreachable
            | NetworkUnreachable
    )
}
