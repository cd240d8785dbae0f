//! Why the client ends in another way than with success.

use std::fmt::Display;
use std::io;

use echo_server::exit;

use crate::tally::Tally;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// `None` if nobody needs to know, or if the other process prints it.
    pub(crate) message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: String) -> Self {
        Self { code, message: Some(message) }
    }

    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: None }
    }

    /// The bytes that came back are not the ones that were sent.
    pub(crate) fn incomplete(sent: Tally, received: Tally, reason: impl Display) -> Self {
        let message = format!("{sent} sent, {received} came back: {reason}");
        Self::new(exit::INCOMPLETE, message)
    }
}

/// For `map_err`: names the step that the system has refused.
pub(crate) fn cannot(step: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(exit::INTERNAL, format!("cannot {step}: {error}"))
}

/// Any other I/O error is an internal failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(exit::INTERNAL, error.to_string())
    }
}
