//! A server behind a balancer, which is replaced by the next process on the same port.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::servers::start::{Announcements, describe, log_file};

/// A port that is ours as long as this lives, also while nobody listens on it: a socket that is bound to
/// it. With SO_REUSEADDR, another one may listen on it.
pub(crate) struct ReservedPort {
    socket: OwnedFd,
    pub(crate) address: SocketAddrV4,
}

impl ReservedPort {
    pub(crate) fn new() -> Result<Self, String> {
        let reserve = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
            let address: SockaddrIn = getsockname(socket.as_raw_fd())?;
            Ok(Self { socket, address: address.into() })
        };
        reserve().map_err(|error: Errno| format!("cannot reserve a port: {error}"))
    }

    /// Listens on the port, as a service manager does for a socket unit.
    pub(crate) fn listen(self) -> Result<TcpListener, String> {
        let listen = || {
            nix::sys::socket::listen(&self.socket, nix::sys::socket::Backlog::MAXALLOWABLE)?;
            Ok(TcpListener::from(self.socket))
        };
        listen().map_err(|error: Errno| format!("cannot listen on {}: {error}", self.address))
    }
}

/// Where a server listens.
pub(crate) enum Place {
    /// It makes the listener itself.
    Port(ReservedPort),
    /// It gets a listener that we hold, see sd_listen_fds(3).
    Held(TcpListener, SocketAddrV4),
}

impl Place {
    pub(crate) fn address(&self) -> SocketAddrV4 {
        match self {
            Place::Port(port) => port.address,
            Place::Held(_, address) => *address,
        }
    }
}

pub(crate) struct Rolled {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    pub(crate) place: Place,
    pid: Pid,
    announcements: Announcements,
}

impl Rolled {
    /// Starts the first one. It may not listen yet.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        place: Place,
        log: PathBuf,
    ) -> Result<Self, String> {
        let (pid, announcements) = start(program, args, &place, &log)?;
        let (program, args) = (program.to_owned(), args.to_owned());
        Ok(Self { program, args, log, place, pid, announcements })
    }

    /// Starts the next one, when this one has ended.
    pub(crate) fn start_next(&mut self) -> Result<(), String> {
        let started = start(&self.program, &self.args, &self.place, &self.log)?;
        (self.pid, self.announcements) = started;
        Ok(())
    }

    /// Whether the one that was started listens. An error if it has ended.
    pub(crate) fn listens(&mut self) -> Result<bool, String> {
        if self.has_ended()? {
            return Err(format!("a server ended at its start; its log is {}", self.log.display()));
        }
        Ok(self.announcements.next()?.is_some())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(self.pid, signal).map_err(|error| format!("cannot send {signal}: {error}"))
    }

    /// Whether it has ended, by itself and with 0: every session has finished.
    pub(crate) fn has_ended(&self) -> Result<bool, String> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
            Ok(WaitStatus::Exited(_, 0)) => Ok(true),
            Ok(status) => Err(format!("a server {}", describe(status))),
            Err(error) => Err(format!("cannot wait for a server: {error}")),
        }
    }

    /// Returns the process that has replaced this one after USR2, if there is one. It becomes the server
    /// with [`become_next`](Self::become_next), when this one has ended.
    pub(crate) fn next_after_upgrade(&mut self) -> Result<Option<Pid>, String> {
        Ok(self.announcements.next()?.map(|(_, pid)| pid))
    }

    /// The new server prints to the same pipe.
    pub(crate) fn become_next(&mut self, pid: Pid) {
        self.pid = pid;
    }
}

fn start(
    program: &Path,
    args: &[String],
    place: &Place,
    log: &Path,
) -> Result<(Pid, Announcements), String> {
    // The shell becomes the server, so its number is the server's.
    const HAND_OVER: &str = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut command;
    match place {
        Place::Port(port) => {
            command = Command::new(program);
            command.arg(port.address.to_string()).stdin(Stdio::null());
        }
        Place::Held(listener, address) => {
            let copy = listener.try_clone();
            let copy = copy.map_err(|error| format!("cannot copy a listener: {error}"))?;
            command = Command::new("sh");
            command.args(["-c", HAND_OVER]).arg(program).arg(address.to_string());
            command.stdin(OwnedFd::from(copy));
        }
    }
    let server = command.args(args).stdout(Stdio::piped()).stderr(log_file(log)?).spawn();
    let mut server =
        server.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let announcements = Announcements::of(&mut server)?;
    // From now on we wait for it by its number, as we do for one that replaces it.
    Ok((Pid::from_raw(server.id() as i32), announcements))
}
