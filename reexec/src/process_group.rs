//! What a caller can do with process groups: put a child into one, signal it, and kill it with the
//! child.

use std::io;

use crate::child_setting::Setting;
use crate::group::Group;
use crate::validate::invalid;
use crate::{Child, Command, Stage};

impl Command {
    /// Puts the child into this process group, or with 0 into a new one. The child joins it at its
    /// birth, so the group can be signalled as soon as `spawn` has returned.
    ///
    /// `spawn` fails at [`Stage::ProcessGroup`](crate::Stage::ProcessGroup) if this session has no such
    /// group.
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.process_group = Some(group);
        self
    }

    /// Kills what the child has started and left in its process group, together with the child: when
    /// the handle is dropped, or when the child has ended and is reaped, whichever comes first.
    ///
    /// The child gets a process group of its own, as with
    /// [`process_group(0)`](Command::process_group), or the one of its session with
    /// [`Command::setsid`]. It is therefore in the background of a terminal: Ctrl-C does not reach it,
    /// and the kernel stops it when it reads from the terminal.
    ///
    /// Every function that reaps the child first sends `SIGKILL` to the group: [`Child::wait`], a
    /// [`Reaper`](crate::Reaper), the thread that reaps after [`Child::detach`], and all others. They do
    /// not wait for the ends of the members, which are not our children. [`Child::terminate`] sends
    /// `SIGTERM` to the child alone, which can then end the others in its own way. A group cannot outrun this
    /// signal by forking: the kernel either sends it to a new process, too, or does not make the process.
    ///
    /// Some processes escape:
    ///
    /// - A process that has left the group, by setsid(2) or setpgid(2). Daemons and the jobs of an
    ///   interactive shell do this.
    /// - A process that this process may not signal, because it runs as another user.
    /// - All members, when this process ends first: then the kernel signals only the child.
    /// - All members, if the kernel or other code reaps the child (see [`Child`]), and Linux is older
    ///   than 6.9.
    /// - All members, if a filter refuses waitid(2), and the child ends by itself. Without a pidfd, or
    ///   in a [`Reaper::for_all_children`](crate::Reaper::for_all_children), we then see the end of the
    ///   child only when we reap it.
    ///
    /// `spawn` fails if [`Command::process_group`] names another group than 0.
    ///
    /// ```
    /// # use std::process::ExitCode;
    /// # fn main() -> ExitCode {
    /// reexec::register("job", || {
    ///     let script = "sleep 1000 & echo started";
    ///     std::process::Command::new("sh").args(["-c", script]).status().unwrap();
    /// });
    /// if let Some(code) = reexec::init() {
    ///     return code;
    /// }
    /// let status = reexec::command("job").kill_group_with_child().status();
    /// assert!(status.unwrap().success()); // and the sleep is killed
    /// # ExitCode::SUCCESS
    /// # }
    /// ```
    #[doc(alias = "kill_on_drop")]
    pub fn kill_group_with_child(&mut self) -> &mut Self {
        self.kill_group = true;
        self
    }

    /// Returns the group that the child joins at its birth.
    pub(crate) fn group_at_birth(&self) -> Option<i32> {
        match self.kill_group && !self.makes_session() {
            true => Some(0),
            false => self.process_group,
        }
    }

    /// Returns which group the child leads.
    pub(crate) fn group(&self) -> Group {
        match self.kill_group {
            true => Group::KilledWithChild,
            false if self.process_group == Some(0) || self.makes_session() => Group::Led,
            false => Group::Shared,
        }
    }

    /// Fails if there can be no such group, or if settings exclude each other.
    pub(crate) fn check_process_group(&self) -> Result<(), Stage> {
        let Some(group) = self.process_group else {
            return Ok(());
        };
        if group < 0 {
            return Err(invalid(format!("there is no process group {group}")));
        }
        if group > 0 && self.kill_group {
            return Err(invalid(format!(
                "kill_group_with_child gives the child a group of its own; it cannot be combined with \
                 process_group({group})"
            )));
        }
        if self.makes_session() {
            return Err(invalid(
                "setsid makes a process group, too; it cannot be combined with process_group",
            ));
        }
        Ok(())
    }

    fn makes_session(&self) -> bool {
        self.settings.contains(&Setting::NewSession)
    }
}

impl Child {
    /// Sends a signal to all members of the process group that the child leads: to the child, and to
    /// the processes that it has started and that have not left the group.
    ///
    /// The child leads a group with [`process_group(0)`](Command::process_group),
    /// [`Command::setsid`], [`Command::kill_group_with_child`] or
    /// [`ForkOptions::new_process_group`](crate::ForkOptions::new_process_group).
    ///
    /// No other group can get the signal. While the child is unreaped, its number is the group's. Since
    /// Linux 6.9, the child's pidfd names the group, also after the child has been reaped
    /// (`PIDFD_SIGNAL_PROCESS_GROUP` in pidfd_send_signal(2)). Does nothing if no member is left then.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// let job = reexec::command("job").process_group(0).spawn()?;
    /// job.signal_group(libc::SIGTERM)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the child leads no group. [`io::ErrorKind::Unsupported`] if
    /// the child has been reaped, and there is no pidfd or Linux is older than 6.9. `ESRCH` if the child
    /// is unreaped and its group has no member: the child has left it, or was started by
    /// [`Command::spawn_unconfirmed`] and has not yet called setsid(2). `EPERM` if this process may
    /// signal no member, or in a forked copy of the process that started the child. `EINVAL` if there is
    /// no such signal, as with [`Child::signal`].
    #[doc(alias = "killpg")]
    pub fn signal_group(&self, signal: i32) -> io::Result<()> {
        self.signal_by(signal, |handle, is_unreaped| match self.group() {
            Group::Led | Group::KilledWithChild => handle.signal_group(signal, is_unreaped),
            Group::Shared => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "process {} leads no process group that could be signalled; start it with \
                     process_group(0), setsid or kill_group_with_child",
                    self.id()
                ),
            )),
        })
    }
}
