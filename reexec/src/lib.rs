//! [简体中文]: crate::readme_zh_cn
#![doc = include_str!("../README.md")]

// On another system, this error is the only one. The condition is around everything, so rustfmt, which
// formats the modules, leaves these lines as they are.
cfg_if::cfg_if! {
if #[cfg(not(target_os = "linux"))] {
    compile_error!("reexec requires Linux 5.4 or later; use a container with Linux, or WSL2 on Windows");
} else {

// Tools. A file may import files of its own group and of the groups above it; tests/layers.rs fails on
// a circle between files.
mod codec;
mod error;
mod poll;
mod sys;
mod threads;
mod usage;

// What parent and child agree on.
mod child_setting;
mod control;
mod fd_map;
mod inherited;
mod job_channel;
mod lifeline;
mod message;
mod program;
mod template_message;

// The child: from main to its entry.
mod child_setup;
mod entry;
mod job_cgroup;
mod keeper;
mod kill_tree;
mod preparation;
mod template_server;

// The parent: a child that runs.
mod background;
mod child;
mod group;
mod handle;
mod output;
mod reaper;
mod stdio;

// The parent: starting a child.
mod command;
mod confinement;
mod fork;
mod job;
mod prepare_spawn;
mod process_group;
mod spawn;
mod template;
mod template_process;
mod validate;

// Typed calls.
#[cfg(feature = "serde")]
mod call;

// Signals of this process itself.
pub mod signal;

// For the other crates of this workspace.
#[doc(hidden)]
pub mod workspace;

#[cfg(feature = "serde")]
pub use call::{Call, CallError, register_call};
pub use child::Child;
pub use child_setting::Resource;
pub use command::{Command, command};
pub use entry::{init, register, register_multicall, register_preparation};
pub use error::{EXIT_SETUP_FAILED, EXIT_UNKNOWN_ENTRY, Error, PartialOutput, Stage};
pub use fork::{Fork, ForkOptions, exit_now, fork};
pub use inherited::{inherited_fd, start_clean};
pub use job::{Job, program};
pub use program::self_exe;
pub use reaper::{Exit, Reaper};
pub use stdio::Stdio;
pub use template::Template;
pub use usage::Usage;

/// The page of this crate in Chinese: 这个库的中文说明。
///
/// [English]: crate
#[cfg(doc)] // there is no such module in the crate
#[doc = include_str!("../README.zh-CN.md")]
pub mod readme_zh_cn {}

}
}
