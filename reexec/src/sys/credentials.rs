//! capget(2), getgroups(2), and PR_GET_SECCOMP of prctl(2).

use std::ffi::c_int;
use std::io;
use std::ptr;

use super::errno::check_return;

/// The effective, permitted and inheritable capabilities of a thread.
pub(crate) type Capabilities = [u32; 6];

/// Returns the capabilities of the calling thread.
pub(crate) fn capabilities() -> io::Result<Capabilities> {
    const VERSION_3: u32 = 0x2008_0522; // linux/capability.h; not in libc
    let mut header = [VERSION_3, 0]; // 0 is the calling thread
    let mut sets: Capabilities = [0; 6];
    // SAFETY: this version of the call writes two structures of three numbers, and a version into the
    // header if it does not know ours.
    check_return(unsafe {
        libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr())
    })?;
    Ok(sets)
}

/// Returns the supplementary groups of the calling thread. nix first reads a file to learn how many
/// there can be, which takes longer than a spawn has time for.
pub(crate) fn groups() -> io::Result<Vec<libc::gid_t>> {
    // SAFETY: with a length of 0, the call returns the number of groups, and writes nothing.
    let count = check_return(unsafe { libc::getgroups(0, ptr::null_mut()) }.into())?;
    let mut groups = vec![0; count as usize];
    // SAFETY: the pointer is valid for writes of so many groups. If there are more by now, it fails.
    let count = check_return(unsafe {
        libc::getgroups(groups.len() as c_int, groups.as_mut_ptr()).into()
    })?;
    groups.truncate(count as usize);
    Ok(groups)
}

/// Returns 0 if system calls of the calling thread are not filtered, 2 if they are; -1 if the kernel or
/// a filter does not let us ask.
pub(crate) fn seccomp_mode() -> i32 {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) }
}
