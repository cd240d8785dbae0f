//! One client's session, the same in every model.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::connection::set_reset_on_close;
use crate::deadline::time_left;
use crate::intake::Intake;
use crate::log;
use crate::options::Options;

/// How much is read at a time.
pub(crate) const BUFFER: usize = 16 * 1024;

/// How long a session may take; `None` is without a limit.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    /// How long the client may send nothing.
    pub(crate) idle: Option<Duration>,
    /// How long the client may take nothing of what we have for it.
    pub(crate) write: Option<Duration>,
    /// How long the whole session may last, whatever the client does.
    pub(crate) session: Option<Duration>,
}

impl Timeouts {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            idle: options.idle_timeout(),
            write: options.write_timeout(),
            session: options.session_timeout(),
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
    /// The session has lasted too long, whatever the client did.
    Expired,
}

impl End {
    fn sentence(self) -> &'static str {
        match self {
            End::Finished => "has ended its stream",
            End::Gone => "has gone away",
            End::Silent => "was silent for too long, disconnected",
            End::Stuck => "took nothing for too long, disconnected",
            End::Expired => "was connected for too long, disconnected",
        }
    }
}

/// Serves one client to its end, in a process or a thread of its own. If the caller also accepts
/// clients, it passes its `intake`, so that the supervisor can stop it during the session.
pub(crate) fn serve(
    connection: TcpStream,
    timeouts: Timeouts,
    buffer: &mut [u8; BUFFER],
    intake: Option<&mut Intake>,
) -> io::Result<()> {
    let name = Name::of(&connection);
    name.log(echo(connection, timeouts, buffer, intake)?);
    Ok(())
}

/// The same in a process that has one session at a time.
pub(crate) fn serve_in_process(
    connection: TcpStream,
    timeouts: Timeouts,
    intake: Option<&mut Intake>,
) -> io::Result<()> {
    // Not on the stack, where it would have to be cleared first: here, a page of it exists once
    // something is read into it.
    static PROCESS: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);
    let mut buffer = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    serve(connection, timeouts, &mut buffer, intake)
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

fn echo(
    connection: TcpStream,
    timeouts: Timeouts,
    buffer: &mut [u8; BUFFER],
    mut intake: Option<&mut Intake>,
) -> io::Result<End> {
    let mut session = Session::new(connection, timeouts);
    loop {
        if let Some(end) = session.end_if_late(Instant::now())? {
            return Ok(end);
        }
        if wait(&session, intake.as_deref_mut())?
            && let Some(end) = session.turn(buffer)?
        {
            return Ok(end);
        }
    }
}

/// Waits until the session can go on (returns true), or until its deadline at the latest.
///
/// Closes the intake as soon as the supervisor says so. Kept open until the end of the session, the
/// listener would keep the port, and clients would connect to it that nobody accepts:
///
/// 1. A new server takes over, and tells this worker to stop.
/// 2. The new server dies. Only this worker still has the listener.
fn wait(session: &Session, intake: Option<&mut Intake>) -> io::Result<bool> {
    let connection = session.connection.as_fd();
    let stop = intake.as_ref().and_then(|intake| intake.stop_pipe());
    let flags = if session.has_unsent() {
        PollFlags::POLLOUT
    } else {
        PollFlags::POLLIN
    };
    let mut fds = [
        PollFd::new(connection, flags),
        PollFd::new(stop.unwrap_or(connection), PollFlags::POLLIN),
    ];
    let count = if stop.is_some() { 2 } else { 1 };
    match poll(&mut fds[..count], time_left(session.deadline())) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let [is_ready, is_to_stop] = fds.map(|fd| fd.any() == Some(true));
    if is_to_stop && let Some(intake) = intake {
        intake.close()?;
    }
    Ok(is_ready)
}

/// A session between two turns. It never blocks. Dropping it before its end resets the connection,
/// see [`connection::prepare`](crate::connection::prepare).
pub(crate) struct Session {
    connection: TcpStream,
    /// What has been read and did not fit into the connection; empty almost always.
    unsent: Vec<u8>,
    /// How much of `unsent` has gone since.
    sent: usize,
    timeouts: Timeouts,
    /// When we last read or sent a byte.
    last_progress: Instant,
    /// When the session ends whatever the client does.
    expires: Option<Instant>,
}

impl Session {
    pub(crate) fn new(connection: TcpStream, timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            connection,
            unsent: Vec::new(),
            sent: 0,
            timeouts,
            last_progress: now,
            expires: timeouts.session.and_then(|time| now.checked_add(time)),
        }
    }

    pub(crate) fn connection(&self) -> &TcpStream {
        &self.connection
    }

    /// Whether the next turn writes; otherwise it reads.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// When the session ends, unless we read or send a byte before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let time = if self.has_unsent() {
            self.timeouts.write
        } else {
            self.timeouts.idle
        };
        let of_progress = time.and_then(|time| self.last_progress.checked_add(time));
        of_progress.into_iter().chain(self.expires).min()
    }

    /// No later than the earliest deadline that the session could get after `now`, if it switches
    /// between reading and writing.
    pub(crate) fn earliest_deadline(&self, now: Instant) -> Option<Instant> {
        let times = [self.timeouts.idle, self.timeouts.write];
        let shortest = times.into_iter().flatten().min();
        let after_progress = shortest.and_then(|time| now.checked_add(time));
        self.deadline().into_iter().chain(after_progress).min()
    }

    /// Ends the session if its deadline has come. It must be dropped then, which ends our stream
    /// regularly if nothing is left to send, and otherwise resets the connection.
    pub(crate) fn end_if_late(&mut self, now: Instant) -> io::Result<Option<End>> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|time| time <= now);
        if !is_over(self.deadline()) {
            return Ok(None);
        }
        if !self.has_unsent() {
            set_reset_on_close(&self.connection, false)?;
        }
        Ok(Some(if is_over(self.expires) {
            End::Expired
        } else if self.has_unsent() {
            End::Stuck
        } else {
            End::Silent
        }))
    }

    /// Sends what is left, or else reads once and sends that back, as far as it can be done now.
    /// When the client has ended its stream, ends ours: one that has shut down its writing side has
    /// got every byte by then.
    ///
    /// # Errors
    ///
    /// Those of recv(2), send(2) and what ends the stream, but not what a client that has gone away
    /// leads to.
    pub(crate) fn turn(&mut self, buffer: &mut [u8]) -> io::Result<Option<End>> {
        match self.try_turn(buffer) {
            Err(error) if is_gone(&error) => Ok(Some(End::Gone)),
            Err(error) if is_not_now(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            result => result,
        }
    }

    fn try_turn(&mut self, buffer: &mut [u8]) -> io::Result<Option<End>> {
        if self.has_unsent() {
            self.sent += self.send(&self.unsent[self.sent..])?;
            self.last_progress = Instant::now();
            if self.sent == self.unsent.len() {
                // With its memory: most sessions never need it again.
                self.unsent = Vec::new();
                self.sent = 0;
            }
            return Ok(None);
        }
        let fd = self.connection.as_raw_fd();
        let length = recv(fd, buffer, MsgFlags::MSG_DONTWAIT)?;
        if length == 0 {
            // Nothing is left to send. If we are killed between the two calls, the kernel's close
            // ends the stream regularly, too.
            set_reset_on_close(&self.connection, false)?;
            self.connection.shutdown(Shutdown::Write)?;
            return Ok(Some(End::Finished));
        }
        self.last_progress = Instant::now();
        let result = self.send(&buffer[..length]);
        let sent = *result.as_ref().unwrap_or(&0);
        self.unsent.extend_from_slice(&buffer[sent..length]);
        result.map(|_| None)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // If the client has gone away, we want the error and no SIGPIPE.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        Ok(send(self.connection.as_raw_fd(), bytes, flags)?)
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
