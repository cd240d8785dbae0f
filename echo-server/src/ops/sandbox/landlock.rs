//! Closes the file system, the network and other processes, with Landlock.

use std::fs::File;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, RulesetAttr, RulesetCreated,
    RulesetError, RulesetStatus, Scope,
};

/// What a process gives up with Landlock, made ready before there are workers. It is an open file, which
/// is closed on exec.
pub(super) struct Ruleset(Result<RulesetCreated, RulesetError>);

impl Ruleset {
    /// Makes it. If that fails, [`restrict`](Self::restrict) returns the error.
    pub(super) fn new() -> Self {
        let newest = ABI::V6;
        let rules = landlock::Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(newest))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(newest)))
            .and_then(|rules| rules.scope(Scope::from_all(newest)))
            .and_then(landlock::Ruleset::create);
        Self(rules)
    }

    /// From here on no path can be opened, no port bound or connected to, and no process outside signalled,
    /// as far as this kernel's Landlock goes.
    pub(super) fn restrict(self) -> io::Result<()> {
        let status = self.0.and_then(RulesetCreated::restrict_self).map_err(io::Error::other)?;
        match status.ruleset {
            RulesetStatus::NotEnforced => Err(io::Error::other("this kernel has none")),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        }
    }
}

/// Tries whether a path can be opened, after [`restrict`](Ruleset::restrict). Every file system has a
/// root.
pub(super) fn verify() -> io::Result<()> {
    match File::open("/") {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
        Err(error) => {
            Err(io::Error::other(format!("applied, but cannot be tried by opening /: {error}")))
        }
        Ok(_) => Err(io::Error::other("applied, but a file can still be opened")),
    }
}
