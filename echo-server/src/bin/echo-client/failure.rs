//! The ways to end other than well.

use std::fmt::Display;
use std::io;

use crate::tally::Tally;

pub(crate) const EXIT_INCOMPLETE: u8 = 1;
pub(crate) const EXIT_USAGE: u8 = 2; // as clap
pub(crate) const EXIT_CANNOT_CONNECT: u8 = 69; // EX_UNAVAILABLE
pub(crate) const EXIT_INTERNAL: u8 = 70; // EX_SOFTWARE
pub(crate) const EXIT_STDIO: u8 = 74; // EX_IOERR

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// `None` if nobody wants to know, or somebody else has said it.
    pub(crate) message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: String) -> Self {
        Self {
            code,
            message: Some(message),
        }
    }

    pub(crate) fn silent(code: u8) -> Self {
        Self {
            code,
            message: None,
        }
    }

    /// Something else came back than was sent.
    pub(crate) fn incomplete(sent: Tally, received: Tally, reason: impl Display) -> Self {
        let message = format!("{sent} sent, {received} came back: {reason}");
        Self::new(EXIT_INCOMPLETE, message)
    }
}

/// For `map_err`: says which step the system has refused.
pub(crate) fn cannot(step: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(EXIT_INTERNAL, format!("cannot {step}: {error}"))
}

/// What the system has refused, in the middle of it all.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(EXIT_INTERNAL, error.to_string())
    }
}
