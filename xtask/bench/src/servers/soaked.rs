//! The server that is soaked, and those before it that still finish their sessions.
//!
//! This process is a child subreaper: a server that another one has started becomes its child when
//! the other one ends. So it can wait for all of them.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use test_support::{Stat, stat};

use crate::process::descendants;
use crate::servers::start::{Announcements, describe, start};

/// A server prints within this time that it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// An upgrade succeeds within this time; the server itself gives up after 30 s.
const UPGRADES_WITHIN: Duration = Duration::from_secs(40);

/// A server that has been replaced ends within this time: 30 s are for its sessions.
const DRAINS_WITHIN: Duration = Duration::from_secs(60);

/// A worker that was killed so long before an upgrade may be found dead only after it.
const FOUND_DEAD_WITHIN: Duration = Duration::from_secs(5);

/// A zombie may stay for this long.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// How often to look at the servers. Each time, we read /proc/PID/stat of all processes.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The name of the echo server's workers, in every model.
const WORKER: &str = "echo-worker";

/// The parent of workers in the model `template`, a child of the server.
const TEMPLATE: &str = "echo-template";

/// One server.
pub(crate) struct Server {
    pub(crate) pid: Pid,
    /// When we last killed a worker of it.
    worker_killed: Option<Instant>,
    /// When it was told to replace itself.
    upgrade_began: Option<Instant>,
}

impl Server {
    fn new(pid: Pid) -> Self {
        Self { pid, worker_killed: None, upgrade_began: None }
    }

    /// Whether a session was cut off because we killed its worker.
    fn may_have_cut_off(&self) -> bool {
        match (self.worker_killed, self.upgrade_began) {
            (Some(killed), Some(began)) => killed + FOUND_DEAD_WITHIN >= began,
            _ => false,
        }
    }

    /// Sends a signal to the server, unless an earlier one of the same kind is still pending: the
    /// two would become one. Returns whether it was sent.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let is_free = mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) == 0);
        is_free && kill(self.pid, signal).is_ok()
    }
}

/// A process that nobody has reaped yet.
struct Zombie {
    /// Its number, and when it started.
    id: (Pid, u64),
    /// When we first saw it.
    since: Instant,
    /// Whether it has stayed for too long, and is counted.
    is_counted: bool,
}

pub(crate) struct Servers {
    pub(crate) address: SocketAddrV4,
    pub(crate) current: Server,
    /// Those that have been replaced, and finish their sessions.
    pub(crate) old: Vec<Server>,
    /// Where all of them print that they listen: a new server inherits it.
    announcements: Announcements,
    /// Zombies that were there at the last look.
    zombies: Vec<Zombie>,
    last_look: Instant,
    pub(crate) upgrades: u64,
    pub(crate) zombies_that_stayed: u64,
    /// Sentences about what went wrong, but not so that the soak cannot go on.
    pub(crate) faults: Vec<String>,
}

impl Servers {
    /// Starts a program, and waits until it prints where it listens.
    pub(crate) fn start(program: &Path, args: &[&str], log: &Path) -> Result<Self, String> {
        let mut process = start(program, args, Stdio::piped(), log)?;
        let announcements = Announcements::of(&mut process)?;
        // From now on we wait for it by its number, as we do for the servers that replace it.
        Self::await_start(Pid::from_raw(process.id() as i32), announcements)
            .map_err(|why| format!("{why}; its log is {}", log.display()))
    }

    fn await_start(pid: Pid, announcements: Announcements) -> Result<Self, String> {
        let now = Instant::now();
        let mut servers = Self {
            address: SocketAddrV4::new([0, 0, 0, 0].into(), 0),
            current: Server::new(pid),
            old: Vec::new(),
            announcements,
            zombies: Vec::new(),
            last_look: now,
            upgrades: 0,
            zombies_that_stayed: 0,
            faults: Vec::new(),
        };
        loop {
            if let Some((address, _)) = servers.announcements.next()? {
                servers.address = address;
                return Ok(servers);
            }
            servers.reap()?;
            if now.elapsed() > STARTS_WITHIN {
                return Err(format!("the server does not listen after {STARTS_WITHIN:?}"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks at all servers, unless it did so a moment ago. Returns whether one was replaced. An error
    /// says why the soak cannot go on.
    pub(crate) fn look(&mut self) -> Result<bool, String> {
        if self.last_look.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        let mut is_replaced = false;
        // Before we reap: a server may end right after its successor has printed its line.
        if let Some((address, pid)) = self.announcements.next()? {
            if address != self.address || pid == self.current.pid {
                return Err(format!("process {pid} listens on {address} all of a sudden"));
            }
            let old = std::mem::replace(&mut self.current, Server::new(pid));
            if old.upgrade_began.is_none() {
                let old = old.pid;
                return Err(format!("process {pid} replaced process {old} without USR2"));
            }
            self.old.push(old);
            self.upgrades += 1;
            is_replaced = true;
        }
        self.reap()?;
        self.look_for_zombies();
        self.check_deadlines()?;
        self.last_look = Instant::now();
        Ok(is_replaced)
    }

    fn reap(&mut self) -> Result<(), String> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(format!("cannot wait for a server: {error}")),
            };
            let Some(pid) = status.pid() else {
                continue;
            };
            if pid == self.current.pid {
                return Err(format!("the server {}", describe(status)));
            }
            // A process that is no server was part of an upgrade, and we adopted it when its parent ended.
            let Some(index) = self.old.iter().position(|old| old.pid == pid) else {
                continue;
            };
            let old = self.old.remove(index);
            let is_right = match status {
                WaitStatus::Exited(_, 0) => true,
                WaitStatus::Exited(_, 1) => old.may_have_cut_off(),
                _ => false,
            };
            if !is_right {
                let how = describe(status);
                self.faults.push(format!("a server that was replaced {how}"));
            }
        }
    }

    fn look_for_zombies(&mut self) {
        let now = Instant::now();
        let mut dead = descendants();
        // Our own children are reaped by us.
        dead.retain(|stat| stat.state == 'Z' && stat.parent != Pid::this());
        let is_same = |zombie: &Zombie, stat: &Stat| zombie.id == (stat.pid, stat.start);
        self.zombies.retain(|zombie| dead.iter().any(|stat| is_same(zombie, stat)));
        for stat in &dead {
            match self.zombies.iter_mut().find(|it| is_same(it, stat)) {
                None => self.zombies.push(Zombie {
                    id: (stat.pid, stat.start),
                    since: now,
                    is_counted: false,
                }),
                Some(zombie) if !zombie.is_counted && now - zombie.since > REAPED_WITHIN => {
                    zombie.is_counted = true;
                    self.zombies_that_stayed += 1;
                }
                Some(_) => {}
            }
        }
    }

    fn check_deadlines(&mut self) -> Result<(), String> {
        let is_late = |server: &Server, limit| {
            server.upgrade_began.is_some_and(|began| began.elapsed() > limit)
        };
        if is_late(&self.current, UPGRADES_WITHIN) {
            return Err(format!("USR2 did not lead to a new server within {UPGRADES_WITHIN:?}"));
        }
        match self.old.iter().find(|old| is_late(old, DRAINS_WITHIN)) {
            Some(old) => Err(format!(
                "process {} was replaced, and has not ended within {DRAINS_WITHIN:?}",
                old.pid
            )),
            None => Ok(()),
        }
    }

    /// Whether an upgrade is going on.
    pub(crate) fn is_upgrading(&self) -> bool {
        self.current.upgrade_began.is_some()
    }

    /// Returns whether it began.
    pub(crate) fn begin_upgrade(&mut self) -> bool {
        let begins = !self.is_upgrading() && self.current.signal(Signal::SIGUSR2);
        if begins {
            self.current.upgrade_began = Some(Instant::now());
        }
        begins
    }

    /// Kills the worker whose index `choose` returns for their number. Returns whether there was one.
    pub(crate) fn kill_worker(&mut self, choose: impl FnOnce(usize) -> usize) -> bool {
        let mut servers: Vec<&mut Server> = self.old.iter_mut().collect();
        servers.push(&mut self.current);
        let stats = descendants();
        let server_of = |worker: &Stat| {
            let template = stats.iter().find(|it| it.pid == worker.parent && it.name == TEMPLATE);
            template.map_or(worker.parent, |template| template.parent)
        };
        let is_worker = |stat: &&Stat| {
            // A process that will execute another program still has the name of its parent.
            stat.name == WORKER
                && stat.state != 'Z'
                && servers.iter().any(|server| server.pid == server_of(stat))
        };
        let workers: Vec<&Stat> = stats.iter().filter(is_worker).collect();
        if workers.is_empty() {
            return false;
        }
        let worker = workers[choose(workers.len())];
        // It is the same one, unless all numbers have been used since this look.
        let is_there = stat(worker.pid).is_some_and(|now| now.start == worker.start);
        if !is_there || kill(worker.pid, Signal::SIGKILL).is_err() {
            return false;
        }
        for server in servers {
            if server.pid == server_of(worker) {
                server.worker_killed = Some(Instant::now());
            }
        }
        true
    }

    /// Waits until the server has ended, after it was told to.
    pub(crate) fn await_end(&mut self, limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < limit {
            match waitpid(self.current.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(status) => return Err(format!("at TERM, the server {}", describe(status))),
                Err(error) => return Err(format!("cannot wait for the server: {error}")),
            }
            std::thread::sleep(LOOK_EVERY / 5);
        }
        Err(format!("TERM did not end the server within {limit:?}"))
    }
}
