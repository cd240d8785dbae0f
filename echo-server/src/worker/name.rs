//! How ps(1) shows a worker, also one that is a zombie.

use std::ffi::CStr;
use std::hint;
use std::io;

use nix::sys::prctl;

/// Names this process for ps.
pub(super) fn name_worker() -> io::Result<()> {
    // On the stack: the constant would be the only one that a worker needs of its page.
    let name = hint::black_box(*b"echo-worker\0");
    Ok(prctl::set_name(CStr::from_bytes_until_nul(&name).unwrap_or_default())?)
}
