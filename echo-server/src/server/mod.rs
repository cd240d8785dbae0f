//! The supervisor, and how clients come to its workers.

mod backoff;

pub(crate) mod listener;

mod sources;

pub(crate) mod acceptor;

mod scoreboard;

pub(crate) mod score_keeper;

pub(crate) mod dispatch;

pub(crate) mod accept_loop;

pub(crate) mod pool;

pub(crate) mod supervisor;
