#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "reexec is built on Linux's pidfd_open(2), /proc and F_SETSIG; it needs Linux 5.4 or later"
);

mod background;
mod child;
mod codec;
mod command;
mod control;
mod descriptors;
mod entry;
mod error;
mod fork;
mod handle;
mod layout;
mod message;
mod output;
mod prepare;
mod program;
mod readiness;
mod reaper;
mod setting;
mod setup;
pub mod signal;
mod spawn;
mod sys;
mod threads;
mod usage;
mod validate;

pub use child::Child;
pub use command::{Command, Stdio, command};
pub use descriptors::inherited_fd;
pub use entry::{EXIT_SETUP_FAILED, EXIT_UNKNOWN_ENTRY, init, register, register_multicall};
pub use error::{Error, Stage};
pub use fork::{Fork, ForkOptions, exit_now, fork};
pub use output::{OutputCause, OutputError};
pub use program::self_exe;
pub use reaper::{Exit, Reaper};
pub use setting::Resource;
pub use setup::clean_start;
pub use usage::Usage;
