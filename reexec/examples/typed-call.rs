//! Calls a function in a process of its own, with an argument, a limit and a result.
//!
//! `cargo run -p reexec --features serde --example typed-call`

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // it prints one line

use std::process::ExitCode;

use reexec::{Call, Resource};

fn main() -> ExitCode {
    reexec::register_call("sum", |numbers: Vec<u64>| numbers.iter().sum::<u64>());
    if let Some(code) = reexec::init() {
        return code; // the child, after its function has run
    }
    let call = reexec::command("sum")
        .rlimit(Resource::CpuTime, 1, 2) // seconds
        .call::<_, u64>(&vec![1_u64, 2, 3]);
    match call.and_then(Call::wait) {
        Ok(sum) => println!("the sum is {sum}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
