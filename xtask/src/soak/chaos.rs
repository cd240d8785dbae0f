//! What happens to the server during a soak, at random moments.

use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::signal::Signal;

use super::servers::Servers;
use crate::cmd::soak::Model;

/// How many workers prefork has at the start, its default; and between which numbers it is kept.
const POOL: usize = 16;
const SMALLEST: usize = 8;
const LARGEST: usize = 24;

pub(super) struct Chaos {
    model: Model,
    rng: Rng,
    next: Instant,
    /// How many workers the current server's pool should have.
    pool: usize,
    /// When workers were killed since the explanation of errors was last looked for.
    pub(super) kills: Vec<Instant>,
    pub(super) counts: Counts,
}

/// How often each of them happened.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) kills: u64,
    pub(super) resizes: u64,
}

impl Chaos {
    pub(super) fn new(model: Model, seed: u64) -> Self {
        Self {
            model,
            rng: Rng::with_seed(seed),
            next: Instant::now(),
            pool: POOL,
            kills: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Lets the first event of a phase of load happen after a moment.
    pub(super) fn begin(&mut self) {
        self.next = Instant::now() + self.pause();
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(50..1_500))
    }

    /// To be called when a new server has taken over: it has the pool that it was started with.
    pub(super) fn server_was_replaced(&mut self) {
        self.pool = POOL;
    }

    /// Does what is due.
    pub(super) fn step(&mut self, servers: &mut Servers) -> Result<(), String> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + self.pause();
        match self.rng.u32(0..100) {
            0..45 => {
                let rng = &mut self.rng;
                if servers.kill_worker(|count| rng.usize(0..count))? {
                    self.kills.push(Instant::now());
                    self.counts.kills += 1;
                }
            }
            45..60 => drop(servers.begin_upgrade()),
            60..75 if self.pool < LARGEST => self.resize(servers, Signal::SIGTTIN),
            75..90 if self.pool > SMALLEST => self.resize(servers, Signal::SIGTTOU),
            _ => drop(servers.current.signal(Signal::SIGUSR1)),
        }
        Ok(())
    }

    /// The other models get these signals, too, and only log a line.
    fn resize(&mut self, servers: &Servers, signal: Signal) {
        if !servers.current.signal(signal) {
            return;
        }
        self.counts.resizes += 1;
        if self.model == Model::Prefork {
            self.pool = match signal {
                Signal::SIGTTIN => self.pool + 1,
                _ => self.pool - 1,
            };
        }
    }

    /// Brings the pool one step closer to its first size. Returns whether it has it.
    pub(super) fn restore_pool(&mut self, servers: &Servers) -> bool {
        if self.pool < POOL {
            self.resize(servers, Signal::SIGTTIN);
        } else if self.pool > POOL {
            self.resize(servers, Signal::SIGTTOU);
        }
        self.pool == POOL
    }
}
