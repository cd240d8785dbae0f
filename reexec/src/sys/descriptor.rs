//! fcntl(2), close_range(2), and taking over what came through exec.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use super::{checked, is, retry};

/// Makes a copy of `fd` at the lowest free number from `floor` on; close-on-exec.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, floor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the result is a descriptor that nobody else owns.
    unsafe {
        let copy = checked(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor).into());
        match copy {
            Ok(copy) => Ok(OwnedFd::from_raw_fd(copy as RawFd)),
            // The floor is above the limit: there is no room, and that has a name of its own.
            Err(error) if is(&error, libc::EINVAL) => {
                Err(io::Error::from_raw_os_error(libc::EMFILE))
            }
            Err(error) => Err(error),
        }
    }
}

/// Asks the kernel to send `signal` to this process when something happens on `pipe`.
///
/// The owner is set before the signal, and both before `O_ASYNC`: the other way round the
/// default, `SIGIO`, could be sent for an early event. Other flags of the pipe are cleared.
pub(crate) fn signal_on_activity(pipe: impl AsFd, signal: c_int) -> io::Result<()> {
    const F_SETSIG: c_int = 10; // fcntl(2), the same on every architecture; not in libc
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: these commands take and return integers; `fd` is open for the whole call.
    unsafe {
        checked(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()).into())?;
        checked(libc::fcntl(fd, F_SETSIG, signal).into())?;
        checked(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC).into())?;
    }
    Ok(())
}

/// Asks for the type of the socket with this number; `ENOTSOCK` if it is something else, `EBADF` if
/// it is not open.
pub(crate) fn socket_type(fd: RawFd) -> io::Result<c_int> {
    let mut kind: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are valid for writes of the sizes they say.
    checked(unsafe {
        let kind_out = (&raw mut kind).cast();
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            kind_out,
            &raw mut length,
        )
        .into()
    })?;
    Ok(kind)
}

/// Asks whether there is something to read, or an end; no if no descriptor has this number.
pub(crate) fn is_readable(fd: RawFd) -> io::Result<bool> {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: a pointer to one structure, and the number one.
    let ready = retry(|| checked(unsafe { libc::poll(&raw mut polled, 1, 0) }.into()))?;
    Ok(ready > 0 && polled.revents & libc::POLLNVAL == 0)
}

/// Takes over a descriptor that our parent put at this number, and makes it close-on-exec.
///
/// To be called by `init`, which has a written list from the parent of the numbers that are ours,
/// once for each. `EBADF` if there is none.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers in, integers out. The descriptor is open, as the first call shows, and
    // nothing in this process owns it: it was put there before our `main` began.
    unsafe {
        checked(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Closes a descriptor that was inherited through exec, which is to say one without
/// close-on-exec; one that has the flag was opened since, by somebody who owns it.
pub(crate) fn close_if_inherited(fd: RawFd) {
    // SAFETY: integers only; called while single-threaded, before user code, so that nothing can
    // have taken ownership of a descriptor that came through exec.
    unsafe {
        if libc::fcntl(fd, libc::F_GETFD) == 0 {
            libc::close(fd);
        }
    }
}

/// Sets close-on-exec on every descriptor from `first` on. Closes nothing: it may belong to
/// somebody.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: integers only; setting the flag closes nothing now.
    let at_once = checked(unsafe {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags)
    });
    // Linux before 5.11, or a filter.
    at_once.map(drop).or_else(|_| {
        // One that is not open, or no longer, needs no mark.
        let mark = |fd| drop(mark(fd));
        match open_descriptors() {
            Ok(open) => open.into_iter().filter(|fd| *fd >= first).for_each(mark),
            Err(_) => (first..=highest_number()?).for_each(mark),
        }
        Ok(())
    })
}

/// Makes a descriptor close-on-exec.
pub(crate) fn set_close_on_exec(fd: impl AsFd) -> io::Result<()> {
    mark(fd.as_fd().as_raw_fd())
}

fn mark(fd: RawFd) -> io::Result<()> {
    // SAFETY: integers only.
    checked(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into()).map(drop)
}

/// The numbers that are open, and one that was only open to look.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] without a /proc. An ordinary directory of that name is none.
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

/// The highest number that a descriptor is likely to have: the limit that is in force now, but not
/// more than the kernel's own default (fs.nr_open). Some limits are so high that to look at each
/// number would take minutes.
fn highest_number() -> io::Result<RawFd> {
    const NR_OPEN: libc::c_long = 1 << 20;
    // SAFETY: integers only.
    let limit = checked(unsafe { libc::sysconf(libc::_SC_OPEN_MAX) })?;
    Ok(limit.min(NR_OPEN) as RawFd - 1)
}

/// Closes these descriptors, those in a row by one call, and forgets whom they belong to without
/// running its destructor: in a forked copy, memory that is not written to is shared.
pub(crate) fn close_and_forget<O>(mut owner: O, each: impl FnOnce(&mut O, &mut dyn FnMut(RawFd))) {
    let mut run = None;
    each(&mut owner, &mut |fd| {
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
    // SAFETY: integers only. The caller owns the descriptors and forgets that it does.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == -1 {
            // Linux before 5.9.
            (first..=last).for_each(|fd| drop(OwnedFd::from_raw_fd(fd)));
        }
    }
}
