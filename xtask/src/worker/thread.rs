//! Starts threads where there may be no more of them.

use std::io;
use std::thread::{Builder, JoinHandle};

/// As `std::thread::spawn`, which would panic instead of returning the error.
pub(crate) fn start_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let started = Builder::new().spawn(work);
    started.map_err(|error| io::Error::new(error.kind(), format!("cannot start a thread: {error}")))
}
