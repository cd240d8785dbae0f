//! capget(2), capset(2), getgroups(2), and PR_GET_SECCOMP of prctl(2).

use std::ffi::c_int;
use std::io;
use std::ptr;

use super::errno::check_return;

/// The effective, permitted and inheritable capabilities of a thread: the low half of each set, then the
/// high half of each.
pub(crate) type Capabilities = [u32; 6];

/// The version of the calls that has two halves, `_LINUX_CAPABILITY_VERSION_3`; libc lacks it.
const VERSION_3: u32 = 0x2008_0522;

/// Returns the capabilities of the calling thread.
pub(crate) fn capabilities() -> io::Result<Capabilities> {
    let mut header = [VERSION_3, 0]; // 0 is the calling thread
    let mut sets: Capabilities = [0; 6];
    // SAFETY: this version of the call writes two structures of three numbers, and a version into the
    // header if it does not know ours.
    check_return(unsafe {
        libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr())
    })?;
    Ok(sets)
}

/// Takes all capabilities from the calling thread.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let mut header = [VERSION_3, 0]; // 0 is the calling thread
    let none: Capabilities = [0; 6];
    // SAFETY: this version of the call reads two structures of three numbers, and writes a version into
    // the header if it does not know ours.
    check_return(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), none.as_ptr()) })?;
    Ok(())
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
