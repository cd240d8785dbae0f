//! The echo server from outside: the real program, real clients, loopback only. What holds in
//! every model is written down once, and is a test of each: `cargo test -- ::reexec` runs one's.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

/// Makes of a function that is given a [`Model`](server::Model) a test for each of these models, or
/// for every one there is: `NAME::MODEL`.
macro_rules! models {
    ($body:ident) => {
        models!($body, fork, reexec, template, prefork, thread, multiplex);
    };
    ($body:ident, $($model:ident),+) => {
        mod $body {
            $(
                #[test]
                fn $model() {
                    super::$body(crate::server::Model(stringify!($model)));
                }
            )+
        }
    };
}

mod backlog;
mod bytes;
mod client;
mod container;
mod crash;
mod cut_off;
mod deploy;
mod ending;
mod errors;
mod filter;
mod hangup;
mod ipv6;
mod layers;
mod limits;
mod line_server;
mod log;
mod managers;
mod models;
mod pool;
mod sandbox;
mod server;
mod service_manager;
mod shortage;
mod signals;
mod start;
mod systemd;
mod template;
mod threads;
mod upgrade;
mod upgrades;
mod workers;
