//! The pool of the models in which workers accept: `prefork`, and, with one process that serves
//! many clients, `thread` and `multiplex`.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use reexec::{Fork, ForkOptions};

use crate::backoff::Backoff;
use crate::dispatch::{Counts, Dispatch, Ended, Job, Slot, Watch, Workers};
use crate::listener::Listener;
use crate::log::{cannot, log};
use crate::options::{Model, Options};
use crate::scoreboard::{Score, Scoreboard};
use crate::signals;

/// What a worker of the pool has.
pub(crate) struct Seat {
    pub(crate) listener: Listener,
    /// At its end when no more clients are to be accepted: the supervisor has the other end.
    pub(crate) orders: OwnedFd,
    pub(crate) board: Scoreboard,
    pub(crate) row: usize,
}

/// A place in the pool.
enum Place {
    Empty,
    /// With a worker, which accepts until this is dropped.
    Taken(#[expect(dead_code, reason = "held open")] OwnedFd),
    /// With a worker that finishes its session.
    Leaving,
}

pub(crate) struct Pool {
    /// `None` once we drain.
    listener: Option<Listener>,
    /// How workers are forked.
    fork: ForkOptions,
    places: Vec<Place>,
    size: usize,
    can_grow: bool,
    limit: Option<usize>,
    board: Option<Scoreboard>,
    /// Of the workers that have ended.
    accepted: u64,
    refused: u64,
    /// No room for another process.
    shortage: Backoff,
    /// Workers end before their first client.
    crashes: Backoff,
}

impl Pool {
    pub(crate) fn new(listener: Listener, options: &Options) -> io::Result<Self> {
        let is_prefork = options.model == Model::Prefork;
        Ok(Self {
            listener: Some(listener),
            fork: signals::of_a_worker(),
            places: Vec::new(),
            size: if is_prefork { options.workers.get() } else { 1 },
            can_grow: is_prefork,
            limit: options.max_children(),
            board: Some(Scoreboard::new().map_err(cannot("make the scoreboard, in memory"))?),
            accepted: 0,
            refused: 0,
            shortage: Backoff::default(),
            crashes: Backoff::default(),
        })
    }

    /// In the new process, what it needs is taken out of our copy.
    fn start(&mut self, workers: &mut Workers, row: usize) -> io::Result<Option<Seat>> {
        let (orders, ours) = pipe2(OFlag::O_CLOEXEC)?;
        match self.fork.fork()? {
            Fork::Child => {
                let (listener, board) = (self.listener.take(), self.board.take());
                Ok(listener.zip(board).map(|(listener, board)| Seat {
                    listener,
                    orders,
                    board,
                    row,
                }))
            }
            Fork::Parent(worker) => {
                workers.add(worker, Slot::Place(row))?;
                self.places[row] = Place::Taken(ours);
                Ok(None)
            }
        }
    }

    /// Where the next worker that is needed has its place.
    fn vacancy(&mut self) -> Option<usize> {
        if self.taken().count() >= self.size {
            return None;
        }
        let mut places = self.places.iter();
        let empty = places.position(|place| matches!(place, Place::Empty));
        Some(empty.unwrap_or_else(|| {
            self.places.push(Place::Empty);
            self.places.len() - 1
        }))
    }

    fn taken(&self) -> impl DoubleEndedIterator<Item = usize> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| matches!(place, Place::Taken(_)))
            .map(|(row, _)| row)
    }

    /// Those beyond the size leave, each after its session.
    fn fit(&mut self) {
        let beyond = self.taken().count().saturating_sub(self.size);
        let rows: Vec<usize> = self.taken().rev().take(beyond).collect();
        for row in rows {
            self.places[row] = Place::Leaving;
        }
    }

    /// Those who have left, and will not be counted otherwise.
    fn book(&mut self, row: usize) -> Score {
        let Some(board) = &self.board else {
            return Score::default();
        };
        let score = board.read(row);
        // If it fails, the figures of the next one in this place are wrong, and nothing else.
        let _ = board.write(row, &Score::default());
        add(&mut self.accepted, score.accepted);
        add(&mut self.refused, score.refused);
        score
    }

    /// For the place of a worker that was not to end: at once if it had served anybody. One that
    /// ends before that may do so each time, and a whole core with it.
    fn replace(&mut self, had_served: bool) {
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

    fn paused_until(&mut self) -> Option<Instant> {
        self.shortage.until().max(self.crashes.until())
    }
}

/// What a worker says may be any number: somebody may have broken into it.
fn add(sum: &mut u64, number: u64) {
    *sum = sum.saturating_add(number);
}

impl Dispatch for Pool {
    fn watch(&mut self, _workers: &Workers) -> Watch<'_> {
        if self.listener.is_none() {
            return Watch::Nothing;
        }
        match (self.paused_until(), self.vacancy()) {
            (Some(until), _) => Watch::Until(until),
            (None, Some(_)) => Watch::Until(Instant::now()),
            (None, None) => Watch::Nothing,
        }
    }

    fn start_workers(&mut self, workers: &mut Workers, _: bool) -> io::Result<Option<Job>> {
        while self.listener.is_some()
            && self.paused_until().is_none()
            && let Some(row) = self.vacancy()
        {
            match self.start(workers, row) {
                Ok(Some(seat)) => return Ok(Some(Job::Seat(seat))),
                Ok(None) if self.shortage.leave() => log(format_args!("starting workers again")),
                Ok(None) => {}
                Err(error) if self.shortage.enter() => log(format_args!(
                    "cannot start a worker: {error}; trying again, less and less often"
                )),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn has_ended(&mut self, ended: &Ended) -> bool {
        let Slot::Place(row) = ended.slot else {
            return false;
        };
        let score = self.book(row);
        let was_to_leave = matches!(self.places[row], Place::Leaving);
        self.places[row] = Place::Empty;
        if let Some(problem) = &ended.problem {
            log(format_args!("worker {} failed: {problem}", ended.id));
        }
        if !was_to_leave && self.listener.is_some() {
            self.replace(score.accepted > 0);
        }
        ended.problem.is_some() && score.active > 0
    }

    fn resize(&mut self, by: isize) {
        if !self.can_grow {
            log(format_args!(
                "only prefork has a pool to change the size of"
            ));
            return;
        }
        self.size = self.size.saturating_add_signed(by).max(1);
        self.shortage.try_now();
        self.crashes.try_now();
        self.fit();
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
        let mut counts = Counts {
            active: 0,
            limit: if self.can_grow {
                Some(self.size)
            } else {
                self.limit
            },
            accepted: self.accepted,
            refused: self.refused,
        };
        for score in scores {
            add(&mut counts.active, score.active);
            add(&mut counts.accepted, score.accepted);
            add(&mut counts.refused, score.refused);
        }
        counts
    }

    fn leave(self: Box<Self>) {}
}
