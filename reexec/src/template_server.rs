//! A template: a copy of the program that waits inside `init`, and makes children on request.
//!
//! A child is a clone of the template. It continues as a child that has just been executed: it finds
//! the control channel, receives the launch, and runs the entry.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{self, ExitCode};

use nix::sys::socket::{MsgFlags, send};

use crate::sys::{self, Arguments, Cloned, Cloner, SharedWord, retry_on_interrupt};
use crate::template_message::{self, Order, PAGE, REQUEST_MAX, SOCKET};
use crate::{EXIT_SETUP_FAILED, inherited_fd, threads};

/// Runs the template. Returns only in a child, after `run_if_child`, the part of `init` that runs a
/// child's entry.
///
/// The template ends here, so that it runs none of the program's code.
pub(crate) fn serve(run_if_child: fn() -> Option<ExitCode>) -> ExitCode {
    // Without the two, somebody else has started the template.
    let (Ok(socket), Ok(page)) = (inherited_fd(SOCKET), inherited_fd(PAGE)) else {
        return ExitCode::from(EXIT_SETUP_FAILED);
    };
    let prepared = Server::prepare(socket.as_raw_fd().max(page.as_raw_fd()), &page);
    drop(page);
    let greeting = prepared.as_ref().map(|_| process::id()).map_err(Clone::clone);
    let greeted = send_to(&socket, &template_message::encode_greeting(&greeting));
    let server = prepared.ok().filter(|_| greeted.is_ok());
    match server.and_then(|server| server.serve(socket)).map(NewChild::become_child) {
        Some(Ok(())) => run_if_child().unwrap_or(ExitCode::from(EXIT_SETUP_FAILED)),
        Some(Err(_)) => sys::exit_now(EXIT_SETUP_FAILED),
        None => sys::exit_now(0),
    }
}

/// What the template needs to make children.
struct Server {
    cloner: Cloner,
    arguments: Arguments,
    /// The highest number of the template's own descriptors.
    highest: RawFd,
}

/// What a new child needs to become one.
struct NewChild {
    server: Server,
    order: Order,
    buffer: Vec<u8>,
}

impl Server {
    /// Gets ready to make children. Returns the reason if copies of this process would not be like a
    /// new start of the program.
    fn prepare(highest: RawFd, page: &OwnedFd) -> Result<Server, String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what}: {error}")
        };
        threads::require_one("a library has started one before reexec::init()")
            .map_err(|error| error.to_string())?;
        let open = sys::open_descriptors().map_err(failed("listing its descriptors failed"))?;
        if let Some(fd) = open.into_iter().find(|fd| *fd > highest) {
            return Err(format!("descriptor {fd} was opened before reexec::init()"));
        }
        let arguments = Arguments::find().map_err(failed("finding its arguments failed"))?;
        let word = SharedWord::map(page.as_fd()).map_err(failed("mapping the page failed"))?;
        let word = Box::leak(Box::new(word)); // its drop in a child would unmap what is there by then
        let cloner = Cloner::new(word).map_err(failed("the libc does not fit"))?;
        // Otherwise each child would write it again.
        io::stdout().flush().map_err(failed("flushing stdout failed"))?;
        sys::flush_c_streams();
        // Signals to the process group, such as Ctrl-C, are not for the template. Each child unblocks
        // them when it is one.
        sys::block_signals();
        Ok(Server { cloner, arguments, highest })
    }

    /// Makes children until the maker of the template has closed its end. Returns in each child, and
    /// with `None` in the template.
    fn serve(self, socket: OwnedFd) -> Option<NewChild> {
        let mut buffer = vec![0; REQUEST_MAX];
        loop {
            let reply = match Order::receive(&socket, &mut buffer).ok()?? {
                Ok(order) => match self.make(&order) {
                    Ok(Cloned::Copy) => {
                        return Some(NewChild { server: self, order, buffer });
                    }
                    Ok(Cloned::Original(pid)) => Ok(pid),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let reply = reply.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL));
            send_to(&socket, &template_message::encode_reply(reply)).ok()?;
        }
    }

    fn make(&self, order: &Order) -> io::Result<Cloned> {
        let mut numbers = order.descriptors.iter().map(AsRawFd::as_raw_fd).zip(0..);
        let fits = order.arguments <= self.arguments.room()
            && numbers.all(|(source, target)| source > target);
        match fits {
            true => self.cloner.clone(),
            false => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
}

impl NewChild {
    /// Gives this process what an executed child has from its start.
    fn become_child(self) -> io::Result<()> {
        let NewChild { server, order, mut buffer } = self;
        sys::place_descriptors(order.descriptors, server.highest)?;
        buffer.truncate(order.strings.end);
        server.arguments.replace(&mut buffer.leak()[order.strings.start..], order.arguments)?;
        sys::block_only(&order.blocked);
        Ok(())
    }
}

fn send_to(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_NOSIGNAL;
    retry_on_interrupt(|| Ok(send(socket.as_raw_fd(), message, flags)?)).map(drop)
}
