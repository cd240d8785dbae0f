//! What the compiler knows about the public types, as far as users rely on it.

#![forbid(unsafe_code)]

use std::io;
use std::mem::size_of;

use reexec::Error;

/// A function that returns a large `Result` copies it on each return.
const _: () = assert!(size_of::<Error>() == size_of::<usize>());

#[test]
fn the_error_converts_into_those_that_functions_return() {
    fn converts<T: Into<io::Error> + Into<Box<dyn std::error::Error + Send + Sync>>>() {}
    converts::<Error>();
}
