//! Sets the child up before its entry runs.
//!
//! Other libraries do this between fork and exec. After exec it is ordinary code, and the spawn stays
//! on the fast path.

use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;

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
    step("taking the descriptors", take_all(&launch.descriptors))?;
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

fn take_all(passed: &[(String, RawFd)]) -> io::Result<()> {
    for (name, fd) in passed {
        inherited::store(name.clone(), sys::take_inherited(*fd)?);
    }
    Ok(())
}

fn set_name(entry: &str) -> io::Result<()> {
    const KEPT: usize = 15; // bytes that the kernel keeps
    let mut name = [0; KEPT + 1];
    name.iter_mut().take(KEPT).zip(entry.bytes()).for_each(|(place, byte)| *place = byte);
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(prctl::set_name(name)?)
}

/// Turns an error of this step into a [`Report`].
fn step<T>(name: &str, result: io::Result<T>) -> Result<T, Report> {
    result.map_err(|error| Report::Failed {
        step: name.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    })
}
