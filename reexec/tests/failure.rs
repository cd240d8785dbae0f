//! A spawn that fails says at which stage, and leaves no process, no zombie and no descriptor.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a panic is how a test, and a child of one, fails"
)]

mod support;

use std::env;
use std::error::Error as _;
use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use reexec::{Command, Error, Stage, Stdio};
use support::{
    LIMIT, NOBODY, Running, Skipped, become_user, children, descriptors, is_zombie, needs,
    needs_root, program, read_all, reap, stdout_of, until_stdin_ends, wait_until,
};

/// What a child of this program does instead of calling `init`.
const BEFORE_INIT: &str = "BEFORE_INIT";

/// Makes `main` go on after `init`, in the child, too.
const IGNORE_CODE: &str = "IGNORE_CODE";

fn main() -> ExitCode {
    match env::var(BEFORE_INIT).as_deref() {
        Ok("return") => return ExitCode::from(42),
        Ok("give up") => return ExitCode::from(reexec::EXIT_SETUP_FAILED),
        Ok("kill") => raise(Signal::SIGKILL).unwrap(),
        // Long enough to be taken for ever by the test, short enough not to be in the way if the
        // test is gone.
        Ok("sleep") => thread::sleep(LIMIT),
        Ok("spawn") => {
            print_kind(reexec::command("childProcess").spawn().unwrap_err());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("spawnItself", spawn_itself);
    reexec::register("waitForSignal", wait_for_signal);
    if env::var_os(IGNORE_CODE).is_some() {
        return go_on_whatever_init_returns();
    }
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            parent_of_a_child_with_a_signal_of_its_choice,
            spawn_without_room_for_a_process,
            spawn_under_every_limit,
            hand_over_400_descriptors,
            lose_a_status,
        ],
        support::trials![
            an_unknown_entry_is_named,
            a_child_that_returns_from_main_before_init_is_noticed,
            a_child_that_gives_up_before_it_can_report_is_told_so,
            a_child_that_is_killed_before_init_is_noticed,
            a_child_that_does_not_come_to_init_is_killed_at_the_deadline,
            a_deadline_that_has_passed_already_is_an_error,
            an_argument_that_is_too_long_fails_at_exec,
            nul_bytes_are_refused_wherever_they_are,
            signals_that_do_not_exist_are_refused,
            signals_that_libc_keeps_are_refused,
            signals_that_cannot_be_ignored_are_refused,
            a_signal_that_libc_keeps_would_not_end_the_child,
            a_real_time_signal_comes_at_the_end_of_the_parent,
            a_process_group_below_zero_is_refused,
            a_process_group_that_is_not_there_is_named,
            a_process_group_of_another_session_is_named,
            where_there_is_no_room_for_a_process_that_is_said,
            a_file_that_cannot_be_executed_is_named,
            where_there_is_no_room_for_descriptors_that_is_said_under_every_limit,
            descriptors_that_are_too_many_are_still_there_for_a_higher_limit,
            a_launch_that_is_too_long_is_refused_with_its_length,
            as_many_groups_as_a_child_can_be_told_are_set,
            a_name_given_to_two_descriptors_is_refused,
            names_that_are_too_long_are_refused_at_once,
            an_error_becomes_an_io_error_and_can_be_had_back,
            the_number_of_a_failed_call_is_kept,
            each_stage_has_its_kind_and_keeps_its_number,
            what_was_to_be_handed_over_is_still_there_after_a_failure,
            what_is_left_behind_would_be_noticed,
            a_main_that_goes_on_in_the_child_cannot_start_another,
        ],
    )
}

/// A child that would live, with everything a start has to clean up after.
fn full_command(name: &str) -> Command {
    let mut command = reexec::command(name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null());
    command.fd("one", io::pipe().unwrap().0);
    command.fd("two", io::pipe().unwrap().1);
    command
}

/// Spawns, which must fail and leave nothing.
fn error_of(command: &mut Command) -> Error {
    let before = descriptors();
    let error = command.spawn().unwrap_err();
    assert_eq!(children(), [], "after: {error}");
    assert_eq!(descriptors(), before, "after: {error}");
    assert!(error.to_string().starts_with("cannot start "), "{error}");
    error
}

fn an_unknown_entry_is_named() {
    let error = error_of(&mut full_command("noSuchEntry"));
    assert!(matches!(error.stage(), Stage::UnknownEntry), "{error:?}");
    assert_eq!(error.entry(), "noSuchEntry");
    let message = error.to_string();
    assert!(
        message.contains(r#"register("noSuchEntry", …)"#),
        "{message}"
    );
}

/// How a child ended that did not come to `init`.
fn status_before_init(instead: &str) -> std::process::ExitStatus {
    let error = error_of(full_command("childProcess").env(BEFORE_INIT, instead));
    assert!(
        error
            .to_string()
            .contains("before it reached reexec::init()"),
        "{error}"
    );
    match error.stage() {
        Stage::BeforeInit { status } => status.unwrap(),
        stage => panic!("{stage:?}"),
    }
}

fn a_child_that_returns_from_main_before_init_is_noticed() {
    assert_eq!(status_before_init("return").code(), Some(42));
}

/// As one that a filter keeps from speaking with its parent, which leaves its reason on stderr.
fn a_child_that_gives_up_before_it_can_report_is_told_so() {
    let mut command = full_command("childProcess");
    let error = error_of(command.env(BEFORE_INIT, "give up"));
    assert!(
        matches!(error.stage(), Stage::BeforeInit { .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("printed the reason to its stderr"),
        "{error}"
    );
}

fn a_child_that_is_killed_before_init_is_noticed() {
    assert_eq!(status_before_init("kill").signal(), Some(libc::SIGKILL));
}

fn a_child_that_does_not_come_to_init_is_killed_at_the_deadline() {
    let limit = Duration::from_millis(100);
    let mut command = full_command("childProcess");
    command.env(BEFORE_INIT, "sleep").ready_timeout(limit);
    let error = error_of(&mut command);
    assert!(matches!(error.stage(), Stage::NotReady { timeout } if *timeout == limit));
    assert!(
        error.to_string().contains("within 100ms and was killed"),
        "{error}"
    );
}

fn a_deadline_that_has_passed_already_is_an_error() {
    let mut command = full_command("childProcess");
    command
        .env(BEFORE_INIT, "sleep")
        .ready_timeout(Duration::ZERO);
    let error = error_of(&mut command);
    assert!(matches!(error.stage(), Stage::NotReady { .. }), "{error:?}");
}

/// The kernel takes no argument of more than 128 KiB.
fn an_argument_that_is_too_long_fails_at_exec() {
    let error = error_of(full_command("childProcess").arg("x".repeat(200_000)));
    let Stage::Exec { source, .. } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::E2BIG));
}

fn nul_bytes_are_refused_wherever_they_are() {
    let mut commands = [
        reexec::command("a\0b"),
        reexec::command("childProcess"),
        reexec::command("childProcess"),
        reexec::command("childProcess"),
        reexec::command("childProcess"),
    ];
    commands[1].arg("a\0b");
    commands[2].env("KEY", "a\0b");
    commands[3].current_dir("a\0b");
    commands[4].executable("a\0b");
    for command in &mut commands {
        let error = error_of(command);
        assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains("NUL"), "{error}");
    }
}

fn signals_that_do_not_exist_are_refused() {
    for signal in [-1, 0, 1000] {
        let error = error_of(full_command("childProcess").parent_death_signal(signal));
        assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
    }
}

/// For the cancelling of threads, and for changes of user. The kernel would take them.
const OF_LIBC: [i32; 2] = [32, 33];

fn signals_that_libc_keeps_are_refused() {
    for signal in OF_LIBC {
        let error = error_of(full_command("childProcess").parent_death_signal(signal));
        let Stage::Invalid(reason) = error.stage() else {
            panic!("{error:?}");
        };
        let expected =
            format!("parent_death_signal: there is no signal {signal} that a program can use");
        assert_eq!(*reason, expected);
    }
    for signal in [libc::SIGRTMIN(), libc::SIGRTMAX()] {
        let mut command = full_command("childProcess");
        assert!(
            command
                .parent_death_signal(signal)
                .status()
                .unwrap()
                .success()
        );
    }
}

fn signals_that_cannot_be_ignored_are_refused() {
    let beyond = libc::SIGRTMAX() + 1;
    for wrong in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 32, 33, beyond] {
        let error = error_of(full_command("childProcess").ignore_signal(wrong));
        let Stage::Invalid(reason) = error.stage() else {
            panic!("{error:?}");
        };
        let expected = format!("ignore_signal: signal {wrong} cannot be ignored");
        assert_eq!(*reason, expected);
    }
    // By which the child is to end.
    let mut command = full_command("childProcess");
    let error = error_of(command.ignore_signal(libc::SIGTERM));
    assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
    assert!(error.to_string().contains("end with its parent"), "{error}");
    assert!(command.outlive_parent().status().unwrap().success());
    let mut command = full_command("childProcess");
    command.ignore_signal(libc::SIGTERM);
    command.parent_death_signal(libc::SIGKILL);
    assert!(command.status().unwrap().success());
}

/// The fault without the refusal: libc starts every program with these ignored.
fn a_signal_that_libc_keeps_would_not_end_the_child() -> Result<(), Skipped> {
    needs(&["sh", "-c", "kill -0 $$"])?;
    let mut command = reexec::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    for signal in OF_LIBC {
        let script = format!("kill -{signal} {}", child.id());
        stdout_of(process::Command::new("sh").args(["-c", &script]));
    }
    // So it was its input that ended it, which is closed here.
    assert!(child.wait().unwrap().success());
    Ok(())
}

fn a_real_time_signal_comes_at_the_end_of_the_parent() {
    for signal in [libc::SIGRTMIN(), libc::SIGRTMAX()] {
        let mut parent = program("parent_of_a_child_with_a_signal_of_its_choice");
        let mut parent = Running::start(parent.arg(signal.to_string()));
        let child = parent.pid();
        assert_eq!(parent.line(), "waits");
        parent.kill();
        assert_eq!(parent.line(), "has come");
        let pid = Pid::from_raw(child as i32);
        assert_eq!(reap(child), WaitStatus::Exited(pid, 0));
    }
}

fn parent_of_a_child_with_a_signal_of_its_choice() {
    let signal = env::args().nth(3).unwrap();
    let mut command = reexec::command("waitForSignal");
    command
        .parent_death_signal(signal.parse().unwrap())
        .arg(signal);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
}

fn wait_for_signal() {
    let signal = env::args().nth(1).unwrap().parse().unwrap();
    reexec::chapter::count(signal).unwrap();
    println!("{}\nwaits", process::id());
    wait_until("the signal has come", || {
        reexec::chapter::counted(signal) > 0
    });
    println!("has come");
}

fn a_process_group_below_zero_is_refused() {
    for group in [-1, i32::MIN] {
        let error = error_of(full_command("childProcess").process_group(group));
        let Stage::Invalid(reason) = error.stage() else {
            panic!("{error:?}");
        };
        assert_eq!(*reason, format!("there is no process group {group}"));
    }
}

/// A spawn that must fail because of this group.
fn assert_cannot_join(group: i32) {
    let error = error_of(full_command("childProcess").process_group(group));
    let Stage::ProcessGroup { group: named, .. } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(*named, group);
    assert!(
        error.to_string().contains(&format!("group {group} failed")),
        "{error}"
    );
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EPERM));
}

fn a_process_group_that_is_not_there_is_named() {
    // Above the highest number that a process can have.
    assert_cannot_join(i32::MAX);
}

fn a_process_group_of_another_session_is_named() {
    let mut command = reexec::command("childProcess");
    let leader = command.setsid().stdin(Stdio::piped()).spawn().unwrap();
    let before = children();
    let mut command = full_command("childProcess");
    let error = command.process_group(leader.id() as i32).spawn();
    let error = error.unwrap_err();
    let Stage::ProcessGroup { group, source } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(*group, leader.id() as i32);
    assert_eq!(source.raw_os_error(), Some(libc::EPERM));
    assert_eq!(children(), before);
}

fn where_there_is_no_room_for_a_process_that_is_said() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("spawn_without_room_for_a_process"));
    Ok(())
}

/// Root has room always.
fn spawn_without_room_for_a_process() {
    become_user(NOBODY);
    let status = full_command("childProcess").status();
    assert!(status.unwrap().success(), "as this user it goes");
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 0, most).unwrap();
    let error = error_of(&mut full_command("childProcess"));
    assert!(
        matches!(error.stage(), Stage::NewProcess { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("making a process failed"),
        "{error}"
    );
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EAGAIN));

    // The same with everything else that the search for the step to blame tries out.
    let error = error_of(full_command("childProcess").process_group(0));
    assert!(
        matches!(error.stage(), Stage::NewProcess { .. }),
        "{error:?}"
    );
    let missing = error_of(full_command("childProcess").executable("/no/such/file"));
    assert!(
        matches!(missing.stage(), Stage::NewProcess { .. }),
        "{missing:?}"
    );
}

/// A file that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    /// With nothing in it.
    fn with_mode(mode: u32) -> Scratch {
        let name = format!("failure-{}-{mode:o}", process::id());
        let scratch = Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let file = File::create(&scratch.0).unwrap();
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn a_file_that_cannot_be_executed_is_named() {
    let not_executable = Scratch::with_mode(0o644);
    let no_program = Scratch::with_mode(0o755);
    let cases = [
        (Path::new("/no/such/file"), libc::ENOENT),
        (Path::new(""), libc::ENOENT),
        (Path::new("/dev/null/file"), libc::ENOTDIR),
        (Path::new("/"), libc::EACCES),
        (&not_executable.0, libc::EACCES),
        (&no_program.0, libc::ENOEXEC),
    ];
    for (path, errno) in cases {
        // The group as well: it is not to blame.
        let mut command = full_command("childProcess");
        let error = error_of(command.executable(path).process_group(0));
        let Stage::Exec { program, source } = error.stage() else {
            panic!("{error:?}");
        };
        assert_eq!(program, path);
        assert_eq!(source.raw_os_error(), Some(errno), "{error}");
        let named = format!("executing {} failed: ", path.display());
        assert!(error.to_string().contains(&named), "{error}");
        assert_eq!(io::Error::from(error).raw_os_error(), Some(errno));
    }
}

fn where_there_is_no_room_for_descriptors_that_is_said_under_every_limit() {
    stdout_of(&mut program("spawn_under_every_limit"));
}

fn spawn_under_every_limit() {
    fail_up_to_what_works(|command| {
        command.stdin(Stdio::null());
    });
    fail_up_to_what_works(|command| {
        command.stdin(Stdio::piped()).outlive_parent();
    });
    fail_up_to_what_works(|command| *command = full_command("childProcess"));
    fail_up_to_what_works(|command| {
        *command = full_command("childProcess");
        command.sealed().process_group(0);
    });
    // Most lie above the limit already; the last one is in the way of another.
    fail_up_to_what_works(|command| {
        command.stdin(Stdio::null());
        let open = || File::open("/dev/null").unwrap();
        let mut files: Vec<_> = (0..40).map(|_| open()).collect();
        let high = files.split_off(20);
        for (number, file) in high.into_iter().chain(files.drain(..1)).enumerate() {
            command.fd(&number.to_string(), file);
        }
    });
}

/// Spawns under a limit of no descriptors, of one, and so on, until it works, and a little further.
fn fail_up_to_what_works(set: fn(&mut Command)) {
    let command = || {
        let mut command = reexec::command("childProcess");
        set(&mut command);
        command
    };
    // The copy for those that execute a sealed one is made once, and stays.
    command().status().unwrap();
    let (enough, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let mut works_from = None;
    for limit in 0..enough {
        let mut command = command();
        let before = descriptors();
        setrlimit(Resource::RLIMIT_NOFILE, limit, most).unwrap();
        let result = command.status();
        setrlimit(Resource::RLIMIT_NOFILE, enough, most).unwrap();
        assert_eq!(children(), []);
        match result {
            Ok(status) => {
                assert!(status.success(), "under {limit}: {status}");
                let works_from = *works_from.get_or_insert(limit);
                if limit == works_from + 5 {
                    assert!(works_from > 5, "with the streams, a channel and a lifeline");
                    return;
                }
            }
            Err(error) => {
                assert_eq!(works_from, None, "and not under {limit}: {error}");
                assert_eq!(descriptors(), before, "under {limit}: {error}");
                let stage = error.stage();
                assert!(matches!(stage, Stage::Prepare { .. }), "{limit}: {error:?}");
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{limit}: {error}");
                let said = error.to_string();
                assert!(said.contains("Too many open files"), "{limit}: {said}");
            }
        }
    }
    panic!("it has not worked under any limit below {enough}");
}

fn descriptors_that_are_too_many_are_still_there_for_a_higher_limit() -> Result<(), Skipped> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if most < ENOUGH_FOR_400 {
        return Err(Skipped::because("too few descriptors are allowed here"));
    }
    stdout_of(&mut program("hand_over_400_descriptors"));
    Ok(())
}

/// As documented: what we have, and twice as many again; and what any start takes.
const ENOUGH_FOR_400: u64 = 400 + 2 * 400 + 30;

fn hand_over_400_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 600, most).unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut command = reexec::command("childProcess");
    command.stdin(Stdio::null());
    for number in 0..400 {
        command.fd(&number.to_string(), null.try_clone().unwrap());
    }
    let error = error_of(&mut command);
    let Stage::Prepare { step, source } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(*step, "giving the child its descriptors");
    assert_eq!(source.raw_os_error(), Some(libc::EMFILE));

    setrlimit(Resource::RLIMIT_NOFILE, ENOUGH_FOR_400, most).unwrap();
    assert!(command.status().unwrap().success());
}

fn a_launch_that_is_too_long_is_refused_with_its_length() {
    let reason = |command: &mut Command| match error_of(command).stage() {
        Stage::Invalid(reason) => reason.clone(),
        stage => panic!("{stage:?}"),
    };
    let mut names = reexec::command("childProcess");
    for number in 0..20 {
        let name = format!("{number:04000}");
        names.fd(&name, io::pipe().unwrap().0);
    }
    let said = reason(names.groups(&[1, 2, 3]));
    let bytes: usize = said.split(' ').find_map(|word| word.parse().ok()).unwrap();
    // The names, and a little for all else.
    assert!((80_000..80_400).contains(&bytes), "{said}");
    for part in ["20 descriptors", "3 groups", "can have 65536"] {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }

    let groups: Vec<u32> = (1..20_001).collect();
    let said = reason(reexec::command("childProcess").groups(&groups));
    for part in ["bytes", "0 descriptors", "20000 groups", "can have 65536"] {
        assert!(said.contains(part), "no {part:?} in: {said}");
    }
    let mut directory = reexec::command("childProcess");
    let said = reason(directory.current_dir("x".repeat(70_000)));
    assert!(said.contains("of the directory"), "{said}");
}

fn as_many_groups_as_a_child_can_be_told_are_set() -> Result<(), Skipped> {
    needs_root()?;
    let groups: Vec<u32> = (1..16_001).collect();
    let mut command = reexec::command("childProcess");
    command.stdin(Stdio::piped()).groups(&groups);
    let child = command.spawn().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let found = line.unwrap().split_whitespace();
    let found: Vec<u32> = found.map(|group| group.parse().unwrap()).collect();
    assert_eq!(found, groups);
    Ok(())
}

fn a_name_given_to_two_descriptors_is_refused() {
    let mut command = full_command("childProcess");
    for _ in 0..2 {
        command.fd("same", io::pipe().unwrap().0);
    }
    let error = command.spawn().unwrap_err();
    assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
}

fn names_that_are_too_long_are_refused_at_once() {
    let error = error_of(&mut reexec::command(&"x".repeat(70_000)));
    assert!(matches!(error.stage(), Stage::Invalid(_)), "{error:?}");
}

fn an_error_becomes_an_io_error_and_can_be_had_back() {
    let error = io::Error::from(reexec::command("noSuchEntry").status().unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(matches!(
        error.downcast::<Error>().unwrap().stage(),
        Stage::UnknownEntry
    ));
}

/// Callers decide by it whether to try again.
fn the_number_of_a_failed_call_is_kept() {
    let mut command = reexec::command("childProcess");
    let error = command.arg("x".repeat(200_000)).spawn().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("too long"));
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong);
    let error = io::Error::from(error);
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));

    let error = io::Error::from(command.output().unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
}

/// What becomes of an error on its way into an `io::Error`; in a program, on stdout.
fn print_kind(error: Error) {
    println!("{}", kind_of(error));
}

/// Kind and number, which the conversion has to keep.
fn kind_of(error: Error) -> String {
    let (kind, number) = (error.kind(), error.raw_os_error());
    let error = io::Error::from(error);
    assert_eq!((error.kind(), error.raw_os_error()), (kind, number));
    // There is room for a number, or for all that is known.
    assert_eq!(error.downcast::<Error>().is_ok(), number.is_none());
    match number {
        Some(number) => format!("{kind:?} {number}"),
        None => format!("{kind:?}"),
    }
}

/// Those of a group and of a process have tests of their own.
fn each_stage_has_its_kind_and_keeps_its_number() -> Result<(), Skipped> {
    let full = || full_command("childProcess");
    let kind = |command: &mut Command| kind_of(error_of(command));
    // By way of a program: `status` of what this one starts is what it printed.
    let printed = |command: &mut process::Command| stdout_of(command).trim_end().to_owned();

    let mut this = process::Command::new(env::current_exe().unwrap());
    assert_eq!(printed(this.env(BEFORE_INIT, "spawn")), "Other"); // init not called
    let deep = reexec::command("spawnItself").output().unwrap();
    assert_eq!(deep.stdout, b"Other\n"); // too deep

    assert_eq!(kind(full().arg("a\0b")), "InvalidInput");
    let no_room = kind(full().rlimit(reexec::Resource::OpenFiles, 60, 50));
    assert_eq!(no_room, format!("InvalidInput {}", libc::EINVAL)); // set-up
    let missing = kind(full().current_dir("/no/such/directory"));
    assert_eq!(missing, format!("NotFound {}", libc::ENOENT)); // set-up
    let missing = kind(full().executable("/no/such/file"));
    assert_eq!(missing, format!("NotFound {}", libc::ENOENT)); // exec
    assert_eq!(kind(full().env(BEFORE_INIT, "return")), "Other"); // before init
    assert_eq!(kind(&mut full_command("noSuchEntry")), "NotFound");
    let mut late = full();
    late.env(BEFORE_INIT, "sleep").ready_timeout(Duration::ZERO);
    assert_eq!(kind(&mut late), "TimedOut");

    const IGNORE: &str = "--ignore-signal=CHLD";
    needs(&["env", IGNORE, "true"])?;
    let lose = program("lose_a_status");
    let mut ignoring = process::Command::new("env");
    ignoring.arg(IGNORE).arg(lose.get_program());
    assert_eq!(printed(ignoring.args(lose.get_args())), "Other"); // waiting
    Ok(())
}

fn lose_a_status() {
    let mut command = reexec::command("childProcess");
    let error = command.stdin(Stdio::null()).status().unwrap_err();
    assert!(matches!(error.stage(), Stage::Wait { .. }), "{error:?}");
    assert!(error.to_string().contains("status is lost"), "{error}");
    print_kind(error);
}

/// Until it is too deep.
fn spawn_itself() {
    match reexec::command("spawnItself").status() {
        Ok(status) => assert!(status.success()),
        Err(error) => print_kind(error),
    }
}

fn what_was_to_be_handed_over_is_still_there_after_a_failure() {
    let (stdin, gate) = io::pipe().unwrap();
    let (read, write) = io::pipe().unwrap();
    let mut command = reexec::command("childProcess");
    command.stdin(stdin).fd("pipe", write);
    command.env(BEFORE_INIT, "return");
    error_of(&mut command);

    let child = command.env_remove(BEFORE_INIT).spawn().unwrap();
    drop(gate); // its stdin was this pipe
    assert!(child.wait().unwrap().success());
    assert_eq!(read_all(read), ""); // the end: the child had the other one, and it alone
}

/// The fault that the others look for, made on purpose, so that they are known to see it.
fn what_is_left_behind_would_be_noticed() {
    let before = descriptors();
    let child = full_command("childProcess").spawn().unwrap();
    let pid = child.id();
    drop(child.take_stdin());
    mem::forget(child);
    wait_until("the child is a zombie", || is_zombie(pid));
    assert_eq!(children(), [pid]);
    let left = descriptors().len() - before.len();
    assert_eq!(left, 3, "a pidfd, the lifeline and stdout");
    waitpid(Pid::from_raw(pid as i32), None).unwrap();
}

/// As by `reexec::init();`, where the compiler's warning was not heeded.
fn go_on_whatever_init_returns() -> ExitCode {
    let _ = reexec::init();
    let spawned = reexec::command("childProcess")
        .stdin(Stdio::null())
        .status();
    println!(
        "{}",
        spawned.map_or_else(|error| error.to_string(), |status| status.to_string())
    );
    ExitCode::SUCCESS
}

fn a_main_that_goes_on_in_the_child_cannot_start_another() {
    let mut program = std::process::Command::new(env::current_exe().unwrap());
    let said = support::stdout_of(program.env(IGNORE_CODE, "1"));
    let [in_child, in_parent] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    assert!(in_child.contains("has returned"), "{said}");
    assert_eq!(in_parent, "exit status: 0");
}
