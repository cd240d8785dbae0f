//! The parent's side of a start.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE};
use crate::command::Unset;
use crate::control::Control;
use crate::prepare::{Prepared, step};
use crate::readiness::{earliest, wait_readable};
use crate::setting::Setting;
use crate::sys::{SpawnError, SpawnSpec};
use crate::{Child, Command, Error, Stage, sys, validate};

/// Starts the child and brings it to where its entry runs.
pub(crate) fn spawn(command: &mut Command, unset: Unset) -> Result<Child, Error> {
    let run = || {
        let start = Start::new(command, unset, true)?;
        start.await_ready()?;
        Ok(start.child)
    };
    finish(command, run())
}

/// Starts the child, and leaves it to itself.
pub(crate) fn spawn_unconfirmed(command: &mut Command) -> Result<Child, Error> {
    let start = Start::new(command, Unset::Inherited, false);
    finish(command, start.map(|start| start.child))
}

/// Starts the child, and returns when it has ended, without having waited for its report before:
/// to wake up for that takes longer than all else that the parent does.
pub(crate) fn run_to_end(command: &mut Command) -> Result<Child, Error> {
    if command.hands_over() {
        // These go when the report is there, and must not be held until the end.
        return spawn(command, Unset::Inherited);
    }
    let run = || {
        let start = Start::new(command, Unset::Inherited, true)?;
        drop(start.child.take_stdin()); // a child that reads to its end would never end
        // Either it ends, or its time to report is over. An error comes again below.
        let _ = start.child.wait_until(start.deadline);
        start.await_ready()?;
        Ok(start.child)
    };
    finish(command, run())
}

/// Only of a child that has come so far does the command forget what it was handed.
fn finish(command: &mut Command, result: Result<Child, Stage>) -> Result<Child, Error> {
    match result {
        Ok(child) => {
            command.forget_descriptors();
            Ok(child)
        }
        Err(stage) => Err(Error::new(&command.entry, stage)),
    }
}

/// A child on its way to its entry. Dropped, it is killed and reaped.
struct Start {
    /// Before the child, and so dropped before it: a child that may not be killed ends by itself
    /// when it finds the channel closed.
    control: Control,
    child: Child,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Start {
    fn new(command: &Command, unset: Unset, confirm: bool) -> Result<Self, Stage> {
        background::reap_abandoned();
        validate::refuse_loops()?;
        validate::refuse_nonsense(command)?;
        let prepared = Prepared::new(command, unset, confirm)?;
        let pid = exec(&prepared, command)?;
        // The child has its copies now. Ours must go, or we would never see the end of what it
        // closes; their going also makes room for the pidfd when the table is full.
        drop(prepared.layout);
        // Nobody can have reaped it: it waits for the launch.
        let handle = match prepared.pending.into_handle(pid) {
            Ok(handle) => handle,
            Err(source) => {
                drop((prepared.control, prepared.tie)); // it ends by these, if it may not be killed
                background::abandon(pid, Instant::now() + END_GRACE);
                return step("opening a pidfd", Err(source));
            }
        };
        let (tie, pipes) = (prepared.tie, prepared.pipes);
        let timeout = command.ready_timeout;
        let start = Self {
            control: prepared.control,
            child: Child::new(pid, handle, tie, pipes, command.stream_grace),
            timeout,
            deadline: Instant::now().checked_add(timeout),
        };
        match start.control.send_launch(&prepared.launch) {
            // There is a better error coming: the child is gone, or nearly so.
            Err(error) if is_of_the_peer(&error) => {}
            result => step("sending the launch", result)?,
        }
        Ok(start)
    }

    /// Returns when the child is about to run its entry, or has run it.
    fn await_ready(&self) -> Result<(), Stage> {
        self.await_report()?;
        let report = self.control.try_receive_report();
        match step("receiving the child's report", report)? {
            Some(report) => report.failure().map_or(Ok(()), Err),
            None => Err(Stage::BeforeInit {
                status: self.child.wait_timeout(END_GRACE).ok().flatten(),
            }),
        }
    }

    /// Returns when there is a report, or there will be none.
    fn await_report(&self) -> Result<(), Stage> {
        while !self.child.is_reaped() {
            // The pidfd as well: another process, forked from us at the wrong moment, may hold a
            // copy of the child's end of the channel, which then never ends.
            let watched = [Some(self.control.as_fd()), Some(self.child.as_fd())];
            let look = earliest(self.deadline, self.child.next_look());
            let ready = wait_readable(watched, look);
            if step("waiting for the child's report", ready)? != [false, false] {
                return Ok(());
            }
            if !self.child.is_exact() {
                // The descriptors tell of the end late, if at all.
                let _ = self.child.try_wait();
            }
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Err(Stage::NotReady {
                    timeout: self.timeout,
                });
            }
        }
        Ok(())
    }
}

/// The other end has been closed.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn exec(prepared: &Prepared<'_>, command: &Command) -> Result<i32, Stage> {
    let pairs = prepared.layout.pairs.iter();
    let descriptors: Vec<_> = pairs
        .map(|(source, target)| (source.as_fd().as_raw_fd(), *target))
        .collect();
    let ignored = command.settings.iter().filter_map(Setting::ignored_signal);
    let ignored: Vec<_> = ignored.collect();
    let spawned = sys::spawn(&SpawnSpec {
        program: &prepared.program,
        argv: &prepared.argv,
        env: &prepared.env,
        descriptors: &descriptors,
        close_from: prepared.closes.then_some(prepared.layout.next),
        process_group: command.process_group,
        // Until the child ignores them.
        blocked: &ignored,
    });
    spawned.map_err(|error| match error {
        SpawnError::Process(source) => Stage::NewProcess { source },
        SpawnError::ProcessGroup(source) => Stage::ProcessGroup {
            group: command.process_group.unwrap_or_default(),
            source,
        },
        SpawnError::Descriptors(source) => Stage::Prepare {
            step: "giving the child its descriptors",
            source,
        },
        SpawnError::Exec(source) => Stage::Exec {
            program: PathBuf::from(OsStr::from_bytes(prepared.program.to_bytes())),
            source,
        },
    })
}
