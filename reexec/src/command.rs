//! The builder of a child: what to start, and how.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::child_setting::Setting;
use crate::job_channel::JobOptions;
use crate::message::Preparation;
use crate::template_process::Templates;
use crate::{Resource, Stdio};

/// The default of [`Command::ready_timeout`].
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// The default of [`Command::stream_grace`].
const STREAM_GRACE: Duration = Duration::from_secs(1);

/// Makes a builder for a child that runs the function registered as `name`; see [`Command`].
///
/// It does not look the name up: an unknown name is an error of [`Command::spawn`].
pub fn command(name: impl Into<String>) -> Command {
    Command {
        entry: name.into(),
        arg0: None,
        args: Vec::new(),
        env_clear: false,
        env: BTreeMap::new(),
        streams: [None, None, None],
        descriptors: Vec::new(),
        death_signal: Some(libc::SIGTERM),
        ready_timeout: READY_TIMEOUT,
        process_group: None,
        kill_group: false,
        sealed: false,
        executable: None,
        stream_grace: STREAM_GRACE,
        settings: Vec::new(),
        template: None,
        keeps_template_env: false,
        blocks_signals: false,
        preparation: None,
        job: JobOptions::default(),
    }
}

/// Configures and starts a child or a job, with the method names of [`std::process::Command`].
///
/// A command made by [`command`] executes this program's own file and runs the registered function
/// instead of the rest of `main`. A command made by [`program`](crate::program()) executes another
/// program, and only [`Command::spawn_job`] starts it.
///
/// The child starts with an empty signal mask and default dispositions, except for
/// [`Command::ignore_signal`]. A child that runs an entry also ignores `SIGPIPE`, as every Rust program
/// does. The child ends when this process ends.
///
/// A command can be spawned repeatedly, except for its descriptors: the first spawn that succeeds
/// gives them to its child. This process keeps no copy, so that an end of file arrives when the child
/// closes its copy.
///
/// ```
/// use std::env;
/// use std::process::{ExitCode, Termination};
///
/// fn main() -> ExitCode {
///     reexec::register("greeter", || {
///         let name = env::args().nth(1).unwrap_or_default();
///         println!("{} {name}", env::var("GREETING").unwrap_or_default());
///     });
///     if let Some(code) = reexec::init() {
///         return code;
///     }
///     parent().report()
/// }
///
/// fn parent() -> Result<(), reexec::Error> {
///     let mut command = reexec::command("greeter");
///     command.arg("world").env("GREETING", "hello").umask(0o077);
///     assert_eq!(command.output()?.stdout, b"hello world\n");
///     Ok(())
/// }
/// ```
pub struct Command {
    pub(crate) entry: String,
    pub(crate) arg0: Option<OsString>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env_clear: bool,
    /// `None` removes an inherited variable.
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    /// Stdin, stdout and stderr.
    streams: [Option<Stdio>; 3],
    /// `None` if an earlier child has the descriptor.
    pub(crate) descriptors: Vec<(String, Option<OwnedFd>)>,
    pub(crate) death_signal: Option<i32>,
    pub(crate) ready_timeout: Duration,
    pub(crate) process_group: Option<i32>,
    pub(crate) kill_group: bool,
    pub(crate) sealed: bool,
    pub(crate) executable: Option<PathBuf>,
    pub(crate) stream_grace: Duration,
    pub(crate) settings: Vec<Setting>,
    /// Makes the child, if it can.
    pub(crate) template: Option<Arc<Templates>>,
    /// Whether a child of a template keeps the template's environment.
    pub(crate) keeps_template_env: bool,
    /// Whether the child has every signal blocked from its first instruction on.
    pub(crate) blocks_signals: bool,
    /// What an executed child runs before its entry.
    pub(crate) preparation: Option<Arc<Preparation>>,
    pub(crate) job: JobOptions,
}

impl Command {
    /// Sets `argv[0]`, which is the name of the entry otherwise. The child runs the same entry, and its
    /// process name, which `ps` shows in `comm`, stays that of the entry.
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.arg0 = Some(arg.as_ref().to_owned());
        self
    }

    /// Adds an argument, after `argv[0]`.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets a variable in the child's environment. The others are those of this process at the time
    /// of the spawn.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let value = value.as_ref().to_owned();
        self.env.insert(key.as_ref().to_owned(), Some(value));
        self
    }

    /// Sets several variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Clears the child's environment. Only later calls of [`Command::env`] add variables.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// Leaves a child of a [`Template`](crate::Template) the environment that this process had when it
    /// started the template, whatever variables this command sets. To send the environment of this
    /// moment takes longer than most other steps of such a spawn. Has no effect if the child is executed.
    pub fn keep_template_env(&mut self) -> &mut Self {
        self.keeps_template_env = true;
        self
    }

    /// Sets the child's standard input. Defaults to the stream of this process with `spawn` and
    /// `status`, and to the null device with `output`.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.streams[0] = Some(stdio.into());
        self
    }

    /// Sets the child's standard output. Defaults to the stream of this process with `spawn` and
    /// `status`, and to a pipe that is read with `output`.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.streams[1] = Some(stdio.into());
        self
    }

    /// Sets the child's standard error. Defaults as [`Command::stdout`] does.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.streams[2] = Some(stdio.into());
        self
    }

    /// Passes a descriptor to the child, which takes it with
    /// [`inherited_fd(name)`](crate::inherited_fd). No other process gets a copy, even if other threads
    /// spawn at the same time. `spawn` fails if two descriptors have the same name.
    ///
    /// Two limits apply to the number of descriptors. While the child starts, each needs up to two more
    /// numbers below `RLIMIT_NOFILE` (`EMFILE`). And the message to the child must fit into 64 KiB: the
    /// names of the descriptors, of the entry and of the directory, and four bytes for each
    /// supplementary group ([`Stage::Invalid`](crate::Stage::Invalid)). Names that start
    /// with `reexec/` are reserved.
    pub fn fd(&mut self, name: impl Into<String>, fd: impl Into<OwnedFd>) -> &mut Self {
        let name = name.into();
        self.descriptors.retain(|(known, fd)| *known != name || fd.is_some());
        self.descriptors.push((name, Some(fd.into())));
        self
    }

    /// Sets the signal that the child gets when this *process* ends, however it ends. Defaults to
    /// `SIGTERM`; `SIGKILL` is possible. The end of the thread that spawned the child has no effect.
    ///
    /// `spawn` fails if the number is no signal, or if libc keeps the signal for itself, such as 32
    /// and 33.
    pub fn parent_death_signal(&mut self, signal: i32) -> &mut Self {
        self.death_signal = Some(signal);
        self
    }

    /// Lets the child outlive this process. It is an orphan then, and another process adopts it.
    pub fn outlive_parent(&mut self) -> &mut Self {
        self.death_signal = None;
        self
    }

    /// Makes the child ignore this signal. The signal is blocked from the child's first instruction on
    /// until it is ignored, so it has no effect however early it comes.
    ///
    /// A program that the child executes ignores the signal, too. A process that the child starts with
    /// [`command`](crate::command) or [`fork`](crate::fork()) does not.
    ///
    /// `spawn` fails for `SIGKILL`, `SIGSTOP` and a number that is no signal. It also fails for the
    /// signal of [`Command::parent_death_signal`], which is `SIGTERM` by default, because the child
    /// would not end with its parent.
    pub fn ignore_signal(&mut self, signal: i32) -> &mut Self {
        let setting = Setting::IgnoreSignal(signal);
        self.settings.retain(|known| *known != setting);
        self.settings.push(setting);
        self
    }

    /// Makes the child the leader of a new session, without a terminal. Cannot be combined with
    /// [`Command::process_group`].
    pub fn setsid(&mut self) -> &mut Self {
        self.set(Setting::NewSession)
    }

    /// Sets the child's working directory. The child enters it after [`Command::uid`] has been applied,
    /// and so with the rights of that user.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.set(Setting::CurrentDir(dir.as_ref().as_os_str().as_bytes().to_vec()))
    }

    /// Sets the child's file mode creation mask, such as `0o077`. `spawn` fails for more than `0o777`.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.set(Setting::Umask(mask))
    }

    /// Sets a limit of the child and of the processes that it starts; `u64::MAX` means no limit.
    /// [`Resource`] tells the units, and what happens at each limit.
    ///
    /// Of [`Resource::OpenFiles`], the child's start needs five (the streams, the lifeline, and until it
    /// is ready the control channel), and one for each passed descriptor. Open descriptors stay open,
    /// also above the limit.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.settings.retain(|setting| {
            !matches!(setting, Setting::Limit { resource: known, .. } if *known == resource)
        });
        self.settings.push(Setting::Limit { resource, soft, hard });
        self
    }

    /// Adds to the child's nice value. A process with a higher value gets less of a busy processor. A
    /// negative increment requires privileges.
    pub fn nice(&mut self, increment: i32) -> &mut Self {
        self.set(Setting::Nice(increment))
    }

    /// Sets the child's user: real, effective and saved id. The child keeps its group unless
    /// [`Command::gid`] is set. A child of root loses its supplementary groups, unless
    /// [`Command::groups`] is set.
    ///
    /// After setting the user, the group or the groups, the child reads them back, and `spawn` fails if
    /// they differ. It also fails for `u32::MAX`, which means "no change" to the kernel.
    pub fn uid(&mut self, uid: u32) -> &mut Self {
        self.set(Setting::User(uid))
    }

    /// Sets the child's group: real, effective and saved id.
    pub fn gid(&mut self, gid: u32) -> &mut Self {
        self.set(Setting::Group(gid))
    }

    /// Sets the child's supplementary groups, of which there can be some 16,000; see [`Command::fd`].
    pub fn groups(&mut self, gids: &[u32]) -> &mut Self {
        self.set(Setting::Groups(gids.to_vec()))
    }

    /// Prevents the child, and all processes that it starts, from gaining privileges by executing a
    /// set-user-id program; see `PR_SET_NO_NEW_PRIVS` in prctl(2).
    pub fn no_new_privs(&mut self) -> &mut Self {
        self.set(Setting::NoNewPrivileges)
    }

    /// Makes the child execute a sealed copy of this program in memory instead of the program's file.
    ///
    /// This is for a privileged parent whose children are trusted less. They could otherwise write to
    /// the file through `/proc/self/exe` once no process runs it any more. The copy is made once in the
    /// life of this process, and takes as much memory as the file is long.
    ///
    /// `spawn` fails at [`Stage::Prepare`](crate::Stage::Prepare) or
    /// [`Stage::Exec`](crate::Stage::Exec) if there is no `/proc`, or if the sysctl `vm.memfd_noexec` or
    /// a security module forbids it.
    pub fn sealed(&mut self) -> &mut Self {
        self.sealed = true;
        self
    }

    /// Makes the child execute this file instead of [`self_exe`](crate::self_exe). It must be a file
    /// of the same program.
    ///
    /// This is for a program that the kernel did not start itself, so that its `/proc/self/exe` is
    /// another program: under valgrind, under qemu-user, or started through its loader
    /// (`ld-linux-x86-64.so.2 ./program`). With valgrind, [`std::env::current_exe`] is the right file.
    ///
    /// The file is looked up when the child starts, so a process that can replace it decides what runs. A
    /// relative path starts from the parent's directory. Cannot be combined with [`Command::sealed`].
    pub fn executable(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.executable = Some(path.into());
        self
    }

    /// Adds a setting, and removes an earlier one of the same kind.
    fn set(&mut self, setting: Setting) -> &mut Self {
        let kind = mem::discriminant(&setting);
        self.settings.retain(|known| mem::discriminant(known) != kind);
        self.settings.push(setting);
        self
    }

    /// Sets how long [`Command::spawn`] waits for the child to be ready to run its entry. Defaults to
    /// 30 s; a child needs about a millisecond.
    pub fn ready_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.ready_timeout = timeout;
        self
    }

    /// Sets how long [`Command::output`] and
    /// [`Child::wait_with_output`](crate::Child::wait_with_output) wait for the next byte from a stream
    /// that another process holds open after the child's end. Defaults to 1 s.
    ///
    /// Each byte starts the time anew, so they read for ever if that process never stops writing.
    /// [`Duration::MAX`] waits for the end of the stream however long it takes, as std does.
    pub fn stream_grace(&mut self, grace: Duration) -> &mut Self {
        self.stream_grace = grace;
        self
    }

    /// Returns the name given to [`command`] or to [`program`](crate::program()).
    pub fn get_entry(&self) -> &str {
        &self.entry
    }

    /// Returns the arguments after `argv[0]`.
    pub fn get_args(&self) -> impl ExactSizeIterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// Returns the variables that have been set, and with `None` those that have been removed.
    /// Inherited variables are left out.
    pub fn get_envs(&self) -> impl ExactSizeIterator<Item = (&OsStr, Option<&OsStr>)> {
        self.env.iter().map(|(key, value)| (key.as_os_str(), value.as_deref()))
    }

    /// Returns the working directory, if it has been set.
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.settings.iter().find_map(|setting| match setting {
            Setting::CurrentDir(path) => Some(Path::new(OsStr::from_bytes(path))),
            _ => None,
        })
    }

    /// Returns the standard streams, as far as they are set.
    pub(crate) fn streams(&self) -> [Option<&Stdio>; 3] {
        self.streams.each_ref().map(Option::as_ref)
    }

    /// Whether the child gets descriptors that this process must not keep.
    pub(crate) fn has_descriptors(&self) -> bool {
        !self.descriptors.is_empty() || self.streams.iter().flatten().any(Stdio::is_descriptor)
    }

    /// Closes the descriptors, after a child has got its copies.
    pub(crate) fn close_descriptors(&mut self) {
        self.descriptors.iter_mut().for_each(|(_, fd)| *fd = None);
        self.streams.iter_mut().flatten().for_each(Stdio::spend);
    }
}

/// Writes the entry and its arguments; with `{:#?}`, also the set-up.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            write!(f, "{:?}", self.entry)?;
            return self.args.iter().try_for_each(|arg| write!(f, " {arg:?}"));
        }
        let settings: Vec<_> = self.settings.iter().map(Setting::step).collect();
        f.debug_struct("Command")
            .field("entry", &self.entry)
            .field("arg0", &self.arg0)
            .field("args", &self.args)
            .field("env_clear", &self.env_clear)
            .field("env", &self.env)
            .field("streams", &self.streams)
            .field("descriptors", &self.descriptors)
            .field("parent_death_signal", &self.death_signal)
            .field("process_group", &self.process_group)
            .field("kill_group_with_child", &self.kill_group)
            .field("settings", &settings)
            .field("sealed", &self.sealed)
            .field("executable", &self.executable)
            .field("ready_timeout", &self.ready_timeout)
            .field("stream_grace", &self.stream_grace)
            .finish()
    }
}
