//! The parent's view of the child, which sends.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use echo_server::exit;
use nix::poll::PollTimeout;
use reexec::Child;

use crate::blocking::poll_readable;
use crate::failure::Failure;
use crate::tally::Tally;

/// The process that sends. When this is dropped, the child is killed if necessary, and reaped: it may be
/// waiting for input that never comes.
pub(crate) struct Sender {
    child: Child,
    reports: Reports,
    /// What the child had sent, or was about to send, at its last report.
    pub(crate) sent: Tally,
}

enum Reports {
    /// More may come.
    Open(PipeReader),
    /// The child has reached the end of the input, or the connection has failed.
    Ended { has_sent_all: bool },
}

impl Sender {
    pub(crate) fn new(child: Child, reports: PipeReader) -> Self {
        Self { child, reports: Reports::Open(reports), sent: Tally::ZERO }
    }

    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.reports, Reports::Open(_))
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        matches!(self.reports, Reports::Ended { has_sent_all: true })
    }

    /// The pipe to wait for. `None` after the last report.
    pub(crate) fn reports(&self) -> Option<BorrowedFd<'_>> {
        match &self.reports {
            Reports::Open(pipe) => Some(pipe.as_fd()),
            Reports::Ended { .. } => None,
        }
    }

    /// Reads all reports that are there, and, after the last one, how the child has ended. `received` is
    /// for the message if the child has failed.
    pub(crate) fn catch_up(&mut self, received: Tally) -> Result<(), Failure> {
        while let [true] = poll_readable([self.reports()], PollTimeout::ZERO)? {
            self.take_reports(received)?;
        }
        Ok(())
    }

    /// Reads reports. It must be called only when there are some: otherwise it blocks.
    fn take_reports(&mut self, received: Tally) -> Result<(), Failure> {
        let Reports::Open(pipe) = &mut self.reports else {
            return Ok(());
        };
        let mut reports = [0; 64 * Tally::LENGTH];
        let length = pipe.read(&mut reports)?;
        // Each was written in one call, and a pipe never splits so few bytes, see pipe(7).
        let (reports, _) = reports[..length].as_chunks();
        if let Some(last) = reports.last() {
            self.sent = Tally::from_bytes(*last);
            return Ok(());
        }
        let status = self.child.wait()?;
        let has_sent_all = match status.code().map(u8::try_from) {
            Some(Ok(0)) => true,
            Some(Ok(exit::INCOMPLETE)) => false,
            Some(Ok(exit::STDIO)) => return Err(Failure::silent(exit::STDIO)), // the child has printed why
            _ => {
                let reason = format!("the process that sends has ended, {status}");
                return Err(Failure::incomplete(self.sent, received, reason));
            }
        };
        self.reports = Reports::Ended { has_sent_all };
        Ok(())
    }
}
