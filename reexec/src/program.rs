//! Finds the program's own file, which a child executes.

use std::env;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

use crate::sys;

/// The kernel's link to the file that a process is running, also after the file was renamed or
/// deleted.
const PROC_SELF_EXE: &CStr = c"/proc/self/exe";

/// Identifies a file whatever its name: the device, and the inode on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) u64, pub(crate) u64);

/// Identifies a program: its file, and its root directory when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) file: FileId,
    pub(crate) root: FileId,
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self(file.dev(), file.ino())
    }

    fn at(path: &CStr) -> io::Result<Self> {
        Ok(Self::of(&fs::metadata(as_path(path))?))
    }
}

/// Describes this program when it started, so that we recognise its file later.
struct Program {
    /// The file that is running; an error if it could not be found.
    file: io::Result<FileId>,
    /// The absolute path that it was executed by, if it is known.
    path: Option<CString>,
    /// The root directory that this path starts from.
    root: io::Result<FileId>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Records which file is running. Call it before anything can change the root or the working
/// directory, or replace the file.
///
/// A child passes what its parent has sent: the parent executed its own file, so this saves the child
/// two looks at the file system.
pub(crate) fn record_identity(sent: Option<Identity>) {
    match sent {
        None => {
            program();
        }
        Some(Identity { file, root }) => {
            let path = absolute(sys::executed_path());
            let _ = PROGRAM.set(Program { file: Ok(file), path, root: Ok(root) });
        }
    }
}

/// Returns the identity of this program, for a child that executes the same file.
///
/// It names the root directory at our start. If the root has changed since, the child notices that,
/// and executes no path in the new root.
pub(crate) fn identity() -> Option<Identity> {
    let program = program();
    match (&program.file, &program.root) {
        (Ok(file), Ok(root)) => Some(Identity { file: *file, root: *root }),
        _ => None,
    }
}

fn program() -> &'static Program {
    PROGRAM.get_or_init(|| {
        let executed_path = sys::executed_path();
        // If the kernel has executed its own link, there is a /proc.
        let linked = match executed_path.as_c_str() == PROC_SELF_EXE || is_proc() {
            true => FileId::at(PROC_SELF_EXE),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        let path = absolute(executed_path);
        let file = match &path {
            Some(path) => linked.or_else(|_| FileId::at(path)),
            None => linked,
        };
        Program { file, path, root: FileId::at(c"/") }
    })
}

/// Makes the path absolute. Returns `None` if the program was executed by a descriptor (execveat(2)),
/// or if the working directory has no name.
fn absolute(path: CString) -> Option<CString> {
    if path.as_bytes().starts_with(b"/dev/fd/") {
        return None;
    }
    if path.as_bytes().starts_with(b"/") {
        return Some(path);
    }
    let absolute = env::current_dir().ok()?.join(as_path(&path));
    CString::new(absolute.into_os_string().into_vec()).ok()
}

/// Returns a path by which this program can execute itself. The path leads to the file that is
/// running, also after that was deleted, renamed or replaced, whatever `argv[0]` is.
///
/// With a `/proc`, the path is `/proc/self/exe`. Only this process and what it executes can use it:
/// for other processes it leads to their own program. Without a `/proc`, it is the absolute path that
/// this program was started by, as long as that leads to the file that is running.
///
/// [`std::env::current_exe`] returns the file's name instead, with ` (deleted)` at its end if the file
/// was deleted. Use that to find files beside the program, or the file that has replaced it.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is no `/proc`, and either the path now leads to another file
/// or to none, or the root directory has changed since [`init`](crate::init), for instance by
/// chroot(2). Other errors of stat(2).
pub fn self_exe() -> io::Result<PathBuf> {
    Ok(as_path(&executable()?).to_owned())
}

/// Returns the path of [`self_exe`] as a C string, for a spawn.
///
/// Without a `/proc`, somebody can put another file at the path between this check and the exec. That
/// needs the right to replace the program's file, with which one can decide anyway what the next start
/// runs.
pub(crate) fn executable() -> io::Result<CString> {
    let program = program();
    let linked = FileId::at(PROC_SELF_EXE);
    match (&linked, &program.file) {
        (Ok(linked), Ok(file)) if linked == file => return Ok(PROC_SELF_EXE.to_owned()),
        // On some overlay file systems a changed file gets another inode number ("Inode properties" in
        // the kernel's overlayfs.rst). The kernel's own link still leads to our file. In another root,
        // the link may not be the kernel's.
        (Ok(_), _) if is_root_unchanged(program) && is_proc() => {
            return Ok(PROC_SELF_EXE.to_owned());
        }
        (Err(error), _) if !is_missing(error) => return Ok(PROC_SELF_EXE.to_owned()),
        _ => {}
    }
    let Some(path) = &program.path else {
        return Err(own_file_not_found("is not known"));
    };
    if !is_root_unchanged(program) {
        return Err(own_file_not_found("starts from a root directory that is no longer ours"));
    }
    match (FileId::at(path), &program.file) {
        (Ok(found), Ok(file)) if found == *file => Ok(path.clone()),
        (Err(error), _) => Err(own_file_not_found(&format!("leads to no file any more: {error}"))),
        _ => Err(own_file_not_found("leads to another file than the one that is running")),
    }
}

fn is_root_unchanged(program: &Program) -> bool {
    let now = FileId::at(c"/");
    matches!((now, &program.root), (Ok(now), Ok(root)) if now == *root)
}

/// Whether /proc is the kernel's. It may be an ordinary directory with somebody's program in it, for
/// instance in another root.
fn is_proc() -> bool {
    statfs("/proc").is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Whether the error means that the file is not there. Otherwise a filter refused the call.
fn is_missing(error: &io::Error) -> bool {
    let missing = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP];
    sys::is_one_of(error, &missing)
}

fn own_file_not_found(reason: &str) -> io::Error {
    let message = format!(
        "this program cannot find its own file: there is no /proc, and the path that it was \
         started by {reason}"
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// The copy that [`sealed_copy`] makes once.
static SEALED: Mutex<Option<File>> = Mutex::new(None);

/// Returns a copy of this program in memory whose size and content nobody can change. The first call
/// makes it, and all children execute the same copy.
///
/// A child that runs the file itself can open it through its `/proc/self/exe`, and write to it once
/// no process runs it any more. The next start of the parent would then run what a less trusted
/// child has written (CVE-2019-5736).
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] without a /proc, whose links are the only paths to the copy.
pub(crate) fn sealed_copy() -> io::Result<OwnedFd> {
    let path = executable()?;
    if path.as_c_str() != PROC_SELF_EXE || !is_proc() {
        return Err(no_proc());
    }
    // We hold the lock while we copy, so that there is one copy.
    let mut sealed = SEALED.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = match sealed.take() {
        Some(copy) => copy,
        None => copy_and_seal(File::open(as_path(&path))?)?,
    };
    let for_child = copy.try_clone();
    *sealed = Some(copy);
    Ok(for_child?.into())
}

fn no_proc() -> io::Error {
    let message = "a sealed copy can be executed only through /proc, and there is none";
    io::Error::new(io::ErrorKind::NotFound, message)
}

fn copy_and_seal(mut program: File) -> io::Result<File> {
    let mut copy = File::from(executable_memfd()?);
    io::copy(&mut program, &mut copy)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

/// Makes a memory file that can be executed. Linux 6.3 introduced a flag for that; before, every
/// memory file could be executed.
fn executable_memfd() -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"reexec", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => Ok(memfd_create(c"reexec", flags)?),
        result => Ok(result?),
    }
}
