//! The parent's side of a typed call.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CallError;
use super::file::CallFile;
use super::message::{self, Failure, Types};
use crate::message::CALL_FILE;
use crate::spawn::Start;
use crate::stdio::StdioDefault;
use crate::{Child, Command, EXIT_SETUP_FAILED, Error, Stage};

/// The exit code of a Rust program that panics and unwinds.
const EXIT_PANICKED: i32 = 101;

impl Command {
    /// Starts the child, which runs the function registered by
    /// [`register_call`](crate::register_call) with this argument. Requires the feature `serde`.
    ///
    /// Returns when the child has executed the program; [`Call::wait`] then returns the result. So
    /// several calls can run at the same time. The argument has been copied by then, and its length
    /// blocks nobody.
    ///
    /// The types must be those of the function, and the child compares their names before it runs the
    /// function. A `&str` can be passed to a `String`, a slice to a `Vec`, and a `Path` to a `PathBuf`,
    /// but not inside another type, such as a tuple. Numbers need a type: `&(1, 2)` is a pair of `i32`.
    /// Two types with the same path, from two versions of one crate, are not told apart.
    ///
    /// Of the limits of [`Command::rlimit`], [`Resource::FileSize`](crate::Resource::FileSize) also limits
    /// the encoded result. [`Command::deadline`] is for jobs only: to limit the time of a call, wait for its
    /// child with [`Child::wait_timeout`], and drop the call if that returns `None`. This kills the child.
    ///
    /// ```
    /// use std::process::ExitCode;
    /// use std::time::Duration;
    ///
    /// use reexec::Resource;
    ///
    /// fn parse(text: String) -> Result<u16, String> {
    ///     text.parse().map_err(|error| format!("{text}: {error}"))
    /// }
    ///
    /// fn main() -> ExitCode {
    ///     reexec::register_call("parse", parse);
    ///     if let Some(code) = reexec::init() {
    ///         return code;
    ///     }
    ///     let call = reexec::command("parse")
    ///         .rlimit(Resource::CpuTime, 1, 2)
    ///         .call::<_, Result<u16, String>>("8080")
    ///         .unwrap();
    ///     match call.child().wait_timeout(Duration::from_secs(20)).unwrap() {
    ///         Some(_) => assert_eq!(call.wait().unwrap(), Ok(8080)),
    ///         None => drop(call), // kills and reaps the child
    ///     }
    ///     ExitCode::SUCCESS
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Argument`] if the argument cannot be encoded or stored. [`CallError::Start`] with the
    /// errors of [`Command::spawn_unconfirmed`], for instance [`Stage::Invalid`] after
    /// [`Command::deadline`]; [`Call::wait`] returns those of a later stage.
    pub fn call<A, R>(&mut self, argument: &A) -> Result<Call<R>, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let types = Types::of::<A, R>();
        let prepared = write_argument(&types, argument)
            .and_then(|file| file.for_child().map(|for_child| (file, for_child)));
        let (file, for_child) =
            prepared.map_err(|source| CallError::Argument { entry: self.entry.clone(), source })?;
        self.fd(CALL_FILE, for_child);
        let started = Start::new(self, StdioDefault::Inherit, true);
        let started = self.finish(started);
        self.descriptors.retain(|(name, _)| name != CALL_FILE);
        Ok(Call {
            start: started.map_err(CallError::Start)?,
            file,
            entry: self.entry.clone(),
            types,
            result: PhantomData,
        })
    }
}

fn write_argument<A: Serialize + ?Sized>(types: &Types, argument: &A) -> io::Result<CallFile> {
    let message = message::encode_argument(types, argument)?;
    let file = CallFile::new()?;
    file.write(&message)?;
    Ok(file)
}

/// A handle of a typed call, which is running or has ended: the child, and the way to its result.
///
/// **Dropping it kills the child and reaps it**, as with a [`Child`]. [`AsFd`] gives the child's pidfd,
/// which becomes readable when the child has ended, so an event loop can wait for many calls. A
/// [`Reaper`](crate::Reaper) cannot: it takes only [`Child`]s.
#[must_use = "dropping a call kills its child"]
pub struct Call<R> {
    /// The child, and its report, which is read at the end.
    start: Start,
    file: CallFile,
    entry: String,
    /// The types that the child compares with its own.
    types: Types,
    result: PhantomData<fn() -> R>,
}

impl<R> Call<R> {
    /// Returns the child's process id; see [`Child::id`].
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Returns the child, to wait for a limited time, to signal it, to take its streams, or to ask what
    /// it has used.
    pub fn child(&self) -> &Child {
        &self.start.child
    }
}

impl<R: DeserializeOwned> Call<R> {
    /// Waits until the child has ended, and returns what the function has returned. Like [`Child::wait`],
    /// it first closes this process's end of the child's stdin.
    ///
    /// A result counts only if the child then exits with 0.
    ///
    /// The result may come from a process that is trusted less than this one. Whatever its bytes are,
    /// this does not panic, and takes at most a multiple, which depends on the type, of the memory that
    /// the child has used for them. This requires that the type's `Deserialize` does no worse. Two kinds of
    /// type are not for such a child: a type that contains itself, which can be nested until the stack
    /// overflows, and a sequence of values without content, such as `Vec<()>`, which can be endless.
    ///
    /// # Errors
    ///
    /// [`CallError`]; the child has been reaped then.
    pub fn wait(self) -> Result<R, CallError> {
        let Call { start, file, entry, types, .. } = self;
        let started = match start.child.is_parent() {
            true => start.confirm_at_end(),
            // The report is for the process that made the call; this is a forked copy of it.
            false => Ok(start.child),
        };
        let ended = started.and_then(|child| child.wait().map_err(|source| Stage::Wait { source }));
        let status = ended.map_err(|stage| CallError::Start(Error::new(&entry, stage)))?;
        let reply = match file.read() {
            Err(source) if status.success() => return Err(CallError::Result { entry, source }),
            reply => reply.unwrap_or_default(),
        };
        match message::decode_reply(&reply) {
            Some(Ok(value)) if status.success() => {
                message::decode(value).map_err(|source| CallError::Result { entry, source })
            }
            Some(Err(failure)) => Err(error(entry, status, failure, types)),
            _ => Err(CallError::Ended { entry, status, panic: None }),
        }
    }
}

/// Returns the error that this failure means. A child may have replied with a failure, and then have ended
/// in another way: its function has caught a panic and called `exit`, or a panic hook has called `exit`.
fn error(entry: String, status: ExitStatus, failure: Failure, types: Types) -> CallError {
    let has_panicked =
        status.code() == Some(EXIT_PANICKED) || status.signal() == Some(libc::SIGABRT);
    let has_refused = status.code() == Some(EXIT_SETUP_FAILED.into());
    match failure {
        Failure::Panicked { message, location } if has_panicked => {
            CallError::Panicked { entry, message, location }
        }
        Failure::WrongTypes(own) if has_refused => CallError::WrongTypes {
            entry,
            takes: own.argument,
            returns: own.result,
            passed: types.argument,
            expected: types.result,
        },
        Failure::Argument(source) if has_refused => CallError::Argument { entry, source },
        Failure::Result(source) if has_refused => CallError::Result { entry, source },
        Failure::Panicked { message, location } => {
            CallError::Ended { entry, status, panic: Some(format!("{location}: {message}")) }
        }
        _ => CallError::Ended { entry, status, panic: None },
    }
}

impl<R> AsFd for Call<R> {
    /// Returns the pidfd; see [`Child`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child().as_fd()
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("entry", &self.entry)
            .field("result", &type_name::<R>())
            .field("child", self.child())
            .finish()
    }
}
