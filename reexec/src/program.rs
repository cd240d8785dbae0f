//! Finding ourselves: which file a child is to execute.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::sys;

/// The kernel's link to the file that a process is running, whatever has become of its name.
pub(crate) const LINK: &CStr = c"/proc/self/exe";

/// A path by which this program can be executed: the file that is running, also after it was
/// deleted, renamed or replaced, and whatever `argv[0]` says.
///
/// That is `/proc/self/exe`, and so only for this process and what it executes: for others the
/// same path is another program. Where there is no `/proc`, it is the path that this program was
/// executed by, `AT_EXECFN` in getauxval(3).
///
/// [`std::env::current_exe`] gives the file's name instead, with ` (deleted)` at its end if that is
/// what it is; use it to find what lies beside the program, or the file that has replaced it.
pub fn self_exe() -> PathBuf {
    if link_exists() {
        return PathBuf::from(OsStr::from_bytes(LINK.to_bytes()));
    }
    PathBuf::from(OsString::from_vec(sys::path_executed_by().into_bytes()))
}

/// Whether there is a /proc. A link that leads to a deleted file can still be read.
pub(crate) fn link_exists() -> bool {
    fs::read_link(OsStr::from_bytes(LINK.to_bytes())).is_ok()
}

/// The copy that [`sealed_copy`] makes once.
static SEALED: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// A copy of this program in memory, which nobody can change: neither size nor content, and the
/// seals cannot be taken off. Made once; all children execute the same.
///
/// A child that runs the file itself can open it through its `/proc/self/exe` and, once nobody
/// runs it any more, write to it: the next start of the parent then runs what a less trusted
/// child has left there (CVE-2019-5736).
pub(crate) fn sealed_copy() -> io::Result<OwnedFd> {
    // Held while copying, so that there is one copy.
    let mut sealed = SEALED.lock().unwrap_or_else(PoisonError::into_inner);
    if sealed.is_none() {
        *sealed = Some(seal(File::open(self_exe())?)?);
    }
    match &*sealed {
        Some(copy) => copy.try_clone(),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn seal(mut program: File) -> io::Result<OwnedFd> {
    let mut copy = File::from(executable_memfd()?);
    io::copy(&mut program, &mut copy)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy.into())
}

/// The flag that asks for one that may be executed came with Linux 6.3; before, all may be.
fn executable_memfd() -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"reexec", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => Ok(memfd_create(c"reexec", flags)?),
        result => Ok(result?),
    }
}
