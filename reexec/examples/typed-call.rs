//! Calls a function in a process of its own, with an argument, a limit and a result.
//!
//! `cargo run -p reexec --features serde --example typed-call`

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use reexec::Resource;

fn main() -> ExitCode {
    reexec::register_call("sum", sum);
    if let Some(code) = reexec::init() {
        return code; // the child, after its function has run
    }
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "typed-call: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

fn parent() -> Result<(), Box<dyn Error>> {
    let call = reexec::command("sum")
        .rlimit(Resource::CpuTime, 1, 2) // seconds
        .call::<_, u64>(&vec![1_u64, 2, 3])?;
    writeln!(io::stdout(), "the sum is {}", call.wait()?)?;
    Ok(())
}
