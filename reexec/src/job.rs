//! Jobs: a program with everything that it starts.

use std::ffi::OsStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE};
use crate::command::command;
use crate::control::LAUNCH_MAX;
use crate::job_channel::{Answer, CHANNEL_FD, Ended, Failure, JobChannel, KEEPER, Program, Task};
use crate::output::collect;
use crate::poll::{earliest, has_passed, wait_readable};
use crate::prepare_spawn::{settings, step};
use crate::validate::{self, invalid};
use crate::{Child, Command, Error, Stage, Template, Usage, spawn, sys};

/// Makes a builder for a job that runs another program: a path, or a name to look up in `PATH`. Start
/// it with [`Command::spawn_job`].
///
/// The settings of the command are applied in the program's process. It starts with `SIGPIPE` at its
/// default, as programs expect. Descriptors cannot be passed by name, because the program would not
/// find them.
///
/// The name is looked up as execvp(3) does, in the `PATH` of the program's environment. With glibc, a
/// script without a `#!` line is run by `/bin/sh`.
///
/// ```
/// use std::process::ExitCode;
/// use std::time::Duration;
///
/// fn main() -> ExitCode {
///     if let Some(code) = reexec::init() {
///         return code;
///     }
///     let mut shell = reexec::program("sh");
///     shell.args(["-c", "setsid sleep 1000 & echo started"]).stdout(reexec::Stdio::piped());
///     let job = shell.deadline(Duration::from_secs(60)).spawn_job().unwrap();
///     let output = job.wait_with_output().unwrap();
///     // The shell has ended, and so the sleep has been killed, although it had left the session.
///     assert_eq!(output.stdout, b"started\n");
///     ExitCode::SUCCESS
/// }
/// ```
pub fn program(program: impl AsRef<OsStr>) -> Command {
    let program = program.as_ref().to_owned();
    let mut command = command(program.to_string_lossy());
    command.job.program = Some(program);
    command
}

impl Template {
    /// Makes a builder for a job that runs another program, whose keeper is a child of this template; see
    /// [`program`](crate::program()). The program itself is executed.
    ///
    /// ```
    /// # use std::process::ExitCode;
    /// # fn main() -> ExitCode {
    /// #     if let Some(code) = reexec::init() {
    /// #         return code;
    /// #     }
    /// let template = reexec::Template::new().unwrap();
    /// assert!(template.program("true").spawn_job().unwrap().wait().unwrap().success());
    /// #     ExitCode::SUCCESS
    /// # }
    /// ```
    pub fn program(&self, path: impl AsRef<OsStr>) -> Command {
        self.make(program(path))
    }
}

impl Command {
    /// Ends the job after this time, however busy or stopped this process is. The time begins when the
    /// program runs, so the start itself succeeds with every deadline.
    ///
    /// Only [`Command::spawn_job`] can start this command then. All others fail at [`Stage::Invalid`],
    /// because a child without a keeper has nobody who watches the time. To limit the time of such a
    /// child, call [`Child::wait_timeout`](crate::Child::wait_timeout), and drop the handle if it returns
    /// `None`.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.job.deadline = Some(deadline);
        self
    }

    /// Gives the job a cgroup of its own if that is possible; [`Job::has_cgroup`] tells.
    ///
    /// Only [`Command::spawn_job`] can start this command then. All others fail at [`Stage::Invalid`].
    ///
    /// The kernel then kills all processes of the job at once, however fast they fork, and also those
    /// that have executed a set-user-id program. It requires cgroup v2, Linux 5.14, and the right to
    /// make a cgroup below that of this process, as root has, or a service of systemd with
    /// `Delegate=yes`. Otherwise the job does without.
    ///
    /// Not the default, because it makes the start 5 to 30 ms slower.
    pub fn job_cgroup(&mut self) -> &mut Self {
        self.job.cgroup = true;
        self
    }

    /// Starts a job: the program, or the entry, under a keeper, and returns when it runs. Nothing that
    /// it starts survives the [`Job`].
    ///
    /// Everything that is set in this command applies to the program, except
    /// [`Command::parent_death_signal`]: a job is killed when this process ends.
    ///
    /// The command may be one of a [`Template`](crate::Template). The keeper is then cloned from the
    /// template, and the entry runs in a fork of the keeper.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`], also [`Stage::SetUp`] for a function of `register_call`, which does
    /// not run. [`Stage::Exec`] if the program cannot be executed: `ENOENT` if
    /// there is none of this name, `EACCES` if it is not executable. [`Stage::Invalid`] with
    /// [`Command::outlive_parent`], and for a descriptor that is passed by name to another program.
    pub fn spawn_job(&mut self) -> Result<Job, Error> {
        self.start_job().map_err(|stage| Error::new(&self.entry, stage))
    }

    fn start_job(&mut self) -> Result<Job, Stage> {
        validate::check_command(self)?;
        let task = self.task()?;
        let (channel, keepers_end) = step("making the job's channel", JobChannel::pair())?;
        let deadline = Instant::now().checked_add(self.ready_timeout);
        let keeper = self.spawn_keeper(keepers_end)?;
        let mut job = Job {
            name: self.entry.clone(),
            id: 0,
            program: None,
            cgroup: false,
            keeper: Arc::new(keeper),
            channel,
            ended: Mutex::new(None),
        };
        step("sending the task to the keeper", job.channel.send_task(&task))?;
        (job.id, job.program, job.cgroup) = job.await_start(self, deadline)?;
        Ok(job)
    }

    /// Returns what the keeper has to run.
    fn task(&self) -> Result<Task, Stage> {
        if self.death_signal.is_none() {
            return Err(invalid("a job ends with its parent; it cannot have outlive_parent"));
        }
        let program = match &self.job.program {
            None => Program::Entry(self.entry.clone()),
            Some(_) if !self.descriptors.is_empty() => {
                return Err(invalid("another program cannot take a descriptor by its name"));
            }
            Some(program) if program.as_bytes().contains(&0) => {
                return Err(validate::contains_nul(program.as_bytes()));
            }
            Some(program) => Program::Foreign(program.as_bytes().to_vec()),
        };
        let task = Task {
            program,
            deadline: self.job.deadline,
            cgroup: self.job.cgroup,
            process_group: self.group_at_birth(),
            settings: settings(self),
        };
        match task.encode().len() {
            ..=LAUNCH_MAX => Ok(task),
            length => Err(invalid(format!(
                "the message to the keeper would have {length} bytes, with the names of the program \
                 and of the directory, and with the groups; it can have {LAUNCH_MAX}"
            ))),
        }
    }

    /// Starts the keeper: an ordinary child, with the program's arguments, environment, streams and
    /// descriptors, and without its settings.
    fn spawn_keeper(&mut self, channel: OwnedFd) -> Result<Child, Stage> {
        let mut own = command(KEEPER);
        let name = self.job.program.clone().unwrap_or_else(|| self.entry.clone().into());
        own.arg0 = self.arg0.clone().or(Some(name));
        own.death_signal = None; // it has to end the job before it ends
        self.swap_keepers_own(&mut own);
        self.fd(CHANNEL_FD, channel);
        let keeper = spawn::start(self);
        self.descriptors.pop();
        if keeper.is_ok() {
            self.close_descriptors();
        }
        self.swap_keepers_own(&mut own);
        keeper
    }

    /// Exchanges what the keeper does not have in common with the program.
    fn swap_keepers_own(&mut self, other: &mut Command) {
        mem::swap(&mut self.entry, &mut other.entry);
        mem::swap(&mut self.arg0, &mut other.arg0);
        mem::swap(&mut self.death_signal, &mut other.death_signal);
        mem::swap(&mut self.process_group, &mut other.process_group);
        mem::swap(&mut self.kill_group, &mut other.kill_group);
        mem::swap(&mut self.settings, &mut other.settings);
        mem::swap(&mut self.job, &mut other.job);
    }
}

/// A handle of a job: a program, and everything that it has started, also in other sessions and
/// process groups. See [`Command::spawn_job`].
///
/// The program runs as the child of a *keeper*, a small process of this program's file that adopts
/// every orphan among the program's descendants. When the job ends, the keeper kills all of them, and
/// what they start meanwhile, until nothing is left. The job ends when
///
/// - the program ends,
/// - this handle is dropped, or [`Job::kill`] is called,
/// - this process ends, however it ends,
/// - or [`Command::deadline`] has passed, also if this process is stopped.
///
/// [`Job::id`], [`Job::signal`] and the status are about the program. Everything that waits, waits
/// until nothing is left. All methods take `&self`, and can be called from any thread.
///
/// Dropping the handle ends the job and waits until nothing is left, at most for one second: a
/// process in an uninterruptible sleep ends when that is over, and hundreds of processes that fork as
/// fast as they can take a busy machine longer. The keeper goes on, and is then reaped in the
/// background.
///
/// [`AsFd`] gives the keeper's pidfd. It becomes readable when nothing is left, so an event loop can wait
/// for many jobs. A [`Reaper`](crate::Reaper) cannot: it takes only [`Child`]s.
///
/// # What can escape
///
/// - Everything that was started, if somebody kills the keeper itself with `SIGKILL`. A process of the
///   job can do that, if it is the same user. The program then dies, too, what it has started does not.
/// - What runs while the keeper is stopped with `SIGSTOP`: it sees no deadline and no end of the
///   program. It continues when the job is killed or dropped, or when this process ends, unless a
///   process of the job stops it again.
/// - The orphans of a process that has entered a pid namespace from outside the job (setns(2)): they
///   become children of that namespace's init. It requires privileges in that namespace.
/// - A process that this process may not signal: one that has executed a set-user-id program. The job
///   ends when that process has ended. [`Command::no_new_privs`] prevents it.
/// - What another process starts on request: a service manager, `at`, cron, a container engine.
///
/// Nothing escapes by leaving the session, the process group or the parent, by forking fast, by being
/// stopped or traced, or by ignoring signals. Without a `/proc`, the keeper finds descendants one
/// generation after the other, so a process that forks faster can stay ahead.
///
/// The keeper gives itself the lowest real-time priority (`SCHED_FIFO` in sched(7)) if this process has
/// `CAP_SYS_NICE`. Without that right, dozens of processes that fork and exit all the time can keep it
/// waiting: up to ten seconds were measured, on two processors with Linux 6.18.
#[derive(Debug)]
pub struct Job {
    /// The name of the entry or of the program, for errors.
    name: String,
    id: i32,
    /// The program's pidfd, if pidfds are available.
    program: Option<OwnedFd>,
    /// Whether the job has a cgroup of its own.
    cgroup: bool,
    /// Never killed, because it would leave behind what it keeps. Shared with the background if it
    /// outlives this handle.
    keeper: Arc<Child>,
    channel: JobChannel,
    /// How the program has ended, once the keeper has told.
    ended: Mutex<Option<Ended>>,
}

impl Job {
    /// Waits until the program runs; returns its number and pidfd, and whether it is in a cgroup.
    fn await_start(
        &self,
        command: &Command,
        deadline: Option<Instant>,
    ) -> Result<(i32, Option<OwnedFd>, bool), Stage> {
        let timeout = command.ready_timeout;
        loop {
            let watched = [Some(self.channel.as_fd()), Some(self.keeper.as_fd())];
            let ready = wait_readable(watched, earliest(deadline, self.keeper.next_poll()));
            if step("waiting for the keeper's answer", ready)? != [false, false] {
                break;
            }
            if has_passed(deadline) {
                return Err(Stage::NotReady { timeout });
            }
        }
        let answer = self.channel.receive_answer();
        match step("receiving the keeper's answer", answer)? {
            Some((Answer::Started { pid, cgroup }, pidfd)) => Ok((pid, pidfd, cgroup)),
            Some((Answer::Failed(failure), _)) => Err(stage(failure, command)),
            Some((Answer::Ended(_), _)) | None => Err(Stage::BeforeInit {
                status: self.keeper.wait_timeout(END_GRACE).ok().flatten(),
            }),
        }
    }

    /// Returns the program's process id. Another process may get the number after the program's end:
    /// to signal the program, use [`Job::signal`].
    pub fn id(&self) -> u32 {
        self.id.unsigned_abs()
    }

    /// Takes this process's end of the program's stdin. Returns `None` if it is no pipe, or was taken.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.keeper.take_stdin()
    }

    /// Takes this process's end of the program's stdout. Returns `None` if it is no pipe, or was taken.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.keeper.take_stdout()
    }

    /// Takes this process's end of the program's stderr. Returns `None` if it is no pipe, or was taken.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.keeper.take_stderr()
    }

    /// Waits until nothing is left, and returns how the program has ended. Later calls return the same
    /// status. First closes this process's end of the program's stdin, as
    /// [`Child::wait`](crate::Child::wait) does.
    ///
    /// The status is that of a process killed with `SIGKILL` if the program still ran at the end of
    /// the job.
    ///
    /// # Errors
    ///
    /// If somebody has killed the keeper; the text says so. In a forked copy of this process.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let waited = self.keeper.wait();
        self.status(waited)
    }

    /// Waits as [`Job::wait`] does, at most for `timeout`. Returns `None` if something is left then.
    /// Leaves stdin open.
    ///
    /// # Errors
    ///
    /// Those of [`Job::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        match self.keeper.wait_timeout(timeout) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => self.status(Ok(status)).map(Some),
            Err(error) => self.status(Err(error)).map(Some),
        }
    }

    /// Returns how the program has ended; `None` if something is left.
    ///
    /// # Errors
    ///
    /// Those of [`Job::wait`].
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Collects what the program, and what it has started, writes to stdout and stderr, and waits
    /// until nothing is left. Streams that are no pipes, or were taken, are left out. First closes
    /// this process's end of stdin.
    ///
    /// # Errors
    ///
    /// [`Stage::Read`], [`Stage::StreamHeld`] and [`Stage::Wait`]. [`Error::output`] returns what was
    /// read until then.
    pub fn wait_with_output(&self) -> Result<Output, Error> {
        collect(&self.keeper, &self.name, || self.end(), || self.wait())
    }

    /// Sends a signal to the program, and not to what it has started. Does nothing if the program has
    /// ended.
    ///
    /// Where pidfds are refused, the keeper sends the signal, a little later, and nobody learns
    /// whether it was allowed to.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal, or if libc keeps it for itself. `EPERM` if the program has
    /// become another user, or in a forked copy of this process.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::check_signal(signal)?;
        if !self.keeper.is_parent() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let sent = match &self.program {
            Some(pidfd) => sys::pidfd_send_signal(pidfd, signal),
            None => self.channel.send_signal(signal),
        };
        match sent {
            Err(error) if sys::is_one_of(&error, &[libc::ESRCH, libc::EPIPE, libc::ECONNRESET]) => {
                Ok(()) // it has ended
            }
            sent => sent,
        }
    }

    /// Ends the job: kills everything, and waits until nothing is left. Returns how the program has
    /// ended.
    ///
    /// # Errors
    ///
    /// Those of [`Job::wait`].
    pub fn kill(&self) -> io::Result<ExitStatus> {
        self.end();
        self.wait()
    }

    /// Terminates the program: sends it `SIGTERM`, and ends the job if something is left after
    /// `grace`. Waits until nothing is left.
    ///
    /// # Errors
    ///
    /// Those of [`Job::wait`].
    pub fn terminate(&self, grace: Duration) -> io::Result<ExitStatus> {
        // If that is not possible, the job ends a little later.
        let _ = self.signal(libc::SIGTERM);
        match self.wait_timeout(grace)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Whether [`Command::deadline`] has ended the job; `false` as long as something is left.
    pub fn has_timed_out(&self) -> bool {
        self.ended().is_some_and(|ended| ended.timed_out)
    }

    /// Whether the job has a cgroup of its own; see [`Command::job_cgroup`].
    pub fn has_cgroup(&self) -> bool {
        self.cgroup
    }

    /// Returns the resources that the program has used, together with the descendants that it waited
    /// for; `None` as long as something is left.
    pub fn usage(&self) -> Option<Usage> {
        self.ended().map(|ended| ended.usage)
    }

    /// Makes the keeper kill everything. In a forked copy of this process it does nothing.
    fn end(&self) {
        if self.keeper.is_parent() {
            self.channel.shut_down();
        }
    }

    /// Returns the program's status after a wait for the keeper.
    fn status(&self, waited: io::Result<ExitStatus>) -> io::Result<ExitStatus> {
        match (self.ended(), waited) {
            (Some(ended), _) => Ok(ended.status),
            (None, Ok(keeper)) => Err(io::Error::other(format!(
                "the keeper of process {} was killed ({keeper}): that process has been killed, too, \
                 its status is unknown, and what it had started may still run",
                self.id
            ))),
            (None, Err(error)) => Err(error),
        }
    }

    /// Returns how the program has ended, once the keeper has ended.
    fn ended(&self) -> Option<Ended> {
        // The channel is the parent's. Its state is not ours to change in a forked copy.
        if !self.keeper.is_parent() || !self.keeper.is_settled() {
            return None;
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none()
            && let Ok(Some((Answer::Ended(told), _))) = self.channel.receive_answer()
        {
            *ended = Some(told);
        }
        *ended
    }
}

/// Returns the stage of a failure that the keeper has told.
fn stage(failure: Failure, command: &Command) -> Stage {
    let source = io::Error::from_raw_os_error;
    match failure {
        Failure::UnknownEntry => Stage::UnknownEntry,
        Failure::ProcessGroup(errno) => Stage::ProcessGroup {
            group: command.process_group.unwrap_or_default(),
            source: source(errno),
        },
        Failure::Exec(errno) => Stage::Exec {
            program: PathBuf::from(command.job.program.clone().unwrap_or_default()),
            source: source(errno),
        },
        Failure::SetUp { step, errno } => Stage::SetUp { step, source: source(errno) },
    }
}

impl AsFd for Job {
    /// Returns the keeper's pidfd; see [`Job`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.keeper.as_fd()
    }
}

impl AsRawFd for Job {
    /// Returns the keeper's pidfd; see [`Job`].
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.keeper.is_parent() {
            return;
        }
        self.end();
        let _ = self.keeper.wait_timeout(END_GRACE);
        if !self.keeper.is_settled() {
            let keeper: Arc<Child> = Arc::clone(&self.keeper);
            background::leave(Box::new(keeper));
        }
    }
}
