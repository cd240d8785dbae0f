//! The child's side of a typed call.

use std::fmt;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::CallFile;
use super::message::{self, Failure, Types};
use crate::entry::{self, Kind};
use crate::message::CALL_FILE;
use crate::{EXIT_SETUP_FAILED, inherited_fd};

/// Registers a function for typed calls: [`Command::call`](crate::Command::call) runs it in a process of
/// its own, passes it a value, and gets back the value that it returns. Requires the feature `serde`.
///
/// Call this before [`init`](crate::init), as [`register`](crate::register). The function has one
/// argument; several values travel as a tuple, `|(from, to): (u64, u64)| …`, none as `()`. A
/// `Result<T, E>` travels like any other value, so the caller gets the function's own error.
///
/// If the function panics, the caller gets the message and the place. That is done by a panic hook, which
/// then runs the hook that was set before it: by default, this prints the panic to the child's stderr. A
/// hook that the function itself sets replaces both.
///
/// The values are encoded by [postcard](https://docs.rs/postcard), which does not write down names or
/// types. So a type does not work if its encoding decides at run time what comes next:
/// `serde_json::Value`, or one with `#[serde(flatten)]`, `untagged` or `tag`, is an error. **With
/// `#[serde(skip_serializing_if)]`, other values may arrive without an error**, because nothing tells
/// that a field was left out.
///
/// `spawn` and `spawn_job` refuse a function registered here, and `call` refuses one registered
/// otherwise. None of them runs it.
///
/// ```
/// use std::process::ExitCode;
///
/// fn sum(numbers: Vec<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// fn main() -> ExitCode {
///     reexec::register_call("sum", sum);
///     if let Some(code) = reexec::init() {
///         return code;
///     }
///     let call = reexec::command("sum").call::<_, u64>(&vec![1_u64, 2, 3]).unwrap();
///     assert_eq!(call.wait().unwrap(), 6);
///     ExitCode::SUCCESS
/// }
/// ```
///
/// # Panics
///
/// As [`register`](crate::register).
pub fn register_call<F, A, R>(name: impl Into<String>, f: F)
where
    F: FnOnce(A) -> R + Send + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    entry::add_entry(name.into(), Kind::Call, Box::new(|| run(f)));
}

/// Runs the function with the argument that the parent has passed, and replies.
fn run<A: DeserializeOwned, R: Serialize>(f: impl FnOnce(A) -> R) -> ExitCode {
    let file = match inherited_fd(CALL_FILE) {
        Ok(fd) => CallFile::from_fd(fd),
        Err(error) => return no_reply(format_args!("cannot take the file of the call: {error}")),
    };
    let reply = Arc::new(ReplyFile { file, is_written: AtomicBool::new(false) });
    let argument = match take_argument::<A, R>(&reply) {
        Ok(argument) => argument,
        Err(failure) => return reply.fail(&failure),
    };
    let result = f(argument);
    let written = message::encode_result(&result).and_then(|result| reply.write(&result));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => reply.fail(&Failure::Result(error)),
    }
}

/// Reads the argument if the caller means the same types, and empties the file for the reply.
fn take_argument<A: DeserializeOwned, R>(reply: &Arc<ReplyFile>) -> Result<A, Failure> {
    let message = reply.file.read().map_err(Failure::Argument)?;
    reply.file.clear().map_err(Failure::Argument)?;
    let (wanted, argument) = message::split_argument(&message).map_err(Failure::Argument)?;
    let types = Types::of::<A, R>();
    if wanted != types {
        return Err(Failure::WrongTypes(types));
    }
    reply_to_panics(Arc::clone(reply));
    message::decode(argument).map_err(Failure::Argument)
}

/// The file of the call, once the argument has been taken out of it.
struct ReplyFile {
    file: CallFile,
    is_written: AtomicBool,
}

impl ReplyFile {
    /// Writes a reply, which replaces an earlier one: that of a panic that the function has caught.
    ///
    /// The first reply takes one write(2), and no other system call, because the function may have
    /// forbidden the process all that it does not need.
    fn write(&self, reply: &[u8]) -> io::Result<()> {
        if self.is_written.swap(true, Ordering::SeqCst) {
            self.file.clear()?;
        }
        self.file.write(reply)
    }

    fn is_written(&self) -> bool {
        self.is_written.load(Ordering::SeqCst)
    }

    /// Replies why there is no result.
    fn fail(&self, failure: &Failure) -> ExitCode {
        match self.write(&failure.encode()) {
            Ok(()) => ExitCode::from(EXIT_SETUP_FAILED),
            Err(error) => no_reply(format_args!("cannot reply {failure:?} to the parent: {error}")),
        }
    }
}

/// Prints why the parent gets no reply.
fn no_reply(reason: fmt::Arguments<'_>) -> ExitCode {
    let _ = writeln!(io::stderr(), "reexec: {reason}");
    ExitCode::from(EXIT_SETUP_FAILED)
}

/// Makes a panic of this thread a reply.
///
/// A hook and not `catch_unwind`, because only a hook knows the place, and it also runs with
/// `panic = "abort"`. It replies first: the earlier hook may end the process.
fn reply_to_panics(reply: Arc<ReplyFile>) {
    // A panic of another thread is not the function's, nor is one in a forked copy of this process.
    let current = || (process::id(), thread::current().id());
    let own = current();
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let message = text(panic);
        let follows = FOLLOWING.contains(&message.as_str()) && reply.is_written();
        if current() == own && !follows {
            let panicked = Failure::Panicked { message, location: place(panic) };
            let _ = reply.write(&panicked.encode());
        }
        earlier(panic);
    }));
}

/// The messages of panics that the standard library adds before it aborts, because the panic before them
/// must not unwind further. They do not say what happened.
const FOLLOWING: [&str; 2] =
    ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

fn text(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").to_owned()
}

fn place(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map(ToString::to_string).unwrap_or_default()
}
