//! A template as its maker sees it: the process, and the requests to it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{self, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use crate::Child;
use crate::confinement::Confinement;
use crate::message::Preparation;
use crate::poll::{has_passed, wait_readable};
use crate::sys::{self, SharedWord, retry_on_interrupt};
use crate::template_message::{self, Request};

/// How long a template may take to answer. One that is stopped never does; on a busy machine, one that
/// works can take a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// The templates of one [`Template`](crate::Template): one process after another.
#[derive(Debug)]
pub(crate) struct Templates {
    /// The process that has made this. Its forked copies have no templates.
    pub(crate) maker: u32,
    /// The rights of the maker when it made this.
    pub(crate) confinement: Confinement,
    /// What each of them runs before it makes children.
    pub(crate) preparation: Option<Arc<Preparation>>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// `None` if there is no template now.
    pub(crate) current: Option<TemplateProcess>,
    /// After so many children of one template, another one is started; 0 for never.
    pub(crate) renew_after: u32,
    /// Whether no template can make children here.
    pub(crate) is_unusable: bool,
    /// Why the last child that no template has made came without one.
    pub(crate) reason: Option<String>,
}

impl Templates {
    pub(crate) fn new(
        current: TemplateProcess,
        confinement: Confinement,
        preparation: Option<Arc<Preparation>>,
    ) -> Self {
        let current = Some(current);
        let state = State { current, renew_after: 0, is_unusable: false, reason: None };
        Self { maker: process::id(), confinement, preparation, state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves the state as it was before the request, or without a template.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether another template is due: the last one has ended, or made its share of children.
    pub(crate) fn is_renewal_due(&self) -> bool {
        let is_spent = |current: &TemplateProcess| {
            self.renew_after != 0 && current.children >= self.renew_after
        };
        !self.is_unusable && self.current.as_ref().is_none_or(is_spent)
    }

    /// Reaps the template if it has ended. Returns its status, if that is known.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        let status = match self.current.as_ref()?.child.try_wait() {
            Ok(None) => return None,
            Ok(status) => status,
            Err(_) => None, // other code has reaped it
        };
        // It may have said that no template can make children, and have ended because of that.
        self.await_greeting();
        self.current = None;
        status
    }

    /// Waits until the template has said that it can make children.
    pub(crate) fn await_greeting(&mut self) {
        if let Some(mut current) = self.current.take() {
            match current.await_greeting() {
                Ok(()) => self.current = Some(current),
                Err(failure) => drop(self.fail(current, failure)),
            }
        }
    }

    /// Asks the template for a child, and returns its number. Otherwise the reason says why there is
    /// none, and nothing is left of the attempt.
    ///
    /// A child that the template has made before it ended runs its entry, so it is returned, too.
    pub(crate) fn request(&mut self, request: &Request<'_>) -> Option<i32> {
        self.await_greeting();
        let mut current = self.current.take()?;
        match current.request(request) {
            Ok(pid) => {
                self.current = Some(current);
                Some(pid)
            }
            Err(failure) => self.fail(current, failure),
        }
    }

    /// Returns the number of the child that the template has made all the same.
    fn fail(&mut self, current: TemplateProcess, failure: Failure) -> Option<i32> {
        let reason = match failure {
            Failure::Request(reason) => {
                self.current = Some(current);
                self.reason = Some(reason);
                return None;
            }
            Failure::Template(reason) => reason,
            Failure::Unusable(reason) => {
                self.is_unusable = true;
                reason
            }
        };
        let made = current.end();
        if made.is_none() {
            self.reason = Some(reason);
        }
        made
    }
}

/// Why a template has made no child.
enum Failure {
    /// It cannot make this one.
    Request(String),
    /// It has ended, or does not answer.
    Template(String),
    /// No template can make children here.
    Unusable(String),
}

/// A running template.
#[derive(Debug)]
pub(crate) struct TemplateProcess {
    /// Dropping this kills and reaps the template.
    child: Child,
    socket: OwnedFd,
    /// Here the kernel stores the number of each child, before the template can know it.
    number: SharedWord,
    is_ready: bool,
    /// How many children it has made.
    children: u32,
}

impl TemplateProcess {
    pub(crate) fn new(child: Child, socket: OwnedFd, number: SharedWord) -> Self {
        Self { child, socket, number, is_ready: false, children: 0 }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns another descriptor for what [`Child`] polls.
    pub(crate) fn end_fd(&self) -> io::Result<OwnedFd> {
        self.child.as_fd().try_clone_to_owned()
    }

    fn await_greeting(&mut self) -> Result<(), Failure> {
        if self.is_ready {
            return Ok(());
        }
        let message = self.receive()?;
        match template_message::decode_greeting(&message) {
            Some(Ok(pid)) if pid == self.child.id() => {}
            Some(Ok(_)) => {
                let reason = "the template is in another pid namespace";
                return Err(Failure::Unusable(reason.to_owned()));
            }
            Some(Err(reason)) => return Err(Failure::Unusable(reason)),
            None => return Err(malformed()),
        }
        self.is_ready = true;
        Ok(())
    }

    fn request(&mut self, request: &Request<'_>) -> Result<i32, Failure> {
        self.number.store(0);
        match request.send(&self.socket) {
            Err(error) if sys::is_one_of(&error, &[libc::EPIPE, libc::ECONNRESET]) => {
                return Err(ended());
            }
            Err(error) => return Err(Failure::Request(format!("sending the request: {error}"))),
            Ok(()) => {}
        }
        let message = self.receive()?;
        match template_message::decode_reply(&message) {
            Some(Ok(pid)) => {
                self.children = self.children.saturating_add(1);
                Ok(pid)
            }
            Some(Err(errno)) => {
                let error = io::Error::from_raw_os_error(errno);
                Err(Failure::Request(format!("the template made no process: {error}")))
            }
            None => Err(malformed()),
        }
    }

    /// Receives the next message.
    fn receive(&self) -> Result<Vec<u8>, Failure> {
        let deadline = Some(Instant::now() + PATIENCE);
        let mut buffer = vec![0; 1024];
        loop {
            // We watch the template itself as well: a child that it has just made may still hold a copy
            // of its end of the socket.
            let watched = [Some(self.socket.as_fd()), Some(self.child.as_fd())];
            let [is_readable, has_ended] = wait_readable(watched, deadline)
                .map_err(|error| Failure::Template(format!("waiting for the template: {error}")))?;
            if is_readable || has_ended {
                let socket = self.socket.as_raw_fd();
                let flags = MsgFlags::MSG_DONTWAIT;
                let received = retry_on_interrupt(|| Ok(recv(socket, &mut buffer, flags)?));
                return match received {
                    Ok(length) if length > 0 => {
                        buffer.truncate(length);
                        Ok(buffer)
                    }
                    _ => Err(ended()),
                };
            }
            if has_passed(deadline) {
                return Err(Failure::Template(format!(
                    "the template did not answer within {PATIENCE:?}, and was killed"
                )));
            }
        }
    }

    /// Ends the template. Returns the number of the child that it has made for the latest request, if it
    /// has made one.
    fn end(self) -> Option<i32> {
        drop(self.child); // after that, the number does not change any more
        Some(self.number.load()).filter(|pid| *pid != 0)
    }
}

fn ended() -> Failure {
    Failure::Template("the template has ended".to_owned())
}

fn malformed() -> Failure {
    Failure::Template("the template's answer cannot be read".to_owned())
}
