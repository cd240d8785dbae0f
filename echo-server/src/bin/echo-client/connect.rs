//! Connects to the address on the command line.

use std::io;
use std::net::{Ipv4Addr, TcpStream};

use echo_server::exit;

use crate::failure::Failure;

/// Connects to `PORT` of this machine, or to `HOST:PORT`.
pub(crate) fn to(address: &str) -> Result<TcpStream, Failure> {
    const FORMS: &str = "ADDRESS is PORT or HOST:PORT (IPv6 in brackets)";
    // Rust itself reads "+80" as 80.
    let port = address.rsplit(':').next().unwrap_or_default();
    if port.starts_with('+') {
        let message =
            format!("cannot connect to {address}: {port:?} is not a port number; {FORMS}");
        return Err(Failure::new(exit::USAGE, message));
    }
    let address = match address.parse::<u16>() {
        Ok(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        Err(_) => address.to_owned(),
    };
    TcpStream::connect(&address).map_err(|error| {
        let (code, advice) = match error.kind() {
            io::ErrorKind::InvalidInput => (exit::USAGE, FORMS),
            io::ErrorKind::ConnectionRefused => {
                (exit::UNAVAILABLE, "no server listens there, start one: cargo run -p echo-server")
            }
            _ => (exit::UNAVAILABLE, "check the address"),
        };
        let message = format!("cannot connect to {address}: {error}; {advice}");
        Failure::new(code, message)
    })
}
