//! sigaction(2), pthread_sigmask(3), and the range of signal numbers.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{pid_t, sigset_t};

use super::{check, checked, kill};

/// Checks that a program may send, handle or ask for this signal. The only place that knows.
///
/// # Errors
///
/// `EINVAL` for 0, for what lies above `SIGRTMAX`, and for those below `SIGRTMIN` that libc uses
/// itself: 32 and 33 with glibc, 34 too with musl. The kernel would accept those, but libc never
/// lets a program wait for them or handle them, and discards what it does not expect.
pub(crate) fn check_signal(signal: c_int) -> io::Result<()> {
    const LAST_STANDARD: c_int = 31;
    match (1..=LAST_STANDARD).contains(&signal)
        || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal)
    {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Checks that a program may ignore this signal.
///
/// # Errors
///
/// `EINVAL` as of [`check_signal`], and for the two that nobody can ignore.
pub(crate) fn check_ignorable(signal: c_int) -> io::Result<()> {
    match signal {
        libc::SIGKILL | libc::SIGSTOP => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        signal => check_signal(signal),
    }
}

/// Sends `signal` to this process. Unlike raise(3) to the process, not to the thread, as the
/// signal of a lifeline would be.
pub(crate) fn signal_self(signal: c_int) -> io::Result<()> {
    kill(std::process::id() as pid_t, signal)
}

/// Resets to default what the launcher of this program had ignored, except `SIGPIPE`, which Rust's
/// start-up code ignores, and `SIGHUP`, which nobody ignores by accident.
pub(crate) fn stop_ignoring() {
    for signal in 1..=libc::SIGRTMAX() {
        let is_meant = [libc::SIGPIPE, libc::SIGHUP].contains(&signal);
        if !is_meant && matches!(is_ignored(signal), Ok(true)) {
            set_default(signal);
        }
    }
}

pub(super) fn set_default(signal: c_int) {
    // SAFETY: setting a default disposition runs no code of ours. It fails, harmlessly, for KILL,
    // STOP and the numbers that libc keeps for itself.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Whether the signal is thrown away when it comes. `EINVAL` for what is no signal.
pub(crate) fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writes; it is plain data, for which all-zero is a value.
    unsafe {
        checked(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()).into())?;
        Ok(action.assume_init().sa_sigaction == libc::SIG_IGN)
    }
}

/// What is to be done about a signal.
pub(crate) enum Disposition {
    Default,
    Ignored,
    /// Counted by a handler.
    Noted,
}

/// Sets what happens when the signal comes. `EINVAL` for a signal whose disposition cannot be
/// changed.
pub(crate) fn set_disposition(signal: c_int, disposition: Disposition) -> io::Result<()> {
    check_signal(signal)?;
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

/// Calls with every signal held back in this thread, and so in the threads that it makes meanwhile.
pub(crate) fn without_signals<T>(call: impl FnOnce() -> T) -> T {
    let (all, mut before) = (full_set(), empty_set());
    // SAFETY: the sets are initialised and outlive the call. Where it is refused, nothing changes.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
    let result = call();
    // SAFETY: likewise.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    result
}

/// Lets every signal through in this thread.
pub(crate) fn unblock_signals() {
    let none = empty_set();
    // SAFETY: the set is initialised and outlives the call, which cannot fail with these arguments.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) };
}

/// Lets this signal through in this thread.
pub(crate) fn unblock_signal(signal: c_int) -> io::Result<()> {
    let set = set_of(&[signal]);
    // SAFETY: the set is initialised and outlives the call.
    check(unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) })
}

/// The caller must have checked the numbers.
pub(super) fn set_of(signals: &[c_int]) -> sigset_t {
    let mut set = empty_set();
    for signal in signals {
        // SAFETY: the set is initialised.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

pub(super) fn empty_set() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set and cannot fail for a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

pub(super) fn full_set() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set and cannot fail for a valid pointer.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}
