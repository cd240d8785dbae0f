//! The system calls that neither std nor nix offers in a safe form: a file for each family of calls.
//!
//! All `unsafe` of the workspace is here. Each function is safe to call: its signature or its first
//! lines guarantee what its `unsafe` block needs.
#![allow(unsafe_code)] // The one place for it; see the SAFETY note at each block.

mod arguments;
mod clone;
mod credentials;
mod descriptor;
mod errno;
mod fork;
mod pidfd;
mod process;
mod rights;
mod shared_word;
mod signal;
mod spawn;
mod strings;
mod wait;

pub(crate) use arguments::Arguments;
pub(crate) use clone::{Cloned, Cloner, block_signals, flush_c_streams, place_descriptors};
pub(crate) use credentials::{Capabilities, capabilities, drop_capabilities, groups, seccomp_mode};
pub(crate) use descriptor::{
    close_and_forget, close_if_inherited, close_on_exec_from, duplicate_above, is_inheritable,
    is_open, is_readable, open_descriptors, set_close_on_exec, signal_on_activity, socket_type,
    take_inherited,
};
pub(crate) use errno::{is, is_one_of, is_refused, retry_on_interrupt};
pub(crate) use fork::{ForkSpec, Forked, exit_now, fork, fork_with_pidfd};
pub(crate) use pidfd::{kill, kill_group, pidfd_open, pidfd_send_signal, pidfd_signal_group};
pub(crate) use process::{
    add_nice, executed_path, own_id, parent_id, run_before_others, set_umask,
};
pub(crate) use rights::{RIGHTS_MAX, receive_with_descriptors, send_with_descriptors};
pub(crate) use shared_word::SharedWord;
pub(crate) use signal::{
    Disposition, add_flag, check_ignorable, check_signal, counted, is_ignored, set_disposition,
    signal_self, stop_ignoring, unblock_signal, unblock_signals, with_signals_blocked,
};
pub(crate) use spawn::{SpawnError, SpawnSpec, can_close_from, spawn};
pub(crate) use strings::{CStrings, ContainsNul};
pub(crate) use wait::{End, WaitTarget, await_end, has_ended, is_unreaped, try_reap, try_reap_any};
