//! What the server answers: a line to each line. YOUR-PROTOCOL.md explains it.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

/// The most bytes of a line, without its end.
pub(crate) const LONGEST: usize = 512;

/// The lines that this process has answered, in all its sessions.
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// The server's side of one session.
pub(crate) struct Protocol {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The lines that this session has answered.
    count: u64,
    /// The bytes of the latest answer.
    answer: Vec<u8>,
}

/// What the client gets. It is sent whole before more is read from the client.
pub(crate) struct Answer<'a> {
    pub(crate) bytes: &'a [u8],
    /// Whether the server ends its stream after these bytes.
    pub(crate) is_last: bool,
}

impl Protocol {
    pub(crate) fn new() -> Self {
        Self { line: Vec::new(), count: 0, answer: Vec::new() }
    }

    /// Answers what has been read at once: any part of what the client has sent.
    pub(crate) fn answer<'a>(&'a mut self, received: &'a [u8]) -> Answer<'a> {
        self.answer.clear();
        let mut is_last = false;
        let mut parts = received.split_inclusive(|byte| *byte == b'\n');
        while !is_last && let Some(part) = parts.next() {
            let text = part.strip_suffix(b"\n");
            self.line.extend_from_slice(text.unwrap_or(part));
            if self.line.len() > LONGEST {
                self.say("ERR line too long");
                is_last = true;
            } else if text.is_some() {
                is_last = self.answer_line();
                self.line.clear();
            }
        }
        Answer { bytes: &self.answer, is_last }
    }

    /// What the client gets when it has ended its stream, before the server ends its own.
    pub(crate) fn answer_end(&mut self) -> &[u8] {
        self.answer.clear();
        if !self.line.is_empty() {
            self.say("ERR line without an end");
        }
        &self.answer
    }

    /// Answers a whole line. Returns whether that is the last answer.
    fn answer_line(&mut self) -> bool {
        self.count += 1;
        let total = TOTAL.fetch_add(1, Ordering::Relaxed) + 1;
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let is_last = line == b"QUIT";
        let reply = match line {
            b"PING" => "PONG".to_owned(),
            b"COUNT" => self.count.to_string(),
            b"TOTAL" => total.to_string(),
            b"QUIT" => "BYE".to_owned(),
            _ => try_out(line).unwrap_or_else(|error| format!("ERR {error}")),
        };
        self.say(&reply);
        is_last
    }

    fn say(&mut self, line: &str) {
        self.answer.extend_from_slice(line.as_bytes());
        self.answer.push(b'\n');
    }
}

/// Tries what the sandbox may refuse.
fn try_out(command: &[u8]) -> io::Result<String> {
    match command {
        b"TIME" => {
            let time = SystemTime::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
            Ok(time.as_secs().to_string())
        }
        b"RANDOM" => Ok(RandomState::new().hash_one(()).to_string()),
        b"FILE" => File::open("/etc/passwd").map(|_| "opened".to_owned()),
        b"CONNECT" => TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).map(|_| "connected".to_owned()),
        b"THREAD" => thread::Builder::new().spawn(|| ()).map(|_| "started".to_owned()),
        _ => Err(io::Error::other("unknown command")),
    }
}
