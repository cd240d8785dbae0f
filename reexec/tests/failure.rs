//! A spawn that fails names the stage, and leaves no process, no zombie and no descriptor.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::error::Error as _;
use std::fs::{self, File, Permissions};
use std::io;
use std::mem;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use reexec::{Command, Error, Stage, Stdio};
use support::{
    LIMIT, NOBODY, Running, Scratch, Skipped, assert_contains, assert_stage, become_user, children,
    descriptors, exited, is_zombie, needs, needs_root, piped, program, read_all, reap, status_line,
    stdout_of, under, until_stdin_ends, wait_until,
};

/// What a child of this program does instead of calling `init`.
const BEFORE_INIT: &str = "BEFORE_INIT";

/// Makes `main` continue after `init`, also in the child.
const IGNORE_CODE: &str = "IGNORE_CODE";

/// Why a test runs only with plain children.
const PAST_INIT: &str = "a child of a template runs no code before init";

fn main() -> ExitCode {
    match env::var(BEFORE_INIT).as_deref() {
        Ok("return") => return ExitCode::from(42),
        Ok("give up") => return ExitCode::from(reexec::EXIT_SETUP_FAILED),
        Ok("kill") => raise(Signal::SIGKILL).unwrap(),
        // The test does not wait that long, and the child ends if the test has ended.
        Ok("sleep") => thread::sleep(LIMIT),
        Ok("spawn") => {
            print_kind(support::command("childProcess").spawn().unwrap_err());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("spawnItself", spawn_itself);
    reexec::register("waitForSignal", wait_for_signal);
    if env::var_os(IGNORE_CODE).is_some() {
        return ignore_the_code_of_init();
    }
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[
        ("a_child_that_returns_from_main_before_init_is_noticed", PAST_INIT),
        ("a_child_that_cannot_report_is_an_error_that_names_its_stderr", PAST_INIT),
        ("a_child_that_is_killed_before_init_is_noticed", PAST_INIT),
        ("a_child_that_does_not_reach_init_is_killed_at_the_deadline", PAST_INIT),
        ("a_deadline_that_has_passed_already_is_an_error", PAST_INIT),
        ("each_stage_has_its_kind_and_keeps_its_number", PAST_INIT),
        ("the_descriptors_stay_in_the_command_after_a_failure", PAST_INIT),
        ("a_spawn_without_room_for_a_process_says_so", "the limit that counts is the template's"),
        (
            "too_many_descriptors_stay_in_the_command_for_a_higher_limit",
            "the template has descriptors of its own",
        ),
    ]);
    support::run_in_programs(
        || Ok(()),
        support::programs![a_spawn_without_room_for_descriptors_says_so_under_every_limit],
        support::programs![
            parent_of_a_child_with_a_signal_of_its_choice,
            spawn_without_room_for_a_process,
            hand_over_400_descriptors,
            lose_a_status,
        ],
        support::trials![
            an_unknown_entry_is_named,
            an_empty_name_is_refused,
            a_child_that_returns_from_main_before_init_is_noticed,
            a_child_that_cannot_report_is_an_error_that_names_its_stderr,
            a_child_that_is_killed_before_init_is_noticed,
            a_child_that_does_not_reach_init_is_killed_at_the_deadline,
            a_deadline_that_has_passed_already_is_an_error,
            an_argument_that_is_too_long_fails_at_exec,
            nul_bytes_are_refused_everywhere,
            signals_that_do_not_exist_are_refused,
            signals_of_libc_are_refused,
            signals_that_cannot_be_ignored_are_refused,
            a_signal_of_libc_would_not_end_the_child,
            a_real_time_signal_comes_at_the_end_of_the_parent,
            a_process_group_below_zero_is_refused,
            a_missing_process_group_is_named,
            a_process_group_of_another_session_is_named,
            a_spawn_without_room_for_a_process_says_so,
            a_file_that_cannot_be_executed_is_named,
            too_many_descriptors_stay_in_the_command_for_a_higher_limit,
            a_launch_that_is_too_long_is_refused_with_its_length,
            sixteen_thousand_groups_are_set,
            a_name_given_to_two_descriptors_is_refused,
            names_that_are_too_long_are_refused_at_once,
            an_error_converts_into_an_io_error_and_back,
            the_number_of_a_failed_call_is_kept,
            each_stage_has_its_kind_and_keeps_its_number,
            the_descriptors_stay_in_the_command_after_a_failure,
            a_leftover_would_be_noticed,
            a_main_that_continues_in_the_child_cannot_spawn,
        ],
    )
}

/// Makes a command with everything that a failed start must clean up.
fn full_command(name: &str) -> Command {
    let mut command = piped(name);
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

/// Spawns, which must fail because the command is invalid. Returns the reason.
fn refusal_of(command: &mut Command) -> String {
    match error_of(command).stage() {
        Stage::Invalid(reason) => reason.clone(),
        stage => panic!("{stage:?}"),
    }
}

fn an_unknown_entry_is_named() {
    let error = error_of(&mut full_command("noSuchEntry"));
    assert_stage!(error, Stage::UnknownEntry);
    assert_eq!(error.entry(), "noSuchEntry");
    let message = error.to_string();
    assert_contains(&message, r#"register("noSuchEntry", …)"#);
}

fn an_empty_name_is_refused() {
    let error = error_of(&mut full_command(""));
    assert_stage!(error, Stage::Invalid(_));
    let said =
        "cannot start an entry without a name: no entry can be registered under an empty name";
    assert_eq!(error.to_string(), said);
}

/// Returns the status of a child that ended before `init`.
fn status_before_init(instead: &str) -> std::process::ExitStatus {
    let error = error_of(full_command("childProcess").env(BEFORE_INIT, instead));
    assert_contains(&error, "before it reached reexec::init()");
    // A program that was executed in place of this one would exit with a code.
    assert_eq!(error.to_string().contains("valgrind"), instead == "return");
    match error.stage() {
        Stage::BeforeInit { status } => status.unwrap(),
        stage => panic!("{stage:?}"),
    }
}

fn a_child_that_returns_from_main_before_init_is_noticed() {
    assert_eq!(status_before_init("return").code(), Some(42));
}

/// Such a child prints the reason, for instance a filter, to its stderr.
fn a_child_that_cannot_report_is_an_error_that_names_its_stderr() {
    let mut command = full_command("childProcess");
    let error = error_of(command.env(BEFORE_INIT, "give up"));
    assert_stage!(error, Stage::BeforeInit { .. });
    assert_contains(&error, "printed the reason to its stderr");
}

fn a_child_that_is_killed_before_init_is_noticed() {
    assert_eq!(status_before_init("kill").signal(), Some(libc::SIGKILL));
}

fn a_child_that_does_not_reach_init_is_killed_at_the_deadline() {
    let limit = Duration::from_millis(100);
    let mut command = full_command("childProcess");
    command.env(BEFORE_INIT, "sleep").ready_timeout(limit);
    let error = error_of(&mut command);
    assert!(matches!(error.stage(), Stage::NotReady { timeout } if *timeout == limit));
    assert_contains(&error, "within 100ms and was killed");
}

fn a_deadline_that_has_passed_already_is_an_error() {
    let mut command = full_command("childProcess");
    command.env(BEFORE_INIT, "sleep").ready_timeout(Duration::ZERO);
    let error = error_of(&mut command);
    assert_stage!(error, Stage::NotReady { .. });
}

/// The kernel accepts no argument of more than 128 KiB.
fn an_argument_that_is_too_long_fails_at_exec() {
    let error = error_of(full_command("childProcess").arg("x".repeat(200_000)));
    let Stage::Exec { source, .. } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(libc::E2BIG));
}

fn nul_bytes_are_refused_everywhere() {
    let mut commands = [
        support::command("a\0b"),
        support::command("childProcess"),
        support::command("childProcess"),
        support::command("childProcess"),
        support::command("childProcess"),
    ];
    commands[1].arg("a\0b");
    commands[2].env("KEY", "a\0b");
    commands[3].current_dir("a\0b");
    commands[4].executable("a\0b");
    for command in &mut commands {
        let error = error_of(command);
        assert_stage!(error, Stage::Invalid(_));
        assert_contains(&error, "NUL");
    }
}

fn signals_that_do_not_exist_are_refused() {
    for signal in [-1, 0, 1000] {
        let error = error_of(full_command("childProcess").parent_death_signal(signal));
        assert_stage!(error, Stage::Invalid(_));
    }
}

/// The signals of libc, for cancelling threads and for changes of user. The kernel accepts them.
const OF_LIBC: [i32; 2] = [32, 33];

fn signals_of_libc_are_refused() {
    for signal in OF_LIBC {
        let reason = refusal_of(full_command("childProcess").parent_death_signal(signal));
        let expected =
            format!("parent_death_signal: there is no signal {signal} that a program can use");
        assert_eq!(reason, expected);
    }
    for signal in [libc::SIGRTMIN(), libc::SIGRTMAX()] {
        let mut command = full_command("childProcess");
        let status = command.parent_death_signal(signal).status();
        assert!(status.unwrap().success());
    }
}

fn signals_that_cannot_be_ignored_are_refused() {
    let beyond = libc::SIGRTMAX() + 1;
    for wrong in [libc::SIGKILL, libc::SIGSTOP, 0, -1, 32, 33, beyond] {
        let reason = refusal_of(full_command("childProcess").ignore_signal(wrong));
        let expected = format!("ignore_signal: signal {wrong} cannot be ignored");
        assert_eq!(reason, expected);
    }
    // The signal that ends the child with its parent.
    let mut command = full_command("childProcess");
    let error = error_of(command.ignore_signal(libc::SIGTERM));
    assert_stage!(error, Stage::Invalid(_));
    assert_contains(&error, "end with its parent");
    assert!(command.outlive_parent().status().unwrap().success());
    let mut command = full_command("childProcess");
    command.ignore_signal(libc::SIGTERM);
    command.parent_death_signal(libc::SIGKILL);
    assert!(command.status().unwrap().success());
}

/// Control: libc starts every program with these signals ignored.
fn a_signal_of_libc_would_not_end_the_child() -> Result<(), Skipped> {
    needs(&["sh", "-c", "kill -0 $$"])?;
    let mut command = support::command("childProcess");
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    for signal in OF_LIBC {
        let script = format!("kill -{signal} {}", child.id());
        stdout_of(process::Command::new("sh").args(["-c", &script]));
    }
    // The end of its stdin, which this closes, has ended it.
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
        assert_eq!(reap(child), exited(child, 0));
    }
}

fn parent_of_a_child_with_a_signal_of_its_choice() {
    let signal = env::args().nth(3).unwrap();
    let mut command = support::command("waitForSignal");
    command.parent_death_signal(signal.parse().unwrap()).arg(signal);
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
}

fn wait_for_signal() {
    let signal = env::args().nth(1).unwrap().parse().unwrap();
    reexec::workspace::count(signal).unwrap();
    println!("{}\nwaits", process::id());
    wait_until("the signal has come", || reexec::workspace::counted(signal) > 0);
    println!("has come");
}

fn a_process_group_below_zero_is_refused() {
    for group in [-1, i32::MIN] {
        let reason = refusal_of(full_command("childProcess").process_group(group));
        assert_eq!(reason, format!("there is no process group {group}"));
    }
}

/// Spawns into this group, which must fail.
fn assert_cannot_join(group: i32) {
    let error = error_of(full_command("childProcess").process_group(group));
    let Stage::ProcessGroup { group: named, .. } = error.stage() else {
        panic!("{error:?}");
    };
    assert_eq!(*named, group);
    assert_contains(&error, &format!("group {group} failed"));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EPERM));
}

fn a_missing_process_group_is_named() {
    // Above the highest number that a process can have.
    assert_cannot_join(i32::MAX);
}

fn a_process_group_of_another_session_is_named() {
    let mut command = support::command("childProcess");
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

fn a_spawn_without_room_for_a_process_says_so() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("spawn_without_room_for_a_process"));
    Ok(())
}

/// The limit does not apply to root.
fn spawn_without_room_for_a_process() {
    become_user(NOBODY);
    let status = full_command("childProcess").status();
    assert!(status.unwrap().success(), "control: it works as this user");
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, 0, most).unwrap();
    let error = error_of(&mut full_command("childProcess"));
    assert_stage!(error, Stage::NewProcess { .. });
    assert_contains(&error, "making a process failed");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::EAGAIN));

    // The same with what the search for the failed step tries in addition.
    let error = error_of(full_command("childProcess").process_group(0));
    assert_stage!(error, Stage::NewProcess { .. });
    let missing = error_of(full_command("childProcess").executable("/no/such/file"));
    assert_stage!(missing, Stage::NewProcess { .. });
}

fn a_file_that_cannot_be_executed_is_named() {
    let scratch = Scratch::new();
    let empty_file = |name: &str, mode: u32| {
        let path = scratch.0.join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let not_executable = empty_file("not-executable", 0o644);
    let no_program = empty_file("no-program", 0o755);
    let cases = [
        (Path::new("/no/such/file"), libc::ENOENT),
        (Path::new(""), libc::ENOENT),
        (Path::new("/dev/null/file"), libc::ENOTDIR),
        (Path::new("/"), libc::EACCES),
        (&not_executable, libc::EACCES),
        (&no_program, libc::ENOEXEC),
    ];
    for (path, errno) in cases {
        // The group is not the cause.
        let mut command = full_command("childProcess");
        let error = error_of(command.executable(path).process_group(0));
        let Stage::Exec { program, source } = error.stage() else {
            panic!("{error:?}");
        };
        assert_eq!(program, path);
        assert_eq!(source.raw_os_error(), Some(errno), "{error}");
        let named = format!("executing {} failed: ", path.display());
        assert_contains(&error, &named);
        assert_eq!(io::Error::from(error).raw_os_error(), Some(errno));
    }
}

fn a_spawn_without_room_for_descriptors_says_so_under_every_limit() {
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
    // Most have numbers above the limit. The last one has the target number of another.
    fail_up_to_what_works(|command| {
        command.stdin(Stdio::null());
        let open = || File::open("/dev/null").unwrap();
        let mut files: Vec<_> = (0..40).map(|_| open()).collect();
        let high = files.split_off(20);
        for (number, file) in high.into_iter().chain(files.drain(..1)).enumerate() {
            command.fd(number.to_string(), file);
        }
    });
}

/// Spawns with a limit of no descriptors, of one, and so on, until it works, and five times more.
fn fail_up_to_what_works(set: fn(&mut Command)) {
    let command = || {
        let mut command = support::command("childProcess");
        set(&mut command);
        command
    };
    // The first spawn of a sealed child makes a copy, which stays.
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

fn too_many_descriptors_stay_in_the_command_for_a_higher_limit() -> Result<(), Skipped> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if most < ENOUGH_FOR_400 {
        return Err(Skipped::because("too few descriptors are allowed here"));
    }
    stdout_of(&mut program("hand_over_400_descriptors"));
    Ok(())
}

/// As documented: those that are open, two more for each, and what any start needs.
const ENOUGH_FOR_400: u64 = 400 + 2 * 400 + 30;

fn hand_over_400_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 600, most).unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut command = support::command("childProcess");
    command.stdin(Stdio::null());
    for number in 0..400 {
        command.fd(number.to_string(), null.try_clone().unwrap());
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
    let mut names = support::command("childProcess");
    for number in 0..20 {
        let name = format!("{number:04000}");
        names.fd(&name, io::pipe().unwrap().0);
    }
    let said = refusal_of(names.groups(&[1, 2, 3]));
    let bytes: usize = said.split(' ').find_map(|word| word.parse().ok()).unwrap();
    // The names, and a little for everything else.
    assert!((80_000..80_400).contains(&bytes), "{said}");
    for part in ["20 descriptors", "3 groups", "can have 65536"] {
        assert_contains(&said, part);
    }

    let groups: Vec<u32> = (1..20_001).collect();
    let said = refusal_of(support::command("childProcess").groups(&groups));
    for part in ["bytes", "0 descriptors", "20000 groups", "can have 65536"] {
        assert_contains(&said, part);
    }
    let mut directory = support::command("childProcess");
    let said = refusal_of(directory.current_dir("x".repeat(70_000)));
    assert_contains(&said, "of the directory");
}

fn sixteen_thousand_groups_are_set() -> Result<(), Skipped> {
    needs_root()?;
    let groups: Vec<u32> = (1..16_001).collect();
    let mut command = support::command("childProcess");
    command.stdin(Stdio::piped()).groups(&groups);
    let child = command.spawn().unwrap();
    let expected: Vec<_> = groups.iter().map(u32::to_string).collect();
    assert_eq!(status_line(child.id(), "Groups"), expected.join(" "));
    Ok(())
}

fn a_name_given_to_two_descriptors_is_refused() {
    let mut command = full_command("childProcess");
    for _ in 0..2 {
        command.fd("same", io::pipe().unwrap().0);
    }
    let error = command.spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
}

fn names_that_are_too_long_are_refused_at_once() {
    let error = error_of(&mut support::command("x".repeat(70_000)));
    assert_stage!(error, Stage::Invalid(_));
}

fn an_error_converts_into_an_io_error_and_back() {
    let error = io::Error::from(support::command("noSuchEntry").status().unwrap_err());
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let error = error.downcast::<Error>().unwrap();
    assert_stage!(error, Stage::UnknownEntry);
}

/// Callers need it to decide whether to try again.
fn the_number_of_a_failed_call_is_kept() {
    let mut command = support::command("childProcess");
    let error = command.arg("x".repeat(200_000)).spawn().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("too long"));
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong);
    let error = io::Error::from(error);
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));

    let error = io::Error::from(command.output().unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
}

/// Prints the kind and number of an error.
fn print_kind(error: Error) {
    println!("{}", kind_of(error));
}

/// Returns the kind and number of an error, which the conversion must keep.
fn kind_of(error: Error) -> String {
    let (kind, number) = (error.kind(), error.raw_os_error());
    let error = io::Error::from(error);
    assert_eq!((error.kind(), error.raw_os_error()), (kind, number));
    // An `io::Error` has room for a number, or for the whole error.
    assert_eq!(error.downcast::<Error>().is_ok(), number.is_none());
    match number {
        Some(number) => format!("{kind:?} {number}"),
        None => format!("{kind:?}"),
    }
}

/// Process groups and a lack of processes have tests of their own.
fn each_stage_has_its_kind_and_keeps_its_number() -> Result<(), Skipped> {
    let full = || full_command("childProcess");
    let kind = |command: &mut Command| kind_of(error_of(command));
    // For errors in another process, which prints them.
    let printed = |command: &mut process::Command| stdout_of(command).trim_end().to_owned();

    let mut this = process::Command::new(env::current_exe().unwrap());
    assert_eq!(printed(this.env(BEFORE_INIT, "spawn")), "Other"); // init not called
    let deep = support::command("spawnItself").output().unwrap();
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

    let mut ignoring = under(&["env", "--ignore-signal=CHLD"], &program("lose_a_status"))?;
    assert_eq!(printed(&mut ignoring), "Other"); // waiting
    Ok(())
}

fn lose_a_status() {
    let mut command = support::command("childProcess");
    let error = command.stdin(Stdio::null()).status().unwrap_err();
    assert_stage!(error, Stage::Wait { .. });
    assert_contains(&error, "status is lost");
    print_kind(error);
}

/// Spawns itself until it is too deep.
fn spawn_itself() {
    match support::command("spawnItself").status() {
        Ok(status) => assert!(status.success()),
        Err(error) => print_kind(error),
    }
}

fn the_descriptors_stay_in_the_command_after_a_failure() {
    let (stdin, gate) = io::pipe().unwrap();
    let (read, write) = io::pipe().unwrap();
    let mut command = support::command("childProcess");
    command.stdin(stdin).fd("pipe", write);
    command.env(BEFORE_INIT, "return");
    error_of(&mut command);

    let child = command.env_remove(BEFORE_INIT).spawn().unwrap();
    drop(gate); // its stdin was this pipe
    assert!(child.wait().unwrap().success());
    assert_eq!(read_all(read), ""); // the end: only the child had the other end
}

/// Control: makes the fault that the other tests look for.
fn a_leftover_would_be_noticed() {
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

/// Does the same as a program that ignores the compiler's warning about `reexec::init();`.
fn ignore_the_code_of_init() -> ExitCode {
    let _ = reexec::init();
    match support::command("childProcess").stdin(Stdio::null()).status() {
        Ok(status) => println!("{status}"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}

fn a_main_that_continues_in_the_child_cannot_spawn() {
    let mut program = process::Command::new(env::current_exe().unwrap());
    let said = stdout_of(program.env(IGNORE_CODE, "1"));
    let [in_child, in_parent] = said.lines().collect::<Vec<_>>()[..] else {
        panic!("{said}");
    };
    assert!(in_child.contains("has returned"), "{said}");
    assert_eq!(in_parent, "exit status: 0");
}
