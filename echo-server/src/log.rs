//! Events, one a line, on stderr.

use std::fmt;
use std::io::{self, Write};

/// A line that cannot be written is lost; a server does not end because nobody reads its log.
pub(crate) fn log(event: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "echo-server: {event}");
}
