//! The old server's side of an upgrade: starts the new server, and lets it take over.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use reexec::{Child, Fork};

use super::guardian::{Handover, Report, ReportReceiver, report_channel};
use super::program::Program;
use super::protocol::{GO, SocketIdentity};
use crate::log::cannot;

/// How long a new server may take until it is able to serve.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a guardian may take to kill and reap a new server that was given up.
const GIVE_UP_GRACE: Duration = Duration::from_secs(1);

/// The new server. Dropped before it has taken over, it is killed; afterwards it goes on.
pub(crate) struct Successor {
    /// Until the new server takes over.
    guardian: Option<Guardian>,
    /// The other end is the stdin of the new server. We keep ours open as long as we live: the new
    /// server does not end before us. `None` when the new server has closed it.
    stream: Option<UnixStream>,
    /// Known as soon as the new process runs.
    id: Option<u32>,
    /// What it has written. It is able to serve when this is the identity of the listener.
    written: Vec<u8>,
    listener: SocketIdentity,
    deadline: Instant,
}

/// The parent of the new server.
struct Guardian {
    child: Child,
    /// The guardian ends, and the new server with it, when we close this.
    reports: ReportReceiver,
}

/// What there is to know about the new server.
pub(crate) enum News {
    None,
    /// It runs as this process.
    Started(u32),
    /// This process serves.
    TakenOver(u32),
    /// It never served.
    Failed(String),
    /// It has taken over, and has ended before us.
    Ended,
}

impl Successor {
    /// `Ok(Err(_))` in this process, `Ok(Ok(_))` in the guardian.
    pub(crate) fn fork(
        listener: BorrowedFd<'_>,
        listener_is_ours: bool,
        program: &Program,
    ) -> io::Result<Result<Handover, Self>> {
        // Checked here and not by a child that fails: nothing has happened yet.
        fs::metadata(&program.path)
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let (ours, stdin) = UnixStream::pair().map_err(cannot("make a socket pair"))?;
        ours.set_nonblocking(true)?;
        let (sender, reports) = report_channel()?;
        let copy = listener.try_clone_to_owned().map_err(cannot("copy the listener"))?;
        let identity = SocketIdentity::of(copy.as_fd()).map_err(cannot("identify the listener"))?;
        match reexec::fork().map_err(cannot("make a process"))? {
            Fork::Child => Ok(Ok(Handover {
                program: program.clone(),
                listener: copy,
                listener_is_ours,
                stdin,
                reports: sender,
            })),
            Fork::Parent(child) => Ok(Err(Self {
                guardian: Some(Guardian { child, reports }),
                stream: Some(ours),
                id: None,
                written: Vec::new(),
                listener: identity,
                deadline: Instant::now() + START_TIMEOUT,
            })),
        }
    }

    /// Where news may come from.
    pub(crate) fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.guardian.as_ref().map(|it| it.reports.as_fd()), self.stream.as_ref().map(AsFd::as_fd)]
    }

    /// When there is news even if none has come.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.guardian.is_some().then_some(self.deadline)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    pub(crate) fn has_taken_over(&self) -> bool {
        self.guardian.is_none()
    }

    /// Takes the next news, without blocking for long.
    pub(crate) fn take_news(&mut self) -> News {
        // The new process reports its number first, and later that it is ready. We look in the other
        // order: if we have seen that it is ready, its number is there.
        self.listen();
        let Some(guardian) = &mut self.guardian else {
            return match self.stream {
                Some(_) => News::None,
                None => News::Ended,
            };
        };
        match guardian.reports.next() {
            Ok(Some(Report::Started(id))) => {
                self.id = Some(id);
                if self.written.is_empty() {
                    return News::Started(id);
                }
            }
            Ok(Some(Report::Failed(reason))) => return News::Failed(reason),
            Ok(None) => {}
            Err(error) => return News::Failed(guardian.why_it_has_ended(&error)),
        }
        match self.id {
            Some(id) if self.is_ready() => self.let_go(id),
            _ if !self.listener.0.as_bytes().starts_with(&self.written) => News::Failed(
                "it does not answer as an echo server that has our listener".to_owned(),
            ),
            _ if self.is_due() => {
                News::Failed(format!("it does not serve after {START_TIMEOUT:?}"))
            }
            _ => News::None,
        }
    }

    /// Whether the new server has said that it is able to serve our listener.
    fn is_ready(&self) -> bool {
        self.listener.0.as_bytes() == self.written
    }

    /// Takes in what the new server has written, or that it has ended.
    fn listen(&mut self) {
        use io::ErrorKind::{Interrupted, WouldBlock};

        let mut buffer = [0; 64];
        match self.stream.as_mut().map(|stream| stream.read(&mut buffer)) {
            Some(Ok(length @ 1..)) => self.written.extend_from_slice(&buffer[..length]),
            Some(Err(error)) if matches!(error.kind(), WouldBlock | Interrupted) => {}
            // It has ended. Before it takes over, the guardian has a copy, and reports how.
            Some(_) | None => self.stream = None,
        }
    }

    /// Makes the new server an orphan, and then the server.
    fn let_go(&mut self, id: u32) -> News {
        // Dropped, the guardian is killed, and has no time to kill the new server. That has untied
        // itself from the guardian before it was ready.
        drop(self.guardian.take());
        match self.stream.as_mut().map(|stream| stream.write_all(GO)) {
            Some(Ok(())) => News::TakenOver(id),
            _ => News::Failed(format!("process {id} ended just when it was ready")),
        }
    }

    /// Kills and reaps a new server that has not taken over.
    pub(crate) fn give_up(self) {
        if let Some(Guardian { child, reports }) = self.guardian {
            drop((reports, self.stream));
            // Somebody may have stopped it. If this fails, it has ended.
            let _ = child.signal(libc::SIGCONT);
            // It kills the new server, reaps it and ends. Dropped, it is killed.
            let _ = child.wait_timeout(GIVE_UP_GRACE);
        }
    }
}

impl Guardian {
    /// To be called when the channel has ended, and so the guardian, or all but.
    fn why_it_has_ended(&self, error: &io::Error) -> String {
        let name = "the process that starts it";
        match self.child.wait_timeout(GIVE_UP_GRACE) {
            Ok(Some(status)) => format!("{name} has ended: {status}"),
            Ok(None) => format!("{name} is silent: {error}"),
            Err(error) => format!("{name} cannot be watched: {error}"),
        }
    }
}
