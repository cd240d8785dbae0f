//! Templates: children that are cloned from a waiting copy of the program, instead of executed.

use std::ffi::c_long;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::process::{self, ExitStatus};
use std::sync::Arc;

use nix::unistd::{Pid, setpgid};

use crate::child_setting::ignored_signals;
use crate::command::command;
use crate::confinement::Confinement;
use crate::control::packet_sockets;
use crate::message::Preparation;
use crate::prepare_spawn::{Prepared, Way, step};
use crate::stdio::StdioDefault;
use crate::sys::{RIGHTS_MAX, SharedWord};
use crate::template_message::{ARGUMENTS_MAX, ENTRY, PAGE, Request, SOCKET};
use crate::template_process::{State, TemplateProcess, Templates};
use crate::validate::invalid;
use crate::{Child, Command, Error, Stage, Stdio, sys, template_server};

/// Makes children by cloning a waiting copy of the program, which takes about half the time of an exec.
///
/// **Confine yourself, then make the template.** A child has the rights that this process had when it
/// made the template, not those that it has now.
///
/// The template is one child, which is started as every other, and waits inside
/// [`init`](crate::init()). For each command made by [`Template::command`], it clones itself. The clone
/// is a child of this process, not of the template, and continues as an executed child does. So
/// everything that [`Command`] and [`Child`](crate::Child) promise holds for it as well: arguments,
/// environment, the name in ps(1), streams, descriptors, settings, signals, the lifeline, and errors by
/// stage.
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     reexec::register("worker", || { /* the child's work */ });
///     if let Some(code) = reexec::init() {
///         return code;
///     }
///     let template = reexec::Template::new().unwrap();
///     for _ in 0..3 {
///         let worker = template.command("worker").spawn().unwrap();
///         assert!(worker.wait().unwrap().success());
///     }
///     ExitCode::SUCCESS
/// }
/// ```
///
/// Use a template for many short children, such as one for each request. Otherwise use
/// [`command`](crate::command()): a fresh exec shares nothing with other children.
///
/// # What differs from an executed child
///
/// - Everything that is not part of the command is the template's, of the moment when it was made:
///   working directory, root, umask, limits, nice value and scheduling, cgroup, OOM score, process group
///   and session, terminal, user and groups, capabilities and securebits, `no_new_privs`, seccomp
///   filters, Landlock, and namespaces. The environment and the streams are those of this process at the
///   time of the spawn.
/// - Code before [`init`](crate::init()) has run once, in the template, and with the null device as its
///   streams. What it has computed is shared by all children; for instance the keys of a `HashMap`, if
///   it has made one.
/// - Variables that the loader and libc read at exec, such as `LD_PRELOAD` and `GLIBC_TUNABLES`, have no
///   effect on the child itself.
/// - Children of one template have the same address layout and the same stack canary, as the children
///   of a forking server have. Who can read the memory of one child knows where to attack the others;
///   see [`Template::renew_after`].
/// - Handlers of pthread_atfork(3) do not run.
/// - A child that sets `PR_SET_PDEATHSIG` gets that signal when the thread that made the template ends;
///   see prctl(2).
///
/// # When the child is executed instead
///
/// What the template cannot make is executed, with the same behaviour.
/// [`Child::is_from_template`](crate::Child::is_from_template) tells which way was taken, and
/// [`Template::why_executed`] why. This happens if:
///
/// - the command has more than 64 arguments, more than 64 KiB of arguments, environment and settings,
///   more than 253 descriptors with the streams, [`Command::sealed`] or [`Command::executable`];
/// - stdin, stdout or stderr of this process is closed, and the child would inherit it;
/// - the template cannot make the process or put it into its group. If executing fails as well, that
///   is the error;
/// - no copy of the program would be like a new start: with musl, without a `/proc`, if a filter or an
///   old kernel refuses clone3(2), if a library has started a thread or opened a descriptor before
///   `init`, or if a static program has inherited a descriptor that nobody closed;
/// - the template has ended, or does not answer within five seconds; it is killed then. No child gets
///   lost by that, and none is made twice: the kernel stores the number of each in memory that the
///   template shares with this process. After the spawn, another template is started.
///
/// # When a spawn fails
///
/// A spawn fails at [`Stage::Invalid`] if the calling thread has other user or group ids, groups,
/// capabilities, `no_new_privs`, seccomp mode, root directory or namespaces than the thread that made
/// the template had. It also fails in a forked copy of the process that made it. Further seccomp filters,
/// and Landlock, cannot be seen: a child of an older template does not have them.
///
/// # Handles
///
/// Clones of this handle, and the commands made by it, share the template. Requests wait for each other.
/// Dropping the last of them ends the template and reaps it; its children live on. The template also
/// ends when this process ends.
#[derive(Clone)]
pub struct Template(Arc<Templates>);

impl Template {
    /// The system calls that a template and its children make after the template's preparation, until
    /// a child runs its entry; see [`Template::prepared_by`]. It is complete for arguments, environment,
    /// streams, descriptors, process groups, the lifeline and [`Command::ignore_signal`]. Other
    /// settings need their own calls, such as setrlimit(2), and so does what the child runs.
    ///
    /// Let a child that has started give up those that it does not need any more, best with a second
    /// filter of system calls. One of them makes processes.
    pub const SYSTEM_CALLS: &'static [c_long] = template_server::SYSTEM_CALLS;

    /// Starts a template, and returns when it is ready to make children.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`], for an entry with the name `reexec/template`; also
    /// [`Stage::Prepare`] if the rights of this thread cannot be found out. A template that cannot make
    /// children is no error.
    pub fn new() -> Result<Template, Error> {
        Self::make_template(None)
    }

    /// Starts a template that confines itself before it makes children, while this process stays as it
    /// is. In the template, the function registered by
    /// [`register_preparation`](crate::register_preparation) as `name` runs with these arguments.
    ///
    /// What the function gives up, all children lack: a user, capabilities, files (Landlock), or system
    /// calls. What it leaves in memory, such as in a `static`, all children have. A child that is
    /// executed instead runs the function itself, before its entry; and so does each template that
    /// replaces this one. If the function fails there, the child does not run its entry.
    ///
    /// ```
    /// use std::process::ExitCode;
    /// use std::sync::OnceLock;
    ///
    /// static GREETING: OnceLock<String> = OnceLock::new();
    ///
    /// fn main() -> ExitCode {
    ///     reexec::register_preparation("prepare", |args| {
    ///         // A server would also become another user here, and drop its rights.
    ///         let _ = GREETING.set(args.join(" "));
    ///         Ok(())
    ///     });
    ///     reexec::register("greeter", || assert_eq!(GREETING.get().unwrap(), "hello world"));
    ///     if let Some(code) = reexec::init() {
    ///         return code;
    ///     }
    ///     let template = reexec::Template::prepared_by("prepare", ["hello", "world"]).unwrap();
    ///     assert!(template.command("greeter").status().unwrap().success());
    ///     ExitCode::SUCCESS
    /// }
    /// ```
    ///
    /// The function must leave no thread and no descriptor. Otherwise, the children are executed. After
    /// the function, the template and its children need the system calls of [`Template::SYSTEM_CALLS`]
    /// until their entries run. The template's streams are the null device, and it blocks all signals.
    ///
    /// # Errors
    ///
    /// Those of [`Template::new`]. [`Stage::SetUp`] if the function fails, with its error; and if no
    /// function is registered under this name.
    pub fn prepared_by<S: Into<String>>(
        name: impl Into<String>,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Template, Error> {
        let args = args.into_iter().map(Into::into).collect();
        Self::make_template(Some(Arc::new(Preparation { name: name.into(), args })))
    }

    fn make_template(preparation: Option<Arc<Preparation>>) -> Result<Template, Error> {
        let failed = |stage| Error::new(ENTRY, stage);
        let confinement = confinement().map_err(failed)?;
        let first = start_template(preparation.clone(), true)?;
        let templates = Templates::new(first, confinement, preparation);
        templates.state().await_greeting();
        Ok(Template(Arc::new(templates)))
    }

    /// Makes a builder for a child of this template that runs the function registered as `name`; see
    /// [`command`](crate::command()).
    ///
    /// `call` clones the child that is called. [`Command::spawn_job`] clones the job's keeper, and the
    /// entry runs in a fork of the keeper.
    pub fn command(&self, name: impl Into<String>) -> Command {
        self.make(command(name))
    }

    /// Lets this template make the child of the command.
    pub(crate) fn make(&self, mut command: Command) -> Command {
        command.preparation.clone_from(&self.0.preparation);
        command.template = Some(Arc::clone(&self.0));
        command
    }

    /// Replaces the template each time it has made so many children; 0 means never, and is the default.
    ///
    /// The children of different templates have different address layouts. With 1, each child has its
    /// own, as an executed one; the exec then happens before the child is asked for, and no longer
    /// delays it.
    ///
    /// The next template is started as soon as the last child has been told what to run, and has the
    /// surroundings of that moment, such as the working directory.
    pub fn renew_after(&self, children: u32) {
        self.0.state().renew_after = children;
    }

    /// Returns a descriptor that becomes readable when the present template has ended; `None` if there is
    /// no template now. Without pidfds it is a pipe, as for a [`Child`](crate::Child).
    ///
    /// A template that was killed stays a zombie until the next spawn. A process that may wait long for
    /// that polls this descriptor, and calls [`Template::renew`] when it is readable. After that, and
    /// whenever a spawn has replaced the template, another template has another descriptor.
    ///
    /// # Errors
    ///
    /// `EMFILE`: the descriptor is a copy, and there is no room for it.
    pub fn end_fd(&self) -> io::Result<Option<OwnedFd>> {
        self.0.state().current.as_ref().map(TemplateProcess::end_fd).transpose()
    }

    /// If the template has ended, reaps it, starts another one, and returns the status of the ended one.
    /// Returns `None` if the template is running, or if a spawn has replaced it or other code has reaped
    /// it. A spawn replaces a template that has ended, too.
    ///
    /// ```
    /// # fn main() -> std::process::ExitCode {
    /// #     reexec::register("worker", || ());
    /// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
    /// # }
    /// # fn parent() -> Result<(), Box<dyn std::error::Error>> {
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    /// use std::os::fd::AsFd;
    ///
    /// let template = reexec::Template::new()?;
    /// let end = template.end_fd()?.ok_or("there is no template")?;
    /// # let killed = template.id().ok_or("there is no template")?;
    /// # nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed as i32), nix::sys::signal::SIGKILL)?;
    /// // In the loop of a server, beside its other descriptors:
    /// poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
    /// if let Some(status) = template.renew()? {
    ///     println!("the template has ended: {status}");
    /// }
    /// // From now on, poll the descriptor of the next template.
    /// let end = template.end_fd()?;
    /// # assert_ne!(template.id(), Some(killed));
    /// # assert!(end.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Template::new`] if no other template can be started. [`Stage::Invalid`] if a spawn would
    /// fail there, too.
    pub fn renew(&self) -> Result<Option<ExitStatus>, Error> {
        check_maker(&self.0).map_err(|stage| Error::new(ENTRY, stage))?;
        let mut state = self.0.state();
        let status = state.reap();
        replace_if_due(&self.0, &mut state)?;
        Ok(status)
    }

    /// Returns the process id of the template; `None` if there is none now. It changes when the template
    /// is replaced.
    pub fn id(&self) -> Option<u32> {
        self.0.state().current.as_ref().map(TemplateProcess::id)
    }

    /// Says why the latest of the commands that were executed instead was not made by the template;
    /// `None` if there was none. Before the first command, says why the template can make no children.
    pub fn why_executed(&self) -> Option<String> {
        self.0.state().reason.clone()
    }
}

impl Child {
    /// Whether a [`Template`] has made the child. Otherwise the child has executed the program, or is a
    /// [`fork`](crate::fork()).
    pub fn is_from_template(&self) -> bool {
        self.from_template
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("id", &self.id()).finish_non_exhaustive()
    }
}

fn confinement() -> Result<Confinement, Stage> {
    step("looking at the rights of this process", Confinement::now())
}

/// Starts one template the way every child is started.
fn start_template(
    preparation: Option<Arc<Preparation>>,
    confirm: bool,
) -> Result<TemplateProcess, Error> {
    let failed = |stage| Error::new(ENTRY, stage);
    let (ours, its) = step("making the template's socket", packet_sockets()).map_err(failed)?;
    let (number, page) = step("making the template's page", SharedWord::new()).map_err(failed)?;
    let mut command = command(ENTRY);
    command.preparation = preparation;
    // Signals to the process group, such as Ctrl-C, are not for the template. Each child unblocks them
    // when it is one.
    command.blocks_signals = true;
    command
        .args([""; ARGUMENTS_MAX])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .fd(SOCKET, its)
        .fd(PAGE, page)
        // It blocks all others. Its socket ends as well; but if it is stopped, it does not see that.
        .parent_death_signal(libc::SIGKILL);
    let child = match confirm {
        true => command.spawn()?,
        false => command.spawn_unconfirmed()?,
    };
    Ok(TemplateProcess::new(child, ours, number))
}

/// Lets the command's template make the child, which then runs. Returns `None` if the child must be
/// executed: the command has no template, or the template cannot make it. Executing it then gives the
/// error, if there is one.
///
/// # Errors
///
/// If this process has other rights than when it made the template.
pub(crate) fn start<'a>(
    command: &'a Command,
    default: StdioDefault,
    confirm: bool,
) -> Result<Option<(Prepared<'a>, i32)>, Stage> {
    let Some(templates) = &command.template else { return Ok(None) };
    check_maker(templates)?;
    let mut state = templates.state();
    if state.is_unusable {
        return Ok(None);
    }
    if let Some(reason) = unfit(command) {
        state.reason = Some(reason.to_owned());
        return Ok(None);
    }
    let prepared = Prepared::new(command, default, confirm, Way::Template)?;
    let descriptors = match sources(&prepared) {
        Ok(descriptors) => descriptors,
        Err(reason) => {
            state.reason = Some(reason);
            return Ok(None);
        }
    };
    let group = command.group_at_birth();
    let pid = state.request(&Request {
        launch: &prepared.launch,
        argv: &prepared.argv,
        env: &prepared.env,
        keeps_env: command.keeps_template_env,
        ignored: &ignored_signals(&command.settings),
        group,
        descriptors: &descriptors,
    });
    drop(state);
    let Some(pid) = pid else { return Ok(None) };
    if group == Some(0) {
        // The child does that before its entry; but we may signal the group earlier. This fails if the
        // child has ended, or has executed something.
        let _ = setpgid(Pid::from_raw(pid), Pid::from_raw(pid));
    }
    Ok(Some((prepared, pid)))
}

/// Starts another template if that is due.
pub(crate) fn renew(command: &Command) {
    let Some(templates) = &command.template else { return };
    let mut state = templates.state();
    if let Err(error) = replace_if_due(templates, &mut state) {
        state.reason = Some(error.to_string());
    }
}

fn replace_if_due(templates: &Templates, state: &mut State) -> Result<(), Error> {
    if state.is_renewal_due() {
        drop(state.current.take());
        state.current = Some(start_template(templates.preparation.clone(), false)?);
    }
    Ok(())
}

/// Fails if the template would give a child other rights than this process has.
fn check_maker(templates: &Templates) -> Result<(), Stage> {
    if templates.maker != process::id() {
        return Err(invalid(
            "the template belongs to the process that this one was forked from; make another one",
        ));
    }
    match templates.confinement.difference(&confinement()?) {
        None => Ok(()),
        Some(what) => Err(invalid(format!(
            "the {what} of this process are not those that it had when it made the template; make \
             another one"
        ))),
    }
}

/// Returns why no template can make this child.
fn unfit(command: &Command) -> Option<&'static str> {
    if command.sealed {
        return Some("the command executes a sealed copy of the program");
    }
    if command.executable.is_some() {
        return Some("the command names a file to execute");
    }
    (command.args.len() > ARGUMENTS_MAX).then_some("the command has more than 64 arguments")
}

/// Returns the descriptors that the child gets, by their numbers in the child. Its streams are those of
/// this process unless the command says otherwise.
///
/// # Errors
///
/// The reason why no message can carry them.
fn sources(prepared: &Prepared<'_>) -> Result<Vec<RawFd>, String> {
    let mut sources: Vec<Option<RawFd>> = vec![None; prepared.fd_map.end() as usize];
    if sources.len() > RIGHTS_MAX {
        return Err(format!("the child gets more than {RIGHTS_MAX} descriptors"));
    }
    for (source, target) in prepared.fd_map.pairs() {
        sources[target as usize] = Some(source);
    }
    let source = |(given, own): (Option<RawFd>, RawFd)| match given {
        Some(source) => Ok(source),
        None if sys::is_inheritable(own) => Ok(own),
        // Something else may have the number by now.
        None => Err("stdin, stdout or stderr of this process is closed".to_owned()),
    };
    sources.into_iter().zip(0..).map(source).collect()
}
