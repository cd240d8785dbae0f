//! Sets the child up before its entry runs.
//!
//! Other libraries do this between fork and exec. After exec it is ordinary code, and the spawn stays
//! on the fast path.

use std::ffi::CStr;
use std::io;

use nix::sys::prctl;

use crate::message::{Launch, Report};
use crate::{inherited, lifeline, sys};

/// Does what the parent asked for, in the order that works.
pub(crate) fn apply(launch: &Launch) -> Result<(), Report> {
    // First we take what was declared, which also makes it close-on-exec.
    let lifeline = launch.lifeline.map(|end| sys::take_inherited(end.fd));
    let lifeline = step("taking the lifeline", lifeline.transpose())?;
    if let Some(fd) = launch.keep_open {
        let child_end = step("taking the handle's end", sys::take_inherited(fd))?;
        inherited::leave_open(child_end);
    }
    if let Some(fd) = launch.sealed_copy {
        drop(step("closing the sealed copy", sys::take_inherited(fd))?);
    }
    for (name, fd) in &launch.descriptors {
        let taken = step("taking the descriptors", sys::take_inherited(*fd))?;
        inherited::store(name.clone(), taken);
    }
    if !launch.undeclared_closed {
        step("setting close-on-exec on undeclared descriptors", inherited::mark_undeclared())?;
    }
    // If a filter refuses this, only the name is lost.
    let _ = set_name(&launch.entry);
    if let Some((read_end, end)) = lifeline.zip(launch.lifeline) {
        step("arming the lifeline", lifeline::arm(read_end, end.signal))?;
    }
    for setting in &launch.settings {
        step(&setting.step(), setting.apply())?;
    }
    Ok(())
}

fn set_name(entry: &str) -> io::Result<()> {
    let mut name = [0; 16]; // the kernel keeps 15 bytes, and a NUL byte
    name.iter_mut().take(15).zip(entry.bytes()).for_each(|(place, byte)| *place = byte);
    Ok(prctl::set_name(CStr::from_bytes_until_nul(&name).unwrap_or_default())?)
}

/// Turns an error of this step into a [`Report`].
fn step<T>(name: &str, result: io::Result<T>) -> Result<T, Report> {
    result.map_err(|error| Report::Failed {
        step: name.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    })
}
