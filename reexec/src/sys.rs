//! The system calls that neither std nor nix offers in a safe form, and all of the workspace's
//! `unsafe`. Each function is safe to call: what its block needs, its signature or its first
//! lines guarantee.
#![allow(unsafe_code)] // The one place for it; see the SAFETY note at each block.

use std::ffi::{CStr, CString, c_char, c_int, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{pid_t, siginfo_t, sigset_t};

use crate::usage::Usage;

/// What [`spawn`] starts, and how its descriptors are laid out.
pub(crate) struct Image<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: &'a [CString],
    pub(crate) env: &'a [CString],
    /// `(source, target)`: in the child, `target` is a copy of `source`, without close-on-exec.
    /// No target may be the source of a later pair.
    pub(crate) descriptors: &'a [(RawFd, RawFd)],
    /// The process group to join, 0 for one of its own; `None` stays in ours.
    pub(crate) process_group: Option<pid_t>,
}

/// Starts a process with an empty signal mask and default dispositions, by `posix_spawn(3)`.
///
/// glibc and musl both implement it as `clone` with `CLONE_VM | CLONE_VFORK`: no page table is
/// copied, so the time does not grow with the memory of the caller.
///
/// nix wraps the same calls, but takes the error *numbers* they return for `-1` and so loses
/// them: a descriptor above the soft limit would silently not be passed on.
pub(crate) fn spawn(image: &Image<'_>) -> io::Result<pid_t> {
    let mut actions = FileActions::new()?;
    for &(source, target) in image.descriptors {
        actions.dup2(source, target)?;
    }
    let mut attributes = Attributes::new()?;
    attributes.signal_mask(&empty_set())?;
    attributes.default_signals(&full_set())?;
    let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    if let Some(group) = image.process_group {
        attributes.process_group(group)?;
        flags |= libc::POSIX_SPAWN_SETPGROUP;
    }
    attributes.flags(flags)?;

    let argv = null_terminated(image.argv);
    let env = null_terminated(image.env);
    let mut pid = 0;
    // SAFETY: `program` and each element of `argv` and `env` are NUL-terminated and both arrays
    // end in a null pointer; all of it, the actions and the attributes outlive the call, which
    // does not write through any of them.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            image.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// `posix_spawn_file_actions_t`, destroyed on drop.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; on success the object is initialised. It
        // holds a heap pointer and counters, none into itself, so it may be moved.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn dup2(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the object is initialised. The numbers are only used in the child.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, source, target) })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// `posix_spawnattr_t`, destroyed on drop.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the pointer is valid for writes; on success the object is initialised. It is
        // plain data and may be moved.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            Ok(Self(attributes.assume_init()))
        }
    }

    fn signal_mask(&mut self, mask: &sigset_t) -> io::Result<()> {
        // SAFETY: both objects are initialised; the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigmask(&raw mut self.0, mask) })
    }

    fn default_signals(&mut self, signals: &sigset_t) -> io::Result<()> {
        // SAFETY: both objects are initialised; the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut self.0, signals) })
    }

    fn process_group(&mut self, group: pid_t) -> io::Result<()> {
        // SAFETY: the object is initialised.
        check(unsafe { libc::posix_spawnattr_setpgroup(&raw mut self.0, group) })
    }

    fn flags(&mut self, flags: c_int) -> io::Result<()> {
        // SAFETY: the object is initialised. Every defined flag fits in a short.
        check(unsafe { libc::posix_spawnattr_setflags(&raw mut self.0, flags as c_short) })
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// Opens a pidfd for `pid`; close-on-exec by definition of the call.
pub(crate) fn pidfd_open(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        let fd = checked(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Sends `signal` to the process behind `pidfd`; fails with `ESRCH` once it has been reaped.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: c_int) -> io::Result<()> {
    let info = ptr::null::<siginfo_t>();
    // SAFETY: a null `info` means "as kill(2) would fill it in".
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            info,
            0,
        )
    })
    .map(drop)
}

/// Whom to wait for.
#[derive(Clone, Copy)]
pub(crate) enum WaitTarget<'a> {
    Pidfd(BorrowedFd<'a>),
    Pid(pid_t),
    AnyChild,
}

/// Reaps the child if it has ended; `None` while it runs.
///
/// `ECHILD` means that its status is gone: the kernel discarded it because `SIGCHLD` is ignored
/// here, or somebody else in this process waited for it.
pub(crate) fn try_reap(child: WaitTarget<'_>) -> io::Result<Option<(ExitStatus, Usage)>> {
    let end = waitid(child, libc::WEXITED | libc::WNOHANG)?;
    Ok(end.map(|end| (end.status, end.usage)))
}

/// Reaps one child of this process that has ended, whichever; `None` if none has.
///
/// `ECHILD` if there is no child at all.
pub(crate) fn try_reap_any() -> io::Result<Option<End>> {
    waitid(WaitTarget::AnyChild, libc::WEXITED | libc::WNOHANG)
}

/// How a child has ended.
pub(crate) struct End {
    pub(crate) pid: pid_t,
    pub(crate) status: ExitStatus,
    pub(crate) usage: Usage,
}

/// The system call itself: libc's function lacks the last parameter, which is the kernel's.
fn waitid(target: WaitTarget<'_>, flags: c_int) -> io::Result<Option<End>> {
    let (kind, id) = match target {
        WaitTarget::Pidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        WaitTarget::Pid(pid) => (libc::P_PID, pid),
        WaitTarget::AnyChild => (libc::P_ALL, 0),
    };
    retry(|| {
        let mut info = MaybeUninit::<siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are valid for writes. Both are plain integers, so all-zero is a value too:
        // that is what the call leaves behind when no child has ended.
        let (info, usage) = unsafe {
            let (info_out, usage_out) = (info.as_mut_ptr(), usage.as_mut_ptr());
            checked(libc::syscall(
                libc::SYS_waitid,
                kind,
                id,
                info_out,
                flags,
                usage_out,
            ))?;
            (info.assume_init(), usage.assume_init())
        };
        // SAFETY: after waitid(2) these fields of the union are the ones in use.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        Ok((pid != 0).then(|| End {
            pid,
            status: exit_status(info.si_code, status),
            usage: Usage::from_raw(&usage),
        }))
    })
}

/// Blocks until the child has ended, and leaves it unreaped. Returns also if it turns out that
/// somebody else has reaped it.
pub(crate) fn await_end(child: WaitTarget<'_>) -> io::Result<()> {
    match waitid(child, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if error.raw_os_error() != Some(libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the process behind `pidfd` is a child of ours that has not been reaped.
pub(crate) fn is_our_child(pidfd: impl AsFd) -> bool {
    let target = WaitTarget::Pidfd(pidfd.as_fd());
    waitid(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Kills and reaps a child that has no pidfd. If it is a child of ours, its number cannot be
/// another's before we have waited; if it is none, because the kernel has reaped it, it may be.
pub(crate) fn kill_and_reap(pid: pid_t) {
    let target = WaitTarget::Pid(pid);
    if waitid(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok() {
        let _ = kill(pid, libc::SIGKILL);
        let _ = waitid(target, libc::WEXITED);
    }
}

/// waitid(2) splits what wait(2) packs into one number, which is what std keeps.
fn exit_status(code: c_int, status: c_int) -> ExitStatus {
    const CORE_DUMPED: c_int = 0x80;
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | CORE_DUMPED,
        _ => status,
    })
}

/// A copy of `fd` at the lowest free number from `floor` on; close-on-exec.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, floor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the result is a descriptor that nobody else owns.
    unsafe {
        let copy = checked(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor).into())?;
        Ok(OwnedFd::from_raw_fd(copy as RawFd))
    }
}

/// Asks the kernel to send `signal` to this process when something happens on `pipe`.
///
/// The owner is set before the signal, and both before `O_ASYNC`: the other way round the
/// default, `SIGIO`, could be sent for an early event. Other flags of the pipe are cleared.
pub(crate) fn signal_on_activity(pipe: impl AsFd, signal: c_int) -> io::Result<()> {
    const F_SETSIG: c_int = 10; // fcntl(2), the same on every architecture; not in libc
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: these commands take and return integers; `fd` is open for the whole call.
    unsafe {
        checked(libc::fcntl(fd, libc::F_SETOWN, libc::getpid()).into())?;
        checked(libc::fcntl(fd, F_SETSIG, signal).into())?;
        checked(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC).into())?;
    }
    Ok(())
}

/// kill(2), for a child that has not been reaped, so that the number is its own.
pub(crate) fn kill(pid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: integers only.
    checked(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Sends `signal` to this process. Unlike raise(3) to the process, not to the thread, as the
/// signal of a lifeline would be.
pub(crate) fn signal_self(signal: c_int) -> io::Result<()> {
    kill(std::process::id() as pid_t, signal)
}

/// nice(2), with errors that can be told from values.
pub(crate) fn nice(increment: c_int) -> io::Result<()> {
    // SAFETY: integers only. 0 is the calling process.
    unsafe {
        let raw = libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0);
        // The system call returns 20 - nice, so that it is never negative.
        let current = 20 - checked(raw)? as c_int;
        let wanted = current.saturating_add(increment).clamp(-20, 19);
        checked(libc::setpriority(libc::PRIO_PROCESS, 0, wanted).into()).map(drop)
    }
}

/// Ends this process without running what the parent's code has registered for its own end.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) runs no code of the process.
    unsafe { libc::_exit(code.into()) }
}

/// Closes these descriptors, those in a row by one call, and forgets whom they belong to without
/// running its destructor: in a forked copy, memory that is not written to is shared.
pub(crate) fn close_and_forget<O>(mut owner: O, each: impl FnOnce(&mut O, &mut dyn FnMut(RawFd))) {
    let mut run = None;
    each(&mut owner, &mut |fd| {
        run = Some(match run {
            Some((first, last)) if last + 1 == fd => (first, fd),
            Some(other) => {
                close_run(other);
                (fd, fd)
            }
            None => (fd, fd),
        });
    });
    if let Some(run) = run {
        close_run(run);
    }
    std::mem::forget(owner);
}

fn close_run((first, last): (RawFd, RawFd)) {
    // SAFETY: integers only. The caller owns the descriptors and forgets that it does.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == -1 {
            // Linux before 5.9.
            (first..=last).for_each(|fd| drop(OwnedFd::from_raw_fd(fd)));
        }
    }
}

/// The path that was given to execve(2) when this program was started.
pub(crate) fn path_executed_by() -> CString {
    // SAFETY: the value is 0, or a pointer to a string that the kernel put on our stack at exec,
    // and that nobody writes to.
    unsafe {
        match libc::getauxval(libc::AT_EXECFN) {
            0 => CString::default(),
            path => CStr::from_ptr(path as *const c_char).to_owned(),
        }
    }
}

/// Calls `look` with the descriptor at this number, `None` if there is none.
pub(crate) fn with_descriptor<T>(fd: RawFd, look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    // SAFETY: the number is not negative, and fcntl tells whether it is open. Called by `init`,
    // while nothing else runs in this process that could close it during the borrow.
    unsafe {
        checked(libc::fcntl(fd, libc::F_GETFD).into()).ok()?;
        Some(look(BorrowedFd::borrow_raw(fd)))
    }
}

/// Takes over a descriptor that our parent put at this number, and makes it close-on-exec.
///
/// To be called by `init`, which has a written list from the parent of the numbers that are ours,
/// once for each. `EBADF` if there is none.
pub(crate) fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers in, integers out. The descriptor is open, as the first call shows, and
    // nothing in this process owns it: it was put there before our `main` began.
    unsafe {
        checked(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Closes a descriptor that was inherited through exec, which is to say one without
/// close-on-exec; one that has the flag was opened since, by somebody who owns it.
pub(crate) fn close_if_inherited(fd: RawFd) {
    // SAFETY: integers only; called while single-threaded, before user code, so that nothing can
    // have taken ownership of a descriptor that came through exec.
    unsafe {
        if libc::fcntl(fd, libc::F_GETFD) == 0 {
            libc::close(fd);
        }
    }
}

/// Sets close-on-exec on every descriptor from `first` on, without looking at any.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: integers only; setting the flag closes nothing now.
    checked(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            c_int::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Which process we are in after [`fork`].
pub(crate) enum Forked {
    Parent(pid_t),
    Child,
}

/// `fork(2)`; the child starts with an empty signal mask and no handlers of its parent.
///
/// Signals are held back over the fork. Otherwise: the parent has a handler that writes to its
/// self-pipe; a signal meets the child before it has reset anything; the child's copy of the
/// handler writes to the *parent's* pipe, and the parent acts on a signal it never got.
///
/// With `new_group`, the child is alone in a process group before any signal meets it, and what had
/// come for the group of its parent by then is forgotten: it is the parent's to act on.
///
/// The caller must have made sure that the process has one thread.
pub(crate) fn fork(new_group: bool) -> io::Result<Forked> {
    let all = full_set();
    let mut before = empty_set();
    // SAFETY: the sets are initialised and outlive the calls. With one thread, the child is a
    // complete copy: no lock is held by a thread that it does not have.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        let pid = libc::fork();
        if pid == 0 {
            if new_group {
                libc::setpgid(0, 0);
                forget_pending();
            }
            remove_handlers();
            before = empty_set();
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        match pid {
            -1 => Err(error),
            0 => Ok(Forked::Child),
            pid => Ok(Forked::Parent(pid)),
        }
    }
}

/// To ignore a signal is also to discard it where it is held back. The caller resets that.
fn forget_pending() {
    let mut pending = empty_set();
    // SAFETY: the set is initialised, and written to by the first call only. Ignoring a signal runs
    // no code of ours.
    unsafe {
        libc::sigpending(&raw mut pending);
        for signal in 1..=libc::SIGRTMAX() {
            if libc::sigismember(&raw const pending, signal) == 1 {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Resets to default what the parent had handled or ignored. Except `SIGPIPE`, which Rust programs
/// ignore from birth, and so does this copy of one; and those by which std tells of a stack
/// overflow, which it will tell of in the copy, too.
fn remove_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        if ![libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS].contains(&signal) {
            set_default(signal);
        }
    }
}

/// Resets to default what the launcher of this program had ignored, except `SIGPIPE`.
pub(crate) fn stop_ignoring() {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| *signal != libc::SIGPIPE) {
        if is_ignored(signal) {
            set_default(signal);
        }
    }
}

fn set_default(signal: c_int) {
    // SAFETY: setting a default disposition runs no code of ours. It fails, harmlessly, for KILL,
    // STOP and the numbers that libc keeps for itself.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writes; it is plain data, for which all-zero is a value.
    unsafe {
        let asked = libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0;
        asked && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// What is to be done about a signal.
pub(crate) enum Disposition {
    Default,
    Ignored,
    /// Counted by a handler.
    Noted,
}

/// sigaction(2). `EINVAL` for a signal whose disposition cannot be changed.
pub(crate) fn set_disposition(signal: c_int, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignored => libc::SIG_IGN,
        Disposition::Noted => count as extern "C" fn(c_int) as usize,
    };
    // SAFETY: all-zero is a value of this plain data, and means: no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and is copied. Its handler, if any, is `count`, which has the
    // signature that goes without SA_SIGINFO, and is async-signal-safe.
    checked(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }.into()).map(drop)
}

/// Adds a flag to the disposition that a signal has.
pub(crate) fn add_flag(signal: c_int, flag: c_int) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writes, and is plain data, for which all-zero is a value. What
    // is set is what was set before, with a flag more that changes nothing about how it is called.
    unsafe {
        checked(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()).into())?;
        let mut action = action.assume_init();
        action.sa_flags |= flag;
        checked(libc::sigaction(signal, &raw const action, ptr::null_mut()).into()).map(drop)
    }
}

/// By signal number, of which 64 is the highest on every architecture but MIPS.
static NOTED: [AtomicUsize; 128] = [const { AtomicUsize::new(0) }; 128];

/// The only signal handler here. It may interrupt anything, so it must not allocate, lock, print
/// or panic; an atomic is all that it touches.
extern "C" fn count(signal: c_int) {
    if let Some(count) = NOTED.get(signal.unsigned_abs() as usize) {
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// How often [`count`] has run for the signal.
pub(crate) fn noted(signal: c_int) -> usize {
    let count = NOTED.get(signal.unsigned_abs() as usize);
    count.map_or(0, |count| count.load(Ordering::SeqCst))
}

/// Lets every signal through in this thread.
pub(crate) fn unblock_signals() {
    let none = empty_set();
    // SAFETY: the set is initialised and outlives the call, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

fn empty_set() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set and cannot fail for a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn full_set() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set and cannot fail for a valid pointer.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// C wants `char *const[]`; nothing is written through these pointers.
fn null_terminated(strings: &[CString]) -> Vec<*mut c_char> {
    let pointers = strings.iter().map(|s| s.as_ptr().cast_mut());
    pointers.chain([ptr::null_mut()]).collect()
}

/// For calls that return an error number.
fn check(errno: c_int) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// For calls that return -1 and set `errno`.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Calls again while a signal handler of somebody else's interrupts.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
