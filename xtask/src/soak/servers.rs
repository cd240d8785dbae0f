//! The server that is soaked, and those before it that still finish their sessions.
//!
//! This process is a child subreaper: a server that another one has started becomes its child when
//! the other one ends. So it can wait for all of them.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::model::process::{Process, Stat};
use crate::probe::procfs;

/// A server says within this time that it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// An upgrade succeeds within this time; the server itself gives up after 30 s.
const UPGRADES_WITHIN: Duration = Duration::from_secs(40);

/// A server that has been replaced ends within this time: 30 s are for its sessions.
const DRAINS_WITHIN: Duration = Duration::from_secs(60);

/// A worker that was killed so long before an upgrade may be found dead only after it.
const FOUND_DEAD_WITHIN: Duration = Duration::from_secs(5);

/// A zombie may stay for this long.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What workers of the echo server are called, in every model.
const WORKER: &str = "echo-worker";

/// One server.
pub(super) struct Server {
    pub(super) pid: i32,
    /// When a worker of its was killed last.
    worker_killed: Option<Instant>,
    /// When it was told to replace itself.
    upgrade_began: Option<Instant>,
}

impl Server {
    fn new(pid: i32) -> Self {
        Self {
            pid,
            worker_killed: None,
            upgrade_began: None,
        }
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
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let path = format!("/proc/{}/status", self.pid);
        let line = procfs::read(&path, &["ShdPnd:"]).unwrap_or_default();
        let mask = line.split_ascii_whitespace().last();
        let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let is_free = mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) == 0);
        is_free && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

pub(super) struct Servers {
    pub(super) address: SocketAddrV4,
    pub(super) current: Server,
    /// Those that have been replaced, and finish their sessions.
    pub(super) old: Vec<Server>,
    /// Where all of them say that they listen: a new server inherits it.
    stdout: File,
    said: Vec<u8>,
    /// Zombies that were there at the last look, since when, and whether they have been counted.
    zombies: Vec<(Process, Instant, bool)>,
    last_look: Instant,
    pub(super) upgrades: u64,
    pub(super) zombies_that_stayed: u64,
    /// Sentences about what went wrong, but not so that the soak cannot go on.
    pub(super) faults: Vec<String>,
}

impl Servers {
    /// Starts a program, and waits until it says where it listens.
    pub(super) fn start(program: &Path, args: &[&str], log: &Path) -> Result<Self, String> {
        let stderr = File::create(log)
            .map_err(|error| format!("cannot write to {}: {error}", log.display()))?;
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = process.stdout.take().map(OwnedFd::from);
        let stdout = stdout.ok_or_else(|| "the server has no stdout".to_owned())?;
        // Waited for by its number from now on, as are the servers that replace it.
        Self::listening(process.id() as i32, stdout)
            .map_err(|why| format!("{why}; its log is {}", log.display()))
    }

    /// Waits until the process that was just started says where it listens.
    pub(super) fn listening(pid: i32, stdout: OwnedFd) -> Result<Self, String> {
        // Of our end alone: a pipe has a description for each of its ends.
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("cannot read from the server: {error}"))?;
        let now = Instant::now();
        let mut servers = Self {
            address: SocketAddrV4::new([0, 0, 0, 0].into(), 0),
            current: Server::new(pid),
            old: Vec::new(),
            stdout: stdout.into(),
            said: Vec::new(),
            zombies: Vec::new(),
            last_look: now,
            upgrades: 0,
            zombies_that_stayed: 0,
            faults: Vec::new(),
        };
        loop {
            if let Some((address, _)) = servers.announcement()? {
                servers.address = address;
                return Ok(servers);
            }
            servers.reap()?;
            if now.elapsed() > STARTS_WITHIN {
                return Err(format!(
                    "the server does not listen after {STARTS_WITHIN:?}"
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Looks what has become of all servers, a few times a second. Returns whether one was replaced.
    /// An error says why the soak cannot go on.
    pub(super) fn look(&mut self) -> Result<bool, String> {
        if self.last_look.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        let mut is_replaced = false;
        // Before the ends: a server may end right after its successor has spoken.
        if let Some((address, pid)) = self.announcement()? {
            if address != self.address || pid == self.current.pid {
                return Err(format!(
                    "process {pid} listens on {address} all of a sudden"
                ));
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
        self.look_for_zombies()?;
        self.look_at_deadlines()?;
        self.last_look = Instant::now();
        Ok(is_replaced)
    }

    /// The next line of stdout, if there is one: the address and the number of a server that listens.
    fn announcement(&mut self) -> Result<Option<(SocketAddrV4, i32)>, String> {
        let mut buffer = [0; 256];
        match self.stdout.read(&mut buffer) {
            Ok(length) => self.said.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("cannot read what the server says: {error}")),
        }
        let Some(end) = self.said.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.said.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        match parse(&line) {
            Some(announcement) => Ok(Some(announcement)),
            None => Err(format!("the server says {:?}", line.trim_end())),
        }
    }

    fn reap(&mut self) -> Result<(), String> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(format!("cannot wait for a server: {error}")),
            };
            let Some(pid) = status.pid().map(Pid::as_raw) else {
                continue;
            };
            if pid == self.current.pid {
                return Err(format!("the server {}", describe(status)));
            }
            // Somebody who is no server was part of an upgrade, and adopted when its parent ended.
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
                self.faults
                    .push(format!("a server that was replaced {how}"));
            }
        }
    }

    fn look_for_zombies(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let dead: Vec<Process> = descendants()?
            .iter()
            // Our own children are reaped by us.
            .filter(|stat| stat.state == 'Z' && stat.ppid != procfs::own_pid())
            .map(|stat| stat.process)
            .collect();
        self.zombies.retain(|(process, ..)| dead.contains(process));
        for process in dead {
            match self
                .zombies
                .iter_mut()
                .find(|(known, ..)| *known == process)
            {
                None => self.zombies.push((process, now, false)),
                Some((_, since, counted)) if !*counted && now - *since > REAPED_WITHIN => {
                    *counted = true;
                    self.zombies_that_stayed += 1;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn look_at_deadlines(&mut self) -> Result<(), String> {
        let is_late = |server: &Server, limit| {
            server
                .upgrade_began
                .is_some_and(|began| began.elapsed() > limit)
        };
        if is_late(&self.current, UPGRADES_WITHIN) {
            return Err(format!(
                "USR2 did not lead to a new server within {UPGRADES_WITHIN:?}"
            ));
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
    pub(super) fn is_upgrading(&self) -> bool {
        self.current.upgrade_began.is_some()
    }

    /// Returns whether it began.
    pub(super) fn begin_upgrade(&mut self) -> bool {
        let begins = !self.is_upgrading() && self.current.signal(Signal::SIGUSR2);
        if begins {
            self.current.upgrade_began = Some(Instant::now());
        }
        begins
    }

    /// Kills one of the workers that `choose` picks from so many. Returns whether there was one.
    pub(super) fn kill_worker(
        &mut self,
        choose: impl FnOnce(usize) -> usize,
    ) -> Result<bool, String> {
        let mut servers: Vec<&mut Server> = self.old.iter_mut().collect();
        servers.push(&mut self.current);
        let stats = descendants()?;
        let is_worker = |stat: &&Stat| {
            // A process that will execute another program still has the name of its parent.
            stat.name == WORKER
                && stat.state != 'Z'
                && servers.iter().any(|server| server.pid == stat.ppid)
        };
        let workers: Vec<&Stat> = stats.iter().filter(is_worker).collect();
        if workers.is_empty() {
            return Ok(false);
        }
        let worker = workers[choose(workers.len())];
        // Its number could be another's by now only if all numbers had been used since the look.
        let is_there = procfs::exists(worker.process);
        if !is_there || kill(Pid::from_raw(worker.process.pid), Signal::SIGKILL).is_err() {
            return Ok(false);
        }
        for server in servers {
            if server.pid == worker.ppid {
                server.worker_killed = Some(Instant::now());
            }
        }
        Ok(true)
    }

    /// Waits until the server has ended, which was just told to.
    pub(super) fn await_end(&mut self, limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < limit {
            let pid = Pid::from_raw(self.current.pid);
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
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

/// Every process that descends from this one.
pub(super) fn descendants() -> Result<Vec<Stat>, String> {
    let pids = procfs::descendants(procfs::own_pid()).map_err(|error| error.to_string())?;
    let stats = pids.into_iter().map(procfs::look);
    let stats = stats.filter_map(Result::transpose);
    stats
        .collect::<io::Result<_>>()
        .map_err(|error| error.to_string())
}

/// `listening on ADDRESS (MODEL, pid N)`.
fn parse(line: &str) -> Option<(SocketAddrV4, i32)> {
    let (address, rest) = line.strip_prefix("listening on ")?.split_once(' ')?;
    let (_, pid) = rest.split_once("pid ")?;
    let pid = pid.trim_end().strip_suffix(')')?;
    Some((address.parse().ok()?, pid.parse().ok()?))
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("has exited with {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was ended by {signal}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_names_the_address_and_the_process() {
        let line = "listening on 127.0.0.1:9190 (fork, pid 4711)\n";
        let address = "127.0.0.1:9190".parse().unwrap();
        assert_eq!(parse(line), Some((address, 4711)));
        assert_eq!(parse("listening on nowhere (fork, pid 4711)\n"), None);
        assert_eq!(parse("running 1 test\n"), None);
    }
}
