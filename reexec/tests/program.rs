//! A child runs the file that its parent is running, or the spawn fails. It never runs another file
//! that has the same path by now.
//!
//! Some programs here run without a /proc, or in another root directory. They print the result of a
//! spawn. The other file is a script that prints "the stranger".

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chroot};
use reexec::{Error, Stage};
use support::{
    Running, Scratch, Skipped, assert_contains, assert_stage, children, children_of, descriptors,
    exited, needs, program, reap, stat, stdout_of, under, until_stdin_ends, wait_until,
    without_proc,
};

fn main() -> ExitCode {
    reexec::register("sayHello", say_hello);
    reexec::register("spawnAnother", spawn);
    reexec::register("childProcess", until_stdin_ends);
    reexec::register("lookAtImage", look_at_image);
    reexec::register("lookAtImageAndSpawnSealed", || {
        look_at_image();
        spawn_sealed();
    });
    reexec::register("overwriteImage", overwrite_image);
    reexec::register("printSelfExe", print_self_exe);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_both_ways(&[]);
    support::run(
        support::programs![
            spawn,
            spawn_after_a_change_of_directory,
            spawn_from_a_child,
            spawn_after_own_file_was_replaced,
            spawn_after_own_file_was_deleted,
            print_self_exe_in_a_child,
            spawn_after_own_file_was_copied,
            spawn_sealed,
            spawn_after_a_change_of_root,
            spawn_in_another_root,
            leave_a_child,
            leave_a_sealed_child,
            spawn_by_another_path,
            run_a_copy,
        ],
        support::trials![
            without_proc_a_program_that_never_moved_runs_its_own_file,
            without_proc_a_stranger_under_its_path_is_never_run,
            without_proc_a_program_without_a_file_fails,
            without_proc_a_child_knows_its_file_before_its_first_instruction,
            without_proc_there_is_no_sealed_copy,
            a_file_that_gets_another_inode_is_still_the_programs,
            in_another_root_a_program_started_there_runs_its_own_file,
            in_another_root_a_stranger_under_the_same_path_is_never_run,
            in_another_root_with_a_true_proc_the_program_runs_its_own_file,
            in_another_root_a_false_link_to_the_program_is_not_followed,
            in_another_root_a_false_link_to_the_sealed_copy_is_not_followed,
            sealed_children_can_have_sealed_children,
            a_sealed_child_cannot_overwrite_the_program,
            a_program_started_by_its_loader_needs_executable,
            a_program_under_valgrind_needs_executable,
            the_path_to_execute_starts_from_the_directory_of_the_parent,
            a_path_that_leads_nowhere_is_an_error,
            a_path_to_execute_cannot_be_sealed,
        ],
    )
}

// Entries and programs.

fn say_hello() {
    println!("hello");
}

fn spawn() {
    print_result(&mut support::command("sayHello"));
}

/// Lets a child say hello, or prints that the program cannot find its file.
fn print_result(command: &mut reexec::Command) {
    match command.status() {
        Ok(status) => assert!(status.success()),
        Err(error) => println!("{}", not_found(&error)),
    }
}

fn not_found(error: &Error) -> String {
    assert_stage!(error, Stage::Prepare { .. });
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error:?}");
    error.to_string()
}

/// Splits a text, which must have this number of lines.
fn lines_of<const N: usize>(said: &str) -> [&str; N] {
    let lines: Vec<_> = said.lines().collect();
    lines.try_into().unwrap_or_else(|_| panic!("{said}"))
}

/// Returns an argument of the program: the fourth of the process and those after it.
fn argument(number: usize) -> PathBuf {
    env::args_os().nth(3 + number).unwrap().into()
}

fn spawn_after_a_change_of_directory() {
    env::set_current_dir("/").unwrap();
    spawn();
}

fn spawn_from_a_child() {
    assert!(support::command("spawnAnother").status().unwrap().success());
}

/// Replaces our own file, the first argument, by the second.
fn spawn_after_own_file_was_replaced() {
    let (own, another) = (argument(0), argument(1));
    fs::rename(another, &own).unwrap();
    spawn();
    print_self_exe();
    // Control: this would run without the library.
    assert!(Command::new(own).status().unwrap().success());
}

fn spawn_after_own_file_was_deleted() {
    fs::remove_file(argument(0)).unwrap();
    spawn();
    print_self_exe();
}

fn print_self_exe() {
    match reexec::self_exe() {
        Ok(path) => println!("{}", path.display()),
        Err(error) => println!("{:?}", error.kind()),
    }
}

fn print_self_exe_in_a_child() {
    assert!(support::command("printSelfExe").status().unwrap().success());
}

/// A change copies a file from the lower layer to the upper one. A file with two names gets another
/// inode number by that.
fn spawn_after_own_file_was_copied() {
    let own = argument(0);
    let number = || {
        let file = fs::metadata(&own).unwrap();
        (file.dev(), file.ino())
    };
    let before = number();
    fs::set_permissions(&own, Permissions::from_mode(0o700)).unwrap();
    let is_same = number() == before;
    println!("{}", if is_same { "the same" } else { "another" });
    spawn();
}

fn spawn_sealed() {
    print_result(support::command("lookAtImage").sealed());
}

fn spawn_after_a_change_of_root() {
    chroot(&argument(0)).unwrap();
    env::set_current_dir("/").unwrap();
    spawn();
}

fn spawn_in_another_root() {
    chroot(&argument(0)).unwrap();
    env::set_current_dir("/").unwrap();
    spawn();
    print_self_exe();
    // Control: this would run without the library.
    let stranger = argument(1);
    assert!(Command::new(stranger).status().unwrap().success());
}

// Where there is no /proc.

/// Writes a script that is certainly not this program.
fn write_stranger(path: &Path) {
    fs::write(path, "#!/bin/sh\necho the stranger\n").unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

fn without_proc_a_program_that_never_moved_runs_its_own_file() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let absolute = scratch.copy_of_this_program();
    for path in [&absolute, Path::new("./copy")] {
        for name in ["spawn", "spawn_after_a_change_of_directory", "spawn_from_a_child"] {
            let mut program = without_proc(Command::new(path).args(["as", name]))?;
            let said = stdout_of(program.current_dir(&scratch.0));
            assert_eq!(said, "hello\n", "{name} of {}", path.display());
        }
    }
    Ok(())
}

fn without_proc_a_stranger_under_its_path_is_never_run() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let copy = scratch.copy_of_this_program();
    let stranger = scratch.0.join("stranger");
    write_stranger(&stranger);
    let mut program = Command::new(&copy);
    program.args(["as", "spawn_after_own_file_was_replaced"]);
    let said = stdout_of(&mut without_proc(program.arg(&copy).arg(stranger))?);
    let [error, self_exe, by_its_path] = lines_of(&said);
    assert!(error.contains("there is no /proc"), "{said}");
    assert!(error.contains("leads to another file"), "{said}");
    assert_eq!([self_exe, by_its_path], ["NotFound", "the stranger"]);
    Ok(())
}

fn without_proc_a_program_without_a_file_fails() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let copy = scratch.copy_of_this_program();
    let mut program = Command::new(&copy);
    program.args(["as", "spawn_after_own_file_was_deleted"]);
    let said = stdout_of(&mut without_proc(program.arg(&copy))?);
    let [error, self_exe] = lines_of(&said);
    assert!(error.contains("finding the program's own file"), "{said}");
    assert!(error.contains("leads to no file any more"), "{said}");
    assert_eq!(self_exe, "NotFound");
    Ok(())
}

/// The file is replaced after the kernel has loaded it into the child, and before the child can look it
/// up. So the child uses the identity that its parent has sent.
fn without_proc_a_child_knows_its_file_before_its_first_instruction() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let copy = scratch.copy_of_this_program();
    // strace does not stop the program itself, only its child.
    let stop = "inject=execve:signal=SIGSTOP";
    let strace = ["strace", "-f", "-qq", "-e", "trace=execve", "-e", stop];
    let mut program = Command::new(&copy);
    program.args(["as", "print_self_exe_in_a_child"]);
    let mut shell = without_proc(&under(&strace, &program)?)?;
    let mut strace = Running::start(shell.stderr(Stdio::null()));
    let has_executed = |child: &u32| {
        let is_stopped = stat(*child).is_some_and(|stat| stat.state == 't');
        let cmdline = fs::read(format!("/proc/{child}/cmdline"));
        is_stopped && cmdline.is_ok_and(|cmdline| cmdline.starts_with(b"printSelfExe"))
    };
    let mut found = None;
    wait_until("the child is stopped", || {
        let parents = children_of(strace.id()).into_iter();
        found = parents.flat_map(children_of).find(has_executed);
        found.is_some()
    });
    let child = Pid::from_raw(found.unwrap() as i32);
    let stranger = scratch.0.join("stranger");
    write_stranger(&stranger);
    fs::rename(stranger, &copy).unwrap();
    // Again and again: strace may deliver the stop after the first SIGCONT.
    wait_until("the child has ended", || kill(child, Signal::SIGCONT).is_err());
    assert_eq!(strace.line(), "NotFound");
    assert!(strace.wait().success());
    Ok(())
}

/// The only path to the copy is a link in /proc.
fn without_proc_there_is_no_sealed_copy() -> Result<(), Skipped> {
    let said = stdout_of(&mut without_proc(&program("spawn_sealed"))?);
    assert_contains(&said, "making a sealed copy");
    assert_contains(&said, "through /proc, and there is none");
    assert_eq!(said.lines().count(), 1, "{said}");
    Ok(())
}

/// In a container, the image is the lower layer.
fn a_file_that_gets_another_inode_is_still_the_programs() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let script = "mkdir image own; mount -t tmpfs tmpfs image; mount -t tmpfs tmpfs own
        mkdir own/upper own/work own/root; cp \"$PROGRAM\" image/program
        ln image/program image/link
        mount -t overlay -o lowerdir=image,upperdir=own/upper,workdir=own/work,xino=off o own/root";
    let shell = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script]).current_dir(&scratch.0);
        command.env("PROGRAM", env::current_exe().unwrap());
        command
    };
    skip_unless_it_succeeds("an overlay", shell(script))?;
    fs::remove_dir(scratch.0.join("image")).unwrap();
    fs::remove_dir(scratch.0.join("own")).unwrap();
    let run = "exec own/root/program as spawn_after_own_file_was_copied own/root/program";
    let said = stdout_of(&mut shell(&format!("{script}; {run}")));
    assert_eq!(said, "another\nhello\n");
    Ok(())
}

// In another root directory.

/// Makes the directory $ROOT a root with all that a program needs, for this shell and its children. It
/// mounts the system's directories read-only.
const MAKE_ROOT: &str = r#"
mount -t tmpfs tmpfs "$ROOT"
for directory in /bin /lib /lib32 /lib64 /usr; do
    if [ -L "$directory" ]; then
        cp -P "$directory" "$ROOT$directory"
    elif [ -d "$directory" ]; then
        mkdir "$ROOT$directory"
        mount --bind -o ro "$directory" "$ROOT$directory"
    fi
done
cp "$PROGRAM" "$ROOT/program"
"#;

/// Makes a command that makes a root, and then runs the script.
fn in_another_root(scratch: &Scratch, script: &str) -> Result<Command, Skipped> {
    let root = scratch.0.join("root");
    fs::create_dir_all(&root).unwrap();
    let shell = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c"]).arg(script);
        command.env("ROOT", &root);
        command.env("PROGRAM", env::current_exe().unwrap());
        command
    };
    needs(&["unshare", "--mount", "true"])?;
    let output = shell(&format!("{MAKE_ROOT} chroot \"$ROOT\" sh -c true"));
    skip_unless_it_succeeds("making another root", output)?;
    Ok(shell(&format!("{MAKE_ROOT} {script}")))
}

fn skip_unless_it_succeeds(what: &str, mut command: Command) -> Result<(), Skipped> {
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Skipped::because(&format!("{what} fails here: {said}")))
}

fn in_another_root_a_program_started_there_runs_its_own_file() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    for name in ["spawn", "spawn_from_a_child"] {
        let script = format!("exec chroot \"$ROOT\" /program as {name}");
        let said = stdout_of(&mut in_another_root(&scratch, &script)?);
        assert_eq!(said, "hello\n", "{name}");
    }
    Ok(())
}

/// The program was started outside, so its file is missing in the other root.
fn in_another_root_a_stranger_under_the_same_path_is_never_run() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let own = scratch.copy_of_this_program();
    let stranger = scratch.0.join("stranger");
    write_stranger(&stranger);
    let script = "mkdir -p \"$ROOT${OWN%/*}\"; cp \"$STRANGER\" \"$ROOT$OWN\"
        exec \"$OWN\" as spawn_in_another_root \"$ROOT\" \"$OWN\"";
    let mut program = in_another_root(&scratch, script)?;
    let said = stdout_of(program.env("OWN", &own).env("STRANGER", &stranger));
    let [error, self_exe, by_its_path] = lines_of(&said);
    assert!(error.contains("no longer ours"), "{said}");
    assert_eq!([self_exe, by_its_path], ["NotFound", "the stranger"]);
    Ok(())
}

/// Makes a /proc that is an ordinary directory, with the stranger in place of the link to the program.
const FALSE_PROC: &str =
    "mkdir -p \"$ROOT/proc/self/fd\"; cp \"$STRANGER\" \"$ROOT/proc/self/exe\"";

fn in_another_root_with_a_true_proc_the_program_runs_its_own_file() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let script = "mkdir \"$ROOT/proc\"; mount --rbind /proc \"$ROOT/proc\"
        exec \"$PROGRAM\" as spawn_after_a_change_of_root \"$ROOT\"";
    let said = stdout_of(&mut in_another_root(&scratch, script)?);
    assert_eq!(said, "hello\n");
    Ok(())
}

fn in_another_root_a_false_link_to_the_program_is_not_followed() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let stranger = scratch.0.join("stranger");
    write_stranger(&stranger);
    let run = |script: &str| {
        let mut program = in_another_root(&scratch, &format!("{FALSE_PROC}; {script}"))?;
        Ok(stdout_of(program.env("STRANGER", &stranger)))
    };
    let inside = run("exec chroot \"$ROOT\" /program as spawn")?;
    assert_eq!(inside, "hello\n");

    let outside = run("exec \"$PROGRAM\" as spawn_in_another_root \"$ROOT\" /proc/self/exe")?;
    let [error, self_exe, by_the_link] = lines_of(&outside);
    assert!(error.contains("no longer ours"), "{outside}");
    assert_eq!([self_exe, by_the_link], ["NotFound", "the stranger"]);
    Ok(())
}

/// The link to the program is right, and those to its descriptors lead to the stranger. In the second
/// case some are right in the parent, through a true /proc elsewhere, but the child looks up another
/// number.
fn in_another_root_a_false_link_to_the_sealed_copy_is_not_followed() -> Result<(), Skipped> {
    let scratch = Scratch::new();
    let stranger = scratch.0.join("stranger");
    write_stranger(&stranger);
    for numbers_that_are_right in ["", "6 7 8 9 10 11 12 13 14 15 16"] {
        let script = format!(
            "{FALSE_PROC}; ln -f \"$ROOT/program\" \"$ROOT/proc/self/exe\"
            for number in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
                cp \"$STRANGER\" \"$ROOT/proc/self/fd/$number\"
            done
            mkdir \"$ROOT/true\"; mount --rbind /proc \"$ROOT/true\"
            for number in {numbers_that_are_right}; do
                ln -sf /true/self/fd/$number \"$ROOT/proc/self/fd/$number\"
            done
            exec chroot \"$ROOT\" /program as spawn_sealed"
        );
        let mut program = in_another_root(&scratch, &script)?;
        let said = stdout_of(program.env("STRANGER", &stranger));
        assert_contains(&said, "through /proc, and there is none");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    Ok(())
}

// A sealed copy.

/// Prints the file that this process runs, whether it can write to it, and how many of its descriptors
/// lead to such a file.
fn look_at_image() {
    const IMAGE: &str = "/proc/self/exe";
    let image = fs::read_link(IMAGE).unwrap();
    let seals = fcntl(File::open(IMAGE).unwrap(), FcntlArg::F_GET_SEALS);
    let all = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    assert_eq!(seals.unwrap() & all, all, "neither content nor size can be changed");
    // Some kernels refuse the open, and others the write.
    let opened = OpenOptions::new().append(true).open(IMAGE);
    let written = opened.and_then(|mut file| file.write_all(b"the stranger"));
    let open = descriptors().into_values();
    let copies = open.filter(|target| *target == image).count();
    println!("{} {} {copies}", image.display(), written.is_ok());
}

/// The inner child runs a copy of a copy.
fn sealed_children_can_have_sealed_children() {
    let mut command = support::command("lookAtImageAndSpawnSealed");
    let output = command.sealed().output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let image = "/memfd:reexec (deleted) false 0";
    assert_eq!(said, format!("{image}\n{image}\n"));
}

/// Keeps this program's file open, waits until no process runs it, and lets a shell write to it.
fn overwrite_image() {
    let image = File::open("/proc/self/exe").unwrap();
    let image = nix::unistd::dup(image).unwrap(); // without close-on-exec
    until_stdin_ends();
    let number = image.as_raw_fd();
    let script = format!("echo the stranger 1<>/proc/self/fd/{number}");
    let error = Command::new("sh").args(["-c", &script]).exec();
    panic!("{error}");
}

fn leave_a_child() {
    leave(&mut support::command("overwriteImage"));
}

fn leave_a_sealed_child() {
    leave(support::command("overwriteImage").sealed());
}

fn leave(command: &mut reexec::Command) {
    command.stderr(reexec::Stdio::null()).outlive_parent();
    let child = command.spawn().unwrap();
    println!("{}", child.id());
    mem::forget(child);
}

/// Lets a child write to the file that it runs, after this program has ended. Returns whether it could,
/// and the beginning of the program's file.
fn overwrite(program: &str) -> (bool, Vec<u8>) {
    let scratch = Scratch::new();
    let copy = scratch.copy_of_this_program();
    let mut program = Running::start(Command::new(&copy).args(["as", program]));
    let child = program.pid();
    assert!(program.wait().success());
    program.close_stdin();
    let is_written = reap(child) == exited(child, 0);
    let mut beginning = vec![0; 4];
    File::open(&copy).unwrap().read_exact(&mut beginning).unwrap();
    (is_written, beginning)
}

fn a_sealed_child_cannot_overwrite_the_program() {
    assert_eq!(overwrite("leave_a_sealed_child"), (false, b"\x7fELF".to_vec()));
    // Control: an ordinary child can, and the next start of the program would run that.
    assert_eq!(overwrite("leave_a_child"), (true, b"the ".to_vec()));
}

// Another path.

/// Spawns without `executable`, and prints the result. Then lets a child with it say hello. The path is
/// the argument, or the one of std.
fn spawn_by_another_path() {
    let path = env::args_os().nth(3).map(PathBuf::from);
    let path = path.unwrap_or_else(|| env::current_exe().unwrap());
    let null = reexec::Stdio::null;
    let mut without = support::command("sayHello");
    without.stdout(null()).stderr(null());
    match without.spawn() {
        Ok(child) => println!("{}", child.wait().unwrap()),
        Err(error) => match error.stage() {
            Stage::BeforeInit { .. } | Stage::Exec { .. } => println!("no child"),
            stage => panic!("{stage:?}"),
        },
    }
    print_result(support::command("sayHello").executable(path));
}

/// Returns the loader of this program, unless it is static.
fn loader() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let loader =
        files.find(|file| file.rsplit('/').next().is_some_and(|name| name.starts_with("ld-")));
    loader.map(PathBuf::from)
}

fn a_program_started_by_its_loader_needs_executable() -> Result<(), Skipped> {
    let Some(loader) = loader() else {
        return Err(Skipped::because("this program has no loader"));
    };
    let own = env::current_exe().unwrap();
    let mut command = Command::new(loader);
    command.arg(&own).args(["as", "spawn_by_another_path"]).arg(&own);
    assert_eq!(stdout_of(&mut command), "no child\nhello\n");
    Ok(())
}

fn a_program_under_valgrind_needs_executable() -> Result<(), Skipped> {
    let valgrind = ["valgrind", "--quiet", "--tool=none"];
    let said = stdout_of(&mut under(&valgrind, &program("spawn_by_another_path"))?);
    // Some valgrind may hide itself also from execve(2).
    let expected = ["no child\nhello\n", "exit status: 0\nhello\n"];
    assert!(expected.contains(&said.as_str()), "{said}");
    Ok(())
}

/// The child enters its own directory later.
fn the_path_to_execute_starts_from_the_directory_of_the_parent() {
    let scratch = Scratch::new();
    let copy = scratch.copy_of_this_program();
    let mut program = program("run_a_copy");
    let mut program = Running::start(program.current_dir(&scratch.0));
    let child = program.pid();
    let image = fs::read_link(format!("/proc/{child}/exe")).unwrap();
    let directory = fs::read_link(format!("/proc/{child}/cwd")).unwrap();
    assert_eq!((image, directory), (copy, PathBuf::from("/")));
    program.close_stdin();
    assert!(program.wait().success());
}

fn run_a_copy() {
    let mut command = support::command("childProcess");
    let child = command.executable("copy").current_dir("/").spawn().unwrap();
    println!("{}", child.id());
    assert!(child.wait().unwrap().success());
}

fn a_path_that_leads_nowhere_is_an_error() {
    let before = (descriptors(), children());
    let path = Path::new("/no/such/program");
    let mut command = support::command("sayHello");
    let error = command.executable(path).spawn().unwrap_err();
    let Stage::Exec { program, source } = error.stage() else {
        panic!("{error:?}");
    };
    let found = (program.as_path(), source.raw_os_error());
    assert_eq!(found, (path, Some(libc::ENOENT)));
    assert_contains(&error, "/no/such/program");
    assert_eq!((descriptors(), children()), before);
}

fn a_path_to_execute_cannot_be_sealed() {
    let before = (descriptors(), children());
    let own = env::current_exe().unwrap();
    let mut command = support::command("sayHello");
    let error = command.executable(own).sealed().spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
    assert_contains(&error, "executable");
    assert_eq!((descriptors(), children()), before);
}
