//! The registered functions that confine a template, and run one of them.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::message::Report;

type Function = Box<dyn FnOnce(&[String]) -> io::Result<()> + Send>;

static PREPARATIONS: Mutex<Vec<(String, Function)>> = Mutex::new(Vec::new());

/// Adds a function. Returns whether it is the first one with this name.
pub(crate) fn add(name: String, f: Function) -> bool {
    with_all(|all| {
        let is_new = all.iter().all(|(known, _)| *known != name);
        if is_new {
            all.push((name, f));
        }
        is_new
    })
}

/// Runs the function with this name.
pub(crate) fn run(name: &str, args: &[String]) -> Result<(), Report> {
    let step = format!("the preparation {name:?}");
    let found = with_all(|all| {
        let index = all.iter().position(|(known, _)| known == name)?;
        Some(all.swap_remove(index))
    });
    let Some((_, f)) = found else {
        let reason = "no function is registered under this name by register_preparation";
        return Err(Report::Refused { step, reason: reason.to_owned() });
    };
    f(args).map_err(|error| match error.raw_os_error() {
        Some(errno) => Report::Failed { step, errno },
        None => Report::Refused { step, reason: error.to_string() },
    })
}

fn with_all<T>(act: impl FnOnce(&mut Vec<(String, Function)>) -> T) -> T {
    // No change of the list panics.
    act(&mut PREPARATIONS.lock().unwrap_or_else(PoisonError::into_inner))
}
