//! Clients of an echo server: one thread that never waits for a single connection, and compares every
//! byte that comes back with the one that was sent.

pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod rates;
mod session;
