//! Children in an async program, on tokio: wait, cancel, read output, reap many, all in one thread.
//!
//! `cargo run -p reexec --features tokio --example async`
//!
//! An event loop watches the descriptor of a child, its pidfd, which is readable once the child has
//! ended. So no thread waits, and no signal handler is needed.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ExitCode, ExitStatus, Output};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use reexec::{Child, Command, Exit, Reaper, Stdio};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;
use tokio::runtime::Builder;
use tokio::task::{self, JoinSet};
use tokio::time::{sleep, timeout};

/// When the example gives up waiting.
const LIMIT: Duration = Duration::from_millis(50);
/// How long a child may take to end after `SIGTERM`.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    reexec::register("worker", worker);
    reexec::register("sleeper", sleeper);
    if let Some(code) = reexec::init() {
        return code;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "async: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs in a child: prints its argument, and exits with its length.
pub(crate) fn worker() -> io::Result<ExitCode> {
    let name = env::args().nth(1).unwrap_or_default();
    writeln!(io::stdout(), "{name}")?;
    writeln!(io::stderr(), "{name} has printed")?;
    Ok(ExitCode::from(name.len() as u8))
}

/// Runs in a child, for longer than anybody waits.
pub(crate) fn sleeper() {
    thread::sleep(Duration::from_secs(60));
}

pub(crate) async fn run() -> io::Result<()> {
    wait_for_a_child().await?;
    read_its_output().await?;
    cancel_by_timeout().await?;
    cancel_by_abort().await?;
    stop_gracefully().await?;
    reap_many().await
}

async fn wait_for_a_child() -> io::Result<()> {
    let child = AsyncChild::spawn(named("sleeper")).await?;
    child.get_ref().signal(libc::SIGTERM)?;
    print(format_args!("waited: {}", child.wait().await?))
}

async fn read_its_output() -> io::Result<()> {
    let mut command = named("worker");
    command.arg("seven").stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = AsyncChild::spawn(command).await?.wait_with_output().await?;
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    print(format_args!("read: {:?} and {:?}, {}", stdout, stderr, output.status))
}

/// The future owns the child. The timeout drops the future, and so kills and reaps the child.
async fn cancel_by_timeout() -> io::Result<()> {
    let is_late = timeout(LIMIT, status(named("sleeper"))).await.is_err();
    print(format_args!("timed out: {is_late}, children left: {}", has_children()))
}

/// The same, when the task that runs the future is aborted.
async fn cancel_by_abort() -> io::Result<()> {
    let task = tokio::spawn(status(named("sleeper")));
    sleep(LIMIT).await;
    task.abort();
    let is_cancelled = task.await.is_err_and(|error| error.is_cancelled());
    print(format_args!("aborted: {is_cancelled}, children left: {}", has_children()))
}

/// As [`Child::terminate`], which would block this thread for up to `GRACE`.
async fn stop_gracefully() -> io::Result<()> {
    let child = AsyncChild::spawn(named("sleeper")).await?;
    child.get_ref().signal(libc::SIGTERM)?;
    match timeout(GRACE, child.wait()).await {
        Ok(status) => print(format_args!("stopped: {}", status?)),
        Err(_) => child.kill().await, // it ignores the signal
    }
}

/// A reaper in the same loop as a timer.
async fn reap_many() -> io::Result<()> {
    let mut children = Reaper::new()?;
    for number in 0..3 {
        let mut command = named("worker");
        command.arg("x".repeat(number)).stdout(Stdio::null()).stderr(Stdio::null());
        children.add(AsyncChild::spawn(command).await?.into_inner(), number)?;
    }
    let mut children = watch(children)?;
    while !children.get_ref().is_empty() {
        let Ok(exits) = timeout(LIMIT, next_exits(&mut children)).await else {
            print(format_args!("nothing has ended within {LIMIT:?}"))?;
            continue;
        };
        for exit in exits? {
            print(format_args!("reaped: {:?} {}", exit.token, exit.status?))?;
        }
    }
    Ok(())
}

/// Waits until children in the reaper have ended, and reaps them.
async fn next_exits<T>(reaper: &mut AsyncFd<Reaper<T>>) -> io::Result<Vec<Exit<T>>> {
    loop {
        let mut ready = reaper.readable_mut().await?;
        let exits = ready.get_inner_mut().wait(Some(Duration::ZERO))?;
        if !exits.is_empty() {
            return Ok(exits); // there may be more, so it stays ready
        }
        ready.clear_ready();
    }
}

/// A child that tokio watches. Dropping it kills and reaps the child.
///
/// The drop blocks the thread until the kernel has ended the child: less than a millisecond for a small
/// process, but as long as the kernel needs to free the memory of a large one. [`AsyncChild::kill`]
/// does the same without blocking.
pub(crate) struct AsyncChild(AsyncFd<Child>);

impl AsyncChild {
    /// Starts a child in a thread for blocking calls, because [`Command::spawn`] blocks for about a
    /// millisecond.
    ///
    /// If this future is dropped, that thread drops the child when the spawn has returned.
    pub(crate) async fn spawn(mut command: Command) -> io::Result<AsyncChild> {
        let child = unblock(move || Ok(command.spawn()?)).await?;
        Ok(AsyncChild(watch(child)?))
    }

    pub(crate) fn get_ref(&self) -> &Child {
        self.0.get_ref()
    }

    fn into_inner(self) -> Child {
        self.0.into_inner()
    }

    /// Waits until the child has ended, and reaps it. If this future is dropped, the child continues.
    pub(crate) async fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Some(status) = self.get_ref().try_wait()? {
                return Ok(status);
            }
            // Only without pidfds: the child is about to end, and its descriptor stays readable.
            ready.retain_ready();
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Reads stdout and stderr at the same time, and waits. Dropping this future kills the child.
    ///
    /// Unlike [`Child::wait_with_output`], it waits for ever for a stream that another process holds.
    pub(crate) async fn wait_with_output(self) -> io::Result<Output> {
        drop(self.get_ref().take_stdin());
        let stdout = self.get_ref().take_stdout().map(OwnedFd::from);
        let stderr = self.get_ref().take_stderr().map(OwnedFd::from);
        let mut reader = JoinSet::new(); // aborts its task when it is dropped
        reader.spawn(read_all(stderr));
        let stdout = read_all(stdout).await?;
        let stderr = reader.join_next().await.transpose()?.transpose()?.unwrap_or_default();
        Ok(Output { status: self.wait().await?, stdout, stderr })
    }

    /// Kills and reaps the child, in a thread for blocking calls.
    pub(crate) async fn kill(self) -> io::Result<()> {
        let child = self.into_inner();
        unblock(move || {
            drop(child);
            Ok(())
        })
        .await
    }
}

/// Starts a child, waits until it has ended, and returns its status. Dropping this future kills it.
pub(crate) async fn status(command: Command) -> io::Result<ExitStatus> {
    let child = AsyncChild::spawn(command).await?;
    child.wait().await
}

/// Makes the event loop watch the descriptor of a child or a reaper.
#[allow(
    deprecated,
    reason = "tokio cannot know that the descriptor stays the same and open; of a Child and a Reaper it \
              does. The newer function is unsafe to call"
)]
fn watch<T: AsRawFd>(watched: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(watched, Interest::READABLE)
}

async fn read_all(stream: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        pipe::Receiver::from_owned_fd(stream)?.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Runs a call that blocks in a thread for such calls.
async fn unblock<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    task::spawn_blocking(call).await?
}

fn named(entry: &str) -> Command {
    reexec::command(entry)
}

fn print(line: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Whether this process has a child, running or a zombie.
fn has_children() -> bool {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::All, look) != Err(Errno::ECHILD)
}
