//! The supervisor, and how clients come to its workers.

mod backoff;

pub(crate) mod listener;

mod per_source_limit;

pub(crate) mod acceptor;

mod scoreboard;

pub(crate) mod pool_admission;

pub(crate) mod dispatch;

pub(crate) mod accept_loop;

pub(crate) mod pool;

pub(crate) mod supervisor;
