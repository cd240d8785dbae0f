//! Starts a child: the parent's side, from a [`Command`] to a [`Child`].

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE};
use crate::child_setting::ignored_signals;
use crate::control::Control;
use crate::poll::{earliest, has_passed, wait_readable};
use crate::prepare_spawn::{Prepared, Way, step};
use crate::stdio::StdioDefault;
use crate::sys::{SpawnError, SpawnSpec};
use crate::{Child, Command, Error, Stage, sys, template, validate};

impl Command {
    /// Starts the child, and returns when it is ready to run its entry.
    ///
    /// The calling thread is suspended until the child has executed the program, as with every vfork,
    /// and then waits for the child's report: about a millisecond altogether. An
    /// [async program](crate#in-an-async-program) calls it in a thread for blocking calls.
    ///
    /// # Errors
    ///
    /// [`Error`] says at which [`Stage`](crate::Stage) the start failed, and converts into
    /// [`std::io::Error`]. A failed start leaves no process and no descriptor. The descriptors passed
    /// to this command are still in it.
    ///
    /// [`Stage::Invalid`](crate::Stage::Invalid) if only [`Command::spawn_job`] can start the command: it is
    /// made by [`program`](crate::program()), or [`Command::deadline`] or [`Command::job_cgroup`] was
    /// called. The same holds for `status`, `output`, `spawn_unconfirmed` and `call`.
    pub fn spawn(&mut self) -> Result<Child, Error> {
        let started = start(self);
        self.finish(started)
    }

    /// Starts the child, and returns when it has executed the program, without waiting for its report.
    /// This is for a server that starts many children, and has other work while they get ready.
    ///
    /// If the child then fails before its entry runs, it prints the reason to stderr and exits with
    /// [`EXIT_SETUP_FAILED`](crate::EXIT_SETUP_FAILED) or
    /// [`EXIT_UNKNOWN_ENTRY`](crate::EXIT_UNKNOWN_ENTRY).
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`] except [`Stage::SetUp`](crate::Stage::SetUp),
    /// [`Stage::UnknownEntry`](crate::Stage::UnknownEntry),
    /// [`Stage::BeforeInit`](crate::Stage::BeforeInit) and
    /// [`Stage::NotReady`](crate::Stage::NotReady).
    pub fn spawn_unconfirmed(&mut self) -> Result<Child, Error> {
        let started = Start::new(self, StdioDefault::Inherit, false);
        self.finish(started.map(|start| start.child))
    }

    /// Starts the child and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`], and those of [`Child::wait`] as
    /// [`Stage::Wait`](crate::Stage::Wait).
    pub fn status(&mut self) -> Result<ExitStatus, Error> {
        // The parent must not keep passed descriptors until the child's end, so it waits for the
        // report first. Otherwise it does not: to wake up for the report takes longer than everything
        // else that the parent does.
        let child = match self.has_descriptors() {
            true => self.spawn()?,
            false => {
                let started = Start::new(self, StdioDefault::Inherit, true);
                let ended = started.and_then(Start::confirm_at_end);
                self.finish(ended)?
            }
        };
        let waited = child.wait();
        waited.map_err(|source| Error::new(&self.entry, Stage::Wait { source }))
    }

    /// Starts the child, collects what it writes to stdout and stderr, and waits until it has ended.
    /// Leaves out streams that have been set to something else.
    ///
    /// See [`Child::wait_with_output`] for a stream that another process holds open.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`] and of [`Child::wait_with_output`].
    pub fn output(&mut self) -> Result<Output, Error> {
        let started = Start::new(self, StdioDefault::Capture, true).and_then(Start::confirm);
        self.finish(started)?.wait_with_output()
    }

    /// Closes our copies of the descriptors if the start has succeeded, and otherwise keeps them.
    pub(crate) fn finish<T>(&mut self, result: Result<T, Stage>) -> Result<T, Error> {
        let started = result.map_err(|stage| Error::new(&self.entry, stage))?;
        self.close_descriptors();
        Ok(started)
    }
}

/// Starts the child, and leaves the command as it is.
pub(crate) fn start(command: &Command) -> Result<Child, Stage> {
    Start::new(command, StdioDefault::Inherit, true).and_then(Start::confirm)
}

/// A child on its way to its entry. Dropping this kills and reaps the child.
pub(crate) struct Start {
    /// Declared, and so dropped, before the child: a child that we may not kill ends by itself when it
    /// finds the channel closed.
    control: Option<Control>,
    pub(crate) child: Child,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Start {
    pub(crate) fn new(
        command: &Command,
        default: StdioDefault,
        confirm: bool,
    ) -> Result<Self, Stage> {
        background::reap_abandoned();
        validate::check_process()?;
        validate::check_command(command)?;
        validate::check_plain(command)?;
        let made = template::start(command, default, confirm)?;
        let from_template = made.is_some();
        let (prepared, pid) = made.map_or_else(|| execute(command, default, confirm), Ok)?;
        // The child has its copies. As long as we have ours, we would not see the end of what the
        // child closes. Closing them also makes room for the pidfd when the table is full.
        drop(prepared.fd_map);
        // Nobody can have reaped an executed child: it waits for the launch. The child of a template may
        // have run its entry by now. If another thread has reaped it, it counts as gone.
        let handle = match prepared.pending.into_handle(pid) {
            Ok(handle) => handle,
            Err(source) => {
                drop((prepared.control, prepared.lifeline)); // these end it if we may not kill it
                background::abandon(pid, command.group(), Instant::now() + END_GRACE);
                return step("opening a pidfd", Err(source));
            }
        };
        let (lifeline, pipes) = (prepared.lifeline, prepared.pipes);
        let timeout = command.ready_timeout;
        let launch = prepared.control.as_ref().filter(|_| !from_template);
        let launched = launch.map_or(Ok(()), |control| control.send(&prepared.launch));
        let mut start = Self {
            control: prepared.control,
            child: Child::new(
                pid,
                handle,
                &command.entry,
                command.group(),
                lifeline,
                pipes,
                command.stream_grace,
            ),
            timeout,
            deadline: Instant::now().checked_add(timeout),
        };
        start.child.from_template = from_template;
        match launched {
            // The child has ended, or is about to. The wait for its report returns a better error.
            Err(error) if is_peer_closed(&error) => {}
            result => step("sending the launch", result)?,
        }
        template::renew(command);
        Ok(start)
    }

    /// Returns the child when it is ready to run its entry.
    fn confirm(self) -> Result<Child, Stage> {
        self.await_ready()?;
        Ok(self.child)
    }

    /// Returns the child when it has ended, and checks then that its entry has run.
    pub(crate) fn confirm_at_end(self) -> Result<Child, Stage> {
        drop(self.child.take_stdin()); // a child that reads its input to the end would never end
        // Waits until it has ended, or its time to report is over. An error comes again below.
        let _ = self.child.wait_until(self.deadline);
        self.confirm()
    }

    /// Waits until the child is about to run its entry, or has run it.
    fn await_ready(&self) -> Result<(), Stage> {
        let Some(control) = &self.control else { return Ok(()) };
        self.await_report(control)?;
        let report = control.try_receive_report();
        match step("receiving the child's report", report)? {
            Some(report) => report.failure().map_or(Ok(()), Err),
            None => {
                Err(Stage::BeforeInit { status: self.child.wait_timeout(END_GRACE).ok().flatten() })
            }
        }
    }

    /// Waits until there is a report, or until none can come any more.
    fn await_report(&self, control: &Control) -> Result<(), Stage> {
        while !self.child.is_settled() {
            // We watch the pidfd as well. Another process, forked from us at the wrong moment, may
            // hold a copy of the child's end of the channel, so that the channel never ends.
            let watched = [Some(control.as_fd()), Some(self.child.as_fd())];
            let wakeup = earliest(self.deadline, self.child.next_poll());
            let ready = wait_readable(watched, wakeup);
            if step("waiting for the child's report", ready)? != [false, false] {
                return Ok(());
            }
            if !self.child.is_exact() {
                // Its descriptor may tell of the end late, or never.
                let _ = self.child.try_wait();
            }
            if has_passed(self.deadline) {
                return Err(Stage::NotReady { timeout: self.timeout });
            }
        }
        Ok(())
    }
}

/// Whether the error means that the other end has been closed.
fn is_peer_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Makes the process and executes the program; returns it with what was prepared.
fn execute(
    command: &Command,
    default: StdioDefault,
    confirm: bool,
) -> Result<(Prepared<'_>, i32), Stage> {
    let prepared = Prepared::new(command, default, confirm, Way::Exec)?;
    let blocked = match command.blocks_signals {
        true => (1..=libc::SIGRTMAX()).collect(),
        false => ignored_signals(&command.settings),
    };
    let spawned = sys::spawn(&SpawnSpec {
        program: &prepared.program,
        argv: &prepared.argv,
        env: &prepared.env,
        descriptors: &prepared.fd_map.pairs(),
        close_from: prepared.close_undeclared.then(|| prepared.fd_map.end()),
        process_group: command.group_at_birth(),
        // Until the child ignores them.
        blocked: &blocked,
    });
    let pid = spawned.map_err(|error| match error {
        SpawnError::Process(source) => Stage::NewProcess { source },
        SpawnError::ProcessGroup(source) => {
            Stage::ProcessGroup { group: command.process_group.unwrap_or_default(), source }
        }
        SpawnError::Descriptors(source) => {
            Stage::Prepare { step: "giving the child its descriptors", source }
        }
        SpawnError::Exec(source) => Stage::Exec {
            program: PathBuf::from(OsStr::from_bytes(prepared.program.to_bytes())),
            source,
        },
    })?;
    Ok((prepared, pid))
}
