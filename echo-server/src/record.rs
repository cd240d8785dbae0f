//! What a worker of the pool keeps of its clients, and writes on the scoreboard.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use crate::log::session;
use crate::scoreboard::{Score, Scoreboard};

pub(crate) struct Record {
    board: Scoreboard,
    row: usize,
    score: Score,
    max_per_source: Option<usize>,
    /// How many clients of each address are being served here; kept only if that is limited.
    sources: HashMap<IpAddr, usize>,
}

impl Record {
    pub(crate) fn new(board: Scoreboard, row: usize, max_per_source: Option<usize>) -> Self {
        Self {
            board,
            row,
            score: Score::default(),
            max_per_source,
            sources: HashMap::new(),
        }
    }

    /// Counts a client. Whether it may be served; otherwise it is to be disconnected.
    pub(crate) fn admits(&mut self, source: IpAddr) -> io::Result<bool> {
        let Some(max) = self.max_per_source else {
            self.admit(source)?;
            return Ok(true);
        };
        // Otherwise two workers at the same time would each see room for one more.
        self.board.lock()?;
        let count = self.board.count_elsewhere(self.row, source)?
            + self.sources.get(&source).copied().unwrap_or(0);
        if count < max {
            *self.sources.entry(source).or_default() += 1;
            self.admit(source)?;
        } else {
            self.score.accepted += 1;
            self.score.refused += 1;
            self.write()?;
            session(format_args!("{source} refused: too many of its clients"));
        }
        self.board.unlock()?;
        Ok(count < max)
    }

    /// The session with a client from there is over.
    pub(crate) fn has_left(&mut self, source: IpAddr) -> io::Result<()> {
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        self.score.active -= 1;
        self.score.source = None;
        self.write()
    }

    /// A client that was counted will come again.
    pub(crate) fn is_put_back(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.accepted -= 1;
        self.has_left(source)
    }

    fn admit(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.accepted += 1;
        self.score.active += 1;
        self.score.source = Some(source);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        self.board.write(self.row, &self.score)
    }
}
