//! Runs one of several functions, by the name of the link that started the program, as BusyBox does.
//!
//! ```sh
//! cargo build -p reexec --example multicall
//! ln -s target/debug/examples/multicall hello
//! ln target/debug/examples/multicall goodbye
//! ./hello && ./goodbye && target/debug/examples/multicall
//! ```

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    reexec::register_multicall("hello", || say("Hello."));
    reexec::register_multicall("goodbye", || say("Goodbye."));
    if let Some(code) = reexec::init() {
        return code; // called as hello or goodbye, by a link or by command()
    }
    match reexec::command("hello").status() {
        Ok(status) if status.success() => say("Nobody called me by name."),
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "multicall: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) -> ExitCode {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
