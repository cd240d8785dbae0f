//! What a worker gives up before it reads its first byte. Somebody who breaks into it through that
//! byte finds a process that can read and write one connection.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::process;

use caps::{CapSet, Capability};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{
    Gid, ResGid, ResUid, Uid, User, getgroups, getppid, getresgid, getresuid, pipe2, setgid,
    setgroups, setuid,
};
use reexec::Fork;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::log::cannot;
use crate::options::{Mode, Model};
use crate::signals;

/// What workers give up, made ready before there are any.
pub(crate) struct Sandbox {
    mode: Mode,
    model: Model,
    identity: Option<Identity>,
    filter: BpfProgram,
    /// Which of [`LAYERS`] may be missing, a bit for each: if nobody insists on any, all of them, and
    /// after [`try_out`](Self::try_out) those that could not be had then.
    may_miss: u8,
    /// Whose end is ours, too: the tie to it has to be renewed after a change of user.
    supervisor: u32,
}

/// What [`Sandbox::try_out`] comes back with.
pub(crate) enum TriedOut {
    /// In the process that has tried: it has nothing else to do.
    Probe,
    /// What the workers will have, for people to read.
    Report(Vec<String>),
}

/// Before the error of a probe that may not do without something.
const REFUSED: char = '!';

/// After the last line of a probe: one that is killed before it has said everything, or anything,
/// has not said that nothing is missing.
const END: &str = ".\n";

type Layer = (&'static str, fn(&Sandbox) -> io::Result<()>);

/// In an order in which each can still be applied.
const LAYERS: [Layer; 5] = [
    ("no new privileges", |_| Ok(prctl::set_no_new_privs()?)),
    ("no capabilities", |_| drop_capabilities()),
    ("landlock", |_| close_file_system()),
    ("limits", Sandbox::limit),
    ("seccomp", Sandbox::filter_system_calls),
];

impl Sandbox {
    /// # Errors
    ///
    /// On a processor for which the filter cannot be compiled.
    pub(crate) fn new(mode: Mode, model: Model, identity: Option<Identity>) -> io::Result<Self> {
        Ok(Self {
            mode,
            model,
            identity,
            filter: match mode {
                Mode::Off => Vec::new(),
                Mode::Try | Mode::Require => compile(model)?,
            },
            may_miss: match mode {
                Mode::Require => 0,
                Mode::Try | Mode::Off => u8::MAX,
            },
            supervisor: process::id(),
        })
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// For a new image of the program; see [`of_child`](Self::of_child).
    pub(crate) fn may_miss(&self) -> u8 {
        self.may_miss
    }

    /// In a new image of the program, whose parent is the supervisor and has tried it out.
    pub(crate) fn of_child(mut self, may_miss: u8) -> Self {
        self.may_miss = may_miss;
        self.supervisor = getppid().as_raw().unsigned_abs();
        self
    }

    /// Gives up in this process what can be given up, and returns what could not, with the reason.
    ///
    /// # Errors
    ///
    /// What could not, if the sandbox is required, or if it could when it was tried out: nobody
    /// would learn that this worker, for want of memory perhaps, has less than all others. The
    /// change of user in any case: nobody who asks for it wants a worker that is still root. Also in
    /// any case, the default dispositions of faults.
    pub(crate) fn enter(&self) -> io::Result<Vec<String>> {
        self.become_user()?;
        let_faults_end_this_process()?;
        let mut missing = Vec::new();
        if self.mode == Mode::Off {
            return Ok(missing);
        }
        for (index, (name, apply)) in LAYERS.iter().enumerate() {
            let Err(error) = apply(self) else { continue };
            let reason = format!("{name}: {error}");
            if self.may_miss & (1 << index) == 0 {
                return Err(io::Error::other(format!(
                    "the sandbox cannot be had: {reason}; without it this process serves nobody"
                )));
            }
            missing.push(reason);
        }
        Ok(missing)
    }

    /// Enters the sandbox in a process made for that, and reads in `/proc` what has come of it. From
    /// then on, what could be had has to be had.
    ///
    /// # Errors
    ///
    /// Those of [`enter`](Self::enter); of making a process and pipes; what the process has ended
    /// by, if it has not come to its own end.
    pub(crate) fn try_out(&mut self) -> io::Result<TriedOut> {
        const PIPE: &str = "make a pipe to a process that tries out the sandbox";
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(cannot(PIPE));
        let (said, mut say) = pipe().map(|(a, b)| (File::from(a), File::from(b)))?;
        let (wait, hold) = pipe().map(|(a, b)| (File::from(a), b))?;
        // As a worker: what is sent to every process of ours must not end it, and us with it.
        let probe = signals::of_a_worker().fork();
        match probe.map_err(cannot("make a process that tries out the sandbox"))? {
            Fork::Child => {
                drop((said, hold));
                let report: String = match self.enter() {
                    Ok(missing) => missing.iter().map(|reason| line(reason)).collect(),
                    Err(error) => line(&format!("{REFUSED}{error}")),
                };
                // If that fails, nobody is there to read it, or the end is missed.
                let _ = say.write_all((report + END).as_bytes());
                drop(say);
                // Until it has been looked at.
                let _ = (&wait).read(&mut [0]);
                Ok(TriedOut::Probe)
            }
            Fork::Parent(probe) => {
                drop((say, wait));
                let mut report = String::new();
                (&said)
                    .read_to_string(&mut report)
                    .map_err(cannot("read what has come of the sandbox"))?;
                let Some(report) = report.strip_suffix(END) else {
                    drop(hold);
                    return Err(not_tried(&probe.wait()?.to_string()));
                };
                if let Some(error) = report.strip_prefix(REFUSED) {
                    return Err(io::Error::other(error.trim_end().to_owned()));
                }
                let missing = report.lines().map(|reason| format!("without {reason}"));
                // To serve takes no /proc.
                let seen = seen(probe.id()).unwrap_or_else(|error| {
                    format!("what a worker has cannot be looked at in /proc: {error}")
                });
                let lines = [seen].into_iter().chain(missing).collect();
                drop(hold);
                let status = probe.wait()?;
                if !status.success() {
                    return Err(not_tried(&status.to_string()));
                }
                self.may_miss = named_in(report);
                Ok(TriedOut::Report(lines))
            }
        }
    }

    fn become_user(&self) -> io::Result<()> {
        let Some(identity) = &self.identity else {
            return Ok(());
        };
        let change = || -> io::Result<()> {
            setgroups(&[])?;
            setgid(identity.gid)?;
            setuid(identity.uid)?;
            // What does not make the change may say that it has, such as a filter that answers in
            // the kernel's place.
            let (uid, gid) = (identity.uid, identity.gid);
            let user = ResUid {
                real: uid,
                effective: uid,
                saved: uid,
            };
            let group = ResGid {
                real: gid,
                effective: gid,
                saved: gid,
            };
            if getresuid()? != user || getresgid()? != group || !getgroups()?.is_empty() {
                return Err(io::Error::other("it was said to be done, and is not"));
            }
            // The change has cleared it.
            Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
        };
        change().map_err(|error| cannot(&format!("become user {}", identity.uid))(error))?;
        // If the supervisor ended before that, the signal will never come.
        if getppid().as_raw().unsigned_abs() != self.supervisor {
            raise(Signal::SIGKILL)?;
        }
        Ok(())
    }

    /// No core dump of a client's bytes, no process, and no descriptor beyond what the model needs.
    fn limit(&self) -> io::Result<()> {
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if self.model != Model::Thread {
            // Threads count, too.
            setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
        }
        if matches!(self.model, Model::Fork | Model::Reexec) {
            // Not 0, because poll(2) refuses to watch more descriptors than this limit. It still
            // allows no new one: the only number below it is stdin's.
            setrlimit(Resource::RLIMIT_NOFILE, 1, 1)?;
        }
        Ok(())
    }

    fn filter_system_calls(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.filter).map_err(io::Error::other)
    }
}

/// Whom workers become.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl Identity {
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if there is no such user, or if we are not root. Others if
    /// it cannot be found out, and if we are root without a right that this takes.
    pub(crate) fn of_user(name: &str) -> io::Result<Self> {
        if !Uid::effective().is_root() {
            return Err(refuse(format!(
                "cannot become user {name}: that takes root"
            )));
        }
        let identity = match name.split_once(':') {
            Some((uid, gid)) => Self::of_numbers(name, uid, gid)?,
            None => Self::look_up(name)?,
        };
        // setuid(2) and its like take it for "no change", and report no error.
        if [identity.uid.as_raw(), identity.gid.as_raw()].contains(&u32::MAX) {
            return Err(refuse(format!(
                "cannot become user {name}: {} is the number of no user and no group",
                u32::MAX
            )));
        }
        for right in RIGHTS {
            let has = caps::has_cap(None, CapSet::Effective, right).map_err(|error| {
                io::Error::other(format!("cannot look for the right {right}: {error}"))
            })?;
            if !has {
                return Err(io::Error::other(format!(
                    "cannot have workers of user {name}: that takes {right}, which this process \
                     does not have; give it back, or leave out --user"
                )));
            }
        }
        Ok(identity)
    }

    /// Needs no passwd file, which a small container does not have.
    fn of_numbers(name: &str, uid: &str, gid: &str) -> io::Result<Self> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                refuse(format!(
                    "cannot become user {name}: {text:?} is no number; say NAME, UID or UID:GID"
                ))
            })
        };
        Ok(Self {
            uid: Uid::from_raw(number(uid)?),
            gid: Gid::from_raw(number(gid)?),
        })
    }

    /// By its name or, if nobody has that name, by its number.
    fn look_up(name: &str) -> io::Result<Self> {
        let number = name.parse().ok().map(Uid::from_raw);
        let mut found = not_found_is_none(User::from_name(name));
        if let (Ok(None), Some(uid)) = (&found, number) {
            found = not_found_is_none(User::from_uid(uid));
        }
        match (found, number) {
            (Ok(Some(User { uid, gid, .. })), _) => Ok(Self { uid, gid }),
            (Ok(None), None) => Err(refuse(format!("there is no user {name}"))),
            (Ok(None), Some(_)) => Err(refuse(format!(
                "there is no user {name} whose group could be looked up; say which: {name}:GID"
            ))),
            // Not with its kind, which may be that of bad input.
            (Err(error), _) => {
                let message = format!("cannot look up user {name}: {error}");
                Err(io::Error::other(message))
            }
        }
    }
}

/// The numbers that getpwnam(3) lists for "not found"; the first is that of a missing passwd file.
fn not_found_is_none(found: nix::Result<Option<User>>) -> nix::Result<Option<User>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => found,
    }
}

/// An error of usage: what was asked for cannot be done.
fn refuse(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// What it takes to become another user, and to end a process that has: without the last, workers
/// would go on when the server ends, or wants them to.
const RIGHTS: [Capability; 3] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
];

/// For the report of a probe, which consists of lines.
fn line(text: &str) -> String {
    text.replace('\n', " ") + "\n"
}

/// Which of [`LAYERS`] these lines are about, a bit for each.
fn named_in(report: &str) -> u8 {
    let is_named = |name: &str| {
        let mut reasons = report.lines().filter_map(|line| line.strip_prefix(name));
        reasons.any(|rest| rest.starts_with(": "))
    };
    let names = LAYERS.iter().map(|(name, _)| *name).enumerate();
    let named = names.filter(|(_, name)| is_named(name));
    named.fold(0, |bits, (index, _)| bits | 1 << index)
}

fn not_tried(status: &str) -> io::Error {
    io::Error::other(format!(
        "cannot try out the sandbox: the process that does it has ended: {status}; \
         --sandbox off does without"
    ))
}

/// Gives SIGSEGV and SIGBUS their default dispositions, which end the process.
///
/// std handles both, to report a stack overflow. In the sandbox a worker that crashes would never end:
///
/// 1. The worker reads where no memory is. The kernel calls std's handler.
/// 2. The handler sees no stack overflow. It sets the default disposition, and returns.
/// 3. The filter has refused to set it. The same instruction faults again, and so on.
///
/// abort(3) needs this, too: the filter refuses to send SIGABRT. glibc on x86-64 then runs `hlt`, which
/// no program may run, and the kernel sends SIGSEGV.
fn let_faults_end_this_process() -> io::Result<()> {
    [libc::SIGSEGV, libc::SIGBUS]
        .into_iter()
        .try_for_each(reexec::signal::reset)
        .map_err(cannot("set SIGSEGV and SIGBUS to their defaults"))
}

/// Root without capabilities is a user who happens to own many files.
fn drop_capabilities() -> io::Result<()> {
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

/// No path can be opened, no port bound or connected to, no process outside signalled, as far as
/// this kernel's Landlock goes.
fn close_file_system() -> io::Result<()> {
    let newest = ABI::V6;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(newest)))
        .and_then(|rules| rules.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.restrict_self());
    match rules {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err(io::Error::other("this kernel has none"))
        }
        // What is there in every file system.
        Ok(_) => match File::open("/") {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
            Err(error) => Err(io::Error::other(format!(
                "applied, but it cannot be tried by opening /: {error}"
            ))),
            Ok(_) => Err(io::Error::other("applied, and yet a file can be opened")),
        },
        Err(error) => Err(io::Error::other(error)),
    }
}

/// What serving takes, in any model. Everything else fails with EPERM, so that a library that tries
/// something harmless and new does not end the server.
const CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_ppoll,
    libc::SYS_shutdown,
    libc::SYS_close,
    // Before a terminal is tried again.
    libc::SYS_sched_yield,
    libc::SYS_setsockopt,
    libc::SYS_getpeername,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // What std and libc do on their own.
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What taking clients takes, besides.
const CALLS_OF_A_POOL: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_fstat,
    libc::SYS_statx,
];

/// What starting threads takes, besides.
const CALLS_OF_THREADS: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
];

fn compile(model: Model) -> io::Result<BpfProgram> {
    let compiled = rules(model).and_then(|rules| {
        SeccompFilter::new(
            rules,
            SeccompAction::Errno(Errno::EPERM as u32),
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()
    });
    compiled.map_err(|error| {
        io::Error::other(format!(
            "cannot compile the filter of system calls: {error}"
        ))
    })
}

/// A call without a rule is allowed whatever its parameters are.
fn rules(model: Model) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, vec![memory_but_no_code()?]);
    if !matches!(model, Model::Fork | Model::Reexec) {
        rules.extend(CALLS_OF_A_POOL.iter().map(|&call| (call, Vec::new())));
        // Not F_SETOWN: to have signals sent to others. std looks with F_GETFD, in debug builds,
        // whether what it closes is open.
        let lock = only(libc::F_SETLKW as u64)?;
        rules.insert(libc::SYS_fcntl, vec![lock, only(libc::F_GETFD as u64)?]);
    }
    if model == Model::Thread {
        rules.extend(CALLS_OF_THREADS.iter().map(|&call| (call, Vec::new())));
        rules.insert(libc::SYS_mprotect, vec![memory_but_no_code()?]);
    }
    Ok(rules)
}

/// mmap(2) and mprotect(2) without PROT_EXEC.
fn memory_but_no_code() -> Result<SeccompRule, BackendError> {
    const PROTECTION: u8 = 2; // the third parameter of both
    let executable = libc::PROT_EXEC as u64;
    let condition = SeccompCmpOp::MaskedEq(executable);
    SeccompRule::new(vec![SeccompCondition::new(
        PROTECTION,
        SeccompCmpArgLen::Dword,
        condition,
        0,
    )?])
}

/// fcntl(2) with this request.
fn only(request: u64) -> Result<SeccompRule, BackendError> {
    const REQUEST: u8 = 1; // the second parameter
    SeccompRule::new(vec![SeccompCondition::new(
        REQUEST,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        request,
    )?])
}

/// What the kernel says of a process, in its own words. It says nothing of Landlock: that one was
/// tried.
fn seen(id: u32) -> io::Result<String> {
    // In a new pid namespace it may be the old one's, where the number is somebody else's.
    if fs::read_link("/proc/self")?.as_os_str() != process::id().to_string().as_str() {
        return Err(io::Error::other("it is that of another pid namespace"));
    }
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let limits = fs::read_to_string(format!("/proc/{id}/limits"))?;
    let first = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let word = value.and_then(|value| {
            value
                .trim_start_matches(':')
                .split_ascii_whitespace()
                .next()
        });
        format!("{name} {}", word.unwrap_or("?"))
    };
    let of_status = ["Uid", "CapEff", "NoNewPrivs", "Seccomp"].map(|name| first(&status, name));
    let of_limits = ["Max processes", "Max open files"].map(|name| first(&limits, name));
    Ok(format!(
        "a worker has {}, {}, says /proc/{id}",
        of_status.join(", "),
        of_limits.join(", ")
    ))
}
