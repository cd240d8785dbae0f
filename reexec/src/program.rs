//! Finding ourselves: which file a child is to execute.

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

/// The kernel's link to the file that a process is running, whatever has become of its name.
const LINK: &CStr = c"/proc/self/exe";

/// A file, whatever its name: the device that holds it, and its inode there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(pub(crate) u64, pub(crate) u64);

/// Which file a program is, and what its root directory was when it started.
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

/// What this program was when it started, to recognise it by.
struct Program {
    /// The file that is running; an error if that could not be found out.
    file: io::Result<FileId>,
    /// The path that it was executed by, made absolute.
    path: Option<CString>,
    /// The directory that this path starts from.
    root: io::Result<FileId>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Takes down which file is running. To be called before anything can have changed the root or the
/// working directory, or replaced the file.
///
/// A child has been told by its parent, which has just executed its own file: this saves two looks
/// at the file system in each child.
pub(crate) fn identify(told: Option<Identity>) {
    match told {
        None => {
            program();
        }
        Some(Identity { file, root }) => {
            let path = absolute(sys::path_executed_by());
            let _ = PROGRAM.set(Program {
                file: Ok(file),
                path,
                root: Ok(root),
            });
        }
    }
}

/// To tell a child that executes the same file. In another root than at our start it is told of the
/// former one, and so will not execute a path in the new one.
pub(crate) fn identity() -> Option<Identity> {
    let program = program();
    match (&program.file, &program.root) {
        (Ok(file), Ok(root)) => Some(Identity {
            file: *file,
            root: *root,
        }),
        _ => None,
    }
}

fn program() -> &'static Program {
    PROGRAM.get_or_init(|| {
        let executed_by = sys::path_executed_by();
        // Where the kernel has executed its link, there is no need to ask.
        let linked = match executed_by.as_c_str() == LINK || is_proc() {
            true => FileId::at(LINK),
            false => Err(io::ErrorKind::NotFound.into()),
        };
        let path = absolute(executed_by);
        let file = match &path {
            Some(path) => linked.or_else(|_| FileId::at(path)),
            None => linked,
        };
        Program {
            file,
            path,
            root: FileId::at(c"/"),
        }
    })
}

/// `None` if there is no such path: the program was executed by a descriptor (execveat(2)), or the
/// working directory has no name.
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

/// A path by which this program can be executed: the file that is running, also after it was
/// deleted, renamed or replaced, and whatever `argv[0]` says.
///
/// Where there is a `/proc`, that is `/proc/self/exe`, and so only for this process and what it
/// executes: for others the same path is another program. Where there is none, it is the absolute
/// path that this program was started by, as long as it leads to the file that is running.
///
/// [`std::env::current_exe`] gives the file's name instead, with ` (deleted)` at its end if that is
/// what it is; use it to find what lies beside the program, or the file that has replaced it.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if there is no `/proc`, and the path now leads to another file or to
/// none, or the root directory has changed since [`init`](crate::init), as by chroot(2). Others of
/// stat(2).
pub fn self_exe() -> io::Result<PathBuf> {
    Ok(as_path(&executable()?).to_owned())
}

/// As [`self_exe`], for a spawn.
///
/// By the path, there remains a moment between this look and the exec in which somebody can put
/// another file in its place. That takes the right to replace the program's file, and so the power
/// to decide what the next start runs anyway.
pub(crate) fn executable() -> io::Result<CString> {
    let program = program();
    let linked = FileId::at(LINK);
    match (&linked, &program.file) {
        (Ok(linked), Ok(file)) if linked == file => return Ok(LINK.to_owned()),
        // On some overlay file systems a file that is changed gets another number ("Inode properties"
        // in the kernel's overlayfs.rst). The kernel's own link leads to our file all the same; in
        // another root, it may not be the kernel's.
        (Ok(_), _) if is_root_unchanged(program) && is_proc() => return Ok(LINK.to_owned()),
        (Err(error), _) if !is_missing(error) => return Ok(LINK.to_owned()),
        _ => {}
    }
    let Some(path) = &program.path else {
        return Err(unusable("is not known"));
    };
    if !is_root_unchanged(program) {
        return Err(unusable(
            "starts from a root directory that is no longer ours",
        ));
    }
    match (FileId::at(path), &program.file) {
        (Ok(found), Ok(file)) if found == *file => Ok(path.clone()),
        (Err(error), _) => Err(unusable(&format!("leads to no file any more: {error}"))),
        _ => Err(unusable(
            "leads to another file than the one that is running",
        )),
    }
}

fn is_root_unchanged(program: &Program) -> bool {
    let now = FileId::at(c"/");
    matches!((now, &program.root), (Ok(now), Ok(root)) if now == *root)
}

/// Whether /proc is the kernel's. In another root it may be an ordinary directory, in which somebody
/// has put a program.
fn is_proc() -> bool {
    statfs("/proc").is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

/// As opposed to a look that was refused.
fn is_missing(error: &io::Error) -> bool {
    let missing = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP];
    sys::is_one_of(error, &missing)
}

fn unusable(reason: &str) -> io::Error {
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

/// A copy of this program in memory, which nobody can change: neither size nor content, and the
/// seals cannot be taken off. Made once; all children execute the same.
///
/// A child that runs the file itself can open it through its `/proc/self/exe` and, once nobody
/// runs it any more, write to it: the next start of the parent then runs what a less trusted
/// child has left there (CVE-2019-5736).
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] without a /proc, whose links are the only paths to the copy.
pub(crate) fn sealed_copy() -> io::Result<OwnedFd> {
    let path = executable()?;
    if path.as_c_str() != LINK || !is_proc() {
        return Err(no_proc());
    }
    // Held while copying, so that there is one copy.
    let mut sealed = SEALED.lock().unwrap_or_else(PoisonError::into_inner);
    let copy = match sealed.take() {
        Some(copy) => copy,
        None => seal(File::open(as_path(&path))?)?,
    };
    let childs = copy.try_clone();
    *sealed = Some(copy);
    Ok(childs?.into())
}

fn no_proc() -> io::Error {
    let message = "a sealed copy can be executed only through /proc, and there is none";
    io::Error::new(io::ErrorKind::NotFound, message)
}

fn seal(mut program: File) -> io::Result<File> {
    let mut copy = File::from(executable_memfd()?);
    io::copy(&mut program, &mut copy)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
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
