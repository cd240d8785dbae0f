//! Replacing the server by a newer one without refusing a client.
//!
//! The old server forks, and the child executes the program's *file*, which may have been replaced
//! since. The new server gets the listener as from a service manager (LISTEN_FDS), and as its stdin
//! a socket on which it says that it serves. Only then does the old one let go of its copy of the
//! listener. Clients that connect meanwhile are in the queue of the one socket that both have.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{dup2_stdin, getppid};
use reexec::{Child, Fork};

use crate::listener::Listener;
use crate::log::cannot;
use crate::session::is_not_now;

/// How long a new server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look whether a new server has ended whose end would not be noticed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
        let name = args.next().unwrap_or_default();
        Ok(Self {
            path: find(&name)?,
            args: args.collect(),
        })
    }
}

/// The path of this program, which was called `name`.
fn find(name: &OsStr) -> io::Result<PathBuf> {
    let running = reexec::self_exe()?;
    let file = identity(&running).map_err(cannot("find the file of this program"))?;
    // A path as it was given, or as the shell has found it: it may lead through a symbolic link that
    // is set to the next version, whereas current_exe() is the old one's own name. But only if it
    // leads to us now: who starts a program may call it anything, also by the path of another one.
    let is_ours = |path: &PathBuf| identity(path).is_ok_and(|found| found == file);
    let given = if name.as_bytes().contains(&b'/') {
        std::path::absolute(name).ok().filter(is_ours)
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        let places = env::split_paths(&path).map(|place| place.join(name));
        let mut places = places.filter_map(|place| std::path::absolute(place).ok());
        places.find(is_ours)
    };
    // Without a /proc, `running` is the path that we were started by.
    Ok(given.or_else(|| env::current_exe().ok()).unwrap_or(running))
}

/// Which file this is, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
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
    /// When to look whether it has ended: only if the handle says so all the time, and it is not
    /// true. Where pidfds are refused, the handle is a pipe, which ends when the child executes
    /// another program; and that is what ours does.
    next_look: Option<Instant>,
}

/// What there is to know about the new server.
pub(crate) enum News {
    None,
    Ready,
    /// It never served.
    Failed(String),
    /// It did, but no longer, as far as we can see.
    Ended(String),
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
        fs::metadata(&program.path)
            .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let (ours, childs) = UnixStream::pair().map_err(cannot("make a socket pair"))?;
        ours.set_nonblocking(true)?;
        let copy = listener
            .as_fd()
            .try_clone_to_owned()
            .map_err(cannot("copy the listener"))?;
        match reexec::fork().map_err(cannot("make a process"))? {
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
                next_look: None,
            })),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where news may come from: its end, and what it says.
    pub(crate) fn watched(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [
            self.next_look.is_none().then(|| self.child.as_fd()),
            self.ready.as_ref().map(AsFd::as_fd),
        ]
    }

    /// Whether it has said so.
    pub(crate) fn serves(&self) -> bool {
        self.serves
    }

    /// When there may be news even if none has come.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let patience = (!self.serves).then_some(self.deadline);
        patience.into_iter().chain(self.next_look).min()
    }

    pub(crate) fn is_due(&self) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// `seems_to_have_ended` is whether the first of [`watched`](Self::watched) says so.
    pub(crate) fn news(&mut self, seems_to_have_ended: bool) -> News {
        use io::ErrorKind::Interrupted;

        let ended = match self.child.try_wait() {
            Ok(None) => {
                if seems_to_have_ended || self.next_look.is_some() {
                    self.next_look = Some(Instant::now() + LOOK_AGAIN);
                }
                None
            }
            Ok(Some(status)) => Some(format!("has ended: {status}")),
            // That would not get better.
            Err(error) => Some(format!("cannot be watched: {error}")),
        };
        if self.serves {
            return ended.map_or(News::None, News::Ended);
        }
        match self.ready.as_mut().map(|ready| ready.read(&mut [0])) {
            Some(Ok(1..)) => {
                self.ready = None;
                self.serves = true;
                return News::Ready;
            }
            Some(Err(error)) if is_not_now(&error) || error.kind() == Interrupted => {}
            // Most likely it is about to end, and its status will say more.
            Some(_) => self.ready = None,
            None => {}
        }
        match ended {
            Some(what) => News::Failed(format!("it {what}")),
            None if self.deadline <= Instant::now() => {
                News::Failed(format!("it does not serve after {PATIENCE:?}"))
            }
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
        match self.command() {
            Ok(mut command) => cannot(&format!("execute {}", self.program))(command.exec()),
            Err(error) => error,
        }
    }

    fn command(&self) -> io::Result<Command> {
        // The new server is to outlive the old one.
        prctl::set_pdeathsig(None).map_err(cannot("untie the new server from the old one"))?;
        // The one descriptor that is to go through exec, besides stdio.
        fcntl(&self.listener, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(cannot("leave the listener open for the new server"))?;
        let ready = self
            .ready
            .try_clone()
            .map_err(cannot("copy the socket that the new server answers on"))?;
        let whose = if self.listener_is_ours { OWN } else { "lent" };
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.args)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PID", process::id().to_string())
            .env("LISTEN_FDS_FIRST_FD", self.listener.as_raw_fd().to_string())
            .env(PREDECESSOR, whose)
            .stdin(Stdio::from(OwnedFd::from(ready)));
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
    // As process 1 of a namespace we have no parent in it, and see as 0 whoever is outside.
    let parent = Some(getppid().as_raw()).filter(|pid| *pid > 0)?;
    (other_end.pid() == parent).then(|| Predecessor {
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
