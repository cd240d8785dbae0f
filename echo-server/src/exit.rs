//! The exit codes of the server and its client. Their `--help` and OPERATING.md list the same ones.

/// Server: some sessions were cut off.
pub const CUT_OFF: u8 = 1;

/// Client: something else came back than was sent.
pub const INCOMPLETE: u8 = 1;

/// Both: wrong usage, as clap has it.
pub const USAGE: u8 = 2;

/// Server: this machine refuses to let us listen, or to give workers what they must have.
/// Client: cannot connect. EX_UNAVAILABLE of sysexits.h.
pub const UNAVAILABLE: u8 = 69;

/// Both: any other failure. EX_SOFTWARE of sysexits.h.
pub const INTERNAL: u8 = 70;

/// Client: cannot read stdin, or cannot write stdout. EX_IOERR of sysexits.h.
pub const STDIO: u8 = 74;

/// Worker, to its supervisor: it has done its work, and has lost lines of the log that it could not
/// report. Their number, at most 127, is added to this.
pub(crate) const LOST_LINES: u8 = 128;
