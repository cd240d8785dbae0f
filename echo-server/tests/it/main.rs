//! The echo server from outside: the real program, real clients, loopback only.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../../../zombie/tests/processes/mod.rs"]
mod processes;

mod bytes;
mod client;
mod ending;
mod server;
mod shortage;
mod start;
mod workers;
