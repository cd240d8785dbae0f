//! The chapter's echo server, `echo_mpserv.c`, which its Go edition left out: a process for each
//! client, and five other ways to serve many clients at the same time, under one supervisor.
//!
//! # Reading order
//!
//! The heart of it:
//!
//! 1. `protocol.rs` and `session/mod.rs`: what one client gets, and its session, both the same in every
//!    model.
//! 2. `worker/fork.rs` and `server/accept_loop.rs`: the chapter's model. The supervisor accepts a
//!    client, and forks a worker for it.
//! 3. `server/supervisor.rs`: the loop that starts workers, reaps them, takes signals and keeps time.
//! 4. `run.rs`: the steps from the command line to that loop, and the one place where the models
//!    differ.
//!
//! The other models, each of which is one file in `worker/`:
//!
//! 5. `worker/reexec.rs`: a worker that executes the program again.
//! 6. `server/pool.rs` and `server/acceptor.rs`, then `worker/prefork.rs`, `worker/template.rs`,
//!    `worker/thread.rs` and `worker/multiplex.rs`: workers that accept clients themselves.
//!
//! What it takes to operate a server, and no student needs to open: `ops/` has the sandbox, the
//! upgrade without downtime, and what service managers expect.

#![forbid(unsafe_code)]

// A module imports only from those above it, in the folders, too. A folder's `mod.rs` comes after its
// other files. tests/it/layers.rs checks it.

pub mod exit;

mod log;

mod options;

mod signals;

mod poll;

mod protocol;

mod session;

mod ops;

mod server;

mod worker;

mod run;

pub use ops::sandbox::{Sandbox, filter_tree, seccomp};
pub use options::{Mode, Model, Options, seconds};
pub use run::run;
pub use worker::run as worker;
pub use worker::terms::ENTRY as WORKER;
