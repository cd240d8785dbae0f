//! The guardian: the parent of the new server until that takes over.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use reexec::{Child, Fork};

use super::program::Program;
use super::protocol::{LENT, OWN, PREDECESSOR, proof};
use crate::log::cannot;

/// What the guardian needs to start the new server.
pub(crate) struct Handover {
    pub(super) program: Program,
    pub(super) listener: OwnedFd,
    pub(super) listener_is_ours: bool,
    /// Of the new server.
    pub(super) stdin: UnixStream,
    pub(super) reports: ReportSender,
}

impl Handover {
    /// Starts the new server, and waits until it has ended or is not wanted any more. It then is
    /// dead and reaped. Returns also in the new process, if that cannot execute the program, or not
    /// `prepare` for it.
    pub(crate) fn guard(self, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let ends = SigSet::from(Signal::SIGCHLD);
        let start = || {
            prctl::set_name(c"echo-upgrade").map_err(cannot("name this process"))?;
            // When the old server ends, we kill the new one, and it may take a moment.
            prctl::set_pdeathsig(None).map_err(cannot("outlive the server"))?;
            ends.thread_block()
                .map_err(cannot("hold back a signal (SIGCHLD)"))?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let ends = SignalFd::with_flags(&ends, flags).map_err(cannot("watch the server"))?;
            let fork = reexec::fork().map_err(cannot("make a process"))?;
            io::Result::Ok((ends, fork))
        };
        match start() {
            Ok((_, Fork::Child)) => prepare().and_then(|()| Err(self.become_new_server())),
            Ok((ends, Fork::Parent(child))) => watch(&child, &ends, &self.reports),
            Err(error) => self.reports.send(&Report::Failed(error.to_string())),
        }
    }

    /// Returns only if that fails.
    fn become_new_server(self) -> io::Error {
        let result = self.reports.send(&Report::Started(process::id()));
        match result.and_then(|()| self.command()) {
            Ok(mut command) => cannot(&format!("execute {}", self.program))(command.exec()),
            Err(error) => error,
        }
    }

    fn command(&self) -> io::Result<Command> {
        // The one descriptor that is to go through exec, besides stdio.
        fcntl(&self.listener, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(cannot("leave the listener open for the new server"))?;
        let stdin = self
            .stdin
            .try_clone()
            .map_err(cannot("copy the socket that the new server answers on"))?;
        let owner = if self.listener_is_ours { OWN } else { LENT };
        let pid = process::id();
        let proof = proof(pid, stdin.as_fd()).map_err(cannot("identify its stdin"))?;
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.args)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", pid.to_string())
            .env("LISTEN_FDS_FIRST_FD", self.listener.as_raw_fd().to_string())
            .env(PREDECESSOR, format!("{owner}:{proof}"))
            .stdin(Stdio::from(OwnedFd::from(stdin)));
        Ok(command)
    }
}

/// Returns when the new server has ended, or the old server has. Dropping the child kills it.
///
/// SIGCHLD wakes us, and no pidfd does: where pidfds are refused, a handle is a pipe that ends when
/// the child executes its program. There is one child, so no two signals can merge.
fn watch(child: &Child, ends: &SignalFd, reports: &ReportSender) -> io::Result<()> {
    loop {
        if let Some(status) = child.try_wait()? {
            return reports.send(&Report::Failed(format!("it has ended: {status}")));
        }
        let mut watched =
            [ends.as_fd(), reports.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [may_have_ended, is_closed] = watched.map(|fd| fd.any() == Some(true));
        if may_have_ended {
            ends.read_signal()?;
        }
        if is_closed {
            // The old server never sends anything here.
            return Ok(());
        }
    }
}

/// What the old server learns from the guardian, and from the new process before it is a server.
pub(super) enum Report {
    Started(u32),
    Failed(String),
}

/// In front of the text of a report.
const STARTED: char = 's';
const FAILED: char = 'f';

/// A channel whose messages stay apart, and that ends with either side.
pub(super) fn report_channel() -> io::Result<(ReportSender, ReportReceiver)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (sender, receiver) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(cannot("make a socket pair"))?;
    Ok((ReportSender(sender), ReportReceiver(receiver)))
}

pub(super) struct ReportSender(OwnedFd);

impl ReportSender {
    fn send(&self, report: &Report) -> io::Result<()> {
        let text = match report {
            Report::Started(id) => format!("{STARTED}{id}"),
            Report::Failed(reason) => format!("{FAILED}{reason}"),
        };
        send(self.0.as_raw_fd(), text.as_bytes(), MsgFlags::MSG_NOSIGNAL)
            .map(drop)
            .map_err(cannot("report to the server"))
    }
}

impl AsFd for ReportSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) struct ReportReceiver(OwnedFd);

impl ReportReceiver {
    /// `None` if there is no report yet; an error if there will be no more.
    pub(super) fn next(&self) -> io::Result<Option<Report>> {
        let mut buffer = [0; 1024];
        let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        if let Some(id) = text.strip_prefix(STARTED).and_then(|id| id.parse().ok()) {
            return Ok(Some(Report::Started(id)));
        }
        match text.strip_prefix(FAILED) {
            Some(reason) => Ok(Some(Report::Failed(reason.to_owned()))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl AsFd for ReportReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
