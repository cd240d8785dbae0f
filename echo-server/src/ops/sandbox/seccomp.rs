//! Refuses every system call that serving does not need, with seccomp.

use std::collections::BTreeMap;
use std::io;

use nix::errno::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

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

/// Compiles the filter for the workers of a model.
pub(super) fn compile(model: Model) -> io::Result<BpfProgram> {
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
        io::Error::other(format!("cannot compile the filter of system calls: {error}"))
    })
}

/// Applies the filter to this process.
pub(super) fn apply(filter: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(filter).map_err(io::Error::other)
}

/// Lists the calls that are allowed. One without a rule is allowed with any parameters.
fn rules(model: Model) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<_, _> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, vec![memory_but_no_code()?]);
    if model.has_pool() {
        rules.extend(CALLS_OF_A_POOL.iter().map(|&call| (call, Vec::new())));
        // F_SETOWN stays refused: it has signals sent to others. In debug builds, std checks with F_GETFD
        // that a descriptor is open before it closes it.
        let lock = only(libc::F_SETLKW as u64)?;
        rules.insert(libc::SYS_fcntl, vec![lock, only(libc::F_GETFD as u64)?]);
    }
    if model.has_threads() {
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
