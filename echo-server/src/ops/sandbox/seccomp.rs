//! Refuses every system call that serving does not need, with seccomp.

use std::io;

use libc::c_int;
use seccompiler::BpfProgram;

use super::filter_tree::{Answer, Condition, Rules, Test};
use crate::options::Model;

/// The calls that serving needs, in any model. All others fail with EPERM: a library that tries something
/// new and harmless must not end the server.
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

/// The calls that accepting clients needs, too.
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

/// The calls that starting threads needs, too.
const CALLS_OF_THREADS: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
];

/// The calls that copying the process for each client needs, too.
const CALLS_OF_A_TEMPLATE: &[i64] = &[
    // To make a copy. The second one counts the threads, if a filter from outside refuses unshare(2).
    libc::SYS_clone3,
    libc::SYS_newfstatat,
    libc::SYS_clone,
    libc::SYS_pidfd_open,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_prctl,
    libc::SYS_getppid,
    // To reap it, or to kill one that cannot be watched.
    libc::SYS_waitid,
    libc::SYS_pidfd_send_signal,
    // What a copy does before it serves: it closes descriptors, sets limits, and adds a filter.
    libc::SYS_close_range,
    libc::SYS_prlimit64,
    libc::SYS_seccomp,
];

/// Lists what the workers of a model may do. The worker of `template` makes others, which may do less:
/// [`of_copies`].
#[must_use]
pub fn of_workers(model: Model) -> Rules {
    let mut rules = Rules::allow(CALLS).and(libc::SYS_mmap, memory_but_no_code());
    if model.has_pool() {
        // F_SETOWN stays refused: it has signals sent to others. In debug builds, std checks with F_GETFD
        // that a descriptor is open before it closes it.
        let requests = [libc::F_SETLKW, libc::F_GETFD];
        rules = rules.union(&Rules::allow(CALLS_OF_A_POOL)).and(libc::SYS_fcntl, only(&requests));
    }
    if model == Model::Template {
        // unshare(2) tells whether there is another thread, and does nothing.
        let asks = Condition { argument: 0, test: Test::Is(libc::CLONE_THREAD.cast_unsigned()) };
        rules = rules
            .union(&Rules::allow(CALLS_OF_A_TEMPLATE))
            .and(libc::SYS_unshare, Answer::AllowIf(vec![asks]));
    }
    if model.has_threads() {
        let threads = Rules::allow(CALLS_OF_THREADS);
        rules = rules.union(&threads).and(libc::SYS_mprotect, memory_but_no_code());
    }
    rules
}

/// Lists what a copy of the template may do: the same as a forked worker.
#[must_use]
pub fn of_copies() -> Rules {
    of_workers(Model::Fork)
}

/// Applies the filter to this process.
pub(super) fn apply(filter: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(io::Error::other)
}

/// mmap(2) and mprotect(2) without PROT_EXEC.
fn memory_but_no_code() -> Answer {
    const PROTECTION: u8 = 2; // the third parameter of both
    let test = Test::HasNone(libc::PROT_EXEC.cast_unsigned());
    Answer::AllowIf(vec![Condition { argument: PROTECTION, test }])
}

/// fcntl(2) with one of these requests.
fn only(requests: &[c_int]) -> Answer {
    const REQUEST: u8 = 1; // the second parameter
    let is = |request: &c_int| Test::Is(request.cast_unsigned());
    let conditions = requests.iter().map(|it| Condition { argument: REQUEST, test: is(it) });
    Answer::AllowIf(conditions.collect())
}
