//! fcntl(2), getsockopt(2), poll(2) and close_range(2), for descriptors known by their numbers.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::errno::{check_return, is, retry_on_interrupt};

/// Copies `fd` to the lowest free number from `floor` on. The copy is close-on-exec.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, floor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the result is a descriptor that nobody else owns.
    unsafe {
        let copy = check_return(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor).into());
        match copy {
            Ok(copy) => Ok(OwnedFd::from_raw_fd(copy as RawFd)),
            // The floor is above the limit, so there is no room: `EMFILE`.
            Err(error) if is(&error, libc::EINVAL) => {
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
            Err(error) => Err(error),
        }
    }
}

/// Asks the kernel to send `signal` to this process when something happens on `pipe`.
///
/// It sets the owner before the signal, and both before `O_ASYNC`. In another order, the kernel could
/// send the default signal, `SIGIO`, for an early event. It clears the other flags of the pipe.
pub(crate) fn signal_on_activity(pipe: impl AsFd, signal: c_int) -> io::Result<()> {
    const F_SETSIG: c_int = 10; // fcntl(2), the same on every architecture; not in libc
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: these commands take and return integers; `fd` is open for the whole call.
    unsafe {
        check_return(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()).into())?;
        check_return(libc::fcntl(fd, F_SETSIG, signal).into())?;
        check_return(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC).into())?;
    }
    Ok(())
}

/// Returns the type of the socket with this number. Fails with `ENOTSOCK` if it is no socket, with
/// `EBADF` if it is not open.
pub(crate) fn socket_type(fd: RawFd) -> io::Result<c_int> {
    let mut kind: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are valid for writes of the sizes they say.
    check_return(unsafe {
        let kind_out = (&raw mut kind).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, kind_out, &raw mut length).into()
    })?;
    Ok(kind)
}

/// Whether the descriptor with this number is readable or at its end; `false` if none has it.
pub(crate) fn is_readable(fd: RawFd) -> io::Result<bool> {
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: a pointer to one structure, and the number one.
    let ready =
        retry_on_interrupt(|| check_return(unsafe { libc::poll(&raw mut polled, 1, 0) }.into()))?;
    Ok(ready > 0 && polled.revents & libc::POLLNVAL == 0)
}

/// Takes over the descriptor that our parent put at this number, and makes it close-on-exec.
///
/// Only `init` may call this, once for each number in the list that the parent has sent. Fails with
/// `EBADF` if the number is not open.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers in, integers out. The descriptor is open, as the first call shows, and
    // nothing in this process owns it: it was put there before our `main` began.
    unsafe {
        check_return(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Closes a descriptor that came through exec.
///
/// Such a descriptor is not close-on-exec. If the flag is set, code of this process has opened the
/// descriptor since, and owns it.
pub(crate) fn close_if_inherited(fd: RawFd) {
    if is_inheritable(fd) {
        // SAFETY: integers only; called while single-threaded, before user code, so that nothing can
        // have taken ownership of a descriptor that came through exec.
        unsafe { libc::close(fd) };
    }
}

/// Whether a program that this process executes gets the descriptor with this number.
pub(crate) fn is_inheritable(fd: RawFd) -> bool {
    // SAFETY: integers only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Whether a descriptor has this number.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: integers only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Makes every descriptor from `first` on close-on-exec, and closes none: other code may own it.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: integers only; setting the flag closes nothing now.
    let at_once = check_return(unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags)
    });
    // Linux before 5.11, or a filter.
    at_once.map(drop).or_else(|_| {
        // A number that is not open needs no flag.
        let set_flag = |fd| drop(set_flag(fd));
        match open_descriptors() {
            Ok(open) => open.into_iter().filter(|fd| *fd >= first).for_each(set_flag),
            Err(_) => (first..=highest_number()?).for_each(set_flag),
        }
        Ok(())
    })
}

/// Makes a descriptor close-on-exec.
pub(crate) fn set_close_on_exec(fd: impl AsFd) -> io::Result<()> {
    set_flag(fd.as_fd().as_raw_fd())
}

fn set_flag(fd: RawFd) -> io::Result<()> {
    // SAFETY: integers only.
    check_return(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into()).map(drop)
}

/// Returns the numbers of the open descriptors. One of them was open only for this call.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] without a /proc; an ordinary directory of that name does not count.
pub(crate) fn open_descriptors() -> io::Result<Vec<RawFd>> {
    const LIST: &str = "/proc/self/fd";
    if statfs(LIST)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(io::ErrorKind::NotFound.into());
    }
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let entries = fs::read_dir(LIST)?;
    let numbers = entries.filter_map(|entry| entry.map(number).transpose());
    numbers.collect()
}

/// Returns the highest number that a descriptor is likely to have: the current limit, but not more
/// than the kernel's default for fs.nr_open. With some limits, a look at each number would take
/// minutes.
fn highest_number() -> io::Result<RawFd> {
    const NR_OPEN: libc::c_long = 1 << 20;
    // SAFETY: integers only.
    let limit = check_return(unsafe { libc::sysconf(libc::_SC_OPEN_MAX) })?;
    Ok(limit.min(NR_OPEN) as RawFd - 1)
}

/// Closes the descriptors of `owner`, and forgets `owner` without running its destructor.
///
/// `visit` must visit every descriptor that `owner` owns. Consecutive numbers are closed by one call.
/// In a forked copy this saves memory: a page stays shared until somebody writes to it.
pub(crate) fn close_and_forget<O>(mut owner: O, visit: impl FnOnce(&mut O, &mut dyn FnMut(RawFd))) {
    let mut run = None;
    visit(&mut owner, &mut |fd| {
        run = Some(match run {
            Some((first, last)) if last + 1 == fd => (first, fd),
            Some(other) => {
                close_run(other);
                (fd, fd)
            }
            None => (fd, fd),
        });
    });
    if let Some(run) = run {
        close_run(run);
    }
    std::mem::forget(owner);
}

fn close_run((first, last): (RawFd, RawFd)) {
    // SAFETY: integers only. The owner of the descriptors is forgotten, so nobody closes them again.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == -1 {
            // Linux before 5.9.
            (first..=last).for_each(|fd| drop(OwnedFd::from_raw_fd(fd)));
        }
    }
}
