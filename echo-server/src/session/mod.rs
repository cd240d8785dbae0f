//! One client's session, the same in every model.

pub(crate) mod connection;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::log::{self, cannot};
use crate::options::Options;
use crate::poll::poll_until;
use crate::protocol::{Answer, Protocol};
use crate::session::connection::set_reset_on_close;

/// How much is read at a time.
pub(crate) const BUFFER: usize = 16 * 1024;

/// How long a session may take. `None` is no limit.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    /// How long the client may send nothing.
    pub(crate) idle: Option<Duration>,
    /// How long the client may accept none of the bytes that we have for it.
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
    /// The client has ended its stream, and so have we.
    Finished,
    /// The client has gone away, or cannot be reached.
    Gone,
    /// The client sent nothing for too long.
    Silent,
    /// The client accepted nothing for too long.
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

/// Serves one client to its end, in a process or a thread that has nothing else to do. The client has
/// been there `since` then.
pub(crate) fn serve(
    connection: TcpStream,
    timeouts: Timeouts,
    since: Instant,
    buffer: &mut [u8; BUFFER],
) -> io::Result<()> {
    let session = Session::with_reads_that_wait(connection, timeouts, since)?;
    converse(session, buffer, Session::wait)
}

/// Serves one client as [`serve`] does, in a process that has one session at a time.
pub(crate) fn serve_in_process(
    connection: TcpStream,
    timeouts: Timeouts,
    since: Instant,
) -> io::Result<()> {
    serve(connection, timeouts, since, &mut buffer_of_process())
}

/// Serves one client in a process that has one session at a time, and must also wait for something else:
/// so `wait` is called in place of [`Session::wait`].
pub(crate) fn serve_and_watch(
    connection: TcpStream,
    timeouts: Timeouts,
    wait: impl FnMut(&Session) -> io::Result<bool>,
) -> io::Result<()> {
    let session = Session::new(connection, timeouts, Instant::now());
    converse(session, &mut buffer_of_process(), wait)
}

/// On the stack, the buffer would have to be cleared first. Here, a page of it exists only once something
/// is read into it.
fn buffer_of_process() -> MutexGuard<'static, [u8; BUFFER]> {
    static BUFFER_OF_PROCESS: Mutex<[u8; BUFFER]> = Mutex::new([0; BUFFER]);
    BUFFER_OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn converse(
    mut session: Session,
    buffer: &mut [u8; BUFFER],
    mut wait: impl FnMut(&Session) -> io::Result<bool>,
) -> io::Result<()> {
    let name = Name::of(session.connection());
    // Most clients have sent something by the time they are accepted, so we read before we wait.
    session.has_waited = false;
    let mut is_ready = true;
    let end = loop {
        if is_ready && let Some(end) = session.step(buffer)? {
            break end;
        }
        // A session that goes on can be too long, and not silent.
        let can_be_late = !is_ready || session.expires.is_some() || session.has_ended;
        if can_be_late && let Some(end) = session.end_if_late(Instant::now())? {
            break end;
        }
        session.has_waited = true;
        is_ready = wait(&session)?;
    };
    name.log(end);
    Ok(())
}

/// The address of a client, for the log. It is looked up early, because a client that has gone has none.
pub(crate) struct Name(Option<SocketAddr>);

impl Name {
    pub(crate) fn of(connection: &TcpStream) -> Self {
        Self(log::is_about_sessions().then(|| connection.peer_addr().ok()).flatten())
    }

    pub(crate) fn log(&self, end: End) {
        if let Some(address) = self.0 {
            log::log_session(format_args!("{address} {}", end.sentence()));
        }
    }
}

/// A session between two steps. Only [`wait`](Self::wait) blocks, or a [`step`](Self::step) of a session
/// [`with_reads_that_wait`](Self::with_reads_that_wait). Dropping a session before its end
/// resets the connection, see [`connection::prepare`].
pub(crate) struct Session {
    connection: TcpStream,
    protocol: Protocol,
    /// Bytes of an answer that the connection had no room for. Empty almost always.
    unsent: Vec<u8>,
    /// How much of `unsent` has been sent since.
    sent: usize,
    /// Whether the latest answer was the last one.
    is_last: bool,
    /// Whether we have ended our stream, after the last answer.
    has_ended: bool,
    timeouts: Timeouts,
    /// When we last read or sent a byte.
    last_progress: Instant,
    /// When the session ends whatever the client does.
    expires: Option<Instant>,
    /// Whether we have waited since the session began. Before that, this is still its first moment.
    has_waited: bool,
    /// Whether a read waits until the client has sent something, or was silent for too long.
    reads_wait: bool,
}

impl Session {
    /// `since` is when the client came.
    pub(crate) fn new(connection: TcpStream, timeouts: Timeouts, since: Instant) -> Self {
        Self {
            connection,
            protocol: Protocol::new(),
            unsent: Vec::new(),
            sent: 0,
            is_last: false,
            has_ended: false,
            timeouts,
            last_progress: since,
            expires: timeouts.session.and_then(|time| since.checked_add(time)),
            has_waited: true,
            reads_wait: false,
        }
    }

    /// A session whose reads wait by themselves, with SO_RCVTIMEO: that saves a poll(2) for each message.
    /// A limit for the whole session needs poll(2), because the time left is another one at each read.
    fn with_reads_that_wait(
        connection: TcpStream,
        timeouts: Timeouts,
        since: Instant,
    ) -> io::Result<Self> {
        let mut session = Self::new(connection, timeouts, since);
        if session.expires.is_none() {
            if let Some(time) = timeouts.idle {
                let set = session.connection.set_read_timeout(Some(time));
                set.map_err(cannot("set SO_RCVTIMEO"))?;
            }
            session.reads_wait = true;
        }
        Ok(session)
    }

    pub(crate) fn connection(&self) -> &TcpStream {
        &self.connection
    }

    /// Waits until the next step can be done, or until the deadline. Returns whether it can. If the step
    /// itself waits, this does not.
    pub(crate) fn wait(&self) -> io::Result<bool> {
        if self.reads_wait && !self.has_unsent() {
            return Ok(true);
        }
        let mut fds = [self.poll_fd()];
        poll_until(&mut fds, self.deadline())?;
        Ok(fds[0].any() == Some(true))
    }

    /// What the next step waits for: bytes to read, or room to write.
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        let flags = if self.has_unsent() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
        PollFd::new(self.connection.as_fd(), flags)
    }

    /// Whether the next step writes; otherwise it reads.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// When the session ends, unless we read or send a byte before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let time = if self.has_unsent() { self.timeouts.write } else { self.timeouts.idle };
        let of_progress = time.and_then(|time| self.last_progress.checked_add(time));
        of_progress.into_iter().chain(self.expires).min()
    }

    /// No later than the earliest deadline that the session can get after `now` by switching between
    /// reading and writing.
    pub(crate) fn earliest_deadline(&self, now: Instant) -> Option<Instant> {
        let times = [self.timeouts.idle, self.timeouts.write];
        let shortest = times.into_iter().flatten().min();
        let after_progress = shortest.and_then(|time| now.checked_add(time));
        self.deadline().into_iter().chain(after_progress).min()
    }

    /// Ends the session if its deadline has come. The caller must then drop it: that ends our stream
    /// regularly if nothing is left to send, and otherwise resets the connection.
    pub(crate) fn end_if_late(&mut self, now: Instant) -> io::Result<Option<End>> {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|time| time <= now);
        if !is_over(self.deadline()) {
            return Ok(None);
        }
        if !self.has_unsent() {
            set_reset_on_close(&self.connection, false)?;
        }
        Ok(Some(if is_over(self.expires) || self.has_ended {
            End::Expired
        } else if self.has_unsent() {
            End::Stuck
        } else {
            End::Silent
        }))
    }

    /// Sends the bytes that are left, or else reads once and sends the answer, as far as possible
    /// without waiting for room. After the last answer, we end our stream. The session ends when the
    /// client has ended its own, too.
    ///
    /// So we read on after the last answer, and throw away what comes. Otherwise:
    ///
    /// 1. The client sends more before it reads the last answer.
    /// 2. We close the connection, in which there are bytes that we have not read. So the kernel resets it.
    /// 3. The client sees the reset, and not the answer.
    ///
    /// # Errors
    ///
    /// Those of recv(2), send(2), setsockopt(2) and shutdown(2). A client that has gone away is no
    /// error.
    pub(crate) fn step(&mut self, buffer: &mut [u8]) -> io::Result<Option<End>> {
        use io::ErrorKind::{Interrupted, WouldBlock};

        match self.try_step(buffer) {
            Err(error) if is_gone(&error) => Ok(Some(End::Gone)),
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(None),
            result => result,
        }
    }

    fn try_step(&mut self, buffer: &mut [u8]) -> io::Result<Option<End>> {
        if self.has_unsent() {
            self.send_unsent()?;
            return Ok(None);
        }
        let fd = self.connection.as_raw_fd();
        let waits = self.reads_wait && self.has_waited;
        let flags = if waits { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        let length = recv(fd, buffer, flags).inspect_err(|_| {
            // The time is up, or a signal such as CONT came. Another read would wait for the whole time
            // again, so from now on we wait with poll(2), which is given the deadline.
            self.reads_wait &= !waits;
        })?;
        let client_has_ended = length == 0;
        if self.has_ended {
            // This is no progress. Otherwise, a client could hold the session by sending for ever.
            return Ok(client_has_ended.then_some(End::Finished));
        }
        let answer = if client_has_ended {
            Answer { bytes: self.protocol.answer_end(), is_last: true }
        } else {
            self.note_progress();
            self.protocol.answer(&buffer[..length])
        };
        self.is_last = answer.is_last;
        if !answer.bytes.is_empty() {
            let result = send_some(&self.connection, answer.bytes);
            let sent = *result.as_ref().unwrap_or(&0);
            self.unsent.extend_from_slice(&answer.bytes[sent..]);
            result?;
        }
        if self.is_last && !self.has_unsent() {
            self.end_stream()?;
            return Ok(client_has_ended.then_some(End::Finished));
        }
        Ok(None)
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        self.sent += send_some(&self.connection, &self.unsent[self.sent..])?;
        self.note_progress();
        if self.sent == self.unsent.len() {
            // Free the buffer: most sessions never need it again.
            self.unsent = Vec::new();
            self.sent = 0;
            if self.is_last {
                self.end_stream()?;
            }
        }
        Ok(())
    }

    fn note_progress(&mut self) {
        if self.has_waited {
            self.last_progress = Instant::now();
        }
    }

    /// Ends our stream: everything has been sent. If we are killed between the two calls, the kernel's
    /// close ends it regularly, too.
    fn end_stream(&mut self) -> io::Result<()> {
        set_reset_on_close(&self.connection, false)?;
        self.connection.shutdown(Shutdown::Write)?;
        self.has_ended = true;
        self.reads_wait = false; // a read would wait for the whole idle time again
        Ok(())
    }
}

fn send_some(connection: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    // If the client has gone away, we want the error and no SIGPIPE.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(send(connection.as_raw_fd(), bytes, flags)?)
}

/// Whether the client is gone, or cannot be reached any more. When TCP gives up, it reports the last
/// error of a router (tcp(7)).
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
