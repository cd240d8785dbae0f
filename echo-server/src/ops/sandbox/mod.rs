//! What a worker gives up before it reads its first byte. Somebody who breaks into it through that
//! byte finds a process that can read and write one connection.

mod identity;

mod landlock;

mod limits;

pub mod filter_tree;

pub mod seccomp;

mod probe;

use std::io;
use std::process;
use std::sync::{Mutex, PoisonError};

use nix::sys::prctl;
use nix::unistd::getppid;
use seccompiler::BpfProgram;

use crate::log::cannot;
use crate::options::{Mode, Model};

pub(crate) use identity::Identity;

/// What workers give up, made ready before there are any.
pub struct Sandbox {
    mode: Mode,
    model: Model,
    identity: Option<Identity>,
    filter: BpfProgram,
    /// What a copy of the template refuses besides, so that both filters together are that of a forked
    /// worker.
    filter_of_copies: BpfProgram,
    /// Made once, for all workers. The process that applies it closes it.
    ruleset: Mutex<Option<landlock::Ruleset>>,
    /// Whether to try if a layer does what it promises. Workers trust what the trial has found.
    is_trial: bool,
    /// Which of [`LAYERS`] may be missing, a bit for each. At first that depends on the mode; after
    /// [`try_out`](Self::try_out), only the layers that were missing then may be.
    may_miss: u8,
    /// Its end must end this process, too. A change of user cuts that tie, so we tie it again.
    supervisor: u32,
}

type Layer = (&'static str, fn(&Sandbox) -> io::Result<()>);

/// In an order in which each can still be applied.
const LAYERS: [Layer; 5] = [
    ("no new privileges", |_| Ok(prctl::set_no_new_privs()?)),
    // Without capabilities, root is a user who happens to own many files.
    ("no capabilities", |_| reexec::workspace::drop_capabilities()),
    ("landlock", Sandbox::restrict),
    ("limits", |sandbox| limits::set(sandbox.model)),
    ("seccomp", |sandbox| seccomp::apply(&sandbox.filter)),
];

/// What the template leaves to its copies, because it has to make them.
const LAYERS_OF_COPIES: [Layer; 2] = [
    ("limits", |_| limits::forbid_new()),
    ("seccomp", |sandbox| seccomp::apply(&sandbox.filter_of_copies)),
];

impl Sandbox {
    /// Makes a sandbox for the workers of a model.
    ///
    /// # Errors
    ///
    /// On a processor for which the filter of system calls cannot be compiled.
    pub fn new(mode: Mode, model: Model) -> io::Result<Self> {
        let [filter, filter_of_copies] = match (mode, model) {
            (Mode::Off, _) => [Vec::new(), Vec::new()],
            (_, Model::Template) => {
                let (wide, narrow) = (seccomp::of_workers(model), seccomp::of_copies());
                [wide.compile()?, wide.narrowed_to(&narrow).compile()?]
            }
            _ => [seccomp::of_workers(model).compile()?, Vec::new()],
        };
        Ok(Self {
            mode,
            model,
            identity: None,
            filter,
            filter_of_copies,
            ruleset: Mutex::new((mode != Mode::Off).then(landlock::Ruleset::new)),
            is_trial: false,
            may_miss: match mode {
                Mode::Require => 0,
                Mode::Try | Mode::Off => u8::MAX,
            },
            supervisor: process::id(),
        })
    }

    /// Makes workers become this user, if any.
    pub(crate) fn with_identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity;
        self
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// What to pass to [`of_child`](Self::of_child) in a worker that executes the program again.
    pub(crate) fn may_miss(&self) -> u8 {
        self.may_miss
    }

    /// Sets what only the supervisor knows, in a worker that executes the program again. Its parent is
    /// the supervisor.
    pub(crate) fn of_child(mut self, may_miss: u8) -> Self {
        self.may_miss = may_miss;
        self.supervisor = getppid().as_raw().unsigned_abs();
        self
    }

    /// Gives up in this process whatever can be given up. Returns each layer that is missing, with the
    /// reason.
    ///
    /// # Errors
    ///
    /// If a layer is missing although the sandbox is required, or although it could be had when it was
    /// tried out. Otherwise nobody would learn that this worker, for example for want of memory, has
    /// less than all others.
    ///
    /// In every mode, if this process cannot become the user that was asked for: nobody who asks for it
    /// wants a worker that is still root. Also if it cannot get the default dispositions of faults.
    pub fn enter(&self) -> io::Result<Vec<String>> {
        if let Some(identity) = self.identity {
            identity.adopt(self.supervisor)?;
        }
        let_faults_end_this_process()?;
        self.apply(&LAYERS)
    }

    /// Gives up the rest, in a copy of a template that has entered the sandbox.
    ///
    /// # Errors
    ///
    /// Those of [`enter`](Self::enter).
    pub(crate) fn enter_in_copy(&self) -> io::Result<Vec<String>> {
        self.apply(&LAYERS_OF_COPIES)
    }

    fn apply(&self, layers: &[Layer]) -> io::Result<Vec<String>> {
        let mut missing = Vec::new();
        if self.mode == Mode::Off {
            return Ok(missing);
        }
        for (name, apply) in layers {
            let Err(error) = apply(self) else { continue };
            let reason = format!("{name}: {error}");
            if self.may_miss & layers_in(std::slice::from_ref(&reason)) == 0 {
                return Err(io::Error::other(format!(
                    "cannot enter the sandbox: {reason}; this process does not serve without it"
                )));
            }
            missing.push(reason);
        }
        Ok(missing)
    }

    fn restrict(&self) -> io::Result<()> {
        let ruleset = self.ruleset.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ruleset =
            ruleset.ok_or_else(|| io::Error::other("this process has applied it before"))?;
        ruleset.restrict()?;
        if self.is_trial { landlock::verify() } else { Ok(()) }
    }

    /// Enters the sandbox in a process made for that. Returns lines about what workers will have. From
    /// then on, a layer that could be had must be had.
    ///
    /// # Errors
    ///
    /// Those of [`enter`](Self::enter), and if the process cannot be made, or does not come to its own
    /// end.
    pub(crate) fn try_out(&mut self) -> io::Result<Vec<String>> {
        self.is_trial = true;
        let found = probe::try_out(|| {
            let mut missing = self.enter()?;
            if self.model == Model::Template {
                let mut of_copy = self.enter_in_copy()?;
                of_copy.retain(|reason| !missing.contains(reason));
                missing.extend(of_copy);
            }
            Ok(missing)
        });
        self.is_trial = false;
        let found = found?;
        self.may_miss = layers_in(&found.missing);
        let missing = found.missing.iter().map(|it| format!("without {it}"));
        Ok([found.seen].into_iter().chain(missing).collect())
    }
}

/// Finds the [`LAYERS`] that these reasons are about, a bit for each.
fn layers_in(reasons: &[String]) -> u8 {
    let is_missing = |name: &str| {
        let mut rests = reasons.iter().filter_map(|it| it.strip_prefix(name));
        rests.any(|rest| rest.starts_with(": "))
    };
    let layers = LAYERS.iter().enumerate();
    let missing = layers.filter(|(_, (name, _))| is_missing(name));
    missing.fold(0, |bits, (index, _)| bits | 1 << index)
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
