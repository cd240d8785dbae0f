//! A thread for each client, all in one process. A thread is cheap to start, but a crash in one ends them
//! all.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::log::log_always;
use crate::options::Options;
use crate::server::acceptor::{Acceptor, Event};
use crate::server::dispatch::PoolWorker;
use crate::server::pool_admission::Admission;
use crate::session::{self, BUFFER, Session, Timeouts};

/// The key of the bell in the acceptor.
const ENDS: u64 = 0;

/// Accepts clients and starts a thread for each, until the supervisor tells this worker to stop and the
/// last thread has ended.
pub(crate) fn serve(worker: PoolWorker, options: &Options, timeouts: Timeouts) -> io::Result<()> {
    let mut admission = Admission::new(worker.board, worker.row, options.max_per_source());
    let mut acceptor = Acceptor::new(worker.listener, worker.stop_pipe, false)?;
    let ends = Ends::new()?;
    let readable = EpollEvent::new(EpollFlags::EPOLLIN, ENDS);
    acceptor.epoll().add(ends.bell.as_fd(), readable)?;

    let mut active = 0;
    let mut is_closed = false;
    while !is_closed || active > 0 || acceptor.has_waiting() {
        acceptor.set_room(options.max_children().is_none_or(|max| active < max));
        match acceptor.next(None)? {
            Event::Client(connection, source) => {
                if !admission.admit(source)? {
                    continue;
                }
                match start(connection, source, timeouts, &ends) {
                    Ok(()) => {
                        acceptor.resume();
                        active += 1;
                    }
                    Err((connection, error)) => {
                        admission.requeue(source)?;
                        let problem = format!("cannot start a thread: {error}");
                        acceptor.requeue(connection, source, &problem);
                    }
                }
            }
            Event::Ready(_) => {
                ends.bell.read()?;
                for source in ends.ended.try_iter() {
                    active -= 1;
                    admission.release(source)?;
                }
                acceptor.try_now();
            }
            Event::Closed => is_closed = true,
            Event::Nothing => {}
        }
    }
    Ok(())
}

/// Collects which threads have ended: the addresses of their clients. The bell wakes up the worker.
struct Ends {
    bell: Arc<EventFd>,
    end: Sender<IpAddr>,
    ended: Receiver<IpAddr>,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (end, ended) = channel();
        Ok(Self { bell: Arc::new(bell), end, ended })
    }
}

/// Reports the end of a thread when it is dropped, so also if the thread panics.
struct Ending {
    bell: Arc<EventFd>,
    end: Sender<IpAddr>,
    source: IpAddr,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // If either fails, the worker has ended.
        let _ = self.end.send(self.source);
        let _ = self.bell.write(1);
    }
}

/// Starts a thread for a client. Returns the connection if there is no room for another thread.
fn start(
    connection: TcpStream,
    source: IpAddr,
    timeouts: Timeouts,
    ends: &Ends,
) -> Result<(), (TcpStream, io::Error)> {
    // If the thread cannot be started, what was moved into it is lost. So the connection is shared.
    let lent = Arc::new(Mutex::new(Some(connection)));
    let threads = Arc::clone(&lent);
    let (bell, end) = (Arc::clone(&ends.bell), ends.end.clone());
    let started = thread::Builder::new().spawn(move || {
        let _ending = Ending { bell, end, source };
        if let Some(connection) = take(&threads)
            && let Err(error) =
                session::serve(connection, timeouts, &mut [0; BUFFER], Session::wait)
        {
            log_always(format_args!("a session has failed: {error}"));
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => match take(&lent) {
            Some(connection) => Err((connection, error)),
            None => Ok(()),
        },
    }
}

fn take(lent: &Mutex<Option<TcpStream>>) -> Option<TcpStream> {
    lent.lock().unwrap_or_else(PoisonError::into_inner).take()
}
