//! A child runs its entry, with the arguments and the environment it was given, and what the
//! entry returns becomes its status.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command, ExitCode};
use std::thread;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, getpgid, getsid};
use reexec::Resource;
use support::{
    Running, Scratch, Skipped, assert_contains, assert_stage, children, descriptors, is_zombie,
    needs, piped, read_all, stat, status_line, stdout_of, until_stdin_ends, wait_until,
};

/// Makes `main` wait for the end of stdin before it calls `init`.
const SLOW_START: &str = "SLOW_START";

fn main() -> ExitCode {
    if env::var_os(SLOW_START).is_some() {
        until_stdin_ends();
    }
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("aNameOfMoreThanFifteenBytes", until_stdin_ends);
    reexec::register("printArguments", print_arguments);
    reexec::register("printEnvironment", print_environment);
    reexec::register("returnNothing", || {});
    reexec::register("returnCode", || ExitCode::from(number_argument()));
    reexec::register("returnOk", || Ok::<(), String>(()));
    reexec::register("returnErr", || Err::<(), _>("the reason"));
    reexec::register("panic", || panic!("on purpose"));
    reexec::register("writeToDescriptor", write_to_descriptor);
    reexec::register("abort", || -> ExitCode { process::abort() });
    reexec::register("killItself", || raise(Signal::SIGKILL).unwrap());
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run_in_programs(
        || Ok(()),
        support::programs![many_starts_need_no_more_memory_than_a_few],
        support::programs![
            spawn_without_environment,
            spawn_after_own_file_was_deleted,
            spawn_after_own_file_was_replaced,
            spawn_in_another_root,
            spawn
        ],
        support::trials![
            the_status_shows_a_core_dump,
            an_entry_finds_its_name_and_its_arguments,
            arguments_need_not_be_utf_8,
            debug_shows_entry_and_arguments,
            the_alternate_debug_shows_the_set_up,
            the_getters_return_what_was_set,
            arg0_changes_neither_the_entry_nor_the_process_name,
            what_an_entry_returns_becomes_the_exit_code,
            a_panic_in_an_entry_is_exit_code_101,
            the_status_names_the_signal_that_killed_an_entry,
            a_command_can_be_spawned_repeatedly,
            ps_shows_the_entry_while_it_runs_and_as_a_zombie,
            ps_shows_the_first_fifteen_bytes_of_a_long_name,
            a_child_has_everything_else_from_its_parent,
            the_environment_is_inherited_and_can_be_changed,
            the_environment_can_be_empty,
            the_environment_of_the_parent_can_be_empty,
            a_program_started_through_a_symlink_finds_itself,
            a_program_finds_itself_after_its_file_was_deleted,
            a_program_finds_itself_after_its_file_was_replaced,
            another_program_is_never_executed_in_another_root,
            self_exe_executes_this_program,
            a_sealed_child_runs_a_copy_that_cannot_be_changed,
            a_hundred_threads_spawn_beside_std,
            spawn_unconfirmed_does_not_wait_for_the_child,
            spawn_unconfirmed_passes_arguments_and_descriptors,
            spawn_unconfirmed_leaves_a_failure_to_the_childs_stderr,
            spawn_unconfirmed_fails_if_the_program_cannot_be_executed,
        ],
    )
}

// Entries.

fn print_arguments() {
    let args: Vec<_> = env::args_os().collect();
    println!("{args:?}");
}

fn print_environment() {
    let variables: Vec<_> = env::vars().collect();
    println!("{variables:?}");
}

fn number_argument() -> u8 {
    env::args().nth(1).unwrap().parse().unwrap()
}

fn write_to_descriptor() {
    let mut file = fs::File::from(reexec::inherited_fd("output").unwrap());
    write!(file, "from {:?}", env::args().collect::<Vec<_>>()).unwrap();
}

// Arguments and status.

/// Runs a child of this command, and returns what it prints.
fn output(command: &mut reexec::Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn an_entry_finds_its_name_and_its_arguments() {
    let mut command = support::command("printArguments");
    command.arg("one").args(["two words", "", "--three=3"]);
    let expected = r#"["printArguments", "one", "two words", "", "--three=3"]"#;
    assert_eq!(output(&mut command), expected);
}

fn debug_shows_entry_and_arguments() {
    let mut command = support::command("printArguments");
    let shown = format!("{:?}", command.args(["a", "b c"]));
    assert_eq!(shown, r#""printArguments" "a" "b c""#);
}

fn the_alternate_debug_shows_the_set_up() {
    let mut command = reexec::command("printArguments");
    command.current_dir("/usr").uid(7).env("KEY", "value").fd("input", io::pipe().unwrap().0);
    let shown = format!("{:#?}", command.stdin(reexec::Stdio::null()));
    for part in ["changing to the directory /usr", "becoming user 7", "KEY", "\"input\"", "Null"] {
        assert_contains(&shown, part);
    }
    assert_contains(&shown, "kill_group_with_child: false");
}

fn the_getters_return_what_was_set() {
    let mut command = reexec::command(String::from("printArguments"));
    assert_eq!(command.get_current_dir(), None);
    command.arg("one").args(["two"]).arg0("zero").current_dir("/").current_dir("/usr");
    command.env("LATER", "1").env("EARLIER", "2").env_remove("GONE").env_remove("LATER");
    assert_eq!(command.get_entry(), "printArguments");
    assert_eq!(command.get_args().len(), 2);
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(command.get_current_dir(), Some(Path::new("/usr")));
    let variables: Vec<_> = command.get_envs().collect();
    let [earlier, gone, later] = ["EARLIER", "GONE", "LATER"].map(OsStr::new);
    assert_eq!(variables, [(earlier, Some(OsStr::new("2"))), (gone, None), (later, None)]);
    assert_eq!(command.env_clear().get_envs().len(), 0);
}

fn arg0_changes_neither_the_entry_nor_the_process_name() {
    let child = piped("childProcess").arg0("another name").arg("one").spawn().unwrap();
    let arguments = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert_eq!(arguments, b"another name\0one\0");
    assert_eq!(stat(child.id()).unwrap().comm, "childProcess");
    assert!(child.wait().unwrap().success());

    // Control: it is the name of the entry by default.
    let child = piped("childProcess").spawn().unwrap();
    let arguments = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert_eq!(arguments, b"childProcess\0");
    assert_contains(&format!("{child:?}"), &format!("\"childProcess\", id: {}", child.id()));

    let error = reexec::command("printArguments").arg0("a\0b").spawn().unwrap_err();
    assert_stage!(error, reexec::Stage::Invalid(_));
}

fn arguments_need_not_be_utf_8() {
    let mut command = support::command("printArguments");
    command.arg(OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(output(&mut command), r#"["printArguments", "\xFF\xFE"]"#);
}

fn what_an_entry_returns_becomes_the_exit_code() {
    let code = |name, args: &[&str]| {
        let output = support::command(name).args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr.trim().to_owned())
    };
    assert_eq!(code("returnNothing", &[]), (Some(0), String::new()));
    assert_eq!(code("returnCode", &["0"]), (Some(0), String::new()));
    assert_eq!(code("returnCode", &["255"]), (Some(255), String::new()));
    assert_eq!(code("returnOk", &[]), (Some(0), String::new()));
    let message = r#"Error: "the reason""#.to_owned(); // as if `main` had returned it
    assert_eq!(code("returnErr", &[]), (Some(1), message));
}

fn a_panic_in_an_entry_is_exit_code_101() {
    let output = support::command("panic").output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    assert!(String::from_utf8_lossy(&output.stderr).contains("on purpose"));
}

/// The same as std's status. The core goes into a directory of the test.
fn the_status_shows_a_core_dump() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let limit = "ulimit -c unlimited && cd \"$0\" && kill -ABRT $$";
    let mut shell = Command::new("sh");
    let status = shell.args(["-c", limit]).arg(&scratch.0).status().unwrap();
    if !status.core_dumped() {
        return Err(Skipped::because("no process leaves a core here"));
    }
    let mut command = support::command("abort");
    command.rlimit(Resource::CoreSize, u64::MAX, u64::MAX);
    let with = command.current_dir(&scratch.0).status().unwrap();
    assert_eq!(with, status);
    let without = command.rlimit(Resource::CoreSize, 0, 0).status().unwrap();
    assert!(!without.core_dumped() && without.signal() == status.signal());
    Ok(())
}

/// A server may start a million children.
fn many_starts_need_no_more_memory_than_a_few() {
    let start = || {
        let mut command = support::command("returnNothing");
        for number in 0..60 {
            let null = File::open("/dev/null").unwrap();
            command.fd(number.to_string(), null);
        }
        assert!(command.status().unwrap().success());
    };
    let own_kib = || {
        // Without mapped files, which the kernel loads as it likes.
        let memory = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let mut lines = memory.lines();
        let line = lines.find_map(|line| line.strip_prefix("Anonymous:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse::<usize>().unwrap()
    };
    (0..50).for_each(|_| start());
    let before = own_kib();
    (0..200).for_each(|_| start());
    let more = own_kib().saturating_sub(before);
    // If a start leaked the list of descriptors alone, that would be 4 KiB each.
    assert!(more < 200, "{more} KiB");
}

fn the_status_names_the_signal_that_killed_an_entry() {
    let status = support::command("killItself").status().unwrap();
    assert_eq!(status.code(), None);
    assert_eq!(status.signal(), Some(libc::SIGKILL));
}

fn a_command_can_be_spawned_repeatedly() {
    let mut command = support::command("returnCode");
    command.arg("3");
    let (first, second) = (command.spawn().unwrap(), command.spawn().unwrap());
    assert_ne!(first.id(), second.id());
    assert_eq!(first.wait().unwrap().code(), Some(3));
    assert_eq!(second.wait().unwrap().code(), Some(3));
    assert_eq!(command.status().unwrap().code(), Some(3));
}

// What ps shows.

fn ps_shows_the_entry_while_it_runs_and_as_a_zombie() {
    let child = piped("childProcess").spawn().unwrap();
    let pid = child.id();
    assert_eq!(stat(pid).unwrap().comm, "childProcess");
    let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(cmdline, "childProcess\0");

    drop(child.take_stdin()); // ends it
    wait_until("the child is a zombie", || is_zombie(pid));
    assert_eq!(stat(pid).unwrap().comm, "childProcess");
    child.wait().unwrap();

    // Control: without the library, the name is that of the file.
    let mut same_file = Command::new(env::current_exe().unwrap());
    let mut same_file = Running::start(same_file.args(["as", "spawn"]));
    assert!(stat(same_file.id()).unwrap().comm.starts_with("spawn-"));
    same_file.wait();
}

fn ps_shows_the_first_fifteen_bytes_of_a_long_name() {
    let child = piped("aNameOfMoreThanFifteenBytes").spawn().unwrap();
    assert_eq!(stat(child.id()).unwrap().comm, "aNameOfMoreThan");
}

// What the parent has.

/// Directory, file creation mask, process group and session.
fn a_child_has_everything_else_from_its_parent() {
    let child = piped("childProcess").spawn().unwrap();
    let of = |pid: u32| {
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        let mask = status_line(pid, "Umask");
        let pid = Some(Pid::from_raw(pid as i32));
        (directory, mask, getpgid(pid).unwrap(), getsid(pid).unwrap())
    };
    assert_eq!(of(child.id()), of(process::id()));
}

// Environment.

fn the_environment_is_inherited_and_can_be_changed() {
    let inherited = format!("{:?}", env::vars().collect::<Vec<_>>());
    let mut command = support::command("printEnvironment");
    assert_eq!(output(&mut command), inherited);

    let path = format!("{:?}", ("PATH", env::var("PATH").unwrap()));
    command.env("KEY", "value").envs([("OTHER", "1=2")]);
    let shown = output(&mut command);
    assert!(shown.contains(r#"("KEY", "value")"#), "{shown}");
    assert!(shown.contains(r#"("OTHER", "1=2")"#), "{shown}");
    assert!(shown.contains(&path), "{shown}");

    command.env("PATH", "/nowhere").env_remove("KEY");
    let shown = output(&mut command);
    assert!(shown.contains(r#"("PATH", "/nowhere")"#), "{shown}");
    assert!(!shown.contains(&path), "{shown}");
    assert!(!shown.contains("KEY"), "{shown}");
}

fn the_environment_can_be_empty() {
    let mut command = support::command("printEnvironment");
    assert_eq!(output(command.env("GONE", "1").env_clear()), "[]");
    assert_eq!(output(command.env("KEY", "value")), r#"[("KEY", "value")]"#);
}

fn the_environment_of_the_parent_can_be_empty() {
    let mut program = support::program("spawn_without_environment");
    assert_eq!(stdout_of(program.env_clear()), "[]\n");
}

fn spawn_without_environment() {
    assert_eq!(env::vars_os().count(), 0);
    support::command("printEnvironment").status().unwrap();
}

// The program's own file.

fn a_program_started_through_a_symlink_finds_itself() {
    let scratch = Scratch::new();
    let link = scratch.0.join("link");
    symlink(env::current_exe().unwrap(), &link).unwrap();
    let output = stdout_of(Command::new(link).args(["as", "spawn"]));
    assert_eq!(output, "[\"printArguments\"]\n");
}

fn spawn() {
    support::command("printArguments").status().unwrap();
}

fn a_program_finds_itself_after_its_file_was_deleted() {
    let copy = Scratch::new();
    let mut program = Command::new(copy.copy_of_this_program());
    let output = stdout_of(program.args(["as", "spawn_after_own_file_was_deleted"]));
    assert_eq!(output, "[\"printArguments\"]\n");
}

fn spawn_after_own_file_was_deleted() {
    let own = env::current_exe().unwrap();
    fs::remove_file(&own).unwrap();
    spawn();
    // Control: it cannot be started by its name any more.
    Command::new(own).spawn().unwrap_err();
}

fn a_program_finds_itself_after_its_file_was_replaced() {
    let copy = Scratch::new();
    let mut program = Command::new(copy.copy_of_this_program());
    let output = stdout_of(program.args(["as", "spawn_after_own_file_was_replaced"]));
    assert_eq!(output, "[\"printArguments\"]\nthe new file\n");
}

fn spawn_after_own_file_was_replaced() {
    let own = env::current_exe().unwrap();
    fs::remove_file(&own).unwrap();
    symlink("/bin/echo", &own).unwrap();
    spawn();
    // Control: another program has its name.
    Command::new(own).arg("the new file").status().unwrap();
}

/// There, the program's loader is missing, which looks as if the program were missing. Another, static
/// program has the path that the program was executed by.
fn another_program_is_never_executed_in_another_root() -> Result<(), Skipped> {
    const STATIC_PROGRAM: &str = "/sbin/ldconfig";
    needs(&["unshare", "--mount", STATIC_PROGRAM, "--version"])?;
    let own = env::current_exe().unwrap();
    let root = Scratch::new();
    let script = "mkdir -p \"$0/proc\" \"$0${1%/*}\" && mount -t proc proc \"$0/proc\" \
        && cp \"$2\" \"$0$1\" && exec \"$1\" as spawn_in_another_root \"$0\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(&root.0).arg(own).arg(STATIC_PROGRAM);
    // Its loader is missing there. A static program needs none.
    let printed = stdout_of(&mut command);
    assert!(["not found\n", "[\"printArguments\"]\n"].contains(&&*printed), "{printed}");
    Ok(())
}

fn spawn_in_another_root() {
    let root = env::args().nth(3).unwrap();
    nix::unistd::chroot(root.as_str()).unwrap();
    env::set_current_dir("/").unwrap();
    match support::command("printArguments").status() {
        Ok(status) => assert!(status.success()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => println!("not found"),
        Err(error) => println!("{error}"),
    }
}

fn self_exe_executes_this_program() {
    let mut program = Command::new(reexec::self_exe().unwrap());
    let output = stdout_of(program.args(["as", "spawn"]));
    assert_eq!(output, "[\"printArguments\"]\n");
}

fn a_sealed_child_runs_a_copy_that_cannot_be_changed() {
    let exe_of = |sealed: bool| {
        let mut command = piped("childProcess");
        if sealed {
            command.sealed();
        }
        let child = command.spawn().unwrap();
        assert_eq!(stat(child.id()).unwrap().comm, "childProcess");
        let exe = format!("/proc/{}/exe", child.id());
        let target = fs::read_link(&exe).unwrap();
        let seals = fs::File::open(exe).map(|file| fcntl(file, FcntlArg::F_GET_SEALS));
        (target, seals.unwrap())
    };
    let (target, seals) = exe_of(true);
    assert!(target.to_str().unwrap().starts_with("/memfd:"), "{target:?}");
    let seals = SealFlag::from_bits_retain(seals.unwrap());
    assert!(seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL), "{seals:?}");
    let (target, seals) = exe_of(false);
    assert_eq!(target, env::current_exe().unwrap());
    seals.unwrap_err();
}

// Many at once.

/// Half of them spawn with std. If a child inherited a pipe of another one, `output` would not return.
fn a_hundred_threads_spawn_beside_std() {
    let before = descriptors();
    thread::scope(|scope| {
        for thread in 0..100_u8 {
            scope.spawn(move || {
                for number in 0..4 {
                    let code = thread + number;
                    let output = if thread % 2 == 0 {
                        let mut command = support::command("returnCode");
                        command.arg(code.to_string()).output().unwrap()
                    } else {
                        let mut command = Command::new("sh");
                        let script = format!("exit {code}");
                        command.args(["-c", &script]).output().unwrap()
                    };
                    assert_eq!(output.status.code(), Some(code.into()));
                }
            });
        }
    });
    assert_eq!(descriptors(), before);
    assert_eq!(children(), []);
}

// Without waiting for the child's report.

/// The control is the deadline in `failure.rs`: there, `spawn` waits.
fn spawn_unconfirmed_does_not_wait_for_the_child() {
    let mut command = support::command("returnCode");
    command.arg("3").env(SLOW_START, "1");
    let child = command.stdin(reexec::Stdio::piped()).spawn_unconfirmed().unwrap();
    // It has executed the program, but has not called `init`, which names it.
    assert_ne!(stat(child.id()).unwrap().comm, "returnCode");
    assert!(child.try_wait().unwrap().is_none());
    drop(child.take_stdin());
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

fn spawn_unconfirmed_passes_arguments_and_descriptors() {
    let before = descriptors();
    let (reader, writer) = io::pipe().unwrap();
    let mut command = support::command("writeToDescriptor");
    command.arg("one").fd("output", writer);
    let child = command.spawn_unconfirmed().unwrap();
    // This reads to the end, so the command has kept no copy.
    assert_eq!(read_all(reader), r#"from ["writeToDescriptor", "one"]"#);
    assert!(child.wait().unwrap().success());
    drop(child);
    let again = command.spawn_unconfirmed().unwrap_err();
    assert_contains(&again, "\"output\"");
    assert_eq!(descriptors(), before);
}

fn spawn_unconfirmed_leaves_a_failure_to_the_childs_stderr() {
    let end_of = |command: &mut reexec::Command| {
        let child = command.stderr(reexec::Stdio::piped()).spawn_unconfirmed().unwrap();
        let said = read_all(child.take_stderr().unwrap());
        (child.wait().unwrap().code(), said)
    };
    let (code, said) = end_of(support::command("childProcess").current_dir("/no/such/directory"));
    assert_eq!(code, Some(reexec::EXIT_SETUP_FAILED.into()));
    assert!(said.starts_with("reexec: cannot start childProcess: "), "{said}");
    assert_contains(&said, "/no/such/directory");
    assert_contains(&said, "No such file or directory");
    assert_eq!(said.lines().count(), 1, "{said}");

    let (code, said) = end_of(&mut support::command("noSuchEntry"));
    assert_eq!(code, Some(reexec::EXIT_UNKNOWN_ENTRY.into()));
    assert!(said.starts_with("reexec: cannot start noSuchEntry: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Errors before the exec are returned, and leave nothing.
fn spawn_unconfirmed_fails_if_the_program_cannot_be_executed() {
    let before = descriptors();
    let mut command = support::command("childProcess");
    let error = command
        .arg("x".repeat(1 << 20)) // more than one argument may have
        .spawn_unconfirmed()
        .unwrap_err();
    assert_stage!(error, reexec::Stage::Exec { .. });
    assert_eq!((descriptors(), children()), (before, vec![]));
}
