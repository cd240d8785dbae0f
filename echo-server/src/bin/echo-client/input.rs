//! Reads the bytes to send: stdin, up to its end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use echo_server::exit;
use nix::poll::PollFlags;

use crate::blocking::insist;
use crate::failure::Failure;

const SIZE: usize = 64 * 1024;

pub(crate) struct Input {
    /// Not [`io::Stdin`], which takes a stream that cannot be read for an empty one.
    source: File,
    buffer: Vec<u8>,
    /// `None` for a regular file, which such a line does not end.
    quit_line: Option<QuitLine>,
    is_at_end: bool,
}

impl Input {
    pub(crate) fn of_stdin() -> io::Result<Self> {
        let source = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        // A file is data, and has an end. Input that is typed, or that a program writes, may have none:
        // there must be a way to end it.
        let is_file = source.metadata()?.is_file();
        Ok(Self {
            source,
            buffer: vec![0; SIZE],
            quit_line: (!is_file).then(QuitLine::default),
            is_at_end: false,
        })
    }

    /// Waits for the next bytes. Returns an empty piece at the end of the input.
    pub(crate) fn next_piece(&mut self) -> Result<&[u8], Failure> {
        let mut end = 0;
        // We read again if all bytes so far may be the start of a quit line.
        while end == 0 && !self.is_at_end {
            let held = self.quit_line.as_mut().and_then(|line| line.held.take());
            if let Some(letter) = held {
                self.buffer[0] = letter;
            }
            let start = usize::from(held.is_some());
            let length = insist(&self.source, PollFlags::POLLIN, || {
                (&self.source).read(&mut self.buffer[start..])
            })
            .map_err(cannot_read)?;

            end = start + length;
            self.is_at_end = length == 0;
            if let Some(line) = &mut self.quit_line
                && !self.is_at_end
            {
                end = line.look_for(&self.buffer[..end]);
                self.is_at_end = line.is_found;
            }
        }
        Ok(&self.buffer[..end])
    }

    /// Whether a quit line has ended the input.
    pub(crate) fn was_quit(&self) -> bool {
        self.quit_line.as_ref().is_some_and(|line| line.is_found)
    }
}

fn cannot_read(error: io::Error) -> Failure {
    Failure::new(exit::STDIO, format!("cannot read stdin: {error}"))
}

/// The search for a line that is `q` or `Q`, in pieces that may start and end anywhere.
#[derive(Default)]
struct QuitLine {
    is_found: bool,
    /// A `q` or `Q` at the start of a line of which nothing else has come yet. It must not be sent before
    /// we know how the line goes on.
    held: Option<u8>,
    is_within_line: bool,
    /// A NUL byte has come, so these are no lines of text. Otherwise a photo that comes through a pipe
    /// would end where its bytes happen to look like a quit line.
    is_binary: bool,
}

impl QuitLine {
    /// Looks for the line in the next piece. Returns how much of the piece is to be sent.
    fn look_for(&mut self, piece: &[u8]) -> usize {
        let mut end = 0;
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            self.is_binary |= line.contains(&0);
            if self.is_binary {
                return piece.len();
            }
            match line {
                _ if self.is_within_line => {}
                b"q\n" | b"Q\n" => {
                    self.is_found = true;
                    return end;
                }
                [letter @ (b'q' | b'Q')] => {
                    self.held = Some(*letter);
                    return end;
                }
                _ => {}
            }
            self.is_within_line = !line.ends_with(b"\n");
            end += line.len();
        }
        end
    }
}
