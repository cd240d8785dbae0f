//! Which descriptors a child gets, and at which numbers.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::sys;

/// Maps descriptors of the parent to numbers in the child: 0 to 2, the control channel, the
/// lifeline if there is one, the pipe of the handle if it needs one, the descriptors passed by
/// name, and the sealed copy of the program if the child executes one.
pub(crate) struct FdMap<'a> {
    pairs: Vec<(Source<'a>, RawFd)>,
    next: RawFd,
}

/// A descriptor of the parent that the child gets a copy of.
enum Source<'a> {
    /// Closed in the parent once the child has been started.
    Given(OwnedFd),
    /// Kept by the command until the start has succeeded.
    Lent(BorrowedFd<'a>),
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Given(fd) => fd.as_fd(),
            Source::Lent(fd) => fd.as_fd(),
        }
    }
}

impl<'a> FdMap<'a> {
    /// Makes an empty map. `give_next` and `lend_next` use the numbers from `next` on.
    pub(crate) fn new(next: RawFd) -> Self {
        Self { pairs: Vec::new(), next }
    }

    pub(crate) fn give(&mut self, fd: OwnedFd, target: RawFd) {
        self.pairs.push((Source::Given(fd), target));
    }

    pub(crate) fn lend(&mut self, fd: BorrowedFd<'a>, target: RawFd) {
        self.pairs.push((Source::Lent(fd), target));
    }

    pub(crate) fn give_next(&mut self, fd: OwnedFd) -> RawFd {
        self.give(fd, self.next);
        self.advance()
    }

    pub(crate) fn lend_next(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.lend(fd, self.next);
        self.advance()
    }

    fn advance(&mut self) -> RawFd {
        self.next += 1;
        self.next - 1
    }

    /// Returns the number after the last one that the child gets.
    pub(crate) fn end(&self) -> RawFd {
        self.next
    }

    /// Returns `(source, target)` for each descriptor, in the order in which they are copied.
    pub(crate) fn pairs(&self) -> Vec<(RawFd, RawFd)> {
        let pairs = self.pairs.iter();
        pairs.map(|(source, target)| (source.as_fd().as_raw_fd(), *target)).collect()
    }

    /// Moves sources out of the way of targets, and makes lent descriptors close-on-exec.
    ///
    /// A source needs a copy above all targets if an earlier pair overwrites it, or if it is at its
    /// own target already, where it would stay close-on-exec. Most maps have no such source.
    pub(crate) fn resolve_conflicts(&mut self) -> io::Result<()> {
        let mut filled = BTreeSet::new();
        for (source, target) in &mut self.pairs {
            if let Source::Lent(fd) = source {
                // Otherwise the child would also inherit it at this number, and the reader at the
                // other end would never see the end of file.
                sys::set_close_on_exec(fd)?;
            }
            filled.insert(*target);
            if filled.contains(&source.as_fd().as_raw_fd()) {
                *source = Source::Given(sys::duplicate_above(source.as_fd(), self.next)?);
            }
        }
        Ok(())
    }
}
