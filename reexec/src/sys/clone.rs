//! clone3(2): makes copies of this process in ways that libc does not offer.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::pid_t;

use super::errno::{check_return, retry_on_interrupt};
use super::shared_word::SharedWord;
use super::signal::{full_set, set_mask};

/// What the kernel must know of the calling thread, so that libc works in a copy of it.
#[derive(Debug)]
pub(super) struct CallingThread {
    /// Where libc keeps the number of the thread. The kernel stores the new number there.
    tid_address: u64,
    /// The list of the robust mutexes that the thread holds; null if libc has made none. The kernel
    /// forgets it in a copy.
    robust_list: *mut RobustListHead,
    robust_list_length: usize,
}

/// The first field of the kernel's `struct robust_list_head`: where the list begins. An empty list
/// points to itself.
#[repr(C)]
#[derive(Debug)]
struct RobustListHead {
    next: *mut c_void,
}

/// The first version of `struct clone_args`, which libc has not for every architecture.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

impl CallingThread {
    /// Finds out what a copy of this thread needs.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if libc keeps the number of the thread elsewhere. musl does:
    /// there, the kernel clears a lock when the thread ends.
    pub(super) fn examine() -> io::Result<Self> {
        let mut tid_address: u64 = 0;
        let mut robust_list = ptr::null_mut();
        let mut robust_list_length = 0_usize;
        // SAFETY: the kernel writes through pointers to variables of the right sizes. The address that
        // it returns is the one that libc has given it for this thread, which is aligned and alive.
        let found = unsafe {
            check_return(libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut tid_address).into())?;
            check_return(libc::syscall(
                libc::SYS_get_robust_list,
                0,
                &raw mut robust_list,
                &raw mut robust_list_length,
            ))?;
            match ptr::with_exposed_provenance::<pid_t>(tid_address as usize) {
                word if word.is_null() => 0,
                word => word.read_volatile(),
            }
        };
        // SAFETY: no arguments.
        if found != unsafe { libc::gettid() } {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { tid_address, robust_list, robust_list_length })
    }

    /// Makes a copy of this process, in which the calling thread goes on. Returns its number, and
    /// `None` in the copy.
    ///
    /// The process must have one thread, so that no lock is held by a thread that the copy lacks; the
    /// caller has checked that.
    ///
    /// It does what fork(3) does in the copy, except that it runs no handlers of pthread_atfork(3).
    ///
    /// # Safety
    ///
    /// This must be the calling thread. The flags may not make the copy share memory with this process,
    /// and what the other arguments point to must be valid for the kernel's writes.
    unsafe fn copy(&self, flags: u64, args: CloneArgs) -> io::Result<Option<pid_t>> {
        let tid_is_kept = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
        let args = CloneArgs { flags: flags | tid_is_kept, child_tid: self.tid_address, ..args };
        // SAFETY: the copy has its own memory, with this stack. The kernel stores its number where libc
        // keeps it, as with fork(3). The list of robust mutexes belongs to this thread.
        unsafe {
            match libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) {
                0 => {
                    if !self.robust_list.is_null() {
                        // The copy holds none of these mutexes. Their memory may be shared with this
                        // process, so the copy must not link its own ones to them.
                        (*self.robust_list).next = self.robust_list.cast();
                        let length = self.robust_list_length;
                        libc::syscall(libc::SYS_set_robust_list, self.robust_list, length);
                    }
                    Ok(None)
                }
                pid => check_return(pid).map(|pid| Some(pid as pid_t)),
            }
        }
    }

    /// Makes a child, with a pidfd and without any signal handler. Returns `None` in the child.
    ///
    /// Handlers are gone before the child runs; signals that this process ignores, stay ignored.
    ///
    /// The process must have one thread; see [`copy`](Self::copy).
    ///
    /// # Errors
    ///
    /// `EINVAL` before Linux 5.5. `EMFILE`, and there is no child, without room for the pidfd.
    pub(super) fn make_child(&self) -> io::Result<Option<(pid_t, OwnedFd)>> {
        let mut pidfd: c_int = -1;
        let args = CloneArgs {
            pidfd: (&raw mut pidfd).expose_provenance() as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        let flags = libc::CLONE_PIDFD as u64 | CLEAR_SIGHAND;
        // SAFETY: the pointer is to a variable of the right size. In this process, it then has the
        // number of a descriptor that nobody else owns; the child does not have that descriptor.
        unsafe { Ok(self.copy(flags, args)?.map(|pid| (pid, OwnedFd::from_raw_fd(pidfd)))) }
    }
}

/// `CLONE_CLEAR_SIGHAND`, which some versions of libc have as 0, because it does not fit their type.
const CLEAR_SIGHAND: u64 = 1 << 32;

/// The process we are in after [`Cloner::clone`].
pub(crate) enum Cloned {
    Original(pid_t),
    Copy,
}

/// What this process needs to make siblings of itself.
#[derive(Debug)]
pub(crate) struct Cloner {
    thread: CallingThread,
    /// Where the kernel stores the number of the copy, before the copy runs.
    number: &'static SharedWord,
}

impl Cloner {
    /// Finds out what a copy needs.
    ///
    /// # Errors
    ///
    /// Those of [`CallingThread::examine`].
    pub(crate) fn new(number: &'static SharedWord) -> io::Result<Self> {
        number.keep_from_copies()?;
        Ok(Self { thread: CallingThread::examine()?, number })
    }

    /// Makes a copy of this process that is a child of this process's parent.
    ///
    /// The number of the copy is in the shared word before the copy runs, also if this process is
    /// killed meanwhile. The copy has this process's signal mask and dispositions.
    ///
    /// The process must have one thread; see [`CallingThread::copy`].
    pub(crate) fn clone(&self) -> io::Result<Cloned> {
        let args = CloneArgs {
            parent_tid: self.number.address().expose_provenance() as u64,
            // With CLONE_PARENT, the copy ends with the signal that this process ends with.
            exit_signal: 0,
            ..CloneArgs::default()
        };
        let flags = (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as u64;
        // SAFETY: the pointer is to a word that is mapped as long as the process lives.
        let copied = unsafe { self.thread.copy(flags, args)? };
        Ok(copied.map_or(Cloned::Copy, Cloned::Original))
    }
}

/// In a copy of a template: gives the descriptors the numbers from 0 on, and closes all others up to
/// `highest`.
///
/// The number of each must be higher than the one that it gets. Whatever has the new numbers, or
/// numbers up to `highest`, must not be used any more.
pub(crate) fn place_descriptors(
    descriptors: impl ExactSizeIterator<Item = OwnedFd>,
    highest: RawFd,
) -> io::Result<()> {
    let count = descriptors.len() as RawFd;
    let last = descriptors.zip(0..).try_fold(highest, |last, (fd, target)| {
        let source = fd.into_raw_fd();
        // SAFETY: integers only. The template and its own descriptors are not used in the copy.
        retry_on_interrupt(|| check_return(unsafe { libc::dup2(source, target) }.into()))?;
        io::Result::Ok(last.max(source))
    })?;
    // SAFETY: likewise.
    unsafe {
        if libc::syscall(libc::SYS_close_range, count, c_int::MAX, 0) == -1 {
            for fd in count..=last {
                libc::close(fd);
            }
        }
    }
    Ok(())
}

/// Blocks every signal in this thread.
pub(crate) fn block_signals() {
    set_mask(&full_set());
}

/// Writes out what C code has printed, so that no copy writes it again.
pub(crate) fn flush_c_streams() {
    // SAFETY: a null pointer means all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
}
