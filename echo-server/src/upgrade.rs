//! Replacing the server by a newer one without refusing a client.
//!
//! The old server forks, and the child executes the program's *file*, which may have been replaced
//! since. The new server gets the listener as from a service manager (LISTEN_FDS), and as its stdin
//! a socket on which it says that it serves. Only then does the old one let go of its copy of the
//! listener. Clients that connect meanwhile are in the queue of the one socket that both have.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{dup2_stdin, getppid};
use reexec::{Child, Fork};

use crate::listener::Listener;

/// How long a new server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// In the environment of the new server: whose the listener is, [`OWN`] or somebody else's.
const PREDECESSOR: &str = "ECHO_SERVER_PREDECESSOR";

const OWN: &str = "own";

/// What a new server says when it serves.
const READY: &[u8] = b"r";

/// How to start this program again: the same file name, the same arguments.
#[derive(Clone)]
pub(crate) struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// To be called at the start, while names mean what they meant to whoever started us.
    pub(crate) fn this() -> io::Result<Self> {
        let mut args = env::args_os();
        // A path as it was given: it may lead through a symbolic link that is set to the next
        // version, whereas current_exe() is the old one's own name.
        let name = args.next().filter(|name| name.as_bytes().contains(&b'/'));
        let path = match name {
            Some(name) => std::path::absolute(Path::new(&name))?,
            None => env::current_exe()?,
        };
        Ok(Self {
            path,
            args: args.collect(),
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The new server, as the old one sees it. Dropped, it goes on.
pub(crate) struct Successor {
    child: ManuallyDrop<Child>,
    /// Where it says that it serves, as long as it can.
    ready: Option<UnixStream>,
    serves: bool,
    deadline: Instant,
}

/// What there is to know about the new server.
pub(crate) enum News {
    None,
    Ready,
    /// It never served.
    Failed(String),
    /// It did, but no longer.
    Ended(ExitStatus),
}

/// What the new process needs to become the new server.
pub(crate) struct Handover {
    program: Program,
    listener: OwnedFd,
    listener_is_ours: bool,
    ready: UnixStream,
}

impl Successor {
    /// `Ok(Err(_))` in this process, `Ok(Ok(_))` in the new one.
    pub(crate) fn fork(
        listener: &Listener,
        program: &Program,
    ) -> io::Result<Result<Handover, Self>> {
        // Said here and not by a child that fails: nothing has happened yet.
        std::fs::metadata(&program.path)
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let (ours, childs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let copy = listener.as_fd().try_clone_to_owned()?;
        match reexec::fork()? {
            Fork::Child => Ok(Ok(Handover {
                program: program.clone(),
                listener: copy,
                listener_is_ours: listener.is_ours(),
                ready: childs,
            })),
            Fork::Parent(child) => Ok(Err(Self {
                child: ManuallyDrop::new(child),
                ready: Some(ours),
                serves: false,
                deadline: Instant::now() + PATIENCE,
            })),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where news may come from.
    pub(crate) fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [
            Some(self.child.as_fd()),
            self.ready.as_ref().map(AsFd::as_fd),
        ]
    }

    /// Whether it has said so.
    pub(crate) fn serves(&self) -> bool {
        self.serves
    }

    /// When there will be news even if none has come.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.serves).then_some(self.deadline)
    }

    pub(crate) fn is_late(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    pub(crate) fn news(&mut self) -> News {
        let ended = self.child.try_wait().ok().flatten();
        if self.serves {
            return ended.map_or(News::None, News::Ended);
        }
        match self.ready.as_mut().map(|ready| ready.read(&mut [0])) {
            Some(Ok(1..)) => {
                self.ready = None;
                self.serves = true;
                return News::Ready;
            }
            // Most likely it is about to end, and its status will say more.
            Some(Ok(0)) => self.ready = None,
            _ => {}
        }
        match ended {
            Some(status) => News::Failed(format!("it has ended: {status}")),
            None if self.is_late() => News::Failed(format!("it does not serve after {PATIENCE:?}")),
            None => News::None,
        }
    }

    /// With its whole process: it is of no use. In a forked copy, only closes the copies.
    pub(crate) fn kill(self) {
        drop(ManuallyDrop::into_inner(self.child));
    }
}

impl Handover {
    /// Becomes the new server. Returns only if that fails.
    pub(crate) fn execute(self) -> io::Error {
        let error = match self.command() {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        };
        io::Error::new(
            error.kind(),
            format!("cannot execute {}: {error}", self.program),
        )
    }

    fn command(&self) -> io::Result<Command> {
        // The new server is to outlive the old one.
        prctl::set_pdeathsig(None)?;
        // The one descriptor that is to go through exec, besides stdio.
        fcntl(&self.listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let whose = if self.listener_is_ours { OWN } else { "lent" };
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.args)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", process::id().to_string())
            .env("LISTEN_FDS_FIRST_FD", self.listener.as_raw_fd().to_string())
            .env(PREDECESSOR, whose)
            .stdin(Stdio::from(OwnedFd::from(self.ready.try_clone()?)));
        Ok(command)
    }
}

/// The old server, as the new one sees it.
pub(crate) struct Predecessor {
    /// Whether it had made the listener, which is ours now.
    pub(crate) made_the_listener: bool,
}

/// If we are started to replace a server. Then our stdin is a socket that our parent has made:
/// whoever else has the variable has it from somewhere further up.
pub(crate) fn predecessor() -> Option<Predecessor> {
    let whose = env::var(PREDECESSOR).ok()?;
    let other_end = getsockopt(&io::stdin(), sockopt::PeerCredentials).ok()?;
    (other_end.pid() == getppid().as_raw()).then(|| Predecessor {
        made_the_listener: whose == OWN,
    })
}

impl Predecessor {
    /// It may go now: we serve.
    pub(crate) fn tell(self) -> io::Result<()> {
        // First whatever may fail: once it has been told, there is no server but us.
        let null = File::open("/dev/null").map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open /dev/null: {error}"))
        })?;
        let mut stdin = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stdin.write_all(READY)?;
        Ok(dup2_stdin(null)?)
    }
}
