//! Seccomp filters that refuse system calls, as containers do.
//!
//! A filter applies to one thread, and to the processes that the thread starts. So each case has a
//! thread of its own, and the main thread, without a filter, looks at children and descriptors after
//! it.

use std::collections::BTreeMap;
use std::env;
use std::os::fd::RawFd;
use std::panic;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::thread;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{Skipped, children, descriptors, has_one_thread, wait_until};

/// Set for a process in which calls are refused. If it is an ordinary start, it prints a line and does
/// not run the tests, in which it would start processes like itself.
pub(crate) const PROBED: &str = "PROBED";

/// After `init`: ends an ordinary start of a process with [`PROBED`].
pub(crate) fn end_if_probed() -> Option<ExitCode> {
    env::var_os(PROBED).map(|_| {
        println!("ordinary");
        ExitCode::SUCCESS
    })
}

/// The errors with which filters refuse a call.
pub(crate) const ERRORS: [i32; 5] =
    [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE, libc::EAGAIN];

type Rules = Vec<(i64, Vec<SeccompRule>)>;

/// Returns the system calls with this name: mostly one, or several of which a libc uses one, or one
/// use of a call.
fn rules(name: &str) -> Rules {
    let all = |numbers: &[i64]| numbers.iter().map(|number| (*number, Vec::new())).collect();
    match name {
        "clone" => all(&[
            libc::SYS_clone,
            libc::SYS_clone3,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_vfork,
        ]),
        "clone3" => all(&[libc::SYS_clone3]),
        "close_range" => all(&[libc::SYS_close_range]),
        "dup2" => all(&[
            libc::SYS_dup3,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2,
        ]),
        "epoll_create1" => all(&[libc::SYS_epoll_create1]),
        "epoll_ctl" => all(&[libc::SYS_epoll_ctl]),
        "epoll_wait" => all(&[
            libc::SYS_epoll_pwait,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait,
        ]),
        "eventfd2" => all(&[libc::SYS_eventfd2]),
        "execve" => all(&[libc::SYS_execve]),
        "fcntl" => all(&[libc::SYS_fcntl]),
        "fcntl F_DUPFD_CLOEXEC" => {
            let command = libc::F_DUPFD_CLOEXEC as u64;
            only(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, command)
        }
        "fcntl F_GETFD" => only(libc::SYS_fcntl, 1, SeccompCmpOp::Eq, libc::F_GETFD as u64),
        "get_robust_list" => all(&[libc::SYS_get_robust_list]),
        "getdents64" => all(&[libc::SYS_getdents64]),
        "getsockopt" => all(&[libc::SYS_getsockopt]),
        "kill" => all(&[libc::SYS_kill]),
        "memfd_create" => all(&[libc::SYS_memfd_create]),
        "mmap" => all(&[libc::SYS_mmap]),
        "openat" => all(&[libc::SYS_openat]),
        "pidfd_open" => all(&[libc::SYS_pidfd_open]),
        "pidfd_open of another" => {
            let own = u64::from(process::id());
            only(libc::SYS_pidfd_open, 0, SeccompCmpOp::Ne, own)
        }
        "pidfd_send_signal" => all(&[libc::SYS_pidfd_send_signal]),
        "pidfd_send_signal to a group" => {
            const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 1 << 2;
            only(libc::SYS_pidfd_send_signal, 3, SeccompCmpOp::Eq, PIDFD_SIGNAL_PROCESS_GROUP)
        }
        "pipe2" => all(&[libc::SYS_pipe2]),
        "poll" => all(&[
            libc::SYS_ppoll,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll,
        ]),
        "prlimit64" => all(&[libc::SYS_prlimit64]),
        "prctl" => all(&[libc::SYS_prctl]),
        "prctl PR_GET_TID_ADDRESS" => {
            let option = libc::PR_GET_TID_ADDRESS as u64;
            only(libc::SYS_prctl, 0, SeccompCmpOp::Eq, option)
        }
        "read" => all(&[libc::SYS_read]),
        "readlink" => all(&[
            libc::SYS_readlinkat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink,
        ]),
        "recvfrom" => all(&[libc::SYS_recvfrom]),
        "rt_sigaction" => all(&[libc::SYS_rt_sigaction]),
        "rt_sigprocmask" => all(&[libc::SYS_rt_sigprocmask]),
        "rt_sigtimedwait" => all(&[libc::SYS_rt_sigtimedwait]),
        "sendto" => all(&[libc::SYS_sendto]),
        // A launch is longer than the hello, and the report of a ready child is shorter.
        "sendto of a launch" => only(libc::SYS_sendto, 2, SeccompCmpOp::Gt, 40),
        "sendto of a report" => only(libc::SYS_sendto, 2, SeccompCmpOp::Lt, 8),
        // Of a template, with the number of a child.
        "sendto of a reply" => only(libc::SYS_sendto, 2, SeccompCmpOp::Eq, 4),
        "setpgid" => all(&[libc::SYS_setpgid]),
        "signalfd4" => all(&[libc::SYS_signalfd4]),
        "socketpair" => all(&[libc::SYS_socketpair]),
        "stat" => [
            all(&[libc::SYS_statx]),
            // Except for a descriptor: the child's loader needs that.
            only(libc::SYS_newfstatat, 3, SeccompCmpOp::MaskedEq(libc::AT_EMPTY_PATH as u64), 0),
        ]
        .concat(),
        "unshare" => all(&[libc::SYS_unshare]),
        "wait4" => all(&[libc::SYS_wait4]),
        "waitid" => all(&[libc::SYS_waitid]),
        "waitid P_PIDFD" => {
            let kind = libc::P_PIDFD.into();
            only(libc::SYS_waitid, 0, SeccompCmpOp::Eq, kind)
        }
        name => panic!("which calls are {name}?"),
    }
}

/// Refuses only calls with such a parameter.
fn only(call: i64, parameter: u8, is: SeccompCmpOp, value: u64) -> Rules {
    let condition = SeccompCondition::new(parameter, SeccompCmpArgLen::Dword, is, value);
    vec![(call, vec![SeccompRule::new(vec![condition.unwrap()]).unwrap()])]
}

fn filter(refused: &[&str], errno: i32) -> BpfProgram {
    let rules = refused.iter().flat_map(|name| rules(name)).collect();
    let refuse = SeccompAction::Errno(errno as u32);
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    filter.try_into().unwrap()
}

/// Refuses these calls to this thread from now on, and to what it starts.
pub(crate) fn refuse(refused: &[&str], errno: i32) {
    seccompiler::apply_filter(&filter(refused, errno)).unwrap();
}

/// Runs `act` in a thread to which these calls are refused.
pub(crate) fn refusing<T: Send>(refused: &[&str], errno: i32, act: impl FnOnce() -> T + Send) -> T {
    let thread = || {
        refuse(refused, errno);
        act()
    };
    match thread::scope(|scope| scope.spawn(thread).join()) {
        Ok(result) => result,
        Err(panic) => panic::resume_unwind(panic),
    }
}

/// Skips the test if filters do not work here.
pub(crate) fn needs_filters() -> Result<(), Skipped> {
    let skip = |error| Skipped::because(&format!("no filter of system calls here: {error}"));
    TargetArch::try_from(env::consts::ARCH).map_err(|error| skip(error.to_string()))?;
    let filter = filter(&["unshare"], libc::EPERM);
    let applied = thread::spawn(move || seccompiler::apply_filter(&filter)).join();
    applied.unwrap().map_err(|error| skip(error.to_string()))
}

/// Describes a case, for failures.
pub(crate) fn case(doing: &str, refused: &str, errno: i32) -> String {
    format!("{doing}, {refused} refused: {}", Errno::from_raw(errno))
}

/// The descriptors before a case, to compare them with those after it.
pub(crate) struct Before(BTreeMap<RawFd, PathBuf>);

impl Before {
    pub(crate) fn now() -> Before {
        Before(descriptors())
    }

    /// Fails if the case has left a child, a zombie, a thread or a descriptor.
    pub(crate) fn is_restored(&self, case: &str) {
        assert!(!has_children(), "{case} leaves {:?}", children());
        // The thread of the library ends when no child is left.
        wait_until("one thread is left", has_one_thread);
        assert_eq!(descriptors(), self.0, "{case}");
    }

    /// Does the same after the library has finished its work in the background.
    pub(crate) fn is_restored_later(&self, case: &str) {
        wait_until(case, || !has_children());
        self.is_restored(case);
    }
}

/// Whether this process has children, with zombies. Faster than to look through /proc.
fn has_children() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::All, look) {
            Err(Errno::EINTR) => {}
            result => return result != Err(Errno::ECHILD),
        }
    }
}
