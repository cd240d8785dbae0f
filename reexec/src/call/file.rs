//! The memory file through which argument and reply travel.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};

/// A file in memory that a parent and its child share; see memfd_create(2).
#[derive(Debug)]
pub(super) struct CallFile {
    file: File,
    /// `RLIMIT_FSIZE` of this process, which limits memory files, too.
    limit: u64,
}

impl CallFile {
    /// Makes an empty file, which is close-on-exec.
    pub(super) fn new() -> io::Result<Self> {
        // Systems that set vm.memfd_noexec refuse a file without this flag, and Linux before 6.3 does
        // not know it.
        const MFD_NOEXEC_SEAL: u32 = 0x8;
        let flags = MFdFlags::MFD_CLOEXEC;
        let not_executable = flags | MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL);
        let made = match memfd_create(c"reexec-call", not_executable) {
            Err(Errno::EINVAL) => memfd_create(c"reexec-call", flags),
            made => made,
        };
        Ok(Self::from_fd(made?))
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        // We ask for the limit now: the function may forbid this process further system calls.
        let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft);
        Self { file: fd.into(), limit }
    }

    /// Returns a descriptor of the file for the child.
    pub(super) fn for_child(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Appends these bytes. Fails with `EFBIG` if they exceed the limit: the kernel would write a part
    /// of them, and end the process by `SIGXFSZ`.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        (&self.file).write_all(bytes)
    }

    /// Removes the content. The next write starts at the beginning.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        (&self.file).seek(SeekFrom::Start(0)).map(drop)
    }

    /// Reads the whole content. Does not panic, and takes no more memory than the file has, whatever
    /// the other process does to the file meanwhile.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let metadata = self.file.metadata()?;
        // A process can set any length without taking the memory. Neither side of a call does.
        let has_holes = metadata.len() > metadata.blocks().saturating_mul(512);
        let length = usize::try_from(metadata.len()).ok().filter(|_| !has_holes);
        let length = length.ok_or_else(|| {
            invalid_data("the file of the call was lengthened without being written")
        })?;
        let mut content = Vec::new();
        let reserved = content.try_reserve_exact(length);
        reserved.map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        content.resize(length, 0);
        self.file.read_exact_at(&mut content, 0)?;
        Ok(content)
    }
}

pub(super) fn invalid_data(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
