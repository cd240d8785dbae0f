//! mmap(2): a word of memory that two processes share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};

use libc::pid_t;

use super::errno::{check_return, is};

/// One page is the least that can be mapped; the kernel rounds up.
const LENGTH: usize = size_of::<AtomicI32>();

/// A word in memory that this process shares with another one.
#[derive(Debug)]
pub(crate) struct SharedWord(NonNull<AtomicI32>);

// SAFETY: the word is an atomic, which any thread may use, and the memory stays until the drop.
unsafe impl Send for SharedWord {}
// SAFETY: likewise.
unsafe impl Sync for SharedWord {}

impl SharedWord {
    /// Makes a word, and the file by which another process can map it.
    pub(crate) fn new() -> io::Result<(SharedWord, OwnedFd)> {
        let flags = libc::MFD_CLOEXEC;
        // Linux 6.3 introduced the second flag, which a strict system demands.
        let file = create(flags | libc::MFD_NOEXEC_SEAL).or_else(|error| {
            match is(&error, libc::EINVAL) {
                true => create(flags),
                false => Err(error),
            }
        })?;
        // SAFETY: integers only.
        check_return(unsafe { libc::ftruncate(file.as_raw_fd(), LENGTH as _) }.into())?;
        Ok((Self::map(file.as_fd())?, file))
    }

    /// Maps the word of a file that [`SharedWord::new`] has made.
    pub(crate) fn map(file: BorrowedFd<'_>) -> io::Result<SharedWord> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: the kernel chooses a place where nothing is.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), LENGTH, protection, flags, file.as_raw_fd(), 0) };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the memory is ours. A refusal is harmless.
        unsafe { libc::mlock(place, LENGTH) };
        NonNull::new(place.cast()).map(SharedWord).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Keeps the word out of the copies of this process, so that they cannot change it.
    pub(crate) fn keep_from_copies(&self) -> io::Result<()> {
        // SAFETY: this changes what a fork copies, and nothing in this process.
        let advised = unsafe { libc::madvise(self.0.as_ptr().cast(), LENGTH, libc::MADV_DONTFORK) };
        check_return(advised.into()).map(drop)
    }

    pub(crate) fn load(&self) -> i32 {
        self.word().load(Ordering::SeqCst)
    }

    pub(crate) fn store(&self, value: i32) {
        self.word().store(value, Ordering::SeqCst);
    }

    /// Returns the place at which the kernel may store a process id.
    pub(super) fn address(&self) -> *mut pid_t {
        self.0.as_ptr().cast()
    }

    fn word(&self) -> &AtomicI32 {
        // SAFETY: mapped and aligned to a page, until the drop; and long enough, because the
        // process that sent the file has made it so. The kernel and the other process change it, which an atomic allows.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and not used again.
        unsafe { libc::munmap(self.0.as_ptr().cast(), LENGTH) };
    }
}

fn create(flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated; the result is a descriptor that nobody else owns.
    unsafe {
        let file = check_return(libc::memfd_create(c"reexec".as_ptr(), flags).into())?;
        Ok(OwnedFd::from_raw_fd(file as _))
    }
}
