//! What no child can be started with, and why.

use crate::command::{Source, Stdio};
use crate::error::shortened;
use crate::setting::Setting;
use crate::{Command, Stage, entry, sys};

/// Far above any sensible nesting, far below the number of processes a user may have.
const DEPTH_LIMIT: u32 = 16;

/// Refuses a start by a process whose children would come here again, and theirs again.
pub(crate) fn refuse_loops() -> Result<(), Stage> {
    if !entry::init_called() {
        return Err(Stage::InitNotCalled);
    }
    if entry::has_ended() {
        return Err(invalid(
            "the entry of this process has ended; main has to return the code of init()",
        ));
    }
    if entry::depth() >= DEPTH_LIMIT {
        return Err(Stage::TooDeep { limit: DEPTH_LIMIT });
    }
    Ok(())
}

/// Refuses settings that mean nothing, exclude each other, or mean something else to the kernel.
pub(crate) fn refuse_nonsense(command: &Command) -> Result<(), Stage> {
    refuse_names_given_twice(command)?;
    refuse_spent_streams(command)?;
    if let Some(signal) = command.death_signal
        && sys::check_signal(signal).is_err()
    {
        return Err(invalid(format!(
            "die_with_parent: there is no signal {signal} that a program can have"
        )));
    }
    if let Some(signal) = command.death_signal
        && command.settings.contains(&Setting::IgnoreSignal(signal))
    {
        return Err(invalid(format!(
            "ignore_signal: the child would not end with its parent, as signal {signal} is what \
             tells it to; choose another with die_with_parent, or outlive_parent"
        )));
    }
    if let Some(group) = command.process_group
        && group < 0
    {
        return Err(invalid(format!("there is no process group {group}")));
    }
    if command.process_group.is_some() && command.settings.contains(&Setting::NewSession) {
        return Err(invalid(
            "setsid makes a process group, too; it cannot be combined with process_group",
        ));
    }
    if command.sealed && command.executable.is_some() {
        return Err(invalid(
            "sealed executes a copy of this program; it cannot be combined with executable",
        ));
    }
    let refusal = command.settings.iter().find_map(Setting::refusal);
    refusal.map_or(Ok(()), |reason| Err(invalid(reason)))
}

fn refuse_names_given_twice(command: &Command) -> Result<(), Stage> {
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

fn refuse_spent_streams(command: &Command) -> Result<(), Stage> {
    let streams = [
        ("stdin", &command.stdin),
        ("stdout", &command.stdout),
        ("stderr", &command.stderr),
    ];
    for (name, stdio) in streams {
        if let Some(Stdio(Source::Spent)) = stdio {
            return Err(invalid(format!(
                "what {name} was set to went to the child started before; set it again"
            )));
        }
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
