//! A template: a copy of the program that waits inside `init`, and makes children on request.
//!
//! A child is a clone of the template. It has its launch from the request, and continues as a child that
//! has just been executed and has received its launch.

use std::ffi::{c_int, c_long};
use std::fs::{self, ReadDir};
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{self, ExitCode};

use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{Pid, getpgrp, setpgid};

use crate::control::Control;
use crate::message::Launch;
use crate::sys::{
    self, Arguments, Cloned, Cloner, Disposition, RIGHTS_MAX, SharedWord, retry_on_interrupt,
};
use crate::template_message::{self, Order, PAGE, REQUEST_MAX, SOCKET};
use crate::{EXIT_SETUP_FAILED, inherited_fd, threads};

/// What the template and its children call after [`prepare`], until a child runs its entry.
pub(crate) const SYSTEM_CALLS: &[c_long] = &[
    // The template.
    libc::SYS_getdents64,
    libc::SYS_recvmsg,
    libc::SYS_clone3,
    libc::SYS_exit_group,
    // Both.
    libc::SYS_setpgid,
    libc::SYS_close,
    libc::SYS_getpid,
    libc::SYS_sendto,
    libc::SYS_rt_sigprocmask,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    // A child: what fork(3) does there, and its descriptors, arguments and name.
    libc::SYS_set_robust_list,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_dup3,
    libc::SYS_close_range,
    libc::SYS_prctl,
    libc::SYS_fcntl,
    // The lifeline.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_ppoll,
    libc::SYS_kill,
    // Signals that the child ignores.
    libc::SYS_rt_sigaction,
    // The reason why a child cannot run its entry.
    libc::SYS_write,
];

/// The part of `init` that runs a child's entry. The child has a control channel if it must report.
type RunChild = fn(&Launch, Option<Control>) -> ExitCode;

/// Prepares the template, and returns the function that runs it. That needs only the system calls of
/// [`SYSTEM_CALLS`], so the program may confine this process in between.
///
/// The function returns only in a child, after `run_child`. The template ends in it, so that it runs none
/// of the program's code.
pub(crate) fn prepare(run_child: RunChild) -> Box<dyn FnOnce() -> ExitCode> {
    // Without the two, somebody else has started the template.
    let (Ok(socket), Ok(page)) = (inherited_fd(SOCKET), inherited_fd(PAGE)) else {
        return Box::new(|| ExitCode::from(EXIT_SETUP_FAILED));
    };
    let highest = socket.as_raw_fd().max(page.as_raw_fd());
    let prepared = Server::prepare(highest, &page);
    drop(page);
    let prepared = prepared.and_then(|server| Ok((server, Surroundings::now()?)));
    Box::new(move || serve(prepared, socket, run_child))
}

fn serve(
    prepared: Result<(Server, Surroundings), String>,
    socket: OwnedFd,
    run_child: RunChild,
) -> ExitCode {
    let prepared = prepared.and_then(|(server, before)| before.check().map(|()| server));
    let greeting = prepared.as_ref().map(|_| process::id()).map_err(Clone::clone);
    let greeted = send_to(&socket, &template_message::encode_greeting(&greeting));
    let server = prepared.ok().filter(|_| greeted.is_ok());
    match server.and_then(|server| server.serve(socket)).map(NewChild::become_child) {
        Some(Ok((launch, control))) => run_child(&launch, control),
        Some(Err(_)) => sys::exit_now(EXIT_SETUP_FAILED),
        None => sys::exit_now(0),
    }
}

/// What the template needs to make children.
struct Server {
    cloner: Cloner,
    arguments: Arguments,
    /// The signals that the template ignores for its children, because the latest request said so: their
    /// numbers, as bytes.
    ignored: Vec<u8>,
    /// The template's own process group.
    group: Pid,
    /// The highest number of the template's own descriptors.
    highest: RawFd,
}

/// What a new child needs to become one.
struct NewChild {
    server: Server,
    order: Order,
    buffer: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What must be the same before and after the program has confined the template. By then the folders of
/// /proc may be closed to this process, so they are opened before.
struct Surroundings {
    descriptors: ReadDir,
    threads: ReadDir,
    open: usize,
}

impl Surroundings {
    fn now() -> Result<Self, String> {
        let folder = |path| fs::read_dir(path).map_err(failed("opening a folder of /proc failed"));
        let (descriptors, threads) = (folder("/proc/self/fd")?, folder("/proc/self/task")?);
        let open = sys::open_descriptors().map_err(failed("listing its descriptors failed"))?;
        // Closed by then are the descriptor that was open only for this list, and the control channel.
        Ok(Self { descriptors, threads, open: open.len() - 2 })
    }

    fn check(self) -> Result<(), String> {
        // Both folders are open until this one has been read.
        if self.descriptors.count() != self.open {
            return Err("its preparation has opened or closed a descriptor".to_owned());
        }
        if self.threads.count() != 1 {
            return Err("its preparation has started a thread".to_owned());
        }
        Ok(())
    }
}

/// For `map_err`: the step that has failed, with the reason.
fn failed(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl Server {
    /// Gets ready to make children. Returns the reason if copies of this process would not be like a
    /// new start of the program.
    fn prepare(highest: RawFd, page: &OwnedFd) -> Result<Server, String> {
        threads::require_one("a library has started one before reexec::init()")
            .map_err(|error| error.to_string())?;
        let open = sys::open_descriptors().map_err(failed("listing its descriptors failed"))?;
        if let Some(fd) = open.into_iter().find(|fd| *fd > highest && sys::is_open(*fd)) {
            return Err(format!("descriptor {fd} was opened before reexec::init()"));
        }
        let arguments = Arguments::find().map_err(failed("finding its arguments failed"))?;
        let word = SharedWord::map(page.as_fd()).map_err(failed("mapping the page failed"))?;
        let word = Box::leak(Box::new(word)); // its drop in a child would unmap what is there by then
        let cloner = Cloner::new(word).map_err(failed("the libc does not fit"))?;
        // Otherwise each child would write it again.
        io::stdout().flush().map_err(failed("flushing stdout failed"))?;
        sys::flush_c_streams();
        Ok(Server { cloner, arguments, ignored: Vec::new(), group: getpgrp(), highest })
    }

    /// Makes children until the maker of the template has closed its end. Returns in each child, and
    /// with `None` in the template.
    ///
    /// It keeps its memory from one request to the next. After a clone, each page is copied that this
    /// process or the child writes to, so neither allocates or frees more than it must.
    fn serve(mut self, socket: OwnedFd) -> Option<NewChild> {
        let (mut buffer, mut descriptors) = (vec![0; REQUEST_MAX], Vec::with_capacity(RIGHTS_MAX));
        loop {
            let reply = match Order::receive(&socket, &mut buffer, &mut descriptors).ok()?? {
                Ok(order) => match self.make(&order, &buffer, &descriptors) {
                    Ok(Cloned::Copy) => {
                        let _ = socket.into_raw_fd(); // is closed with the others
                        return Some(NewChild { server: self, order, buffer, descriptors });
                    }
                    Ok(Cloned::Original(pid)) => Ok(pid),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            descriptors.clear();
            let reply = reply.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL));
            send_to(&socket, &template_message::encode_reply(reply)).ok()?;
        }
    }

    /// Ignores these signals, and no others because of an earlier request. A child inherits that, which
    /// takes no time; and mostly all children ignore the same ones.
    fn ignore_only(&mut self, signals: &[u8]) -> io::Result<()> {
        if self.ignored == signals {
            return Ok(());
        }
        for signal in numbers(&mem::take(&mut self.ignored)) {
            let is_sigpipe = signal == libc::SIGPIPE; // which every Rust program ignores
            let disposition = if is_sigpipe { Disposition::Ignored } else { Disposition::Default };
            sys::set_disposition(signal, disposition)?;
        }
        for signal in numbers(signals) {
            sys::set_disposition(signal, Disposition::Ignored)?;
            self.ignored.extend(signal.to_ne_bytes());
        }
        Ok(())
    }

    fn make(
        &mut self,
        order: &Order,
        buffer: &[u8],
        descriptors: &[OwnedFd],
    ) -> io::Result<Cloned> {
        let mut numbers = descriptors.iter().map(AsRawFd::as_raw_fd).zip(0..);
        let fits = order.arguments <= self.arguments.room()
            && numbers.all(|(source, target)| source > target);
        if !fits {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.ignore_only(&buffer[order.ignored.clone()])?;
        match order.group {
            None => self.cloner.clone(),
            // The child makes it. This tells whether a filter lets it.
            Some(0) => {
                join(self.group)?;
                self.cloner.clone()
            }
            // The child inherits it.
            Some(group) => {
                join(Pid::from_raw(group))?;
                let cloned = self.cloner.clone();
                if !matches!(cloned, Ok(Cloned::Copy)) && join(self.group).is_err() {
                    // Signals to the group must not reach a template.
                    sys::exit_now(EXIT_SETUP_FAILED);
                }
                cloned
            }
        }
    }
}

impl NewChild {
    /// Gives this process what an executed child has from its start.
    fn become_child(self) -> io::Result<(Launch, Option<Control>)> {
        let NewChild { server, order, mut buffer, mut descriptors } = self;
        if order.group == Some(0) {
            join(Pid::from_raw(0))?;
        }
        sys::place_descriptors(descriptors.drain(..), server.highest)?;
        let launch = Launch::decode(&buffer[order.launch]).ok_or(io::ErrorKind::InvalidData)?;
        buffer.truncate(order.strings.end);
        let strings = &buffer.leak()[order.strings.start..];
        server.arguments.replace(strings, order.arguments, order.keeps_env)?;
        // Signals that it ignores are discarded by this.
        sys::unblock_signals();
        mem::forget((server, descriptors)); // to free their memory would copy a page
        let control = launch.confirm.then(Control::take_placed).transpose()?;
        Ok((launch, control))
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = c_int> {
    bytes.as_chunks().0.iter().map(|number| c_int::from_ne_bytes(*number))
}

/// Puts this process into a group; 0 means one of its own.
fn join(group: Pid) -> io::Result<()> {
    Ok(setpgid(Pid::from_raw(0), group)?)
}

fn send_to(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_NOSIGNAL;
    retry_on_interrupt(|| Ok(send(socket.as_raw_fd(), message, flags)?)).map(drop)
}
