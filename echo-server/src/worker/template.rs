//! A process for each client, copied from a template: the one worker of the pool, which has entered the
//! sandbox, accepts the clients, and reads nothing from them. Copies lack what it has given up, and need
//! not give it up again.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::prctl;
use reexec::{Fork, ForkOptions, Reaper};

use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::acceptor::{Acceptor, Event};
use crate::server::dispatch::{Ended, PoolWorker};
use crate::server::pool_admission::Admission;
use crate::session::{self, Timeouts};
use crate::worker::name::name_worker;

/// The key of the ends of copies in the acceptor.
const ENDS: u64 = 0;

/// Accepts clients and makes a copy of this process for each, until the supervisor tells this worker to
/// stop and the last session has ended. In a copy, serves the client.
pub(crate) fn serve(worker: PoolWorker, options: &Options, sandbox: &Sandbox) -> io::Result<()> {
    prctl::set_name(c"echo-template")?;
    let mut template = Template::new(worker, options)?;
    let Some((connection, since)) = template.run()? else {
        return Ok(());
    };
    // All that is the template's, such as the listener.
    template.acceptor.leave();
    template.admission.leave();
    drop((template.copies, template.failures));
    log::forget_lost();
    name_worker()?;
    sandbox.enter_in_copy()?;
    session::serve_in_process(connection, Timeouts::of(options), since)
}

struct Template {
    acceptor: Acceptor,
    admission: Admission,
    fork: ForkOptions,
    /// The copies that have not been reaped, with the addresses of their clients.
    copies: Reaper<IpAddr>,
    failures: File,
    max: Option<usize>,
}

impl Template {
    fn new(worker: PoolWorker, options: &Options) -> io::Result<Self> {
        let acceptor = Acceptor::new(worker.listener, worker.stop_pipe)?;
        let copies = Reaper::new()?;
        acceptor.epoll().add(&copies, EpollEvent::new(EpollFlags::EPOLLIN, ENDS))?;
        let mut fork = ForkOptions::new();
        fork.keep_ignored_signals(); // those that workers ignore
        Ok(Self {
            acceptor,
            admission: Admission::new(worker.board, worker.row, options.max_per_source()),
            fork,
            copies,
            failures: worker.failures.ok_or(ErrorKind::InvalidInput)?,
            max: options.max_children(),
        })
    }

    /// Returns at the end, and with the client in each copy. The client has been there since then.
    fn run(&mut self) -> io::Result<Option<(TcpStream, Instant)>> {
        loop {
            self.acceptor.set_room(self.max.is_none_or(|max| self.copies.len() < max));
            match self.acceptor.next()? {
                Some(Event::Client(connection, source)) => {
                    if !self.admission.admit(source)? {
                        continue;
                    }
                    self.admission.publish()?;
                    // A copy's own first look at the clock would cost it three page faults.
                    let now = Instant::now();
                    match self.fork.fork() {
                        Ok(Fork::Child) => return Ok(Some((connection, now))),
                        Ok(Fork::Parent(copy)) => self.add(copy, source)?,
                        Err(error) => {
                            self.admission.requeue(source)?;
                            let problem = format!("cannot start a worker: {error}");
                            self.acceptor.requeue(connection, source, &problem);
                        }
                    }
                }
                Some(Event::Ready(_)) => self.reap()?,
                Some(Event::Paused | Event::Closed) => {}
                None if self.is_finished() => {
                    self.admission.publish()?;
                    return Ok(None);
                }
                None => {
                    log::report_lost();
                    self.admission.publish()?;
                    self.acceptor.wait(log::next_report())?;
                }
            }
        }
    }

    fn add(&mut self, copy: reexec::Child, source: IpAddr) -> io::Result<()> {
        match self.copies.add(copy, source) {
            Ok(()) => self.acceptor.resume(),
            // The copy has been killed, and no other one can serve its client.
            Err(error) => {
                self.admission.release(source)?;
                self.acceptor.pause(&format!(
                    "a client is disconnected, as its worker cannot be watched: {error}"
                ));
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        for ended in self.copies.wait(Some(Duration::ZERO))?.into_iter().filter_map(Ended::of) {
            if let Some(problem) = &ended.problem {
                let line = format!("worker {} failed: {problem}\n", ended.id);
                // One write, as the supervisor reads between two. If there is no room, it has enough to
                // report.
                let _ = self.failures.write(line.as_bytes());
            }
            self.admission.count_end(ended.was_killed);
            self.admission.release(ended.slot)?;
            self.acceptor.try_now();
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.acceptor.is_closed() && self.copies.is_empty() && !self.acceptor.has_waiting()
    }
}
