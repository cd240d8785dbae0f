//! Forks this process, by clone3(2) or by libc's fork(3); and _exit(2).

use std::io;
use std::os::fd::OwnedFd;

use libc::{c_int, pid_t, sigset_t};

use super::clone::CallingThread;
use super::errno::{check_return, is_refused};
use super::signal::{
    Action, Disposition, discard_pending, empty_set, full_set, is_ignored, set_default,
    set_disposition, set_mask, set_mask_in_copy,
};

/// What is special about a fork.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ForkSpec {
    /// The child is alone in a new process group.
    pub(crate) new_group: bool,
    /// The signals that the child ignores.
    pub(crate) ignored: Vec<c_int>,
    /// Whether the child also ignores what this process ignores.
    pub(crate) keep_ignored: bool,
}

/// The process we are in after a fork.
pub(crate) enum Forked<P> {
    Parent(P),
    /// An error means that the child does not have the dispositions that it must have.
    Child(io::Result<()>),
}

impl<P> Forked<P> {
    pub(crate) fn map<T>(self, of_parent: impl FnOnce(P) -> T) -> Forked<T> {
        match self {
            Forked::Parent(parent) => Forked::Parent(of_parent(parent)),
            Forked::Child(set_up) => Forked::Child(set_up),
        }
    }
}

/// The signals whose dispositions the child has as this process has them:
///
/// - `SIGPIPE`, which Rust programs ignore from their start on;
/// - `SIGSEGV` and `SIGBUS`, by which std reports a stack overflow, also in the child;
/// - the two that glibc uses itself, and expects to stay as it has set them.
const KEPT: [c_int; 5] = [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS, 32, 33];

/// Forks by clone3(2), which also opens a pidfd, and clears the signal handlers. Returns `None`, and has
/// done nothing, if that is not possible here: on an old kernel, under a filter, or with a libc that
/// would not work in such a child.
///
/// It runs no handlers of pthread_atfork(3). Otherwise the child is the same as after [`fork`].
///
/// The process must have one thread; the caller checks that.
pub(crate) fn fork_with_pidfd(spec: &ForkSpec) -> io::Result<Option<Forked<(pid_t, OwnedFd)>>> {
    let Ok(thread) = CallingThread::examine() else {
        return Ok(None);
    };
    let [Ok(pipe), Ok(segv), Ok(bus), Ok(cancel), Ok(setxid)] = KEPT.map(Action::get) else {
        return Ok(None);
    };
    let set_dispositions = || {
        let kept = [pipe, segv, bus, cancel, setxid];
        kept.iter().filter(|action| action.has_handler()).try_for_each(Action::set)?;
        if !spec.keep_ignored {
            reset_dispositions(spec);
        }
        Ok(())
    };
    match fork_by(|| thread.make_child(), spec, set_dispositions) {
        Err(error) if is_refused(&error) => Ok(None),
        forked => forked.map(Some),
    }
}

/// Forks by libc's fork(3).
///
/// The process must have one thread; the caller checks that.
pub(crate) fn fork(spec: &ForkSpec) -> io::Result<Forked<pid_t>> {
    // SAFETY: with one thread, the child is a complete copy: no lock is held by a thread that it does
    // not have.
    let make_child = || match check_return(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        pid => Ok(Some(pid as pid_t)),
    };
    fork_by(make_child, spec, || {
        reset_dispositions(spec);
        Ok(())
    })
}

/// Forks by `make_child`, which returns `None` in the child. The child starts with an empty signal mask
/// and the dispositions that `set_dispositions` and the spec give it.
///
/// All signals are blocked during the fork. Otherwise:
///
/// 1. The parent has a handler that writes to its self-pipe, and forks.
/// 2. A signal reaches the child before it has reset the handler.
/// 3. The child's copy of the handler writes to the *parent's* pipe, and the parent acts on a signal
///    that it never got.
///
/// With a new group, the child is alone in it before it unblocks signals, and discards what came for
/// the parent's group until then.
fn fork_by<P>(
    make_child: impl FnOnce() -> io::Result<Option<P>>,
    spec: &ForkSpec,
    set_dispositions: impl FnOnce() -> io::Result<()>,
) -> io::Result<Forked<P>> {
    let (all, none) = (full_set(), empty_set());
    let before = set_mask(&all);
    match make_child() {
        Ok(None) => {
            let result = set_up(spec, &all, set_dispositions);
            set_mask_in_copy(&none);
            Ok(Forked::Child(result))
        }
        Ok(Some(parent)) => {
            set_mask(&before);
            Ok(Forked::Parent(parent))
        }
        Err(error) => {
            set_mask(&before);
            Err(error)
        }
    }
}

/// Sets up the child, in which all these signals are blocked.
///
/// The child gets each piece of 64 KiB of code by a page fault, which takes as long as ten system calls. So
/// it makes system calls by the same function of libc where it can.
fn set_up(
    spec: &ForkSpec,
    all: &sigset_t,
    set_dispositions: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if spec.new_group {
        // SAFETY: integers only. It fails only if a filter refuses it.
        unsafe { libc::syscall(libc::SYS_setpgid, 0, 0) };
        discard_pending(all);
    }
    set_dispositions()?;
    let mut ignored = spec.ignored.iter();
    ignored.try_for_each(|signal| set_disposition(*signal, Disposition::Ignored))
}

/// Resets the disposition of each signal to its default, except of those [`KEPT`], those that the child
/// is to ignore anyway, and those that it keeps ignoring.
fn reset_dispositions(spec: &ForkSpec) {
    for signal in 1..=libc::SIGRTMAX() {
        let stays = KEPT.contains(&signal)
            || spec.ignored.contains(&signal)
            || spec.keep_ignored && matches!(is_ignored(signal), Ok(true));
        if !stays {
            set_default(signal);
        }
    }
}

/// Ends this process, and runs neither destructors nor atexit(3) handlers.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) runs no code of the process.
    unsafe { libc::_exit(code.into()) }
}
