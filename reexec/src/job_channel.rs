//! The channel between the caller of a job and the job's keeper: what to run, and how it ended.
//!
//! ```text
//! caller  Task            → keeper    once the keeper has reported that it is ready
//! keeper  Started, Failed → caller    the program runs, with its pidfd; or why it does not
//! caller  a signal        → keeper    only where pidfds are refused
//! keeper  Ended           → caller    nothing is left
//! ```
//!
//! It is a pair of sequenced-packet sockets. When the caller's end is at its end, the keeper kills
//! everything: the caller has dropped the job, asked for its end, or died.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, Shutdown, getsockopt, recv, shutdown, sockopt};
use nix::unistd::Pid;

use crate::Usage;
use crate::child_setting::Setting;
use crate::codec::{Input, put_bytes, put_i32, put_string, put_u32, put_u64};
use crate::control::packet_sockets;
use crate::sys::{self, retry_on_interrupt};

/// The entry of the keeper. Nobody can register a name with a `/`.
pub(crate) const KEEPER: &str = "reexec/keeper";

/// The name under which the keeper gets its end of the channel.
pub(crate) const CHANNEL_FD: &str = "reexec/job";

/// What a [`Command`](crate::Command) has set that only jobs have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobOptions {
    /// The program to execute instead of an entry of ours.
    pub(crate) program: Option<OsString>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) cgroup: bool,
}

/// Tells the keeper what to run. The arguments and the environment are those of the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) program: Program,
    pub(crate) deadline: Option<Duration>,
    /// Whether to make a cgroup if that is possible.
    pub(crate) cgroup: bool,
    pub(crate) process_group: Option<i32>,
    /// The settings of the program, in this order.
    pub(crate) settings: Vec<Setting>,
}

/// What a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// A registered function of this program.
    Entry(String),
    /// Another program: a path, or a name to look up in `PATH`.
    Foreign(Vec<u8>),
}

/// What the keeper tells the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The program runs, perhaps in a cgroup of its own.
    Started {
        pid: i32,
        cgroup: bool,
    },
    Failed(Failure),
    Ended(Ended),
}

/// Why the program does not run. The numbers are those of errno(3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    UnknownEntry,
    ProcessGroup(i32),
    Exec(i32),
    SetUp { step: String, errno: i32 },
}

/// How the program has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) usage: Usage,
    /// Whether the deadline had passed before the program ended.
    pub(crate) timed_out: bool,
}

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct JobChannel(OwnedFd);

impl JobChannel {
    /// Makes both ends, the caller's first. Both are close-on-exec.
    pub(crate) fn pair() -> io::Result<(JobChannel, OwnedFd)> {
        let (caller, keeper) = packet_sockets()?;
        Ok((JobChannel(caller), keeper))
    }

    /// In the keeper: takes its end.
    pub(crate) fn take_inherited() -> io::Result<JobChannel> {
        Ok(JobChannel(crate::inherited_fd(CHANNEL_FD)?))
    }

    /// Whether the other end was made by this process.
    pub(crate) fn is_to(&self, process: Pid) -> bool {
        let peer = getsockopt(&self.0, sockopt::PeerCredentials);
        // If a filter refuses to tell, it is.
        peer.is_err() || peer.is_ok_and(|peer| peer.pid() == process.as_raw())
    }

    pub(crate) fn send_task(&self, task: &Task) -> io::Result<()> {
        self.send(&task.encode(), None)
    }

    /// In the keeper: waits for the task. Returns `None` if the caller has ended or given up.
    pub(crate) fn receive_task(&self) -> io::Result<Option<Task>> {
        match self.receive(MsgFlags::empty())?.0 {
            message if message.is_empty() => Ok(None),
            message => Task::decode(&message).map(Some).ok_or_else(malformed),
        }
    }

    /// Asks the keeper to signal the program.
    pub(crate) fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.send(&signal.to_ne_bytes(), None)
    }

    /// In the keeper: receives the number of a signal; `None` if everything must end.
    pub(crate) fn receive_signal(&self) -> Option<i32> {
        let (message, _) = self.receive(MsgFlags::MSG_DONTWAIT).ok()?;
        Input(&message).i32()
    }

    /// Sends an encoded [`Answer`], with the program's pidfd if there is one.
    pub(crate) fn send_answer(&self, answer: &[u8], pidfd: Option<&OwnedFd>) -> io::Result<()> {
        self.send(answer, pidfd)
    }

    /// In the caller: receives an answer; `None` if there is none now.
    pub(crate) fn receive_answer(&self) -> io::Result<Option<(Answer, Option<OwnedFd>)>> {
        let received = match self.receive(MsgFlags::MSG_DONTWAIT) {
            // The keeper has not read all that we had sent. Its messages come after this error.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.receive(MsgFlags::MSG_DONTWAIT)
            }
            received => received,
        };
        match received {
            Ok((message, _)) if message.is_empty() => Ok(None),
            Ok((message, pidfd)) => {
                let answer = Answer::decode(&message).ok_or_else(malformed)?;
                Ok(Some((answer, pidfd)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends this direction of the channel, so that the keeper kills everything, even if a forked copy
    /// of this process has a copy of the descriptor.
    pub(crate) fn shut_down(&self) {
        // It fails only if the keeper has ended.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }

    /// Sends one whole message. If the peer has ended, or reads nothing, this fails.
    fn send(&self, message: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        sys::send_with_descriptors(&self.0, &[IoSlice::new(message)], &fds, libc::MSG_DONTWAIT)
    }

    /// Receives the next message, with the descriptor that came with it; an empty message if the peer
    /// has closed its end.
    fn receive(&self, flags: MsgFlags) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let peek = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let socket = self.0.as_raw_fd();
        let mut message = vec![0; retry_on_interrupt(|| Ok(recv(socket, &mut [], peek)?))?];
        let mut fds = Vec::new();
        sys::receive_with_descriptors(&self.0, &mut message, &mut fds, flags.bits())?;
        Ok((message, fds.pop()))
    }
}

impl AsFd for JobChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Task {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.program {
            Program::Entry(name) => {
                out.push(0);
                put_string(&mut out, name);
            }
            Program::Foreign(path) => {
                out.push(1);
                put_bytes(&mut out, path);
            }
        }
        put_duration(&mut out, self.deadline.unwrap_or(Duration::MAX));
        put_u32(&mut out, self.cgroup.into());
        put_i32(&mut out, self.process_group.unwrap_or(-1));
        put_u32(&mut out, self.settings.len() as u32);
        for setting in &self.settings {
            setting.encode(&mut out);
        }
        out
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Task> {
        let mut input = Input(message);
        let program = match input.u8()? {
            0 => Program::Entry(input.string()?),
            1 => Program::Foreign(input.bytes()?),
            _ => return None,
        };
        let deadline = duration(&mut input)?;
        let cgroup = input.u32()? != 0;
        let group = input.i32()?;
        let count = input.u32()?;
        let settings = (0..count).map(|_| Setting::decode(&mut input)).collect::<Option<_>>()?;
        input.0.is_empty().then_some(Task {
            program,
            deadline: (deadline != Duration::MAX).then_some(deadline),
            cgroup,
            process_group: (group >= 0).then_some(group),
            settings,
        })
    }
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Answer::Started { pid, cgroup } => {
                out.push(0);
                put_i32(&mut out, *pid);
                put_u32(&mut out, (*cgroup).into());
            }
            Answer::Failed(Failure::UnknownEntry) => out.push(1),
            Answer::Failed(Failure::ProcessGroup(errno)) => {
                out.push(2);
                put_i32(&mut out, *errno);
            }
            Answer::Failed(Failure::Exec(errno)) => {
                out.push(3);
                put_i32(&mut out, *errno);
            }
            Answer::Failed(Failure::SetUp { step, errno }) => {
                out.push(4);
                put_string(&mut out, step);
                put_i32(&mut out, *errno);
            }
            Answer::Ended(ended) => {
                out.push(5);
                put_i32(&mut out, ended.status.into_raw());
                put_duration(&mut out, ended.usage.user);
                put_duration(&mut out, ended.usage.system);
                put_u64(&mut out, ended.usage.max_resident);
                put_u32(&mut out, ended.timed_out.into());
            }
        }
        out
    }

    pub(crate) fn decode(message: &[u8]) -> Option<Answer> {
        let mut input = Input(message);
        let answer = match input.u8()? {
            0 => Answer::Started { pid: input.i32()?, cgroup: input.u32()? != 0 },
            1 => Answer::Failed(Failure::UnknownEntry),
            2 => Answer::Failed(Failure::ProcessGroup(input.i32()?)),
            3 => Answer::Failed(Failure::Exec(input.i32()?)),
            4 => Answer::Failed(Failure::SetUp { step: input.string()?, errno: input.i32()? }),
            5 => Answer::Ended(Ended {
                status: ExitStatus::from_raw(input.i32()?),
                usage: Usage {
                    user: duration(&mut input)?,
                    system: duration(&mut input)?,
                    max_resident: input.u64()?,
                },
                timed_out: input.u32()? != 0,
            }),
            _ => return None,
        };
        input.0.is_empty().then_some(answer)
    }
}

fn put_duration(out: &mut Vec<u8>, duration: Duration) {
    put_u64(out, duration.as_secs());
    put_u32(out, duration.subsec_nanos());
}

fn duration(input: &mut Input<'_>) -> Option<Duration> {
    let (seconds, nanos) = (input.u64()?, input.u32()?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the message on the job's channel cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tasks() -> impl Strategy<Value = Task> {
        let program = prop_oneof![
            ".{0,40}".prop_map(Program::Entry),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Program::Foreign),
        ];
        let deadline = (0..u64::MAX, 0..1_000_000_000u32);
        let deadline = proptest::option::of(deadline.prop_map(|(s, n)| Duration::new(s, n)));
        let group = proptest::option::of(0..i32::MAX);
        let settings = proptest::collection::vec(any::<i32>().prop_map(Setting::Nice), 0..9);
        (program, deadline, any::<bool>(), group, settings).prop_map(
            |(program, deadline, cgroup, process_group, settings)| Task {
                program,
                deadline,
                cgroup,
                process_group,
                settings,
            },
        )
    }

    fn answers() -> impl Strategy<Value = Answer> {
        let duration = (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n));
        let ended = (any::<i32>(), duration, any::<u64>(), any::<bool>());
        prop_oneof![
            (any::<i32>(), any::<bool>()).prop_map(|(pid, cgroup)| Answer::Started { pid, cgroup }),
            Just(Answer::Failed(Failure::UnknownEntry)),
            any::<i32>().prop_map(|errno| Answer::Failed(Failure::ProcessGroup(errno))),
            any::<i32>().prop_map(|errno| Answer::Failed(Failure::Exec(errno))),
            (".{0,40}", any::<i32>())
                .prop_map(|(step, errno)| Answer::Failed(Failure::SetUp { step, errno })),
            ended.prop_map(|(status, user, max_resident, timed_out)| Answer::Ended(Ended {
                status: ExitStatus::from_raw(status),
                usage: Usage { user, system: user, max_resident },
                timed_out,
            })),
        ]
    }

    proptest! {
        #[test]
        fn messages_arrive_as_they_were_sent(task in tasks(), answer in answers()) {
            prop_assert_eq!(Task::decode(&task.encode()), Some(task));
            prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Task::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }
}
