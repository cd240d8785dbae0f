//! The main process: it starts workers, reaps them, takes signals and keeps time, in one loop.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use reexec::Reaper;
use sd_notify::NotifyState;

use crate::log::{self, log, log_always};
use crate::ops::service_manager;
use crate::ops::upgrade::{self, Handover, News, Program, Successor};
use crate::options::{Model, Options};
use crate::poll::poll_until;
use crate::server::dispatch::{Dispatch, Ended, Job, Watch, Workers};
use crate::server::listener::Listener;
use crate::signals::Hangup;

/// Which process returns from [`Supervisor::run`], and what it needs.
pub(crate) enum Role {
    /// A new process, which has nothing of the supervisor's but its job.
    Worker(Job),
    /// A new process, which starts the server that will take our place.
    Guardian(Handover),
    /// The main process, at its end. `drained` tells whether every session came to its own end.
    Supervisor { drained: bool },
}

/// How long handshakes may take that had begun when TERM came. It is longer than a packet needs to the
/// other side of the earth and back. And it is shorter than the second after which a client that the kernel
/// has ignored tries again: by then, unless we are full, the port is closed, or the next server has it.
const HANDSHAKES: Duration = Duration::from_millis(500);

/// How often we look whether the kernel's queue is empty. In a pool, the workers accept, and nothing wakes us.
const LOOK_AT_THE_BACKLOG: Duration = Duration::from_millis(20);

/// The main process of the server. A forked worker has copies of all that it holds. They are closed with
/// the worker's copy of this struct, before the worker serves.
pub(crate) struct Supervisor {
    model: Model,
    /// Holds the listener.
    dispatch: Box<dyn Dispatch>,
    workers: Workers,
    /// Signals are blocked, and read from here, in the loop. So no handler ever runs, and nothing is
    /// interrupted half-way.
    signals: SignalFd,
    hangup: Hangup,
    /// An error if the program cannot be found, which matters only at USR2.
    program: io::Result<Program>,
    /// Whether USR2 is obeyed although our parent would lose the new server.
    upgrade_anyway: bool,
    /// The new server, from USR2 on.
    successor: Option<Successor>,
    /// The server that we have replaced, until it has ended: readable then. We do not end before it:
    /// a service manager that sees the end of its main process kills the sessions of all others.
    predecessor: Option<UnixStream>,
    drain_timeout: Option<Duration>,
    /// Whether to serve the clients in the kernel's queue before the listener is closed.
    drains_backlog: bool,
    /// When the listener may be closed at the earliest, if the kernel's queue is empty then. `Some` from
    /// TERM until it is closed. Meanwhile clients are accepted as before, but no more get into the queue.
    may_close: Option<Instant>,
    /// Whether TERM or INT has come: the next one ends every session.
    was_told_to_stop: bool,
    /// Whether a session was cut off since we drain, by the end of its worker, or a client that we were to
    /// serve is turned away.
    cut_off: bool,
    /// When the sessions that are left will be cut off, once we drain.
    deadline: Option<Instant>,
    reaped: u64,
    killed: u64,
}

/// Which descriptors are ready.
#[derive(Clone, Copy)]
struct Ready {
    signal: bool,
    worker: bool,
    successor: bool,
    predecessor: bool,
    client: bool,
}

/// What the signals ask for.
enum Request {
    GoOn,
    EndNow,
    Fork(Handover),
}

impl Supervisor {
    pub(crate) fn new(
        options: &Options,
        dispatch: Box<dyn Dispatch>,
        program: io::Result<Program>,
        upgrade_anyway: bool,
        hangup: Hangup,
    ) -> io::Result<Self> {
        let signals = hangup.taken_signals();
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        // Process 1 of a container inherits the orphans of all others, and nobody else reaps them.
        let workers = if process::id() == 1 { Reaper::for_all_children()? } else { Reaper::new()? };
        Ok(Self {
            model: options.model,
            dispatch,
            workers,
            signals: SignalFd::with_flags(&signals, flags)?,
            hangup,
            program,
            upgrade_anyway,
            successor: None,
            predecessor: None,
            drain_timeout: options.drain_timeout(),
            drains_backlog: options.drain_backlog,
            may_close: None,
            was_told_to_stop: false,
            cut_off: false,
            deadline: None,
            reaped: 0,
            killed: 0,
        })
    }

    /// Serves until a signal comes and the last session has ended. Returns once in the main
    /// process, and once in each process that it forks. `predecessor` is readable when the server
    /// that we have replaced, if any, has ended.
    pub(crate) fn run(mut self, predecessor: Option<UnixStream>) -> io::Result<Role> {
        self.predecessor = predecessor;
        let role = self.supervise()?;
        if matches!(role, Role::Worker(_) | Role::Guardian(_)) {
            // Closes, in a forked process, its copies of our descriptors. Their memory is not freed, and
            // the struct is not moved as a whole: the kernel would have to copy each page that is written
            // to, and moving much calls code that a worker does not need otherwise, by a page fault.
            drop(self.workers);
            drop(self.signals);
            self.successor = None;
            self.predecessor = None;
            self.dispatch.leave();
            mem::forget(self.program);
        }
        Ok(role)
    }

    /// Supervises, until one of the processes has to leave this loop.
    fn supervise(&mut self) -> io::Result<Role> {
        loop {
            log::report_lost();
            if self.is_finished() {
                let drained = !self.cut_off;
                return Ok(Role::Supervisor { drained });
            }
            let ready = self.wait()?;
            // 1. TERM comes.
            // 2. A worker is killed in its session.
            // Whichever of the two we notice first, that session was cut off while we drained. So we
            // reap before we read signals, and count the sessions that were cut off after that.
            let ended = if ready.worker { self.reap()? } else { vec![] };
            let has_failures = self.dispatch.report_failures();
            if ready.successor {
                self.hear_from_successor();
            }
            if ready.predecessor {
                self.predecessor = None;
            }
            let request = self.take_signals(ready.signal || ready.worker)?;
            if let Request::Fork(handover) = request {
                return Ok(Role::Guardian(handover));
            }
            let is_ending = matches!(request, Request::EndNow);
            let counts = is_ending || self.is_draining();
            self.cut_off |= counts && has_failures;
            self.handle_exits(ended, counts);
            if is_ending || self.is_too_late() {
                return self.cut_off_the_rest();
            }
            let job = self.dispatch.start_workers(&mut self.workers, ready.client)?;
            if let Some(job) = job {
                return Ok(Role::Worker(job));
            }
            self.close_if_backlog_is_served();
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) -> io::Result<Ready> {
        let successor = self.successor.as_ref();
        let [reports, stream] = successor.map_or([None, None], Successor::watched);
        let mut until = self
            .deadline
            .into_iter()
            .chain(successor.and_then(Successor::deadline))
            .chain(log::next_report())
            .chain(self.may_close.map(|time| time.max(Instant::now() + LOOK_AT_THE_BACKLOG)))
            .min();
        let mut client = None;
        match self.dispatch.watch(&self.workers) {
            Watch::Nothing => {}
            Watch::For(listener) => client = Some(listener),
            Watch::Until(time) => until = until.into_iter().chain([time]).min(),
        }
        let watched = [
            Some(self.signals.as_fd()),
            Some(self.workers.as_fd()),
            reports,
            stream,
            self.predecessor.as_ref().map(AsFd::as_fd),
            client,
        ];
        let [signal, worker, reports, stream, predecessor, client] = poll_readable(watched, until)?;
        Ok(Ready {
            signal,
            worker,
            successor: reports || stream || successor.is_some_and(Successor::is_due),
            predecessor,
            client,
        })
    }

    /// Reaps every worker that has ended, and as process 1 every orphan that has. Returns the workers.
    fn reap(&mut self) -> io::Result<Vec<Ended>> {
        let exits = self.workers.wait(Some(Duration::ZERO))?;
        // The collected list takes the place of the other one in memory: between two forks, each further
        // page that is written to is copied.
        let ended: Vec<_> = exits.into_iter().filter_map(Ended::of).collect();
        self.reaped += ended.len() as u64;
        self.killed += ended.iter().filter(|ended| ended.was_killed).count() as u64;
        Ok(ended)
    }

    /// Tells the dispatch which workers have ended. Their unfinished sessions count as cut off if we
    /// drain, or are about to end.
    ///
    /// The list is freed here: after the next fork, freeing it would cost the worker a page fault.
    fn handle_exits(&mut self, ended: Vec<Ended>, counts: bool) {
        for ended in ended {
            self.cut_off |= self.dispatch.on_exit(&ended) && counts;
        }
    }

    fn take_signals(&mut self, may_be_there: bool) -> io::Result<Request> {
        while may_be_there && let Some(signal) = self.signals.read_signal()? {
            let signal = Signal::try_from(signal.ssi_signo as i32);
            match signal {
                Ok(Signal::SIGQUIT) => return Ok(Request::EndNow),
                Ok(Signal::SIGTERM | Signal::SIGINT) if self.was_told_to_stop => {
                    return Ok(Request::EndNow);
                }
                Ok(Signal::SIGTERM | Signal::SIGINT) => {
                    self.was_told_to_stop = true;
                    self.stop();
                }
                // It never counts as a second TERM: when a terminal goes, the kernel and the shell each
                // send one.
                Ok(Signal::SIGHUP) if self.hangup == Hangup::Stops => self.stop(),
                Ok(Signal::SIGHUP) => {
                    log(format_args!("HUP ignored: there is nothing to reload; USR2 upgrades"))
                }
                Ok(Signal::SIGUSR1) => self.print_status(),
                Ok(Signal::SIGTTIN) => self.dispatch.resize(1),
                Ok(Signal::SIGTTOU) => self.dispatch.resize(-1),
                Ok(Signal::SIGUSR2) => {
                    if let Some(handover) = self.begin_upgrade() {
                        return Ok(Request::Fork(handover));
                    }
                }
                _ => {}
            }
        }
        Ok(Request::GoOn)
    }

    /// Stops accepting, for good. After an upgrade we have stopped already, and only log the signal: a
    /// manager may stop both servers at once, and our sessions may still finish.
    fn stop(&mut self) {
        if self.is_draining() {
            let left = sessions(self.unfinished());
            log(format_args!("already draining; {left} left to finish"));
            return;
        }
        service_manager::tell(&[NotifyState::Stopping]);
        if let Some(successor) = self.successor.take() {
            successor.give_up();
        }
        if self.drains_backlog && self.stop_queueing() {
            self.may_close = Some(Instant::now() + HANDSHAKES);
            self.drain("no new clients, except those in the kernel's queue");
        } else {
            self.close_listener();
            self.drain("no new clients");
        }
    }

    /// Lets no more clients into the kernel's queue. Returns false if that is not possible, or if the queue
    /// is not ours: then its owner keeps it, and the next server serves it.
    fn stop_queueing(&mut self) -> bool {
        let listener = self.dispatch.listener().filter(|listener| listener.is_ours());
        let result = listener.map(Listener::stop_queueing);
        if let Some(Err(error)) = &result {
            log(format_args!(
                "cannot keep new clients out of the kernel's queue: {error}; those in it are turned \
                 away"
            ));
            self.cut_off |= self.has_backlog();
        }
        matches!(result, Some(Ok(())))
    }

    fn close_if_backlog_is_served(&mut self) {
        let may_close = self.may_close.is_some_and(|time| time <= Instant::now());
        if may_close && !self.has_backlog() {
            self.may_close = None;
            self.close_listener();
            let left = sessions(self.unfinished());
            log(format_args!("the kernel's queue is empty; {left} left to finish"));
        }
    }

    fn has_backlog(&self) -> bool {
        self.dispatch.listener().is_some_and(Listener::has_queue)
    }

    fn close_listener(&mut self) {
        if let Some(listener) = self.dispatch.take_listener() {
            listener.shut_down();
        }
    }

    fn drain(&mut self, why: &str) {
        let left = self.unfinished();
        log(format_args!("{why}; {} left to finish", sessions(left)));
        if self.predecessor.is_some() {
            log(format_args!("waiting for the server before this one to finish its sessions"));
        }
        self.deadline = self.drain_timeout.and_then(|time| Instant::now().checked_add(time));
    }

    /// Begins an upgrade. Returns `Some` in the new process, which starts the next server.
    fn begin_upgrade(&mut self) -> Option<Handover> {
        let Some(listener) = self.dispatch.listener().filter(|_| !self.is_draining()) else {
            log(format_args!("cannot upgrade: already draining"));
            return None;
        };
        if self.successor.is_some() {
            log(format_args!("an upgrade is already going on"));
            return None;
        }
        if process::id() == 1 {
            log(format_args!("process 1 cannot be replaced by another; restart the container"));
            return None;
        }
        // We look now and not at the start: our parent can end, and another process adopt us.
        if let Some(obstacle) = upgrade::obstacle()
            && !self.upgrade_anyway
        {
            log(format_args!(
                "no upgrade: {obstacle}; start another server and then stop this one, or have the \
                 parent restart it; --upgrade-anyway overrides this; still serving"
            ));
            return None;
        }
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => {
                log(format_args!("cannot upgrade: {error}; still serving"));
                return None;
            }
        };
        match Successor::fork(listener.as_fd(), listener.is_ours(), program) {
            Ok(Ok(handover)) => return Some(handover),
            Ok(Err(successor)) => self.successor = Some(successor),
            Err(error) => log(format_args!("cannot upgrade: {error}; still serving")),
        }
        None
    }

    /// Handles news about the new server. It takes our place only when it is able to serve.
    fn hear_from_successor(&mut self) {
        let Some(successor) = &mut self.successor else {
            return;
        };
        match successor.take_news() {
            News::None => {}
            News::Started(id) => {
                if let Ok(program) = &self.program {
                    log(format_args!("starting {program} as process {id}"));
                }
            }
            News::TakenOver(id) => {
                service_manager::tell(&[NotifyState::MainPid(id)]);
                // We do not shut it down: the successor has it, too.
                drop(self.dispatch.take_listener());
                self.drain(&format!("process {id} has taken over"));
            }
            News::Failed(reason) => {
                if let Some(successor) = self.successor.take() {
                    successor.give_up();
                }
                log_always(format_args!("the upgrade has failed: {reason}; still serving"));
            }
            News::Ended => {
                log_always(format_args!("the server that has taken over has ended"));
                self.successor = None;
            }
        }
    }

    fn print_status(&self) {
        let counts = self.dispatch.counts(&self.workers);
        let limit = counts.limit.map_or("none".to_owned(), |limit| limit.to_string());
        let reaped = self.reaped.saturating_add(counts.reaped);
        let killed = self.killed.saturating_add(counts.killed);
        log_always(format_args!(
            "status: {}, {} active, limit {limit}, {} accepted, {} refused, {reaped} reaped, {killed} killed by signal",
            self.model, counts.active, counts.accepted, counts.refused
        ));
    }

    /// Ends every session that is left. A new server that has not taken over is killed here, or it would
    /// find us gone, and serve.
    fn cut_off_the_rest(&mut self) -> io::Result<Role> {
        if let Some(successor) = self.successor.take_if(|successor| !successor.has_taken_over()) {
            successor.give_up();
        }
        let left = self.unfinished();
        if left > 0 {
            log(format_args!("{} cut off", sessions(left)));
        }
        // After we have asked how many are left: a session is reported before it is no longer counted.
        self.cut_off |= self.dispatch.report_failures();
        let turns_away = self.may_close.is_some() && self.has_backlog();
        if turns_away {
            log(format_args!("clients in the kernel's queue turned away"));
        }
        let drained = left == 0 && !self.cut_off && !turns_away;
        self.kill_workers()?;
        Ok(Role::Supervisor { drained })
    }

    /// Kills and reaps the workers, and what the template has made: it is in the template's group, and
    /// becomes our child when the template ends.
    fn kill_workers(&mut self) -> io::Result<()> {
        prctl::set_child_subreaper(true)?;
        let mut groups = Vec::new();
        for (worker, _) in self.workers.iter() {
            groups.push(Pid::from_raw(-worker.id().cast_signed()));
            let _ = worker.signal_group(libc::SIGKILL); // the worker itself is killed below
        }
        drop(mem::replace(&mut self.workers, Reaper::new()?));
        // A process that the kernel cannot end yet must not hold up the server.
        let deadline = Instant::now() + Duration::from_secs(1);
        for group in groups {
            loop {
                match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) if Instant::now() >= deadline => break,
                    Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(1)),
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => break, // none is left
                }
            }
        }
        Ok(())
    }

    /// How many clients are served, or have been accepted and wait for a worker.
    fn unfinished(&self) -> u64 {
        let active = self.dispatch.counts(&self.workers).active;
        active.saturating_add(self.dispatch.has_waiting().into())
    }

    fn is_finished(&self) -> bool {
        self.is_draining()
            && self.workers.is_empty()
            && !self.dispatch.has_waiting()
            && self.may_close.is_none()
            && self.predecessor.is_none()
    }

    fn is_draining(&self) -> bool {
        self.may_close.is_some() || self.dispatch.listener().is_none()
    }

    fn is_too_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

fn sessions(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// Waits until one of these is readable, or for the deadline. Returns which are, in the order given.
fn poll_readable<const N: usize>(
    watched: [Option<BorrowedFd<'_>>; N],
    until: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut present = watched.iter().flatten();
    let Some(first) = present.next() else {
        return Ok([false; N]);
    };
    // An array: a vector's memory would be written to between two forks, and so copied. And only as
    // many entries as needed, because poll(2) refuses more than the process may have descriptors.
    let mut fds = [(); N].map(|()| PollFd::new(*first, PollFlags::POLLIN));
    let mut count = 1;
    for fd in present {
        fds[count] = PollFd::new(*fd, PollFlags::POLLIN);
        count += 1;
    }
    poll_until(&mut fds[..count], until)?;
    let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
    Ok(watched.map(|fd| fd.is_some() && ready.next() == Some(true)))
}
