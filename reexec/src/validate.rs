//! Checks a command before anything is started, and gives the reason if no child can be started.

use crate::child_setting::Setting;
use crate::error::shortened;
use crate::job_channel::JobOptions;
use crate::{Command, Stage, entry, sys};

/// Far above any sensible nesting, far below the number of processes that a user may have.
const DEPTH_LIMIT: u32 = 16;

/// Fails if the children of this process would come here again, and theirs again.
pub(crate) fn check_process() -> Result<(), Stage> {
    if !entry::is_init_called() {
        return Err(Stage::InitNotCalled);
    }
    if entry::has_returned() {
        return Err(invalid(
            "the entry of this process has returned; main must return the code of init()",
        ));
    }
    if entry::depth() >= DEPTH_LIMIT {
        return Err(Stage::TooDeep { limit: DEPTH_LIMIT });
    }
    Ok(())
}

/// Fails if settings mean nothing, exclude each other, or mean something else to the kernel.
pub(crate) fn check_command(command: &Command) -> Result<(), Stage> {
    check_descriptor_names(command)?;
    check_streams(command)?;
    command.check_process_group()?;
    if command.sealed && command.executable.is_some() {
        return Err(invalid(
            "sealed executes a copy of this program; it cannot be combined with executable",
        ));
    }
    let problem = command.settings.iter().find_map(Setting::problem);
    problem.map_or(Ok(()), |reason| Err(invalid(reason)))
}

/// Fails if a child that is no job cannot have this name or these settings.
pub(crate) fn check_plain(command: &Command) -> Result<(), Stage> {
    if command.entry.is_empty() {
        return Err(invalid("no entry can be registered under an empty name"));
    }
    if command.job != JobOptions::default() {
        return Err(invalid("program, deadline and job_cgroup are for jobs: call spawn_job"));
    }
    check_signals(command)
}

fn check_descriptor_names(command: &Command) -> Result<(), Stage> {
    let names = command.descriptors.iter().map(|(name, _)| name);
    let mut names: Vec<_> = names.collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let name = shortened(pair[0]);
            Err(invalid(format!("two descriptors are named {name:?}")))
        }
        None => Ok(()),
    }
}

fn check_streams(command: &Command) -> Result<(), Stage> {
    for (name, stdio) in ["stdin", "stdout", "stderr"].iter().zip(command.streams()) {
        if stdio.is_some_and(|stdio| stdio.is_spent()) {
            return Err(invalid(format!(
                "the descriptor set as {name} went to a child started before; set {name} again"
            )));
        }
    }
    Ok(())
}

fn check_signals(command: &Command) -> Result<(), Stage> {
    let Some(signal) = command.death_signal else {
        return Ok(());
    };
    if sys::check_signal(signal).is_err() {
        return Err(invalid(format!(
            "parent_death_signal: there is no signal {signal} that a program can use"
        )));
    }
    if command.settings.contains(&Setting::IgnoreSignal(signal)) {
        return Err(invalid(format!(
            "ignore_signal: the child would not end with its parent, because signal {signal} is its \
             parent_death_signal; choose another one, or use outlive_parent"
        )));
    }
    Ok(())
}

pub(crate) fn contains_nul(bytes: &[u8]) -> Stage {
    let string = String::from_utf8_lossy(bytes);
    invalid(format!("{:?} contains a NUL byte", shortened(&string)))
}

pub(crate) fn invalid(reason: impl Into<String>) -> Stage {
    Stage::Invalid(reason.into())
}
