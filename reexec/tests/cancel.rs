//! Futures of children that are cancelled at any instant, with the wrapper of the example `async`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

#[path = "../examples/async.rs"]
#[allow(dead_code, reason = "its main and its steps run as an example")]
mod example;
mod support;

use std::env;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use example::AsyncChild;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, alarm};
use reexec::{Command, Stdio};
use support::filters::{Before, needs_filters, refusing};
use support::{
    LIMIT, Skipped, children, descriptors, is_zombie, program, reap, signaled, stdout_of,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

/// How many futures are cancelled, unless the variable sets another number.
const CANCELLED: u32 = 500;
const NUMBER: &str = "CANCEL";

/// The latest instant of a cancellation: later than the ends of most children.
const LONGEST: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    reexec::register("shortLived", || {
        println!("hello");
        thread::sleep(Duration::from_millis(1));
    });
    reexec::register("worker", example::worker);
    reexec::register("sleeper", example::sleeper);
    reexec::register("childProcess", support::until_stdin_ends);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![run_the_example],
        support::trials![
            the_example_prints_what_its_steps_do,
            cancelled_futures_leave_nothing,
            the_same_with_std_leaves_children,
            a_child_without_a_pidfd_is_awaited,
        ],
    )
}

fn the_example_prints_what_its_steps_do() {
    let said = stdout_of(&mut program("run_the_example"));
    let mut lines: Vec<_> = said.lines().collect();
    lines.retain(|line| !line.starts_with("nothing has ended")); // on a busy machine
    lines[5..].sort(); // the children of the reaper end in any order
    let expected = [
        "waited: signal: 15 (SIGTERM)",
        r#"read: "seven\n" and "seven has printed\n", exit status: 5"#,
        "timed out: true, children left: false",
        "aborted: true, children left: false",
        "stopped: signal: 15 (SIGTERM)",
        "reaped: Some(0) exit status: 0",
        "reaped: Some(1) exit status: 1",
        "reaped: Some(2) exit status: 2",
    ];
    assert_eq!(lines, expected);
}

fn run_the_example() {
    runtime().block_on(example::run()).unwrap();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A time from zero to `LONGEST`, another one for each number.
fn instant_of(number: u32) -> Duration {
    LONGEST * (number.wrapping_mul(2_654_435_761) >> 16) / (1 << 16)
}

/// Runs the future until the time is over, and then drops it. Returns whether it was ready before.
async fn is_ready_within(time: Duration, future: impl Future) -> bool {
    let mut future = pin!(future);
    let deadline = Instant::now() + time;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if Instant::now() >= deadline => Poll::Ready(false),
        Poll::Pending => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn output() -> io::Result<process::Output> {
    let mut command = reexec::command("shortLived");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    AsyncChild::spawn(command).await?.wait_with_output().await
}

fn quiet(entry: &str) -> Command {
    let mut command = reexec::command(entry);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command
}

/// Cancels the future of a child in one of the ways. Returns whether it was ready before.
async fn cancel(number: u32) -> bool {
    let time = instant_of(number);
    match number % 5 {
        // By another future that is ready first, as select! does.
        0 => is_ready_within(time, example::status(quiet("shortLived"))).await,
        1 => is_ready_within(time, output()).await,
        2 => is_ready_within(time, example::status(quiet("childProcess"))).await,
        // Dropped at once.
        3 => is_ready_within(Duration::ZERO, example::status(quiet("shortLived"))).await,
        // Its task is aborted.
        _ => {
            let task = tokio::spawn(output());
            let start = Instant::now();
            while start.elapsed() < time {
                yield_now().await;
            }
            task.abort();
            task.await.is_ok()
        }
    }
}

fn cancelled_futures_leave_nothing() {
    let number = env::var(NUMBER).ok().map(|number| number.parse().unwrap());
    let by_hand = number.is_some();
    if by_hand {
        alarm::cancel();
    }
    let total = number.unwrap_or(CANCELLED);
    let before = descriptors();
    let start = Instant::now();
    let stop = AtomicBool::new(false);
    let (ready, zombies) = thread::scope(|scope| {
        let zombies = scope.spawn(|| most_zombies(by_hand, &stop));
        let ready = runtime().block_on(async {
            let mut ready = 0;
            let mut running = JoinSet::new();
            for number in 0..total {
                if running.len() == 4 {
                    ready += u32::from(running.join_next().await.unwrap().unwrap());
                }
                running.spawn(cancel(number));
            }
            while let Some(is_ready) = running.join_next().await {
                ready += u32::from(is_ready.unwrap());
            }
            ready
        });
        stop.store(true, Ordering::SeqCst);
        (ready, zombies.join().unwrap())
    });
    // The drop of the runtime has waited for its threads.
    assert_eq!(children(), []);
    assert_eq!(descriptors(), before);
    assert!(ready < total * 3 / 4, "only {} of {total} were cancelled", total - ready);
    if by_hand {
        println!(
            "{} of {total} were cancelled in {:?}; at most {zombies} zombies at once; {} descriptors \
             before and after",
            total - ready,
            start.elapsed(),
            before.len()
        );
    }
}

/// Returns how many zombies there were at most, as seen from time to time.
fn most_zombies(by_hand: bool, stop: &AtomicBool) -> usize {
    let mut most = 0;
    while by_hand && !stop.load(Ordering::SeqCst) {
        most = most.max(children().into_iter().filter(|pid| is_zombie(*pid)).count());
        thread::sleep(Duration::from_millis(5));
    }
    most
}

/// Control: dropping std's handle neither kills nor reaps.
fn the_same_with_std_leaves_children() {
    let run = async || {
        let mut sleep = process::Command::new("sleep");
        let mut child = sleep.arg("1000").spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            yield_now().await;
        }
    };
    runtime().block_on(async {
        for number in 0..10 {
            assert!(!is_ready_within(instant_of(number), run()).await);
        }
    });
    let left = children();
    assert_eq!(left.len(), 10);
    for pid in left {
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
        assert_eq!(reap(pid), signaled(pid, Signal::SIGKILL));
    }
}

fn a_child_without_a_pidfd_is_awaited() -> Result<(), Skipped> {
    needs_filters()?;
    let before = Before::now();
    let output = refusing(&["pidfd_open"], libc::EPERM, || {
        let output = async { tokio::time::timeout(LIMIT, output()).await };
        runtime().block_on(output).unwrap().unwrap()
    });
    assert_eq!((output.stdout, output.status.success()), (b"hello\n".to_vec(), true));
    before.is_restored("a child without a pidfd");
    Ok(())
}
