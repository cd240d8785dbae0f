//! Admits clients to a worker of the pool: counts them, keeps the limit for each address, and writes the
//! worker's figures on the scoreboard.

use std::io;
use std::net::IpAddr;

use crate::server::per_source_limit::{PerSourceLimit, log_refusal};
use crate::server::scoreboard::{Score, Scoreboard};

pub(crate) struct Admission {
    board: Scoreboard,
    /// This worker's.
    row: usize,
    score: Score,
    /// The clients that this worker serves.
    per_source: PerSourceLimit,
}

impl Admission {
    pub(crate) fn new(board: Scoreboard, row: usize, max_per_source: Option<usize>) -> Self {
        Self {
            board,
            row,
            score: Score::default(),
            per_source: PerSourceLimit::new(max_per_source),
        }
    }

    /// Counts a client that was accepted. Returns whether it may be served; otherwise the caller
    /// disconnects it.
    pub(crate) fn admit(&mut self, source: IpAddr) -> io::Result<bool> {
        if !self.per_source.is_limited() {
            self.begin(source)?;
            return Ok(true);
        }
        // Without the lock, two workers could each see room for one more, at the same time.
        self.board.lock()?;
        let elsewhere = self.board.count_elsewhere(self.row, source)?;
        let is_admitted = !self.per_source.is_full(source, elsewhere);
        if is_admitted {
            self.per_source.add(source);
            self.begin(source)?;
        } else {
            self.score.accepted += 1;
            self.score.refused += 1;
            self.write()?;
            log_refusal(source);
        }
        self.board.unlock()?;
        Ok(is_admitted)
    }

    /// Takes a client out of the count: its session is over.
    pub(crate) fn release(&mut self, source: IpAddr) -> io::Result<()> {
        self.per_source.remove(source);
        self.score.active -= 1;
        self.score.source = None;
        self.write()
    }

    /// Takes a client out of the count that could not be served yet. It will be admitted again.
    pub(crate) fn requeue(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.accepted -= 1;
        self.release(source)
    }

    fn begin(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.accepted += 1;
        self.score.active += 1;
        self.score.source = Some(source);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        self.board.write(self.row, &self.score)
    }
}
