//! The builder: what to start, and how.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use crate::setting::Setting;
use crate::{Child, Error, OutputError, Resource, Stage, spawn};

/// How long [`Command::spawn`] waits for the child by default.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long [`Command::output`] bears silence after the child's end by default.
const STREAM_GRACE: Duration = Duration::from_secs(1);

/// A builder for a child that runs the function registered as `name`; see [`Command`].
///
/// Nothing is looked up yet: an unknown name is an error of [`Command::spawn`].
pub fn command(name: &str) -> Command {
    Command {
        entry: name.to_owned(),
        args: Vec::new(),
        env_clear: false,
        env: BTreeMap::new(),
        stdin: None,
        stdout: None,
        stderr: None,
        descriptors: Vec::new(),
        death_signal: Some(libc::SIGTERM),
        ready_timeout: READY_TIMEOUT,
        process_group: None,
        sealed: false,
        executable: None,
        stream_grace: STREAM_GRACE,
        settings: Vec::new(),
    }
}

/// A child to be started, with the names of [`std::process::Command`].
///
/// The child executes this program's own file once more and runs the registered function instead
/// of the rest of `main`. It starts with an empty signal mask and default dispositions (but for
/// `SIGPIPE`, which every Rust program ignores, and for [`Command::ignore_signal`]), and ends when
/// this process ends.
///
/// A command may be spawned repeatedly. Descriptors are the exception: each is handed over by the
/// first spawn that succeeds, and this process keeps no copy, so that an end of file arrives when
/// the child closes its copy.
pub struct Command {
    pub(crate) entry: String,
    pub(crate) args: Vec<OsString>,
    pub(crate) env_clear: bool,
    /// `None` removes an inherited variable.
    pub(crate) env: BTreeMap<OsString, Option<OsString>>,
    pub(crate) stdin: Option<Stdio>,
    pub(crate) stdout: Option<Stdio>,
    pub(crate) stderr: Option<Stdio>,
    /// `None` if it went to a child that was started before.
    pub(crate) descriptors: Vec<(String, Option<OwnedFd>)>,
    pub(crate) death_signal: Option<i32>,
    pub(crate) ready_timeout: Duration,
    pub(crate) process_group: Option<i32>,
    pub(crate) sealed: bool,
    pub(crate) executable: Option<PathBuf>,
    pub(crate) stream_grace: Duration,
    pub(crate) settings: Vec<Setting>,
}

impl Command {
    /// Adds an argument. The child's `argv[0]` is the name of the entry; this comes after it.
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

    /// Sets a variable in the child's environment, which otherwise is this process's own at the
    /// time of the spawn.
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

    /// Takes a variable out of the child's environment.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.env.insert(key.as_ref().to_owned(), None);
        self
    }

    /// Gives the child an empty environment, but for what [`Command::env`] sets from here on.
    pub fn env_clear(&mut self) -> &mut Self {
        self.env_clear = true;
        self.env.clear();
        self
    }

    /// The child's standard input. Default: inherited by `spawn` and `status`, the null device in
    /// `output`.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdin = Some(stdio.into());
        self
    }

    /// The child's standard output. Default: inherited by `spawn` and `status`, captured by
    /// `output`.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdout = Some(stdio.into());
        self
    }

    /// The child's standard error. Default as for [`Command::stdout`].
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stderr = Some(stdio.into());
        self
    }

    /// Hands a descriptor to the child, which takes it with
    /// [`inherited_fd(name)`](crate::inherited_fd). No other process gets a copy, also when other
    /// threads spawn at the same time. Two of the same name are refused by `spawn`.
    ///
    /// The number of them has two limits. While the child starts, each takes up to two numbers more below
    /// `RLIMIT_NOFILE` (`EMFILE`). And their names, with four bytes for each supplementary group and
    /// the names of the entry and of the directory, must fit into the 64 KiB that a child can be told
    /// ([`Stage::Invalid`](crate::Stage::Invalid)).
    pub fn fd(&mut self, name: &str, fd: impl Into<OwnedFd>) -> &mut Self {
        self.descriptors
            .retain(|(known, fd)| known != name || fd.is_some());
        self.descriptors.push((name.to_owned(), Some(fd.into())));
        self
    }

    /// Which signal the child gets when this *process* ends, however it ends. Default:
    /// `SIGTERM`. The end of the thread that spawned it does nothing. `SIGKILL` is possible. A number
    /// that is no signal, or that libc keeps for itself, such as 32 and 33, is refused by `spawn`.
    pub fn die_with_parent(&mut self, signal: i32) -> &mut Self {
        self.death_signal = Some(signal);
        self
    }

    /// Lets the child live on when this process ends. It becomes an orphan then, and is adopted.
    pub fn outlive_parent(&mut self) -> &mut Self {
        self.death_signal = None;
        self
    }

    /// Puts the child into this process group, 0 for one of its own. Done at its birth, so that the
    /// group can be signalled as soon as `spawn` has returned. If there is no such group in this
    /// session, that is [`Stage::ProcessGroup`](crate::Stage::ProcessGroup).
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.process_group = Some(group);
        self
    }

    /// Makes the child ignore this signal. It is blocked from the child's first instruction on until
    /// it is ignored, so it does nothing however early it comes. A program that the child executes
    /// ignores it, too. What the child starts with a [`command`](crate::command) or
    /// [`fork`](crate::fork()) of its own does not.
    ///
    /// `SIGKILL`, `SIGSTOP` and a number that is no signal are refused by `spawn`. So is the signal of
    /// [`Command::die_with_parent`], `SIGTERM` by default: the child would not end with its parent.
    pub fn ignore_signal(&mut self, signal: i32) -> &mut Self {
        let setting = Setting::IgnoreSignal(signal);
        self.settings.retain(|known| *known != setting);
        self.settings.push(setting);
        self
    }

    /// Makes the child the leader of a new session, without a terminal. Not together with
    /// [`Command::process_group`].
    pub fn setsid(&mut self) -> &mut Self {
        self.set(Setting::NewSession)
    }

    /// The child's working directory. It is entered after [`Command::user`] has been applied, and
    /// so with that user's rights.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.set(Setting::CurrentDir(
            dir.as_ref().as_os_str().as_bytes().to_vec(),
        ))
    }

    /// The child's file mode creation mask, such as `0o077`; more than `0o777` is refused by `spawn`.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.set(Setting::Umask(mask))
    }

    /// A limit of the child, and of the processes that it starts. Units are [`Resource`]'s;
    /// `u64::MAX` is no limit. Of [`Resource::OpenFiles`], the child's own start takes five and
    /// what is handed over: the streams, the lifeline, the control channel until it is ready. What
    /// is open already stays so, also above a limit.
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.settings.retain(|setting| {
            !matches!(setting, Setting::Limit { resource: known, .. } if *known == resource)
        });
        self.settings.push(Setting::Limit {
            resource,
            soft,
            hard,
        });
        self
    }

    /// Added to the child's nice value: the higher, the less of a contended processor it gets.
    /// Below 0 takes privileges.
    pub fn nice(&mut self, increment: i32) -> &mut Self {
        self.set(Setting::Nice(increment))
    }

    /// The child's user: real, effective and saved id. Started by root, it also loses the
    /// supplementary groups, unless [`Command::groups`] says which. It keeps the group: set that,
    /// too, with [`Command::group`].
    ///
    /// Of this, of the group and of the groups, the child reads back what it became, and the spawn
    /// fails if that is not what was set. `u32::MAX`, which means "no change" to the kernel, is
    /// refused.
    pub fn user(&mut self, uid: u32) -> &mut Self {
        self.set(Setting::User(uid))
    }

    /// The child's group: real, effective and saved id.
    pub fn group(&mut self, gid: u32) -> &mut Self {
        self.set(Setting::Group(gid))
    }

    /// The child's supplementary groups: at most some 16,000, see [`Command::fd`].
    pub fn groups(&mut self, gids: &[u32]) -> &mut Self {
        self.set(Setting::Groups(gids.to_vec()))
    }

    /// Neither the child nor what it starts can gain privileges by executing a set-user-id program;
    /// see `PR_SET_NO_NEW_PRIVS` in prctl(2).
    pub fn no_new_privs(&mut self) -> &mut Self {
        self.set(Setting::NoNewPrivileges)
    }

    /// Lets the child execute a sealed copy of this program in memory, made once in the life of
    /// this process, instead of the program's file: for a privileged parent of children that are
    /// trusted less. They could otherwise write to the file through `/proc/self/exe` once nobody
    /// runs it any more. The copy takes as much memory as the file is long.
    ///
    /// Refused, as [`Stage::Prepare`](crate::Stage::Prepare) or [`Stage::Exec`](crate::Stage::Exec),
    /// where there is no `/proc`, or where the sysctl `vm.memfd_noexec` or a security module forbids
    /// it.
    pub fn sealed(&mut self) -> &mut Self {
        self.sealed = true;
        self
    }

    /// Lets the child execute this file instead of [`self_exe`](crate::self_exe). It must be this
    /// same program.
    ///
    /// For a program that the kernel did not start itself, so that its `/proc/self/exe` is another
    /// one: under valgrind, under qemu-user, or through its loader by hand
    /// (`ld-linux-x86-64.so.2 ./program`). With valgrind, [`std::env::current_exe`] is the right file.
    ///
    /// The file is looked up when the child starts, with all that means for somebody who can replace
    /// it; a relative path starts from the parent's directory. Not together with [`Command::sealed`].
    pub fn executable(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.executable = Some(path.into());
        self
    }

    /// Adds a setting; one of the same kind that was there is replaced.
    fn set(&mut self, setting: Setting) -> &mut Self {
        let kind = mem::discriminant(&setting);
        self.settings
            .retain(|known| mem::discriminant(known) != kind);
        self.settings.push(setting);
        self
    }

    /// How long [`Command::spawn`] waits for the child to be ready to run its entry. Default:
    /// 30 s; a child takes about a millisecond.
    pub fn ready_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.ready_timeout = timeout;
        self
    }

    /// Starts the child, and returns when it is ready to run its entry.
    ///
    /// The calling thread is suspended until the child has executed the program (as with every
    /// `vfork`), and then waits for its report: about a millisecond altogether. In an async
    /// program, call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// [`Error`], which converts into [`std::io::Error`], says at which [`Stage`](crate::Stage) the
    /// start failed. No process and no
    /// descriptor is left of it then; descriptors handed to this command are still in it.
    pub fn spawn(&mut self) -> Result<Child, Error> {
        spawn::spawn(self, Unset::Inherited)
    }

    /// Starts the child, and returns when it has executed the program, without waiting for its
    /// report: for a server that starts many, and has other things to do while they get ready.
    ///
    /// A child that then cannot come as far as its entry says so on stderr and ends with
    /// [`EXIT_SETUP_FAILED`](crate::EXIT_SETUP_FAILED) or
    /// [`EXIT_UNKNOWN_ENTRY`](crate::EXIT_UNKNOWN_ENTRY).
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`] but [`Stage::SetUp`](crate::Stage::SetUp),
    /// [`Stage::UnknownEntry`](crate::Stage::UnknownEntry),
    /// [`Stage::BeforeInit`](crate::Stage::BeforeInit) and
    /// [`Stage::NotReady`](crate::Stage::NotReady).
    pub fn spawn_unconfirmed(&mut self) -> Result<Child, Error> {
        spawn::spawn_unconfirmed(self)
    }

    /// Starts the child and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`], and those of [`Child::wait`] as
    /// [`Stage::Wait`](crate::Stage::Wait).
    pub fn status(&mut self) -> Result<ExitStatus, Error> {
        let ended = spawn::run_to_end(self)?.wait();
        ended.map_err(|source| Error::new(&self.entry, Stage::Wait { source }))
    }

    /// Starts the child, collects what it writes to stdout and stderr, and waits until it has
    /// ended. Streams that have been set to something else stay so.
    ///
    /// See [`Child::wait_with_output`] for what happens when another process holds a stream open.
    ///
    /// # Errors
    ///
    /// [`OutputError`], with what was read until then; it converts into [`std::io::Error`].
    pub fn output(&mut self) -> Result<Output, OutputError> {
        spawn::spawn(self, Unset::Captured)?.wait_with_output()
    }

    /// How long [`Command::output`] and [`Child::wait_with_output`] bear silence on a stream that
    /// another process holds open after the child's end. Each byte that comes starts the time anew.
    /// Default: 1 s. [`Duration::MAX`] waits for the end of the stream however long it takes, as std
    /// does. Whatever it is, a process that never stops writing is read for ever.
    pub fn stream_grace(&mut self, grace: Duration) -> &mut Self {
        self.stream_grace = grace;
        self
    }

    /// Whether the child is to have descriptors that this process is to keep no copy of.
    pub(crate) fn hands_over(&self) -> bool {
        let given = |stdio: &Option<Stdio>| matches!(stdio, Some(Stdio(Source::Descriptor(_))));
        !self.descriptors.is_empty()
            || [&self.stdin, &self.stdout, &self.stderr]
                .into_iter()
                .any(given)
    }

    /// After a start: the child has the descriptors, and has them alone.
    pub(crate) fn forget_descriptors(&mut self) {
        self.descriptors.iter_mut().for_each(|(_, fd)| *fd = None);
        for stdio in [&mut self.stdin, &mut self.stdout, &mut self.stderr] {
            if let Some(Stdio(source @ Source::Descriptor(_))) = stdio {
                *source = Source::Spent;
            }
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        list.entry(&self.entry).entries(&self.args).finish()
    }
}

/// What the standard streams are that have not been set.
#[derive(Clone, Copy)]
pub(crate) enum Unset {
    Inherited,
    /// Stdin is the null device, stdout and stderr are pipes.
    Captured,
}

/// What one of the child's standard streams is, as [`std::process::Stdio`]; that one cannot be
/// asked for its descriptor.
#[derive(Debug)]
pub struct Stdio(pub(crate) Source);

#[derive(Debug)]
pub(crate) enum Source {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
    /// The descriptor went to a child that was started before.
    Spent,
}

impl Stdio {
    /// The same as this process's own.
    pub fn inherit() -> Self {
        Self(Source::Inherit)
    }

    /// The null device.
    pub fn null() -> Self {
        Self(Source::Null)
    }

    /// A pipe to this process; its end is in [`Child::take_stdin`] and the like.
    pub fn piped() -> Self {
        Self(Source::Piped)
    }
}

/// A file, a socket, the end of a pipe, or of another child: `Stdio::from(stream)`.
impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(descriptor: T) -> Self {
        Self(Source::Descriptor(descriptor.into()))
    }
}
