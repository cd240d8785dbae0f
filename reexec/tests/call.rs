//! Typed calls: values travel to a function in a child and back, and every failure says what happened.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::collections::BTreeMap;
use std::env;
use std::error::Error as _;
use std::fs::{self, File};
use std::hint;
use std::io::{self, Seek, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::resource::{self, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use reexec::{CallError, Fork, Resource, Stage, Stdio};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::filters::{needs_filters, refusing};
use support::{
    LIMIT, Running, Skipped, assert_contains, children, descriptors, first_line, is_gone,
    is_zombie, piped, program, read_all, reap, stat, stdout_of, until_stdin_ends, wait_until,
};

/// Makes a child's main set a panic hook that ends the process, as with `panic = "abort"`.
const ABORT_ON_PANIC: &str = "ABORT_ON_PANIC";
/// Makes a child's main set a panic hook that exits with this code, or, if it is empty, does nothing.
const EXIT_ON_PANIC: &str = "EXIT_ON_PANIC";

const MEBIBYTE: usize = 1 << 20;

fn main() -> ExitCode {
    if env::var_os(ABORT_ON_PANIC).is_some() {
        panic::set_hook(Box::new(|panic| {
            eprintln!("the earlier hook: {panic}");
            process::abort();
        }));
    }
    if let Ok(code) = env::var(EXIT_ON_PANIC) {
        panic::set_hook(Box::new(move |_| {
            if let Ok(code) = code.parse() {
                process::exit(code);
            }
        }));
    }
    let captured = String::from("captured");
    reexec::register_call("add", |(a, b): (u64, u64)| a + b);
    reexec::register_call("captures", move |(): ()| captured);
    reexec::register_call("capitalize", capitalize);
    reexec::register_call("catchPanic", catch_panic);
    reexec::register_call("confine", confine);
    reexec::register_call("describe", describe);
    reexec::register_call("divide", divide);
    reexec::register_call("exit", |code: i32| -> u8 { process::exit(code) });
    reexec::register_call("fileName", |path: PathBuf| path.file_name().unwrap().to_owned());
    reexec::register_call("forge", forge::<u64>);
    reexec::register_call("forgeNumbers", forge::<Vec<u64>>);
    reexec::register_call("forgeMap", forge::<BTreeMap<String, Option<Vec<bool>>>>);
    reexec::register_call("largest", largest::<i32>);
    reexec::register_call("leaveCopyBehind", leave_copy_behind);
    reexec::register_call("length", |text: String| text.len());
    reexec::register_call("mark", |()| mark());
    reexec::register_call("nest", nest);
    reexec::register_call("panic", |message: String| -> u64 { panic!("{message}") });
    reexec::register_call("panicWithNumber", |()| -> u64 { panic::panic_any(7) });
    reexec::register_call("panicElsewhere", panic_elsewhere);
    reexec::register_call("panicInCallback", |()| panic_in_callback());
    reexec::register_call("panicTwice", panic_twice);
    reexec::register_call("panicInCopy", panic_in_copy);
    reexec::register_call("raise", |signal: i32| raise(Signal::try_from(signal).unwrap()).unwrap());
    reexec::register_call("returnUnencodable", |()| Unencodable);
    reexec::register_call("run", |job: Job| job);
    reexec::register_call("spin", spin);
    reexec::register_call("sum", |numbers: Vec<u64>| numbers.iter().sum::<u64>());
    reexec::register_call("unwindSilently", |()| -> u64 { panic::resume_unwind(Box::new(7)) });
    reexec::register_call("waitForInput", |()| until_stdin_ends());
    reexec::register_call("greetAndWait", |()| {
        println!("ready");
        until_stdin_ends();
    });
    reexec::register_call("zeros", |length: usize| vec![0_u8; length]);
    reexec::register("plain", mark);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            call_with_a_limit_on_files,
            spawn_a_call_unconfirmed,
            hold_a_call,
            wait_in_a_copy,
        ],
        support::trials![
            a_call_returns_what_the_function_returns,
            an_argument_can_be_borrowed,
            types_of_the_program_travel,
            an_error_of_the_function_is_a_value,
            a_function_can_call,
            calls_of_several_threads_do_not_mix,
            several_calls_run_at_once,
            one_hundred_megabytes_travel_both_ways,
            a_command_can_call_again,
            a_call_leaves_no_process_and_no_descriptor,
            a_call_is_a_child_like_any_other,
            a_copy_of_the_child_that_lives_on_delays_nothing,
            other_types_are_refused_before_the_function_runs,
            an_entry_that_register_has_registered_is_not_called,
            an_entry_that_register_call_has_registered_is_not_spawned,
            an_unknown_entry_is_an_error_that_names_register_call,
            an_error_of_the_start_names_its_stage,
            a_panic_arrives_with_message_and_place,
            a_panic_is_still_printed,
            a_panic_arrives_if_the_process_then_aborts,
            a_panic_arrives_if_a_hook_then_exits,
            a_panic_that_must_not_unwind_arrives,
            a_panic_that_the_function_catches_is_none,
            a_panic_of_another_thread_is_none,
            a_panic_of_a_forked_copy_is_none,
            a_panic_without_text_says_so,
            an_unwinding_without_a_hook_is_an_end,
            a_child_that_a_signal_ends_is_an_error_with_the_status,
            a_child_that_exits_is_an_error_with_the_status,
            a_child_at_its_limit_of_processor_time_is_an_error_that_says_so,
            a_result_beyond_the_limit_of_files_is_an_error,
            without_room_for_a_reply_the_child_prints_the_reason,
            an_argument_beyond_our_own_limit_is_an_error,
            a_function_may_forbid_all_calls_but_write,
            a_filter_that_refuses_memory_files_is_named,
            a_value_that_cannot_be_encoded_is_an_error,
            an_argument_of_other_bytes_is_refused,
            a_result_of_other_bytes_is_an_error_at_most,
            a_result_counts_only_if_the_child_exits_with_0,
            a_length_without_memory_is_refused,
            a_dropped_call_is_killed_and_reaped,
            a_call_ends_with_its_caller,
            a_copy_of_the_caller_takes_nothing,
            the_pidfd_is_readable_at_the_end,
            the_child_can_be_waited_for_signalled_and_asked_what_it_used,
            an_error_converts_into_an_io_error,
        ],
    )
}

/// Calls, and waits for the result.
fn call<R: DeserializeOwned>(
    entry: &str,
    argument: &(impl Serialize + ?Sized),
) -> Result<R, CallError> {
    reexec::command(entry).call(argument)?.wait()
}

fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

fn a_call_returns_what_the_function_returns() {
    assert_eq!(call::<u64>("sum", &vec![1_u64, 2, 3]).unwrap(), 6);
    assert_eq!(call::<u64>("add", &(1_u64, 2_u64)).unwrap(), 3);
    assert_eq!(call::<String>("captures", &()).unwrap(), "captured");
    assert_eq!(call::<Option<i32>>("largest", &vec![1, 3, 2]).unwrap(), Some(3));
    assert_eq!(call::<Option<i32>>("largest", &Vec::<i32>::new()).unwrap(), None);
}

fn an_argument_can_be_borrowed() {
    assert_eq!(call::<u64>("sum", &[1_u64, 2][..]).unwrap(), 3);
    assert_eq!(call::<usize>("length", "text").unwrap(), 4);
    assert_eq!(call::<usize>("length", &"text").unwrap(), 4);
    assert_eq!(call::<usize>("length", &String::from("text")).unwrap(), 4);
    let name: std::ffi::OsString = call("fileName", Path::new("/folder/file")).unwrap();
    assert_eq!(name, "file");
}

/// A type of this program, which is not `Clone`: nothing requires that. Its encoding is what `derive` would
/// make.
#[derive(Debug, PartialEq)]
struct Job {
    name: String,
    steps: Vec<Result<i64, char>>,
    weights: BTreeMap<String, Option<f64>>,
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.name, &self.steps, &self.weights).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, steps, weights) = Deserialize::deserialize(deserializer)?;
        Ok(Job { name, steps, weights })
    }
}

fn types_of_the_program_travel() {
    let job = || Job {
        name: "job".to_owned(),
        steps: vec![Ok(i64::MIN), Err('步')],
        weights: BTreeMap::from([("half".to_owned(), Some(0.5)), (String::new(), None)]),
    };
    assert_eq!(call::<Job>("run", &job()).unwrap(), job());
}

fn divide((a, b): (u32, u32)) -> Result<u32, String> {
    a.checked_div(b).ok_or_else(|| format!("{a} cannot be divided by {b}"))
}

fn an_error_of_the_function_is_a_value() {
    let divide = |b: u32| call::<Result<u32, String>>("divide", &(6_u32, b)).unwrap();
    assert_eq!(divide(2), Ok(3));
    assert_eq!(divide(0), Err("6 cannot be divided by 0".to_owned()));
}

fn nest(depth: u32) -> Vec<u32> {
    let mut pids = match depth {
        0 => Vec::new(),
        depth => call("nest", &(depth - 1)).unwrap(),
    };
    pids.push(process::id());
    pids
}

fn a_function_can_call() {
    let mut pids: Vec<u32> = call("nest", &3_u32).unwrap();
    assert_eq!(pids.len(), 4);
    pids.dedup();
    assert_eq!(pids.len(), 4);
}

fn calls_of_several_threads_do_not_mix() {
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for number in 0..5 {
                    let sum: u64 = call("add", &(100 * thread, number)).unwrap();
                    assert_eq!(sum, 100 * thread + number);
                }
            });
        }
    });
}

fn several_calls_run_at_once() {
    let start = |_| {
        let mut command = reexec::command("waitForInput");
        command.stdin(Stdio::piped()).call::<_, ()>(&()).unwrap()
    };
    let calls: Vec<_> = (0..5).map(start).collect();
    // Each of them ends only when we say so.
    assert!(calls.iter().all(|call| call.child().try_wait().unwrap().is_none()));
    for call in calls {
        drop(call.child().take_stdin());
        call.wait().unwrap();
    }
}

fn capitalize(mut text: String) -> String {
    text[..1].make_ascii_uppercase();
    text
}

fn one_hundred_megabytes_travel_both_ways() {
    let text = "a".repeat(100 * MEBIBYTE);
    let returned: String = call("capitalize", &text).unwrap();
    assert!(returned.starts_with("Aa") && returned[1..] == text[1..]); // without printing them
}

fn a_command_can_call_again() {
    let mut command = reexec::command("length");
    assert_eq!(command.call::<_, usize>("one").unwrap().wait().unwrap(), 3);
    command.executable("/no/such/file");
    let error = command.call::<_, usize>("two").unwrap_err();
    assert!(matches!(error, CallError::Start(_)), "{error}");
    command.executable(env::current_exe().unwrap());
    assert_eq!(command.call::<_, usize>("three").unwrap().wait().unwrap(), 5);
}

fn a_call_leaves_no_process_and_no_descriptor() {
    let before = descriptors();
    call::<u64>("add", &(1_u64, 2_u64)).unwrap();
    quiet("panic").call::<_, u64>("at the disco").unwrap().wait().unwrap_err();
    call::<u64>("noSuchEntry", &()).unwrap_err();
    call::<u64>("add", &()).unwrap_err();
    call::<u64>("add", &Unencodable).unwrap_err();
    drop(reexec::command("waitForInput").call::<_, ()>(&()));
    assert_eq!(children(), []);
    assert_eq!(descriptors(), before);
}

/// Writes to the descriptor that the caller passes.
fn mark() {
    let mut passed = File::from(reexec::inherited_fd("mark").unwrap());
    passed.write_all(b"the function has run").unwrap();
}

/// Returns its limit of descriptors, its arguments and its name.
fn describe((): ()) -> (u64, Vec<String>, String) {
    mark();
    let (limit, _) = getrlimit(resource::Resource::RLIMIT_NOFILE).unwrap();
    (limit, env::args().collect(), stat(process::id()).unwrap().comm)
}

fn a_call_is_a_child_like_any_other() {
    let (read, write) = io::pipe().unwrap();
    let mut command = reexec::command("describe");
    command.arg("one").rlimit(Resource::OpenFiles, 64, 64).fd("mark", write);
    let call = command.call::<_, (u64, Vec<String>, String)>(&()).unwrap();
    assert_eq!(stat(call.id()).unwrap().parent, process::id());
    let (limit, args, name) = call.wait().unwrap();
    assert_eq!((limit, name.as_str()), (64, "describe"));
    assert_eq!(args, ["describe", "one"]);
    assert_eq!(read_all(read), "the function has run");
}

/// Leaves behind a process that has the file of the call open.
fn leave_copy_behind((): ()) -> u32 {
    let (mut read, write) = io::pipe().unwrap();
    match reexec::fork().unwrap() {
        Fork::Child => {
            prctl::set_pdeathsig(None).unwrap(); // it outlives us
            drop(write);
            thread::sleep(LIMIT); // or until the test kills it
            reexec::exit_now(0)
        }
        Fork::Parent(copy) => {
            drop(write);
            io::copy(&mut read, &mut io::sink()).unwrap();
            let pid = copy.id();
            mem::forget(copy); // or it would be killed here
            pid
        }
    }
}

fn a_copy_of_the_child_that_lives_on_delays_nothing() {
    let pid: u32 = call("leaveCopyBehind", &()).unwrap();
    let lives_on = stat(pid).is_some_and(|stat| stat.state != 'Z');
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    reap(pid);
    assert!(lives_on);
}

fn other_types_are_refused_before_the_function_runs() {
    fn refused<R: DeserializeOwned + std::fmt::Debug>(
        entry: &str,
        argument: &(impl Serialize + ?Sized),
    ) -> String {
        let (read, write) = io::pipe().unwrap();
        let call = reexec::command(entry).fd("mark", write).call::<_, R>(argument).unwrap();
        let error = call.wait().unwrap_err();
        assert!(matches!(error, CallError::WrongTypes { .. }), "{error}");
        assert_eq!(read_all(read), "");
        error.to_string()
    }
    assert_eq!(
        refused::<u64>("sum", &vec![1, 2, 3]),
        "cannot call sum: it takes alloc::vec::Vec<u64> and returns u64; the call passed \
         alloc::vec::Vec<i32> and expected u64"
    );
    assert_contains(&refused::<u32>("sum", &vec![1_u64]), "returns u64; the call passed");
    assert_contains(&refused::<u64>("sum", &[1_u64, 2]), "the call passed [u64; 2] and expected");
    // These would be encoded alike.
    assert_contains(&refused::<()>("mark", &[0_u8; 0]), "takes () and returns ()");
    assert_contains(
        &refused::<usize>("length", &vec![b'a']),
        "the call passed alloc::vec::Vec<u8>",
    );
    assert_contains(&refused::<((),)>("mark", &()), "expected ((),)");
}

fn an_entry_that_register_has_registered_is_not_called() {
    let (read, write) = io::pipe().unwrap();
    let call = reexec::command("plain").fd("mark", write).call::<_, ()>(&()).unwrap();
    let error = call.wait().unwrap_err();
    assert_contains(&error, "calling a function that register_call has not registered failed");
    assert!(
        matches!(&error, CallError::Start(error) if matches!(error.stage(), Stage::SetUp { .. }))
    );
    assert_eq!(read_all(read), "");

    // Otherwise it runs.
    let (read, write) = io::pipe().unwrap();
    assert!(reexec::command("plain").fd("mark", write).status().unwrap().success());
    assert_eq!(read_all(read), "the function has run");
}

fn an_entry_that_register_call_has_registered_is_not_spawned() {
    let (read, write) = io::pipe().unwrap();
    let mut command = reexec::command("mark");
    let error = command.fd("mark", write).spawn().unwrap_err();
    assert_contains(&error, "starting a function of register_call without Command::call failed");
    let error = command.spawn_job().unwrap_err();
    assert_contains(&error, "starting a function of register_call without Command::call failed");
    drop(command);
    assert_eq!(read_all(read), "");

    let output = program("spawn_a_call_unconfirmed").output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_contains(&stderr, "reexec: cannot start mark: in the child, starting a function");
}

fn spawn_a_call_unconfirmed() {
    let status = reexec::command("mark").spawn_unconfirmed().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(reexec::EXIT_SETUP_FAILED.into()));
}

fn an_unknown_entry_is_an_error_that_names_register_call() {
    let error = call::<()>("noSuchEntry", &()).unwrap_err();
    assert_contains(&error, r#"call reexec::register_call("noSuchEntry", …) before"#);
    assert!(matches!(&error, CallError::Start(e) if matches!(e.stage(), Stage::UnknownEntry)));
    assert_eq!(error.entry(), "noSuchEntry");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn an_error_of_the_start_names_its_stage() {
    let mut command = reexec::command("sum");
    let error = command.executable("/no/such/file").call::<_, u64>(&vec![1_u64]).unwrap_err();
    assert_contains(&error, "cannot start sum: executing /no/such/file failed");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));

    let mut command = reexec::command("sum");
    let call = command.current_dir("/no/such/folder").call::<_, u64>(&vec![1_u64]).unwrap();
    let error = call.wait().unwrap_err();
    assert_contains(&error, "changing to the directory /no/such/folder failed");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

/// Returns message and place of the panic.
#[track_caller]
fn panicked(error: &CallError) -> (&str, &str) {
    match error {
        CallError::Panicked { message, location, .. } => (message, location),
        error => panic!("{error}"),
    }
}

/// Makes a command that does not print its panic among the results of the tests.
fn quiet(entry: &str) -> reexec::Command {
    let mut command = reexec::command(entry);
    command.stderr(Stdio::null()).env("RUST_BACKTRACE", "0"); // a backtrace takes seconds
    command
}

fn a_panic_arrives_with_message_and_place() {
    let call = quiet("panic").call::<_, u64>("at the disco").unwrap();
    let error = call.wait().unwrap_err();
    let (message, location) = panicked(&error);
    assert_eq!(message, "at the disco");
    assert!(location.starts_with("reexec/tests/call.rs:"), "{location}");
    assert_eq!(error.to_string(), format!("panic panicked at {location}: at the disco"));
}

fn a_panic_is_still_printed() {
    let mut command = quiet("panic");
    let call = command.stderr(Stdio::piped()).call::<_, u64>("at the disco").unwrap();
    let stderr = call.child().take_stderr().unwrap();
    call.wait().unwrap_err();
    assert_contains(&read_all(stderr), "at the disco");
}

fn a_panic_arrives_if_the_process_then_aborts() {
    let mut command = quiet("panic");
    let call = command.env(ABORT_ON_PANIC, "1").call::<_, u64>("at the disco").unwrap();
    call.child().wait().unwrap();
    assert_eq!(call.child().wait().unwrap().signal(), Some(libc::SIGABRT));
    assert_eq!(panicked(&call.wait().unwrap_err()).0, "at the disco");
}

fn a_panic_arrives_if_a_hook_then_exits() {
    for code in [0, 1] {
        let mut command = quiet("panic");
        let call = command.env(EXIT_ON_PANIC, code.to_string()).call::<_, u64>("at the disco");
        let error = call.unwrap().wait().unwrap_err();
        assert!(matches!(&error, CallError::Ended { status, panic: Some(_), .. }
            if status.code() == Some(code)));
        assert_contains(&error, &format!("exit status: {code}; it had panicked at reexec/tests/"));
        assert_contains(&error, ": at the disco");
    }
}

extern "C" fn panic_in_callback() {
    panic!("in a callback");
}

/// Panics, and again while the first panic unwinds.
fn panic_twice((): ()) {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            panic!("while unwinding");
        }
    }
    let _again = Again;
    panic!("first");
}

/// The standard library then panics once more, with a message of its own, and aborts.
fn a_panic_that_must_not_unwind_arrives() {
    for (entry, message) in
        [("panicInCallback", "in a callback"), ("panicTwice", "while unwinding")]
    {
        let mut command = quiet(entry);
        command.env(EXIT_ON_PANIC, ""); // the usual hook would print a backtrace, which takes seconds
        let error = command.call::<_, ()>(&()).unwrap().wait().unwrap_err();
        let (found, location) = panicked(&error);
        assert_eq!(found, message);
        assert!(location.starts_with("reexec/tests/call.rs:"), "{location}");
    }
}

/// Panics, and then returns or panics again.
fn catch_panic(then: Option<String>) -> String {
    let caught = panic::catch_unwind(AssertUnwindSafe(|| panic!("{}", "first ".repeat(1000))));
    assert!(caught.is_err());
    match then {
        None => "caught".to_owned(),
        Some(message) => panic!("{message}"),
    }
}

fn a_panic_that_the_function_catches_is_none() {
    let mut command = quiet("catchPanic");
    let call = command.call::<_, String>(&None::<String>).unwrap();
    assert_eq!(call.wait().unwrap(), "caught");
    let call = command.call::<_, String>(&Some("second".to_owned())).unwrap();
    assert_eq!(panicked(&call.wait().unwrap_err()).0, "second");
}

/// Panics in another thread, and before that in its own, if it has a message.
fn panic_elsewhere(message: Option<String>) -> bool {
    struct Elsewhere;
    impl Drop for Elsewhere {
        fn drop(&mut self) {
            assert!(thread::spawn(|| panic!("in another thread")).join().is_err());
        }
    }
    let _elsewhere = Elsewhere;
    message.is_none_or(|message| panic!("{message}"))
}

fn a_panic_of_another_thread_is_none() {
    let mut command = quiet("panicElsewhere");
    assert!(command.call::<_, bool>(&None::<String>).unwrap().wait().unwrap());
    let call = command.call::<_, bool>(&Some("in this thread".to_owned())).unwrap();
    assert_eq!(panicked(&call.wait().unwrap_err()).0, "in this thread");
}

fn panic_in_copy((): ()) -> Option<i32> {
    match reexec::fork().unwrap() {
        Fork::Child => panic!("in the copy"),
        Fork::Parent(copy) => copy.wait().unwrap().code(),
    }
}

fn a_panic_of_a_forked_copy_is_none() {
    let call = quiet("panicInCopy").call::<_, Option<i32>>(&()).unwrap();
    assert_eq!(call.wait().unwrap(), Some(101));
}

fn a_panic_without_text_says_so() {
    let call = quiet("panicWithNumber").call::<_, u64>(&()).unwrap();
    assert_eq!(panicked(&call.wait().unwrap_err()).0, "a value that is no text");
}

/// Returns how the child ended without a result.
#[track_caller]
fn ended<R: DeserializeOwned>(entry: &str, argument: &(impl Serialize + ?Sized)) -> ExitStatus {
    match quiet(entry).call::<_, R>(argument).unwrap().wait() {
        Err(CallError::Ended { status, .. }) => status,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("there is a result"),
    }
}

fn an_unwinding_without_a_hook_is_an_end() {
    assert_eq!(ended::<u64>("unwindSilently", &()).code(), Some(101));
}

fn a_child_that_a_signal_ends_is_an_error_with_the_status() {
    assert_eq!(ended::<()>("raise", &libc::SIGKILL).signal(), Some(libc::SIGKILL));
    let error = call::<()>("raise", &libc::SIGTERM).unwrap_err();
    assert_contains(&error, "raise ended without a result: signal: 15 (SIGTERM)");
    // Its file still has no reply, and no status is mistaken for one.
    assert_eq!(ended::<()>("raise", &libc::SIGABRT).signal(), Some(libc::SIGABRT));
}

fn a_child_that_exits_is_an_error_with_the_status() {
    for code in [0, 3, 101, reexec::EXIT_SETUP_FAILED.into()] {
        assert_eq!(ended::<u8>("exit", &code).code(), Some(code));
    }
}

fn spin((): ()) {
    loop {
        hint::spin_loop();
    }
}

fn a_child_at_its_limit_of_processor_time_is_an_error_that_says_so() {
    let mut command = reexec::command("spin");
    command.rlimit(Resource::CoreSize, 0, 0).rlimit(Resource::CpuTime, 1, 2);
    let error = command.call::<_, ()>(&()).unwrap().wait().unwrap_err();
    assert_contains(&error, "(SIGXCPU); it reached its limit Resource::CpuTime");
}

fn a_result_beyond_the_limit_of_files_is_an_error() {
    let zeros = |length: usize| {
        let mut command = reexec::command("zeros");
        command.rlimit(Resource::FileSize, 1000, 1000);
        command.call::<_, Vec<u8>>(&length).unwrap().wait()
    };
    assert_eq!(zeros(900).unwrap(), vec![0; 900]);
    let error = zeros(1000).unwrap_err(); // with its length, it is longer
    assert!(matches!(error, CallError::Result { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

fn without_room_for_a_reply_the_child_prints_the_reason() {
    let mut command = reexec::command("zeros");
    command.rlimit(Resource::FileSize, 0, 0).stderr(Stdio::piped());
    let call = command.call::<_, Vec<u8>>(&1_usize).unwrap();
    let stderr = call.child().take_stderr().unwrap();
    let error = call.wait().unwrap_err();
    assert_contains(&error, "exit status: 125; it has printed the reason to its stderr");
    assert_contains(&read_all(stderr), "File too large");
}

fn an_argument_beyond_our_own_limit_is_an_error() {
    stdout_of(&mut program("call_with_a_limit_on_files"));
}

fn call_with_a_limit_on_files() {
    let (_, hard) = getrlimit(resource::Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(resource::Resource::RLIMIT_FSIZE, 1000, hard).unwrap();
    let length = |text: &str| call::<usize>("length", text);
    assert_eq!(length(&"a".repeat(900)).unwrap(), 900);
    let error = length(&"a".repeat(1000)).unwrap_err();
    assert!(matches!(error, CallError::Argument { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

/// From now on, only what every process needs to end is allowed, and write(2).
fn confine(text: String) -> String {
    let allowed = [
        libc::SYS_write,
        libc::SYS_exit_group,
        libc::SYS_sigaltstack,
        libc::SYS_munmap,
        libc::SYS_brk,
    ];
    let rules = allowed.map(|call| (call, Vec::new())).into_iter().collect();
    let arch = env::consts::ARCH.try_into().unwrap();
    let kill = SeccompAction::KillProcess;
    let filter = SeccompFilter::new(rules, kill, SeccompAction::Allow, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let text = text.repeat(3);
    seccompiler::apply_filter(&filter).unwrap();
    text
}

fn a_function_may_forbid_all_calls_but_write() -> Result<(), Skipped> {
    needs_filters()?;
    assert_eq!(call::<String>("confine", "abc").unwrap(), "abcabcabc");
    Ok(())
}

fn a_filter_that_refuses_memory_files_is_named() -> Result<(), Skipped> {
    needs_filters()?;
    let add = || call::<u64>("add", &(1_u64, 2_u64));
    let error = refusing(&["memfd_create"], libc::EPERM, add).unwrap_err();
    assert!(matches!(error, CallError::Argument { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    // Without this one, only a limit on files goes unnoticed.
    assert_eq!(refusing(&["prlimit64"], libc::EPERM, add).unwrap(), 3);
    Ok(())
}

/// A value whose encoding fails.
#[derive(Debug)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this value is not for others"))
    }
}

impl<'de> Deserialize<'de> for Unencodable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Unencodable)
    }
}

fn a_value_that_cannot_be_encoded_is_an_error() {
    let error = reexec::command("sum").call::<_, u64>(&Unencodable).unwrap_err();
    assert!(matches!(error, CallError::Argument { .. }), "{error}");
    assert_contains(&error, "call::Unencodable cannot be encoded");

    let error = call::<Unencodable>("returnUnencodable", &()).unwrap_err();
    assert!(matches!(error, CallError::Result { .. }), "{error}");
    assert_contains(&error, "call::Unencodable cannot be encoded");
}

/// Returns how a child ends that gets these bytes in the file of the call, and its reply.
fn forged_call(entry: &str, message: &[u8]) -> (ExitStatus, Vec<u8>) {
    let mut file = File::from(memfd_create(c"forged", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(message).unwrap();
    let for_child = OwnedFd::from(file.try_clone().unwrap());
    let status = quiet(entry).fd("reexec/call", for_child).status().unwrap();
    file.rewind().unwrap();
    (status, read_all(file.try_clone().unwrap()).into_bytes())
}

/// The bytes of a call before its argument.
fn types(argument: &str, result: &str) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [string(argument), string(result)].concat()
}

fn an_argument_of_other_bytes_is_refused() {
    let types = types("(u64, u64)", "u64");
    let (status, reply) = forged_call("add", &[&types[..], &[1, 2]].concat());
    assert!(status.success()); // this is how it should be
    assert_eq!(reply, [1, 3]);

    let refused = |message: &[u8], reason: &str| {
        let (status, reply) = forged_call("add", message);
        assert_eq!(status.code(), Some(reexec::EXIT_SETUP_FAILED.into()), "{message:?}");
        assert_contains(&String::from_utf8_lossy(&reply), reason);
    };
    refused(&[], "expected more data");
    refused(&types[..5], "expected more data");
    refused(&[0xff; 4], "expected more data");
    refused(&types, "the bytes are no (u64, u64)");
    refused(&[&types[..], &[1]].concat(), "the bytes are no (u64, u64)");
    refused(&[&types[..], &[1, 2, 3]].concat(), "1 bytes follow after (u64, u64)");
    refused(&[&types[..], &[0xff; 30]].concat(), "the bytes are no (u64, u64)");
}

/// Writes these bytes into the file of its call, of this length, and exits with this code.
fn forge<R>((reply, length, code): (Vec<u8>, u64, i32)) -> R {
    let links = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_file = |link: &PathBuf| {
        let target = fs::read_link(link).unwrap();
        target.to_string_lossy().contains("reexec-call")
    };
    let link = links.into_iter().find(is_file).unwrap();
    let mut file = File::options().write(true).open(link).unwrap();
    file.write_all(&reply).unwrap();
    file.set_len(length).unwrap();
    process::exit(code)
}

fn forged<R: DeserializeOwned>(entry: &str, reply: &[u8]) -> Result<R, CallError> {
    call(entry, &(reply.to_owned(), reply.len() as u64, 0))
}

/// The bytes themselves are tried by the unit tests, with many more.
fn a_result_of_other_bytes_is_an_error_at_most() {
    assert_eq!(forged::<u64>("forge", &[1, 7]).unwrap(), 7);
    let error = forged::<u64>("forge", &[1]).unwrap_err();
    assert_contains(&error, "getting its result failed: the bytes are no u64");
    let error = forged::<u64>("forge", &[1, 7, 7]).unwrap_err();
    assert_contains(&error, "1 bytes follow after u64");
    // A length of 2^63.
    let longest = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
    forged::<Vec<u64>>("forgeNumbers", &longest).unwrap_err();
    forged::<BTreeMap<String, Option<Vec<bool>>>>("forgeMap", &longest).unwrap_err();
    // Replies of other kinds that do not fit to the status, and nothing.
    for reply in [&[][..], &[2, 0, 0], &[9], &[3; 40]] {
        let error = forged::<u64>("forge", reply).unwrap_err();
        assert!(matches!(error, CallError::Ended { .. }), "{reply:?}: {error}");
    }
}

/// For instance, its exit handlers have failed.
fn a_result_counts_only_if_the_child_exits_with_0() {
    let status = ended::<u64>("forge", &(vec![1_u8, 7], 2_u64, 3));
    assert_eq!(status.code(), Some(3));
}

fn a_length_without_memory_is_refused() {
    let error = call::<u64>("forge", &(vec![1_u8, 7], 1_u64 << 40, 0)).unwrap_err();
    assert!(matches!(error, CallError::Result { .. }), "{error}");
    assert_contains(&error, "was lengthened without being written");
}

fn start_waiting() -> reexec::Call<()> {
    let mut command = reexec::command("waitForInput");
    command.stdin(Stdio::piped()).call(&()).unwrap()
}

fn a_dropped_call_is_killed_and_reaped() {
    let call = start_waiting();
    let pid = call.id();
    assert!(!is_gone(pid) && !is_zombie(pid));
    drop(call);
    assert!(is_gone(pid));
}

fn hold_a_call() {
    let call = reexec::command("waitForInput").call::<_, ()>(&()).unwrap();
    println!("{}", call.id());
    call.wait().unwrap();
}

fn a_call_ends_with_its_caller() {
    let mut caller = Running::start(&mut program("hold_a_call"));
    let pid = caller.pid();
    assert!(!is_zombie(pid));
    caller.kill();
    reap(pid);
}

fn a_copy_of_the_caller_takes_nothing() {
    assert_eq!(stdout_of(&mut program("wait_in_a_copy")), "refused\n3\n");
}

fn wait_in_a_copy() {
    let call = reexec::command("add").call::<_, u64>(&(1_u64, 2_u64)).unwrap();
    wait_until("it has ended", || is_zombie(call.id()));
    match reexec::fork().unwrap() {
        Fork::Child => {
            assert_contains(&call.wait().unwrap_err(), "not of this forked copy");
            println!("refused");
            reexec::exit_now(0);
        }
        Fork::Parent(copy) => {
            assert!(copy.wait().unwrap().success());
            println!("{}", call.wait().unwrap());
        }
    }
}

fn the_pidfd_is_readable_at_the_end() {
    let call = start_waiting();
    let readable = |timeout| {
        let mut fds = [PollFd::new(call.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout).unwrap() == 1
    };
    assert!(!readable(PollTimeout::ZERO));
    drop(call.child().take_stdin());
    assert!(readable(PollTimeout::try_from(LIMIT).unwrap()));
    call.wait().unwrap();
}

fn the_child_can_be_waited_for_signalled_and_asked_what_it_used() {
    let call = piped("greetAndWait").call::<_, ()>(&()).unwrap();
    assert_eq!(first_line(call.child()), "ready\n"); // otherwise it may end before it has begun
    assert!(call.child().wait_timeout(Duration::ZERO).unwrap().is_none());
    assert!(call.child().usage().is_none());
    call.child().signal(libc::SIGTERM).unwrap();
    assert!(call.child().wait_timeout(LIMIT).unwrap().is_some());
    assert!(call.child().usage().unwrap().max_resident > 0);
    let error = call.wait().unwrap_err();
    assert!(matches!(error, CallError::Ended { status, .. } if status.signal() == Some(15)));
}

fn an_error_converts_into_an_io_error() {
    fn crosses_threads<T: Send + Sync + 'static>(_: &T) {}
    let error = call::<()>("raise", &9).unwrap_err();
    crosses_threads(&error);
    assert!(error.source().is_none());
    let text = error.to_string();
    let error = io::Error::from(error);
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::Other, text));
    assert!(error.get_ref().unwrap().is::<CallError>());

    let error = reexec::command("sum").executable("/no/such/file").call::<_, u64>(&1).unwrap_err();
    assert!(error.source().unwrap().is::<io::Error>());
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::ENOENT));
}
