//! clone3(2): makes a sibling of this process.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::pid_t;

use super::errno::{check_return, retry_on_interrupt};
use super::shared_word::SharedWord;
use super::signal::{full_set, set_of};

/// The process we are in after [`Cloner::clone`].
pub(crate) enum Cloned {
    Original(pid_t),
    Copy,
}

/// What this process needs to make a copy of itself that is sound.
///
/// libc offers no function that makes a sibling, so we make the system call ourselves, and do in the
/// copy what fork(3) does there.
#[derive(Debug)]
pub(crate) struct Cloner {
    /// Where libc keeps the number of the calling thread. The kernel stores the new number there.
    tid_address: u64,
    /// The list of the robust mutexes that this thread holds. The kernel forgets it in a copy.
    robust_list: *const c_void,
    robust_list_length: usize,
    /// Where the kernel stores the number of the copy, before the copy runs.
    number: &'static SharedWord,
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

impl Cloner {
    /// Finds out what a copy needs.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if libc keeps the number of the thread elsewhere. musl does:
    /// there, the kernel clears a lock when the thread ends.
    pub(crate) fn new(number: &'static SharedWord) -> io::Result<Self> {
        let mut tid_address: u64 = 0;
        let mut robust_list = ptr::null();
        let mut robust_list_length = 0_usize;
        number.keep_from_copies()?;
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
        Ok(Self { tid_address, robust_list, robust_list_length, number })
    }

    /// Makes a copy of this process that is a child of this process's parent.
    ///
    /// The number of the copy is in the shared word before the copy runs, also if this process is
    /// killed meanwhile. The copy has this process's signal mask and dispositions.
    ///
    /// The process must have one thread, so that no lock is held by a thread that the copy lacks; the
    /// caller has checked that.
    pub(crate) fn clone(&self) -> io::Result<Cloned> {
        let flags = libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID;
        let args = CloneArgs {
            flags: flags as u64,
            child_tid: self.tid_address,
            parent_tid: self.number.address().expose_provenance() as u64,
            // With CLONE_PARENT, the copy ends with the signal that this process ends with.
            exit_signal: 0,
            ..CloneArgs::default()
        };
        // SAFETY: without CLONE_VM, the copy has its own memory, with this stack. The kernel stores its
        // number where libc keeps it, as with fork(3), and in the shared word. The list of robust
        // mutexes belongs to this thread.
        unsafe {
            match libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) {
                0 => {
                    let length = self.robust_list_length;
                    libc::syscall(libc::SYS_set_robust_list, self.robust_list, length);
                    Ok(Cloned::Copy)
                }
                pid => check_return(pid).map(|pid| Cloned::Original(pid as pid_t)),
            }
        }
    }
}

/// In a copy of a template: gives the descriptors the numbers from 0 on, and closes all others up to
/// `highest`.
///
/// The number of each must be higher than the one that it gets. Whatever has the new numbers, or
/// numbers up to `highest`, must not be used any more.
pub(crate) fn place_descriptors(descriptors: Vec<OwnedFd>, highest: RawFd) -> io::Result<()> {
    let count = descriptors.len() as RawFd;
    let last = descriptors.into_iter().zip(0..).try_fold(highest, |last, (fd, target)| {
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

/// Blocks these signals in this thread, and no others. The numbers must be ones of signals.
pub(crate) fn block_only(signals: &[c_int]) {
    set_mask(&set_of(signals));
}

fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the set is initialised and outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Writes out what C code has printed, so that no copy writes it again.
pub(crate) fn flush_c_streams() {
    // SAFETY: a null pointer means all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
}
