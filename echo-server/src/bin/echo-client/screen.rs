//! Writes to stdout what comes back.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use echo_server::exit;
use nix::poll::PollFlags;

use crate::blocking::insist;
use crate::failure::Failure;

const PROMPT: &str = "Input message(Q to quit): ";
const ANSWER: &str = "Message from server: ";

pub(crate) struct Screen {
    /// Not [`io::Stdout`], which keeps back an incomplete line.
    out: File,
    /// Whether a person types, and sees what comes back. Otherwise only the bytes are written.
    is_interactive: bool,
    is_within_line: bool,
    /// Whether nothing came since the prompt.
    pub(crate) is_prompting: bool,
}

impl Screen {
    pub(crate) fn on_stdout() -> io::Result<Self> {
        let stdout = io::stdout();
        Ok(Self {
            out: File::from(stdout.as_fd().try_clone_to_owned()?),
            is_interactive: io::stdin().is_terminal() && stdout.is_terminal(),
            is_within_line: false,
            is_prompting: false,
        })
    }

    pub(crate) fn show(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.is_interactive {
            return self.write(bytes);
        }
        self.is_prompting = false;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_within_line {
                self.write(ANSWER.as_bytes())?;
            }
            self.write(line)?;
            self.is_within_line = !line.ends_with(b"\n");
        }
        Ok(())
    }

    /// Asks for a line, if a person is there to type it.
    pub(crate) fn prompt(&mut self) -> Result<(), Failure> {
        if self.is_within_line {
            self.end_line()?;
            self.is_within_line = false;
        }
        self.is_prompting = true;
        self.type_out(PROMPT)
    }

    /// Moves the cursor to the next line, away from the prompt.
    pub(crate) fn end_line(&self) -> Result<(), Failure> {
        self.type_out("\n")
    }

    fn type_out(&self, text: &str) -> Result<(), Failure> {
        if self.is_interactive {
            self.write(text.as_bytes())?;
        }
        Ok(())
    }

    fn write(&self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let length = insist(&self.out, PollFlags::POLLOUT, || (&self.out).write(bytes))
                .map_err(cannot_write)?;
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

fn cannot_write(error: io::Error) -> Failure {
    match error.kind() {
        // The reader has all it wants, as in `| head -1`.
        io::ErrorKind::BrokenPipe => Failure::silent(exit::STDIO),
        _ => Failure::new(exit::STDIO, format!("cannot write to stdout: {error}")),
    }
}
