//! posix_spawn(3).

use std::ffi::{CStr, c_int, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use libc::{pid_t, sigset_t};

use super::descriptor::open_descriptors;
use super::errno::{check_errno, is};
use super::signal::{full_set, set_of};
use super::strings::CStrings;

/// Specifies what [`spawn`] executes, and what the child gets.
pub(crate) struct SpawnSpec<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: &'a CStrings,
    pub(crate) env: &'a CStrings,
    /// `(source, target)`: in the child, `target` is a copy of `source`, without close-on-exec.
    /// No target may be the source of a later pair.
    pub(crate) descriptors: &'a [(RawFd, RawFd)],
    /// In the child, every descriptor from this number on is closed. Requires [`can_close_from`].
    pub(crate) close_from: Option<RawFd>,
    /// The process group that the child joins, 0 for a new one. With `None` it stays in ours.
    pub(crate) process_group: Option<pid_t>,
    /// The signals that are blocked in the child.
    pub(crate) blocked: &'a [c_int],
}

/// The step of a spawn that failed, and why.
#[derive(Debug)]
pub(crate) enum SpawnError {
    /// The system made no process.
    Process(io::Error),
    /// The process could not join its process group.
    ProcessGroup(io::Error),
    /// The process could not get its descriptors.
    Descriptors(io::Error),
    /// The process could not execute the program.
    Exec(io::Error),
}

/// Starts a process by posix_spawn(3), with default dispositions, and only the signals of the spec
/// blocked.
///
/// glibc and musl implement it as a clone with `CLONE_VM | CLONE_VFORK`. That copies no page table,
/// so the time does not grow with the memory of the caller.
///
/// nix wraps the same calls, but expects -1 where they return an error number, and so loses their
/// errors: it would silently not pass on a descriptor above the soft limit.
pub(crate) fn spawn(spec: &SpawnSpec<'_>) -> Result<pid_t, SpawnError> {
    let mut actions = file_actions(spec).map_err(SpawnError::Descriptors)?;
    let attributes = attributes(spec.process_group, spec.blocked).map_err(SpawnError::Process)?;
    let pid = posix_spawn(spec.program, spec.argv, spec.env, &actions, &attributes);
    pid.map_err(|error| find_failed_step(error, spec, &mut actions, &attributes))
}

/// Finds the step of the spawn that failed: posix_spawn(3) returns one number for all of them.
///
/// It repeats the spawn up to each step in turn, the earliest first, and leaves out the later steps.
/// The first repetition that fails names the step. None of them leaves a process.
fn find_failed_step(
    error: io::Error,
    spec: &SpawnSpec<'_>,
    actions: &mut FileActions,
    attributes: &Attributes,
) -> SpawnError {
    let get_through = |actions: &mut FileActions, attributes: &Attributes| {
        ends_with_enoent(actions, attributes)
            // A filter may refuse one of the two calls, execve(2) and openat(2).
            || actions.open_nothing().is_ok() && ends_with_enoent(actions, attributes)
    };
    let makes_process = || {
        let nothing = FileActions::new().ok().zip(self::attributes(None, &[]).ok());
        nothing.is_some_and(|(mut none, plain)| get_through(&mut none, &plain))
    };
    if is(&error, libc::EAGAIN) || !makes_process() {
        return SpawnError::Process(error);
    }
    let joins =
        |group: &Attributes| FileActions::new().is_ok_and(|mut none| get_through(&mut none, group));
    if spec.process_group.is_some() && !joins(attributes) {
        return SpawnError::ProcessGroup(error);
    }
    if !get_through(actions, attributes) {
        return SpawnError::Descriptors(error);
    }
    SpawnError::Exec(error)
}

/// Whether a spawn with these actions and attributes reaches its last step: opening or executing a
/// file with an empty name, which fails with `ENOENT`.
fn ends_with_enoent(actions: &FileActions, attributes: &Attributes) -> bool {
    let argv = CStrings::from(c""); // some kernels warn of a program without any argument
    let end = posix_spawn(c"", &argv, &CStrings::default(), actions, attributes);
    end.is_err_and(|error| is(&error, libc::ENOENT))
}

fn posix_spawn(
    program: &CStr,
    argv: &CStrings,
    env: &CStrings,
    actions: &FileActions,
    attributes: &Attributes,
) -> io::Result<pid_t> {
    let argv = argv.pointers();
    let env = env.pointers();
    let mut pid = 0;
    // SAFETY: `program` and each element of `argv` and `env` are NUL-terminated and both arrays
    // end in a null pointer; all of it, the actions and the attributes outlive the call, which
    // does not write through any of them.
    check_errno(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

fn file_actions(spec: &SpawnSpec<'_>) -> io::Result<FileActions> {
    let mut actions = FileActions::new()?;
    for &(source, target) in spec.descriptors {
        actions.dup2(source, target)?;
    }
    // The last action, because the sources have higher numbers.
    if let Some(first) = spec.close_from {
        actions.close_from(first)?;
    }
    Ok(actions)
}

fn attributes(process_group: Option<pid_t>, blocked: &[c_int]) -> io::Result<Attributes> {
    let mut attributes = Attributes::new()?;
    attributes.signal_mask(&set_of(blocked))?;
    attributes.default_signals(&full_set())?;
    let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    if let Some(group) = process_group {
        attributes.process_group(group)?;
        flags |= libc::POSIX_SPAWN_SETPGROUP;
    }
    attributes.flags(flags)?;
    Ok(attributes)
}

/// Owns a `posix_spawn_file_actions_t`.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; on success the object is initialised. It
        // holds a heap pointer and counters, none into itself, so it may be moved.
        unsafe {
            check_errno(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn dup2(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the object is initialised. The numbers are only used in the child.
        let added = check_errno(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut self.0, source, target)
        });
        // `EBADF` means a number above the limit; otherwise both numbers are good.
        added.map_err(|error| match is(&error, libc::EBADF) {
            true => io::Error::from_raw_os_error(libc::EMFILE),
            false => error,
        })
    }

    /// Adds the action that closes every descriptor from `first` on. Fails if libc has none; see
    /// [`can_close_from`].
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        let add = close_from::action().ok_or(io::ErrorKind::Unsupported)?;
        // SAFETY: the object is initialised, and `add` is the function that takes one. The number
        // is only used in the child.
        check_errno(unsafe { add(&raw mut self.0, first) })
    }

    /// Adds an action that opens a file with an empty name, which fails with `ENOENT`.
    fn open_nothing(&mut self) -> io::Result<()> {
        // SAFETY: the object is initialised; the name is NUL-terminated and lives for ever.
        check_errno(unsafe {
            libc::posix_spawn_file_actions_addopen(
                &raw mut self.0,
                libc::STDIN_FILENO,
                c"".as_ptr(),
                libc::O_RDONLY,
                0,
            )
        })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// Whether a spawn can close descriptors in the child before the program's first instruction.
///
/// glibc can since 2.34 (`posix_spawn_file_actions_addclosefrom_np`), if close_range(2) works or
/// there is a /proc. musl cannot, and a static program cannot ask its libc.
pub(crate) fn can_close_from() -> bool {
    close_from::action().is_some() && (close_range_works() || open_descriptors().is_ok())
}

/// Whether close_range(2) works now. A filter may forbid it later, so the answer is not kept.
fn close_range_works() -> bool {
    // SAFETY: integers only. No descriptor has this number, so nothing is closed.
    unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) == 0 }
}

#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
mod close_from {
    use std::ffi::{c_int, c_void};
    use std::mem;
    use std::sync::OnceLock;

    type Add = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

    /// Looks libc's function up at run time: a program that is linked with it would not start where
    /// glibc is older.
    pub(super) fn action() -> Option<Add> {
        static ACTION: OnceLock<Option<Add>> = OnceLock::new();
        *ACTION.get_or_init(|| {
            let name = c"posix_spawn_file_actions_addclosefrom_np";
            // SAFETY: the name is NUL-terminated. A symbol of this name is glibc's, a function
            // of this type; the pointer to it is not null.
            unsafe {
                let symbol: *mut c_void = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
                (!symbol.is_null()).then(|| mem::transmute::<*mut c_void, Add>(symbol))
            }
        })
    }
}

#[cfg(not(all(target_env = "gnu", not(target_feature = "crt-static"))))]
mod close_from {
    use std::ffi::c_int;

    type Add = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

    pub(super) fn action() -> Option<Add> {
        None
    }
}

/// Owns a `posix_spawnattr_t`.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; on success the object is initialised. It is
        // plain data and may be moved.
        unsafe {
            check_errno(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            Ok(Self(attributes.assume_init()))
        }
    }

    fn signal_mask(&mut self, mask: &sigset_t) -> io::Result<()> {
        // SAFETY: both objects are initialised; the set is copied.
        check_errno(unsafe { libc::posix_spawnattr_setsigmask(&raw mut self.0, mask) })
    }

    fn default_signals(&mut self, signals: &sigset_t) -> io::Result<()> {
        // SAFETY: both objects are initialised; the set is copied.
        check_errno(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut self.0, signals) })
    }

    fn process_group(&mut self, group: pid_t) -> io::Result<()> {
        // SAFETY: the object is initialised.
        check_errno(unsafe { libc::posix_spawnattr_setpgroup(&raw mut self.0, group) })
    }

    fn flags(&mut self, flags: c_int) -> io::Result<()> {
        // SAFETY: the object is initialised. Every defined flag fits in a short.
        check_errno(unsafe { libc::posix_spawnattr_setflags(&raw mut self.0, flags as c_short) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
