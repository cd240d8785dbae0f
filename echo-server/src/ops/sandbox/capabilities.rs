//! Drops every capability.

use std::io;

use caps::CapSet;

/// Without capabilities, root is a user who happens to own many files.
pub(super) fn drop_all() -> io::Result<()> {
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}
