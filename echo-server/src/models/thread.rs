//! A thread for each client, all in one process: cheap to start, and one that fails takes the
//! others with it.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::intake::{Event, Intake};
use crate::log::failure;
use crate::options::Options;
use crate::pool::Seat;
use crate::record::Record;
use crate::session::{self, BUFFER, Timeouts};

/// The key of [`Ends`] in the intake.
const ENDS: u64 = 0;

pub(crate) fn serve(seat: Seat, options: &Options, timeouts: Timeouts) -> io::Result<()> {
    let mut record = Record::new(seat.board, seat.row, options.max_per_source());
    let mut intake = Intake::new(seat.listener, seat.orders, false)?;
    let ends = Ends::new()?;
    let readable = EpollEvent::new(EpollFlags::EPOLLIN, ENDS);
    intake.epoll().add(ends.bell.as_fd(), readable)?;

    let mut active = 0;
    let mut is_closed = false;
    while !is_closed || active > 0 || intake.has_waiting() {
        intake.set_room(options.max_children().is_none_or(|max| active < max));
        match intake.next(None)? {
            Event::Client(connection, source) => {
                if !record.admits(source)? {
                    continue;
                }
                match start(connection, source, timeouts, &ends) {
                    Ok(()) => {
                        intake.is_served();
                        active += 1;
                    }
                    Err((connection, error)) => {
                        record.is_put_back(source)?;
                        let problem = format!("cannot start a thread: {error}");
                        intake.put_back(connection, source, &problem);
                    }
                }
            }
            Event::Ready(_) => {
                ends.bell.read()?;
                for source in ends.ended.try_iter() {
                    active -= 1;
                    record.has_left(source)?;
                }
                intake.try_now();
            }
            Event::Closed => is_closed = true,
            Event::Nothing => {}
        }
    }
    Ok(())
}

/// Where threads say that they have ended, and whose client they had.
struct Ends {
    bell: Arc<EventFd>,
    end: Sender<IpAddr>,
    ended: Receiver<IpAddr>,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let (end, ended) = channel();
        Ok(Self {
            bell: Arc::new(bell),
            end,
            ended,
        })
    }
}

/// Says so also if the thread panics.
struct Ending {
    bell: Arc<EventFd>,
    end: Sender<IpAddr>,
    source: IpAddr,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // There is nobody left to tell if either fails.
        let _ = self.end.send(self.source);
        let _ = self.bell.write(1);
    }
}

/// If there is no room for another thread, the connection comes back.
fn start(
    connection: TcpStream,
    source: IpAddr,
    timeouts: Timeouts,
    ends: &Ends,
) -> Result<(), (TcpStream, io::Error)> {
    // A thread that cannot be started takes with it what was moved into it.
    let lent = Arc::new(Mutex::new(Some(connection)));
    let threads = Arc::clone(&lent);
    let (bell, end) = (Arc::clone(&ends.bell), ends.end.clone());
    let started = thread::Builder::new().spawn(move || {
        let _ending = Ending { bell, end, source };
        if let Some(connection) = take(&threads)
            && let Err(error) = session::serve(connection, timeouts, &mut [0; BUFFER], None)
        {
            failure(format_args!("a session has failed: {error}"));
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
