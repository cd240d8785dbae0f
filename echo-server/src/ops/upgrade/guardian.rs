//! The guardian: the parent of the new server until that takes over.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
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
    /// Starts the new server, and waits until it has ended or is not wanted any more. Then kills and
    /// reaps it, and whatever it has started. Returns also in the new process, if that cannot execute
    /// the program, or not `prepare` for it.
    pub(crate) fn guard(self, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let ends = SigSet::from(Signal::SIGCHLD);
        let start = || {
            prctl::set_name(c"echo-upgrade").map_err(cannot("name this process"))?;
            // We have to outlive the old server for a moment, to kill the new one. SIGCONT does
            // nothing, unless somebody has stopped us: then it wakes us, to do that.
            prctl::set_pdeathsig(Signal::SIGCONT).map_err(cannot("outlive the server"))?;
            // Orphans that the new server leaves become our children, and not those of process 1.
            prctl::set_child_subreaper(true).map_err(cannot("adopt orphans"))?;
            ends.thread_block().map_err(cannot("hold back a signal (SIGCHLD)"))?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let ends = SignalFd::with_flags(&ends, flags).map_err(cannot("watch the server"))?;
            let fork = reexec::fork().map_err(cannot("make a process"))?;
            io::Result::Ok((ends, fork))
        };
        match start() {
            Ok((_, Fork::Child)) => prepare().and_then(|()| Err(self.become_new_server())),
            Ok((ends, Fork::Parent(child))) => {
                // The new server has its own copy.
                drop(self.listener);
                let end = watch(&child, &ends, &self.reports);
                drop(child); // kills and reaps it
                kill_orphans();
                match end? {
                    Some(status) => {
                        let reason = format!("it has ended: {status}");
                        self.reports.send(&Report::Failed(reason))
                    }
                    None => Ok(()),
                }
            }
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

/// Waits until the new server has ended, and returns how; or until the old server has ended, or has
/// given the new one up, and returns `None`.
///
/// SIGCHLD wakes us, and no pidfd does: where pidfds are refused, a handle is a pipe that ends when
/// the child executes its program. Two signals may merge, so we always look at the child itself.
fn watch(child: &Child, ends: &SignalFd, reports: &ReportSender) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
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
            return Ok(None);
        }
    }
}

/// Kills and reaps all our children, and theirs, which become ours when their parents end. Without a
/// /proc that names our children, this kills nobody.
fn kill_orphans() {
    loop {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let pids = children.split_ascii_whitespace();
        let pids = pids.filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
        // Nobody else reaps them, so each number still is that of our child.
        let killed = pids.filter(|pid| kill(*pid, Signal::SIGKILL).is_ok());
        if killed.count() == 0 {
            return;
        }
        // One of them ends. Then we look again.
        let _ = waitpid(None, None);
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
