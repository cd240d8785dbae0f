//! Counts the bytes of a stream, and tells whether two streams are the same.

use std::cmp::Ordering;
use std::fmt;

use crate::failure::Failure;

/// A count and a checksum. Two streams with equal tallies are the same; by accident once in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    /// FNV-1a: it finds accidents, and not somebody who makes two streams look the same.
    checksum: u64,
}

impl Tally {
    /// The length of [`Tally::to_bytes`].
    pub(crate) const LENGTH: usize = 16;

    pub(crate) const ZERO: Self = Self { count: 0, checksum: 0xcbf2_9ce4_8422_2325 };

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        for byte in bytes {
            self.checksum = (self.checksum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Encodes a tally for the other process. That is a copy of this one, so any byte order will do.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        (u128::from(self.count) << 64 | u128::from(self.checksum)).to_ne_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let both = u128::from_ne_bytes(bytes);
        Self { count: (both >> 64) as u64, checksum: both as u64 }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.count == 1 { "byte" } else { "bytes" };
        write!(f, "{} {unit}", self.count)
    }
}

/// Fails if the bytes that came back are not those that were sent.
pub(crate) fn verdict(sent: Tally, received: Tally) -> Result<(), Failure> {
    if received == sent {
        return Ok(());
    }
    let reason = match received.count.cmp(&sent.count) {
        Ordering::Less => "then the server ended the connection",
        Ordering::Equal => "but not the same ones",
        Ordering::Greater => "more than was sent",
    };
    Err(Failure::incomplete(sent, received, reason))
}
