//! The same under IPv6.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::models::in_every_model;
use crate::server::{BINARY, Server, flood};

#[test]
fn every_model_serves() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        println!("skipped, no IPv6 here: {error}");
        return;
    }
    in_every_model(|model| {
        let server = Server::run(Command::new(BINARY).args(["[::1]:0", "--model", model]));
        assert!(server.address.is_ipv6());
        assert_eq!(flood(server.address, 30, 3), [""; 0]);
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
    });
}
