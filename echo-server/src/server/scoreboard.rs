//! Shares the figures of a pool's workers with each other and with the supervisor.
//!
//! In a pool, the supervisor does not see the clients. So each worker writes its figures into its row of
//! a file in memory that all of them share. An attacker in a worker can falsify the status line and the
//! limit by source, or keep clients waiting with the lock. That is no more than a process that may
//! accept clients can do anyway.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The length of a row in the file: the numbers and an address.
const ROW: usize = NUMBERS * 8 + 16;

const NUMBERS: usize = 5;

/// Rows beyond this are not read when clients are counted by source: any worker can make the file longer
/// than memory.
const MAX_ROWS: usize = 1 << 16;

/// The figures of one worker.
#[derive(Clone, Copy, Default)]
pub(crate) struct Score {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) active: u64,
    /// The processes that it has made for one client each, and reaped.
    pub(crate) reaped: u64,
    /// Those of them that a signal has killed.
    pub(crate) killed: u64,
    /// The address of its latest client, as long as that is there. A worker of prefork serves no other.
    pub(crate) source: Option<IpAddr>,
}

impl Score {
    /// Adds the figures of a worker. They may be any numbers: an attacker may be in the worker.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, number) in [
            (&mut self.accepted, other.accepted),
            (&mut self.refused, other.refused),
            (&mut self.active, other.active),
            (&mut self.reaped, other.reaped),
            (&mut self.killed, other.killed),
        ] {
            *sum = sum.saturating_add(number);
        }
    }
}

pub(crate) struct Scoreboard(File);

impl Scoreboard {
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create(c"scoreboard", MFdFlags::MFD_CLOEXEC)?;
        Ok(Self(file.into()))
    }

    pub(crate) fn write(&self, row: usize, score: &Score) -> io::Result<()> {
        let mut bytes = [0; ROW];
        let Score { accepted, refused, active, reaped, killed, source } = *score;
        let numbers = [accepted, refused, active, reaped, killed];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let source = match source {
            None => Ipv6Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
            Some(IpAddr::V6(address)) => address,
        };
        bytes[NUMBERS * 8..].copy_from_slice(&source.octets());
        self.0.write_all_at(&bytes, (row * ROW) as u64)
    }

    /// Reads a row. One that was never written is all zeros.
    pub(crate) fn read(&self, row: usize) -> Score {
        let mut bytes = [0; ROW];
        match self.0.read_exact_at(&mut bytes, (row * ROW) as u64) {
            Ok(()) => decode(&bytes),
            Err(_) => Score::default(),
        }
    }

    /// Counts the other workers that are serving a client of this source.
    pub(crate) fn count_elsewhere(&self, own: usize, source: IpAddr) -> io::Result<usize> {
        let length = self.0.metadata()?.len().min((MAX_ROWS * ROW) as u64);
        let mut bytes = vec![0; length as usize];
        self.0.read_exact_at(&mut bytes, 0)?;
        let (rows, _) = bytes.as_chunks::<ROW>();
        let others = rows.iter().enumerate().filter(|(row, _)| *row != own);
        Ok(others.filter(|(_, row)| decode(row).source == Some(source)).count())
    }

    /// Locks the board, and waits as long as another process has it locked. The kernel unlocks it when
    /// a process ends.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.set_lock(libc::F_WRLCK)
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.set_lock(libc::F_UNLCK)
    }

    fn set_lock(&self, kind: i32) -> io::Result<()> {
        let whole_file = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        loop {
            match fcntl(&self.0, FcntlArg::F_SETLKW(&whole_file)) {
                Err(Errno::EINTR) => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }
}

fn decode(row: &[u8; ROW]) -> Score {
    let (numbers, source) = row.split_at(NUMBERS * 8);
    let (numbers, _) = numbers.as_chunks::<8>();
    let number = |index: usize| u64::from_le_bytes(numbers[index]);
    let source = source.try_into().map_or(Ipv6Addr::UNSPECIFIED, |octets: [u8; 16]| octets.into());
    Score {
        accepted: number(0),
        refused: number(1),
        active: number(2),
        reaped: number(3),
        killed: number(4),
        source: Some(IpAddr::V6(source).to_canonical()).filter(|ip| !ip.is_unspecified()),
    }
}
