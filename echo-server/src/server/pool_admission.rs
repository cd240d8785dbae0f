//! Admits clients to a worker of the pool: counts them, keeps the limit for each address, and writes the
//! worker's figures on the scoreboard.

use std::io;
use std::mem;
use std::net::IpAddr;

use crate::server::per_source_limit::{PerSourceLimit, log_refusal};
use crate::server::scoreboard::{Score, Scoreboard};

pub(crate) struct Admission {
    board: Scoreboard,
    /// This worker's.
    row: usize,
    score: Score,
    /// Whether the score differs from the one on the board.
    is_changed: bool,
    /// The clients that this worker serves.
    per_source: PerSourceLimit,
}

impl Admission {
    pub(crate) fn new(board: Scoreboard, row: usize, max_per_source: Option<usize>) -> Self {
        Self {
            board,
            row,
            score: Score::default(),
            is_changed: false,
            per_source: PerSourceLimit::new(max_per_source),
        }
    }

    /// Counts a client that was accepted. Returns whether it may be served; otherwise the caller
    /// disconnects it. The caller must [`publish`](Self::publish) before it serves the client or waits.
    pub(crate) fn admit(&mut self, source: IpAddr) -> io::Result<bool> {
        if !self.per_source.is_limited() {
            self.begin(source);
            return Ok(true);
        }
        // Without the lock, two workers could each see room for one more, at the same time.
        self.board.lock()?;
        let elsewhere = self.board.count_elsewhere(self.row, source)?;
        let is_admitted = !self.per_source.is_full(source, elsewhere);
        if is_admitted {
            self.per_source.add(source);
            self.begin(source);
        } else {
            self.score.accepted += 1;
            self.score.refused += 1;
            self.is_changed = true;
            log_refusal(source);
        }
        self.publish()?;
        self.board.unlock()?;
        Ok(is_admitted)
    }

    /// Takes a client out of the count: its session is over. The caller must [`publish`](Self::publish)
    /// before it waits.
    pub(crate) fn release(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.active -= 1;
        self.score.source = None;
        self.is_changed = true;
        if self.per_source.is_limited() {
            self.per_source.remove(source);
            self.publish()?;
        }
        Ok(())
    }

    /// Counts the end of a process that has served one client.
    pub(crate) fn count_end(&mut self, was_killed: bool) {
        self.score.reaped += 1;
        self.score.killed += u64::from(was_killed);
        self.is_changed = true;
    }

    /// Takes a client out of the count that could not be served yet. It will be admitted again.
    pub(crate) fn requeue(&mut self, source: IpAddr) -> io::Result<()> {
        self.score.accepted -= 1;
        self.release(source)
    }

    /// Writes the figures on the board, unless they are there. With many clients, this is done once for
    /// the end of one session and the beginning of the next.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if self.is_changed {
            self.board.write(self.row, &self.score)?;
            self.is_changed = false;
        }
        Ok(())
    }

    /// Closes, in a forked process, its copy of the board. Memory is not freed.
    pub(crate) fn leave(self) {
        drop(self.board);
        mem::forget(self.per_source);
    }

    fn begin(&mut self, source: IpAddr) {
        self.score.accepted += 1;
        self.score.active += 1;
        self.score.source = Some(source);
        self.is_changed = true;
    }
}
