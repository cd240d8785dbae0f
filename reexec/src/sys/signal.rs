//! sigaction(2), pthread_sigmask(3), and the range of signal numbers.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{pid_t, sigset_t};

use super::errno::{check_errno, check_return};
use super::pidfd::kill;

/// Checks that a program may send or handle this signal. No other code knows these numbers.
///
/// # Errors
///
/// `EINVAL` for 0, for numbers above `SIGRTMAX`, and for the signals that libc uses itself: 32 and
/// 33 with glibc, also 34 with musl. The kernel accepts those, but libc lets no program handle or
/// wait for them, and discards the ones that it does not expect.
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
/// As [`check_signal`]; also `EINVAL` for `SIGKILL` and `SIGSTOP`.
pub(crate) fn check_ignorable(signal: c_int) -> io::Result<()> {
    match signal {
        libc::SIGKILL | libc::SIGSTOP => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        signal => check_signal(signal),
    }
}

/// Sends `signal` to this process, as a lifeline does. raise(3) would send it to the thread.
pub(crate) fn signal_self(signal: c_int) -> io::Result<()> {
    kill(std::process::id() as pid_t, signal)
}

/// Stops ignoring the signals that the launcher of this program ignored, except `SIGPIPE`, which
/// Rust's start-up code ignores, and `SIGHUP`, which nobody ignores by accident.
pub(crate) fn stop_ignoring() {
    for signal in 1..=libc::SIGRTMAX() {
        let is_intended = [libc::SIGPIPE, libc::SIGHUP].contains(&signal);
        if !is_intended && matches!(is_ignored(signal), Ok(true)) {
            set_default(signal);
        }
    }
}

/// Sets the default disposition.
pub(super) fn set_default(signal: c_int) {
    // SAFETY: setting a default disposition runs no code of ours. It fails, harmlessly, for KILL,
    // STOP and the numbers that libc keeps for itself.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Whether the signal is ignored. Fails with `EINVAL` for a number that is no signal.
pub(crate) fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writes; it is plain data, for which all-zero is a value.
    unsafe {
        check_return(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()).into())?;
        Ok(action.assume_init().sa_sigaction == libc::SIG_IGN)
    }
}

/// What happens when a signal comes.
pub(crate) enum Disposition {
    Default,
    Ignored,
    /// A handler counts it.
    Counted,
}

/// Sets what happens when the signal comes. Fails with `EINVAL` for a signal whose disposition
/// cannot be changed.
pub(crate) fn set_disposition(signal: c_int, disposition: Disposition) -> io::Result<()> {
    check_signal(signal)?;
    match disposition {
        Disposition::Default => Action::without_handler(signal, libc::SIG_DFL).set(),
        Disposition::Ignored => Action::without_handler(signal, libc::SIG_IGN).set(),
        Disposition::Counted => set_counted(signal),
    }
}

fn set_counted(signal: c_int) -> io::Result<()> {
    // SAFETY: all-zero is a value of this plain data, and means: no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = count as extern "C" fn(c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and is copied. Its handler is `count`, which has the signature for a
    // handler without SA_SIGINFO, and is async-signal-safe.
    check_return(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }.into())
        .map(drop)
}

/// Adds a flag to the disposition of a signal.
pub(crate) fn add_flag(signal: c_int, flag: c_int) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `action` is valid for writes, and is plain data, for which all-zero is a value. The
    // handler stays the same, and the new flag does not change how it is called.
    unsafe {
        check_return(libc::sigaction(signal, ptr::null(), action.as_mut_ptr()).into())?;
        let mut action = action.assume_init();
        action.sa_flags |= flag;
        check_return(libc::sigaction(signal, &raw const action, ptr::null_mut()).into()).map(drop)
    }
}

const IS_MIPS: bool = cfg!(any(target_arch = "mips", target_arch = "mips64"));

/// The size of the kernel's set of signals. With another one, the calls fail with `EINVAL`.
const KERNEL_SET: usize = if IS_MIPS { 16 } else { 8 };

/// What happens when a signal comes, as the kernel keeps it. Unlike libc's struct, it can be had also for
/// the signals that libc uses itself.
pub(super) struct Action {
    signal: c_int,
    /// The kernel's `struct sigaction`. On each architecture, it is at most this long.
    words: [usize; 6],
}

impl Action {
    /// Most architectures have the handler first; MIPS has the flags before it.
    const HANDLER: usize = IS_MIPS as usize;

    /// `disposition` is `SIG_DFL` or `SIG_IGN`.
    fn without_handler(signal: c_int, disposition: usize) -> Self {
        let mut words = [0; 6];
        words[Self::HANDLER] = disposition;
        Self { signal, words }
    }

    pub(super) fn get(signal: c_int) -> io::Result<Self> {
        let mut words = [0; 6];
        let call = libc::SYS_rt_sigaction;
        let unchanged = ptr::null::<usize>();
        // SAFETY: the kernel writes its struct, for which there is room.
        check_return(unsafe {
            libc::syscall(call, signal, unchanged, words.as_mut_ptr(), KERNEL_SET)
        })?;
        Ok(Self { signal, words })
    }

    pub(super) fn has_handler(&self) -> bool {
        ![libc::SIG_DFL, libc::SIG_IGN].contains(&self.words[Self::HANDLER])
    }

    /// Makes this happen again when the signal comes.
    pub(super) fn set(&self) -> io::Result<()> {
        let (call, words) = (libc::SYS_rt_sigaction, self.words.as_ptr());
        // SAFETY: the struct has no handler; or the kernel has filled it in, in this process or in the one
        // that it is a copy of: the handler, if any, is at the same address in both.
        check_return(unsafe {
            libc::syscall(call, self.signal, words, ptr::null_mut::<usize>(), KERNEL_SET)
        })
        .map(drop)
    }
}

/// By signal number, of which 64 is the highest on every architecture but MIPS.
static COUNTS: [AtomicUsize; 128] = [const { AtomicUsize::new(0) }; 128];

/// Counts a signal: the only signal handler of this crate. It may interrupt any code, so it must
/// not allocate, lock, print or panic, and touches an atomic only.
extern "C" fn count(signal: c_int) {
    if let Some(count) = COUNTS.get(signal.unsigned_abs() as usize) {
        count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Returns how often [`count`] has run for the signal.
pub(crate) fn counted(signal: c_int) -> usize {
    let count = COUNTS.get(signal.unsigned_abs() as usize);
    count.map_or(0, |count| count.load(Ordering::SeqCst))
}

/// Runs `call` with every signal blocked in this thread, and so in the threads that `call` starts.
pub(crate) fn with_signals_blocked<T>(call: impl FnOnce() -> T) -> T {
    let before = set_mask(&full_set());
    let result = call();
    set_mask(&before);
    result
}

/// Unblocks every signal in this thread.
pub(crate) fn unblock_signals() {
    set_mask(&empty_set());
}

/// Sets which signals are blocked in this thread, and returns which were. If a filter refuses that,
/// nothing changes.
pub(super) fn set_mask(mask: &sigset_t) -> sigset_t {
    let mut before = empty_set();
    // SAFETY: the sets are initialised and outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, &raw mut before) };
    before
}

/// Takes the signals that are pending, and does nothing about them. All of them must be blocked.
///
/// For a forked copy: like its other system calls, this is made by libc's syscall(2). Each further piece of
/// code would cost the copy a page fault.
pub(super) fn discard_pending(blocked: &sigset_t) {
    let no_time = MaybeUninit::<libc::timespec>::zeroed();
    let (call, nothing) = (libc::SYS_rt_sigtimedwait, ptr::null_mut::<libc::siginfo_t>());
    // SAFETY: the set, which is at least as long as the kernel's, and the time, which all-zero is, are
    // initialised and outlive the call. The kernel tells nothing about the signal at a null pointer.
    let take = || unsafe {
        libc::syscall(call, ptr::from_ref(blocked), nothing, no_time.as_ptr(), KERNEL_SET)
    };
    while take() > 0 {}
}

/// Sets which signals are blocked in a forked copy, by libc's syscall(2) as [`discard_pending`] does.
pub(super) fn set_mask_in_copy(mask: &sigset_t) {
    let (call, nothing) = (libc::SYS_rt_sigprocmask, ptr::null_mut::<sigset_t>());
    // SAFETY: the set is initialised, and at least as long as the kernel's.
    unsafe { libc::syscall(call, libc::SIG_SETMASK, ptr::from_ref(mask), nothing, KERNEL_SET) };
}

/// Unblocks this signal in this thread.
pub(crate) fn unblock_signal(signal: c_int) -> io::Result<()> {
    let set = set_of(&[signal]);
    // SAFETY: the set is initialised and outlives the call.
    check_errno(unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut())
    })
}

/// Makes a set of these signals. The caller must have checked the numbers.
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
