//! Closes the file system, the network and other processes, with Landlock.

use std::fs::File;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};

/// From here on no path can be opened, no port bound or connected to, and no process outside signalled,
/// as far as this kernel's Landlock goes.
pub(super) fn restrict() -> io::Result<()> {
    let newest = ABI::V6;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(newest)))
        .and_then(|rules| rules.scope(Scope::from_all(newest)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.restrict_self());
    match rules {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err(io::Error::other("this kernel has none"))
        }
        // Every file system has a root.
        Ok(_) => match File::open("/") {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
            Err(error) => {
                Err(io::Error::other(format!("applied, but cannot be tried by opening /: {error}")))
            }
            Ok(_) => Err(io::Error::other("applied, but a file can still be opened")),
        },
        Err(error) => Err(io::Error::other(error)),
    }
}
