//! What the server answers: the bytes that it has received, as RFC 862 asks for. YOUR-PROTOCOL.md puts
//! another protocol in the place of this file.

/// The server's side of one session.
pub(crate) struct Protocol;

/// What the client gets. It is sent whole before more is read from the client.
pub(crate) struct Answer<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether the server ends its stream after these bytes.
    pub(crate) is_last: bool,
}

impl Protocol {
    pub(crate) fn new() -> Self {
        Self
    }

    /// Answers what has been read at once: any part of what the client has sent.
    pub(crate) fn answer<'a>(&'a mut self, received: &'a [u8]) -> Answer<'a> {
        Answer { bytes: received, is_last: false }
    }

    /// What the client gets when it has ended its stream, before the server ends its own.
    pub(crate) fn answer_end(&mut self) -> &[u8] {
        &[]
    }
}
