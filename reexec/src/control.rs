//! The control channel: a pair of sequenced-packet sockets between a parent and the child it is
//! starting. It says to the child that it *is* one, what to run, and back to the parent how far
//! the child got.
//!
//! ```text
//! parent  Hello   → child     before the spawn: it lies in the socket when the child looks
//! parent  Launch  → child     once the parent holds the pidfd, so that the child, which waits
//!                             for it, cannot come to its end and be lost before that
//! child   Report  → parent    ready to run the entry, or the step that failed
//! ```
//!
//! Neither an argument nor an environment variable takes part: the arguments belong to the
//! entry, and the environment would reach grandchildren.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socketpair,
    sockopt,
};

use crate::sys::retry;

/// Where the child finds its end. Fixed, so that nothing has to tell it.
pub(crate) const CONTROL_FD: RawFd = 3;

/// What nobody sends by accident on a socket that happens to be number 3 of an ordinary start.
const HELLO: &[u8; 16] = b"reexec\x01\x9d\x42\xfe\x17\xc3\x08\x6b\xd5\xa0";

/// Larger than any message: names are bounded by `register` and by the descriptor limit.
const MESSAGE_MAX: usize = 64 * 1024;

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

impl Control {
    /// Both ends, the parent's first; close-on-exec, with the hello already on its way.
    pub(crate) fn pair() -> io::Result<(Control, Control)> {
        let (parent, child) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None::<SockProtocol>,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let parent = Control(parent);
        parent.send(HELLO)?;
        Ok((parent, Control(child)))
    }

    /// Whether this descriptor is the child's end of a channel. Takes nothing out of it if not:
    /// in an ordinary start, number 3 may be anything, such as a listener from systemd.
    pub(crate) fn is_at(fd: BorrowedFd<'_>) -> bool {
        if !matches!(getsockopt(&fd, sockopt::SockType), Ok(SockType::SeqPacket)) {
            return false;
        }
        let mut hello = [0; HELLO.len() + 1];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match retry(|| Ok(recv(fd.as_raw_fd(), &mut hello, flags)?)) {
            Ok(length) => hello[..length] == HELLO[..],
            Err(_) => false,
        }
    }

    /// The child's end, in the child.
    pub(crate) fn from_fd(fd: OwnedFd) -> Control {
        Control(fd)
    }

    pub(crate) fn send_launch(&self, launch: &Launch) -> io::Result<()> {
        let message = launch.encode();
        if message.len() > MESSAGE_MAX {
            return Err(io::Error::from(io::ErrorKind::ArgumentListTooLong));
        }
        self.send(&message)
    }

    /// In the child: the hello, then the launch, for which it waits. Fails if the parent has gone.
    pub(crate) fn receive_launch(&self) -> io::Result<Launch> {
        self.receive(MsgFlags::empty())?;
        Launch::decode(&self.receive(MsgFlags::empty())?).ok_or_else(malformed)
    }

    pub(crate) fn send_report(&self, report: &Report) -> io::Result<()> {
        self.send(&report.encode())
    }

    /// In the parent: the report, if there is one by now. `None` if the child's end was closed
    /// without one, and also if it has not been sent: ask when the channel is readable.
    pub(crate) fn try_receive_report(&self) -> io::Result<Option<Report>> {
        match self.receive(MsgFlags::MSG_DONTWAIT) {
            Ok(message) if message.is_empty() => Ok(None),
            Ok(message) => Report::decode(&message).map(Some).ok_or_else(malformed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The child's end was closed with our launch unread in it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one message whole. A peer that has gone is an error here, not a `SIGPIPE`.
    fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = retry(|| Ok(send(self.0.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?));
        sent.map(drop)
    }

    fn receive(&self, flags: MsgFlags) -> io::Result<Vec<u8>> {
        let mut message = vec![0; MESSAGE_MAX];
        let length = retry(|| Ok(recv(self.0.as_raw_fd(), &mut message, flags)?))?;
        message.truncate(length);
        Ok(message)
    }
}

impl From<Control> for OwnedFd {
    fn from(control: Control) -> OwnedFd {
        control.0
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the parent asks of the child's `init`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The registered function to run.
    pub(crate) entry: String,
    /// How many re-executions there are above the child, itself included.
    pub(crate) depth: u32,
    /// The signal to receive when the parent ends, and the number of the lifeline's read end.
    pub(crate) lifeline: Option<(RawFd, i32)>,
    /// The passed descriptors, by name.
    pub(crate) descriptors: Vec<(String, RawFd)>,
}

impl Launch {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_string(&mut out, &self.entry);
        put_u32(&mut out, self.depth);
        let (lifeline, signal) = self.lifeline.unwrap_or((-1, 0));
        put_i32(&mut out, lifeline);
        put_i32(&mut out, signal);
        put_u32(&mut out, self.descriptors.len() as u32);
        for (name, fd) in &self.descriptors {
            put_string(&mut out, name);
            put_i32(&mut out, *fd);
        }
        out
    }

    fn decode(message: &[u8]) -> Option<Launch> {
        let mut input = Input(message);
        let entry = input.string()?;
        let depth = input.u32()?;
        let (lifeline, signal) = (input.i32()?, input.i32()?);
        let count = input.u32()?;
        let descriptors = (0..count)
            .map(|_| Some((input.string()?, input.i32()?)))
            .collect::<Option<_>>()?;
        input.0.is_empty().then_some(Launch {
            entry,
            depth,
            lifeline: (lifeline >= 0).then_some((lifeline, signal)),
            descriptors,
        })
    }
}

/// How far the child got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The entry is about to run.
    Ready,
    /// Nothing is registered under that name.
    UnknownEntry,
    /// This step of the set-up failed with this `errno`.
    Failed { step: String, errno: i32 },
}

impl Report {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Report::Ready => out.push(0),
            Report::UnknownEntry => out.push(1),
            Report::Failed { step, errno } => {
                out.push(2);
                put_string(&mut out, step);
                put_i32(&mut out, *errno);
            }
        }
        out
    }

    fn decode(message: &[u8]) -> Option<Report> {
        let (kind, rest) = message.split_first()?;
        let mut input = Input(rest);
        let report = match kind {
            0 => Report::Ready,
            1 => Report::UnknownEntry,
            2 => Report::Failed {
                step: input.string()?,
                errno: input.i32()?,
            },
            _ => return None,
        };
        input.0.is_empty().then_some(report)
    }
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_ne_bytes());
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_ne_bytes());
}

fn put_string(out: &mut Vec<u8>, value: &str) {
    put_u32(out, value.len() as u32);
    out.extend_from_slice(value.as_bytes());
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_ne_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the message on the control channel cannot be read",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn launches() -> impl Strategy<Value = Launch> {
        (
            ".{0,40}",
            any::<u32>(),
            proptest::option::of((0..1_000_000, 1..65)),
            proptest::collection::vec((".{0,20}", 0..1_000_000), 0..20),
        )
            .prop_map(|(entry, depth, lifeline, descriptors)| Launch {
                entry,
                depth,
                lifeline,
                descriptors,
            })
    }

    fn reports() -> impl Strategy<Value = Report> {
        prop_oneof![
            Just(Report::Ready),
            Just(Report::UnknownEntry),
            (".{0,40}", any::<i32>()).prop_map(|(step, errno)| Report::Failed { step, errno }),
        ]
    }

    proptest! {
        #[test]
        fn a_launch_arrives_as_it_was_sent(launch in launches()) {
            prop_assert_eq!(Launch::decode(&launch.encode()), Some(launch));
        }

        #[test]
        fn a_report_arrives_as_it_was_sent(report in reports()) {
            prop_assert_eq!(Report::decode(&report.encode()), Some(report));
        }

        #[test]
        fn a_shortened_or_lengthened_launch_is_refused(launch in launches(), cut in 1usize..9) {
            let mut message = launch.encode();
            message.truncate(message.len() - cut.min(message.len()));
            prop_assert_eq!(Launch::decode(&message), None);
            let mut message = launch.encode();
            message.push(0);
            prop_assert_eq!(Launch::decode(&message), None);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Launch::decode(&bytes);
            let _ = Report::decode(&bytes);
        }
    }
}
