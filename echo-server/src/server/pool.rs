//! Keeps a pool of workers that accept clients themselves: the model `prefork`, and, with a single worker
//! for all clients, `template`, `thread` and `multiplex`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use reexec::{Fork, ForkOptions};

use crate::log::{cannot, log};
use crate::options::{Model, Options};
use crate::server::backoff::Backoff;
use crate::server::dispatch::{
    Counts, Dispatch, Ended, Job, PoolWorker, Serve, Slot, Watch, Workers,
};
use crate::server::listener::Listener;
use crate::server::scoreboard::{Score, Scoreboard};
use crate::signals;

/// A place in the pool.
enum Place {
    Empty,
    /// With a worker that accepts clients until this pipe is closed.
    Taken(#[expect(dead_code, reason = "held open")] OwnedFd),
    /// With a worker that finishes its session.
    Leaving,
}

pub(crate) struct Pool {
    /// `None` once we drain.
    listener: Option<Listener>,
    /// What workers do: the one thing in which the models differ.
    serve: Serve,
    /// How workers are forked.
    fork: ForkOptions,
    places: Vec<Place>,
    size: usize,
    can_grow: bool,
    limit: Option<usize>,
    board: Option<Scoreboard>,
    /// Both ends of the pipe in which the template says which of its copies have failed.
    failures: Option<(File, File)>,
    /// The sums of workers that have ended.
    past: Score,
    /// Pauses when there is no room for another process.
    shortage: Backoff,
    /// Pauses when workers end before their first client.
    crashes: Backoff,
}

impl Pool {
    pub(crate) fn new(listener: Listener, options: &Options, serve: Serve) -> io::Result<Self> {
        let has_one_worker = options.model.has_one_worker();
        Ok(Self {
            listener: Some(listener),
            serve,
            fork: signals::worker_fork_options(),
            places: Vec::new(),
            size: if has_one_worker { 1 } else { options.workers.get() },
            can_grow: !has_one_worker,
            limit: options.max_children(),
            board: Some(Scoreboard::new().map_err(cannot("make the scoreboard, in memory"))?),
            failures: match options.model {
                Model::Template => {
                    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
                    Some((read.into(), write.into()))
                }
                _ => None,
            },
            past: Score::default(),
            shortage: Backoff::default(),
            crashes: Backoff::default(),
        })
    }

    /// Starts a worker. Returns, in the new process, what the worker needs, taken out of our copy.
    fn start(&mut self, workers: &mut Workers, row: usize) -> io::Result<Option<PoolWorker>> {
        let (stop_pipe, ours) = pipe2(OFlag::O_CLOEXEC)?;
        match self.fork.fork()? {
            Fork::Child => {
                let (listener, board) = (self.listener.take(), self.board.take());
                let failures = self.failures.take().map(|(_, write)| write);
                Ok(listener.zip(board).map(|(listener, board)| PoolWorker {
                    listener,
                    stop_pipe,
                    board,
                    row,
                    failures,
                }))
            }
            Fork::Parent(worker) => {
                workers.add(worker, Slot::Place(row))?;
                self.places[row] = Place::Taken(ours);
                Ok(None)
            }
        }
    }

    /// Finds a place for the next worker, if another one is needed.
    fn find_vacancy(&mut self) -> Option<usize> {
        if self.taken_places().count() >= self.size {
            return None;
        }
        let mut places = self.places.iter();
        let empty = places.position(|place| matches!(place, Place::Empty));
        Some(empty.unwrap_or_else(|| {
            self.places.push(Place::Empty);
            self.places.len() - 1
        }))
    }

    fn taken_places(&self) -> impl DoubleEndedIterator<Item = usize> {
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| matches!(place, Place::Taken(_))).map(|(row, _)| row)
    }

    /// Tells the workers beyond the size to leave. Each finishes its session.
    fn shrink(&mut self) {
        let beyond = self.taken_places().count().saturating_sub(self.size);
        let rows: Vec<usize> = self.taken_places().rev().take(beyond).collect();
        for row in rows {
            // This closes our end of its stop pipe.
            self.places[row] = Place::Leaving;
        }
    }

    /// Adds the figures of a worker that has ended to our own, and clears its row.
    fn collect_score(&mut self, row: usize) -> Score {
        let Some(board) = &self.board else {
            return Score::default();
        };
        let score = board.read(row);
        // If this fails, only the figures of the next worker in this place are wrong.
        let _ = board.write(row, &Score::default());
        self.past.add(&Score { active: 0, ..score });
        score
    }

    /// Prepares to replace a worker that ended without being told to. The next one starts at once if
    /// this one had served a client. Otherwise it pauses: workers that end at once, each time, would keep
    /// a whole core busy.
    fn prepare_to_replace(&mut self, had_served: bool) {
        self.shortage.try_now();
        if had_served {
            if self.crashes.leave() {
                log(format_args!("workers take clients again"));
            }
        } else if self.crashes.enter() {
            log(format_args!(
                "a worker has ended before its first client; trying again, less and less often"
            ));
        }
    }

    fn paused_until(&self) -> Option<Instant> {
        self.shortage.until().max(self.crashes.until())
    }
}

impl Dispatch for Pool {
    fn watch(&mut self, _workers: &Workers) -> Watch<'_> {
        let is_wanted = self.listener.is_some() && self.find_vacancy().is_some();
        match (is_wanted, self.paused_until(), &self.failures) {
            (true, Some(until), _) => Watch::Until(until),
            (true, None, _) => Watch::Until(Instant::now()),
            (false, _, Some((read, _))) => Watch::For(read.as_fd()),
            (false, _, None) => Watch::Nothing,
        }
    }

    /// Starts one worker at most. A large pool that was filled at once would keep the supervisor from
    /// its signals.
    fn start_workers(&mut self, workers: &mut Workers, _: bool) -> io::Result<Option<Job>> {
        if self.listener.is_none() || self.paused_until().is_some() {
            return Ok(None);
        }
        let Some(row) = self.find_vacancy() else {
            return Ok(None);
        };
        match self.start(workers, row) {
            Ok(Some(worker)) => return Ok(Some(Job::Pool(self.serve, Box::new(worker)))),
            Ok(None) if self.shortage.leave() => log(format_args!("starting workers again")),
            Ok(None) => {}
            Err(error) if self.shortage.enter() => log(format_args!(
                "cannot start a worker: {error}; trying again, less and less often"
            )),
            Err(_) => {}
        }
        Ok(None)
    }

    fn on_exit(&mut self, ended: &Ended) -> bool {
        let Slot::Place(row) = ended.slot else {
            return false;
        };
        let score = self.collect_score(row);
        let was_to_leave = matches!(self.places[row], Place::Leaving);
        self.places[row] = Place::Empty;
        if let Some(problem) = &ended.problem {
            log(format_args!("worker {} failed: {problem}", ended.id));
        }
        if !was_to_leave && self.listener.is_some() {
            self.prepare_to_replace(score.accepted > 0);
        }
        ended.problem.is_some() && score.active > 0
    }

    fn report_failures(&mut self) -> bool {
        // An attacker may be in the template, and write faster than we read.
        const AT_ONCE: u64 = 1 << 16;
        let mut lines = Vec::new();
        if let Some((read, _)) = &self.failures {
            // It mostly ends with an error: there are no more.
            let _ = read.take(AT_ONCE).read_to_end(&mut lines);
        }
        String::from_utf8_lossy(&lines).lines().for_each(|line| log(format_args!("{line}")));
        !lines.is_empty()
    }

    fn resize(&mut self, by: isize) {
        if !self.can_grow {
            log(format_args!("only the pool of prefork can change its size"));
            return;
        }
        self.size = self.size.saturating_add_signed(by).max(1);
        self.shortage.try_now();
        self.crashes.try_now();
        self.shrink();
        let plural = if self.size == 1 { "" } else { "s" };
        log(format_args!("{} worker{plural} in the pool", self.size));
    }

    fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    fn take_listener(&mut self) -> Option<Listener> {
        for place in &mut self.places {
            *place = Place::Leaving;
        }
        self.listener.take()
    }

    fn has_waiting(&self) -> bool {
        false
    }

    fn counts(&self, _workers: &Workers) -> Counts {
        let board = self.board.as_ref();
        let scores = (0..self.places.len()).filter_map(|row| Some(board?.read(row)));
        let mut sum = self.past;
        scores.for_each(|score| sum.add(&score));
        Counts {
            active: sum.active,
            limit: if self.can_grow { Some(self.size) } else { self.limit },
            accepted: sum.accepted,
            refused: sum.refused,
            reaped: sum.reaped,
            killed: sum.killed,
        }
    }

    fn leave(self: Box<Self>) {}
}
