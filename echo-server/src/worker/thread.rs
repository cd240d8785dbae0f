//! A thread for each client, all in one process. A thread is cheap to start, but a crash in one ends them
//! all. Keeping a thread is cheaper still: when its client has left, it waits a little for the next one.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::log::log_always;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::acceptor::{Acceptor, Event};
use crate::server::dispatch::PoolWorker;
use crate::server::pool_admission::Admission;
use crate::session::{self, BUFFER, Timeouts};

/// How long a thread without a client stays. Longer would save little: starting one takes less than a
/// ten-thousandth of that.
const STAY: Duration = Duration::from_secs(1);

/// The key of the bell in the acceptor.
const BELL: u64 = 0;

/// Accepts clients and gives each to a thread, until the supervisor tells this worker to stop and the last
/// session has ended. Threads that are idle then end with the process.
pub(crate) fn serve(worker: PoolWorker, options: &Options, _: &Sandbox) -> io::Result<()> {
    let admission = Admission::new(worker.board, worker.row, options.max_per_source());
    let threads = Arc::new(Threads::new(admission, Timeouts::of(options))?);
    let mut acceptor = Acceptor::new(worker.listener, worker.stop_pipe)?;
    acceptor.epoll().add(threads.bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;

    loop {
        let active = threads.ask_for_bell(&mut acceptor, options.max_children());
        match acceptor.next()? {
            Some(Event::Client(connection, source)) => {
                if !threads.admit(source)? {
                    continue;
                }
                match give_to_thread(&threads, Client { connection, source }) {
                    Ok(()) => acceptor.resume(),
                    Err((client, error)) => {
                        threads.requeue(source)?;
                        let problem = format!("cannot start a thread: {error}");
                        acceptor.requeue(client.connection, source, &problem);
                    }
                }
            }
            Some(Event::Ready(_)) => {
                threads.bell.read()?;
                acceptor.try_now();
            }
            Some(Event::Paused | Event::Closed) => {}
            None if acceptor.is_closed() && active == 0 && !acceptor.has_waiting() => return Ok(()),
            None => acceptor.wait(None)?,
        }
    }
}

struct Client {
    connection: TcpStream,
    source: IpAddr,
}

/// What the threads share with the one that accepts.
struct Threads {
    state: Mutex<State>,
    /// Wakes up the thread that accepts.
    bell: EventFd,
    timeouts: Timeouts,
}

struct State {
    admission: Admission,
    /// Clients that have a thread.
    active: usize,
    /// The thread that had a client last is the first to get one again. So the others stay idle if they
    /// are not needed, and end.
    idle: Vec<Idle>,
    /// Whether the thread that accepts waits for the end of a session.
    wants_bell: bool,
}

/// A thread without a client, and the way to give it one.
struct Idle {
    thread: ThreadId,
    clients: Sender<Client>,
}

impl Threads {
    fn new(admission: Admission, timeouts: Timeouts) -> io::Result<Self> {
        let state = State { admission, active: 0, idle: Vec::new(), wants_bell: false };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { state: Mutex::new(state), bell: EventFd::from_flags(flags)?, timeouts })
    }

    /// A panic while it is locked does no harm: every change is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the bell rung at the end of a session, if the acceptor needs to know. Returns the number of
    /// clients. Both are one step, or a session could end in between, and nobody would ring.
    fn ask_for_bell(&self, acceptor: &mut Acceptor, max: Option<usize>) -> usize {
        let mut state = self.lock();
        let has_room = max.is_none_or(|max| state.active < max);
        acceptor.set_room(has_room);
        state.wants_bell = !has_room || acceptor.is_paused() || acceptor.is_closed();
        state.active
    }

    fn admit(&self, source: IpAddr) -> io::Result<bool> {
        let mut state = self.lock();
        let is_admitted = state.admission.admit(source)?;
        state.active += usize::from(is_admitted);
        state.admission.publish()?;
        Ok(is_admitted)
    }

    fn requeue(&self, source: IpAddr) -> io::Result<()> {
        let mut state = self.lock();
        state.active -= 1;
        state.admission.requeue(source)?;
        state.admission.publish()
    }

    /// Takes this thread off the list of idle ones. Returns whether it was there.
    fn leave(&self) -> bool {
        let this = thread::current().id();
        let idle = &mut self.lock().idle;
        let place = idle.iter().position(|idle| idle.thread == this);
        place.map(|place| idle.remove(place)).is_some()
    }
}

/// Gives the client to an idle thread, or to a new one. Returns the client if no thread can be started.
fn give_to_thread(threads: &Arc<Threads>, client: Client) -> Result<(), (Client, io::Error)> {
    let idle = threads.lock().idle.pop();
    let clients = match idle {
        Some(idle) => idle.clients,
        None => match start(threads) {
            Ok(clients) => clients,
            Err(error) => return Err((client, error)),
        },
    };
    // It does not fail: the thread ends only after it has found itself on the list of idle ones.
    clients.send(client).map_err(|unsent| (unsent.0, io::Error::other("it has ended")))
}

/// Starts a thread, which first waits for a client. Returns the way to give it one.
fn start(threads: &Arc<Threads>) -> io::Result<Sender<Client>> {
    let (clients, receiver) = channel();
    let (threads, own) = (Arc::clone(threads), clients.clone());
    thread::Builder::new().spawn(move || serve_clients(&threads, &receiver, &own))?;
    Ok(clients)
}

/// Serves one client after another, in a thread.
fn serve_clients(threads: &Threads, receiver: &Receiver<Client>, clients: &Sender<Client>) {
    let mut buffer = [0; BUFFER];
    while let Some(client) = next_client(threads, receiver) {
        let _in_session = InSession { threads, clients, source: client.source };
        if let Err(error) =
            session::serve(client.connection, threads.timeouts, Instant::now(), &mut buffer)
        {
            log_always(format_args!("a session has failed: {error}"));
        }
    }
}

/// Waits for a client. `None` if there was none for too long, and there will be none.
fn next_client(threads: &Threads, receiver: &Receiver<Client>) -> Option<Client> {
    match receiver.recv_timeout(STAY) {
        Ok(client) => Some(client),
        Err(_) if threads.leave() => None,
        // This thread has just been chosen, and its client is on the way.
        Err(_) => receiver.recv().ok(),
    }
}

/// A session of this thread. Its end is counted when this is dropped, so also if the session panics.
struct InSession<'a> {
    threads: &'a Threads,
    clients: &'a Sender<Client>,
    source: IpAddr,
}

impl Drop for InSession<'_> {
    fn drop(&mut self) {
        let mut state = self.threads.lock();
        if !thread::panicking() {
            let idle = Idle { thread: thread::current().id(), clients: self.clients.clone() };
            state.idle.push(idle);
        }
        state.active -= 1;
        let admission = &mut state.admission;
        if let Err(error) = admission.release(self.source).and_then(|()| admission.publish()) {
            log_always(format_args!("cannot write the figures of this worker: {error}"));
        }
        if state.wants_bell {
            // If it fails, it has been rung already.
            let _ = self.threads.bell.write(1);
        }
    }
}
