//! getpriority(2), setpriority(2), sched_setattr(2), getpid(2), getppid(2), umask(2) and getauxval(3).

use std::ffi::{CStr, CString, c_char, c_int};
use std::{io, mem};

use super::errno::check_return;

/// Adds to the nice value. Unlike with nice(2), an error cannot be mistaken for a value.
pub(crate) fn add_nice(increment: c_int) -> io::Result<()> {
    // SAFETY: integers only. 0 is the calling process.
    unsafe {
        let raw = libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0);
        // The system call returns 20 - nice, so that it is never negative.
        let current = 20 - check_return(raw)? as c_int;
        let wanted = current.saturating_add(increment).clamp(-20, 19);
        check_return(libc::setpriority(libc::PRIO_PROCESS, 0, wanted).into()).map(drop)
    }
}

/// Lets this process run before all others that have no real-time policy; see `SCHED_FIFO` in sched(7).
/// Its children do not inherit that.
pub(crate) fn run_before_others() -> io::Result<()> {
    // SAFETY: all-zero is a value of this struct of plain integers.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    attributes.size = size_of::<libc::sched_attr>() as u32;
    attributes.sched_policy = libc::SCHED_FIFO as u32;
    attributes.sched_flags = libc::SCHED_FLAG_RESET_ON_FORK as u64;
    attributes.sched_priority = 1; // the lowest of a real-time policy
    // SAFETY: the struct says how long it is, and outlives the call. 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    check_return(set).map(drop)
}

/// Sets the umask, and reads it back: umask(2) reports no error when a filter refuses it.
pub(crate) fn set_umask(mask: libc::mode_t) -> io::Result<()> {
    // SAFETY: integers only.
    let found = unsafe {
        libc::umask(mask);
        libc::umask(mask)
    };
    match found == mask {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// Returns the number of this process. It calls the same function of libc as most system calls of a forked
/// copy: each further piece of code would cost the copy a page fault.
pub(crate) fn own_id() -> u32 {
    // SAFETY: no arguments. It cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 }
}

/// Returns the number of the parent process, in the same way as [`own_id`].
pub(crate) fn parent_id() -> u32 {
    // SAFETY: no arguments. It cannot fail.
    unsafe { libc::syscall(libc::SYS_getppid) as u32 }
}

/// Returns the path that was given to execve(2) when this program was started.
pub(crate) fn executed_path() -> CString {
    // SAFETY: the value is 0, or a pointer to a string that the kernel put on our stack at exec,
    // and that nobody writes to.
    unsafe {
        match libc::getauxval(libc::AT_EXECFN) {
            0 => CString::default(),
            path => CStr::from_ptr(path as *const c_char).to_owned(),
        }
    }
}
