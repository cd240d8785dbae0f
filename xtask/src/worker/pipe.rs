//! Reads lines from a pipe, without waiting for them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// How much is read at once of a program that never stops writing.
const LIMIT: u64 = 1 << 20;

pub(super) struct Pipe {
    /// `None` after the end, which comes when no process is left that could write to it.
    file: Option<File>,
    /// What has been read of a line that has no end yet.
    begun: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { file: Some(File::from(end)), begun: Vec::new() })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.file.is_none()
    }

    /// To be polled.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The lines that are there by now. At the end of the stream, the last one may lack its end.
    pub(super) fn read(&mut self) -> Vec<String> {
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        match file.take(LIMIT).read_to_end(&mut self.begun) {
            Ok(length) if length as u64 == LIMIT => {}
            // There is nothing more for now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The end, or an error that would come again.
            Ok(_) | Err(_) => self.file = None,
        }
        let last_end = self.begun.iter().rposition(|byte| *byte == b'\n');
        let length = match self.file {
            Some(_) => last_end.map_or(0, |end| end + 1),
            None => self.begun.len(),
        };
        let ended: Vec<u8> = self.begun.drain(..length).collect();
        let lines = String::from_utf8_lossy(&ended);
        lines.split_terminator('\n').map(str::to_owned).collect()
    }
}
