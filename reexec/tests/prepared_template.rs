//! A template that confines itself: its children lack what it has given up, and the maker keeps it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::ffi::c_long;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid, geteuid, getpgid, setgroups, setresgid, setresuid};
use reexec::{Child, Command, Stage, Stdio, Template};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use support::filters::needs_filters;
use support::{
    LIMIT, NOBODY, Running, Scratch, Skipped, assert_contains, assert_stage, children, is_gone,
    needs_root, program, status_line, wait_until,
};

/// What the preparation has left for children.
static PREPARED: OnceLock<String> = OnceLock::new();

fn main() -> ExitCode {
    reexec::register_preparation("remember", |args| {
        let _ = PREPARED.set(args.join(" "));
        Ok(())
    });
    reexec::register_preparation("fail", |args| match args[0].as_str() {
        "text" => Err(io::Error::other("for a reason")),
        "errno" => Err(io::Error::from_raw_os_error(libc::ENOLCK)),
        file => File::open(file).map(drop).map_or(Ok(()), |()| Err(io::Error::other("it exists"))),
    });
    reexec::register_preparation("leave", |args| {
        match args[0].as_str() {
            "thread" => drop(thread::spawn(|| thread::sleep(LIMIT))),
            _ => std::mem::forget(File::open("/dev/null").unwrap()),
        }
        Ok(())
    });
    reexec::register_preparation("confine", |args| {
        let (user, left_out) = (args[0] == "user", &args[1]);
        if user {
            become_nobody();
        }
        if left_out != "no filter" {
            seccompiler::apply_filter(&only_needed_calls(left_out)).unwrap();
        }
        let _ = PREPARED.set(args[0].clone());
        Ok(())
    });
    reexec::register("remembered", || println!("{}", PREPARED.get().unwrap()));
    reexec::register("nothing", || {});
    reexec::register("tell", tell);
    reexec::register("environment", || {
        // As the program sees it, and as ps does.
        let seen = fs::read("/proc/self/environ").unwrap();
        let seen: Vec<_> = seen.split(|byte| *byte == 0).filter(|it| !it.is_empty()).collect();
        assert_eq!(seen.len(), env::vars_os().count());
        env::vars_os().for_each(|(name, _)| println!("{name:?}"));
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![be_killed],
        support::trials![
            children_have_what_the_preparation_leaves,
            its_error_is_that_of_the_template,
            what_it_leaves_open_is_noticed,
            if_it_fails_later_no_entry_runs,
            a_child_may_keep_the_templates_environment,
            the_list_of_system_calls_is_complete,
            without_one_of_them_there_are_no_children,
            children_of_another_user_are_still_ours,
            children_of_another_user_end_with_their_maker,
        ],
    )
}

fn become_nobody() {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    prctl::set_no_new_privs().unwrap();
}

/// Kills this process at any call but those of a template, and those of the entry `tell`.
fn only_needed_calls(left_out: &str) -> BpfProgram {
    const OF_THE_ENTRY: [c_long; 3] = [libc::SYS_read, libc::SYS_write, libc::SYS_sigaltstack];
    let left_out: c_long = left_out.parse().unwrap_or(-1);
    let calls = Template::SYSTEM_CALLS.iter().chain(&OF_THE_ENTRY);
    let rules = calls.filter(|call| **call != left_out).map(|call| (*call, Vec::new())).collect();
    let arch = env::consts::ARCH.try_into().unwrap();
    let kill = SeccompAction::KillProcess;
    SeccompFilter::new(rules, kill, SeccompAction::Allow, arch).unwrap().try_into().unwrap()
}

/// In a child: prints its arguments, environment, and what it has got; then waits for the end of stdin.
fn tell() {
    let mut passed = String::new();
    let pipe = reexec::inherited_fd("passed").unwrap();
    io::PipeReader::from(pipe).read_to_string(&mut passed).unwrap();
    let args: Vec<_> = env::args().collect();
    let env: Vec<_> = env::vars().collect();
    println!("{} {args:?} {env:?} {passed}", PREPARED.get().unwrap());
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// A child that uses all that the list of system calls is for.
fn telling(template: &Template) -> Command {
    let (read, mut write) = io::pipe().unwrap();
    write.write_all(b"hello").unwrap();
    let mut command = template.command("tell");
    command
        .args(["one", "two"])
        .env_clear()
        .env("A", "b")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .fd("passed", read)
        .process_group(0)
        .parent_death_signal(libc::SIGKILL)
        .ignore_signal(libc::SIGTERM)
        .ignore_signal(libc::SIGHUP);
    command
}

/// Starts such a child, and checks all of it.
fn assert_told(template: &Template, prepared: &str) {
    let child = telling(template).spawn().unwrap();
    assert!(child.is_from_template(), "{:?}", template.why_executed());
    let pid = Pid::from_raw(child.id() as i32);
    assert_eq!(getpgid(Some(pid)).unwrap(), pid);
    assert_eq!(status_line(child.id(), "Name"), "tell");
    let ignored = support::signals(child.id(), "SigIgn");
    assert_eq!(ignored, [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM]);
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(cmdline, b"tell\0one\0two\0");
    child.signal(libc::SIGTERM).unwrap(); // it is ignored
    assert_eq!(
        told(child),
        format!("{prepared} [\"tell\", \"one\", \"two\"] [(\"A\", \"b\")] hello\n")
    );
}

fn told(child: Child) -> String {
    drop(child.take_stdin());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn children_have_what_the_preparation_leaves() {
    let template = Template::prepared_by("remember", ["one", "two words"]).unwrap();
    assert_eq!(template.why_executed(), None);
    let remembered = |args: usize| {
        let mut command = template.command("remembered");
        let output = command.args(vec!["x"; args]).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "one two words\n");
    };
    remembered(0);
    // Executed instead.
    remembered(65);
    assert_contains(&template.why_executed().unwrap(), "64 arguments");
    // From the next templates.
    template.renew_after(1);
    let first = template.id();
    (0..3).for_each(|_| remembered(0));
    assert_ne!(template.id(), first);
    template.renew_after(0);
    let pid = Pid::from_raw(template.id().unwrap() as i32);
    kill(pid, Signal::SIGKILL).unwrap();
    (0..2).for_each(|_| remembered(0));
    assert_eq!(PREPARED.get(), None);
}

fn its_error_is_that_of_the_template() {
    let error = |name, arg| {
        let error = Template::prepared_by(name, [arg]).unwrap_err();
        assert_stage!(error, Stage::SetUp { .. });
        assert!(children().is_empty());
        error
    };
    let text = error("fail", "text");
    assert_contains(&text, "in the child, the preparation \"fail\" failed: for a reason");
    assert_eq!(error("fail", "errno").raw_os_error(), Some(libc::ENOLCK));
    assert_contains(&error("nobodyKnowsThis", ""), "no function is registered");
}

fn what_it_leaves_open_is_noticed() {
    for what in ["thread", "descriptor"] {
        let template = Template::prepared_by("leave", [what]).unwrap();
        assert_contains(&template.why_executed().unwrap(), what);
        assert_eq!(template.id(), None);
    }
}

/// Otherwise a child would run without what the template should have given up.
fn if_it_fails_later_no_entry_runs() {
    let scratch = Scratch::new();
    let file = scratch.0.join("marker");
    let template = Template::prepared_by("fail", [file.to_str().unwrap()]).unwrap();
    let run = || template.command("nothing").spawn();
    assert!(run().unwrap().is_from_template());
    fs::write(&file, "").unwrap();
    let pid = Pid::from_raw(template.id().unwrap() as i32);
    kill(pid, Signal::SIGKILL).unwrap();
    for _ in 0..3 {
        let error = run().unwrap_err();
        assert_stage!(error, Stage::SetUp { .. });
        assert_contains(&error, "it exists");
    }
    fs::remove_file(&file).unwrap();
    while !run().unwrap().is_from_template() {}
}

fn a_child_may_keep_the_templates_environment() {
    let template = Template::prepared_by("remember", ["this"]).unwrap();
    let environment = |keeps: bool, args: usize| {
        let mut command = template.command("environment");
        command.args(vec!["x"; args]).env("NEW", "1");
        if keeps {
            command.keep_template_env();
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        String::from_utf8(output.stdout).unwrap()
    };
    let kept = environment(true, 2);
    assert!(kept.contains("PATH") && !kept.contains("NEW"), "{kept}");
    assert_contains(&environment(false, 2), "NEW");
    // Executed.
    assert_contains(&environment(true, 65), "NEW");
}

fn the_list_of_system_calls_is_complete() -> Result<(), Skipped> {
    needs_filters()?;
    let template = Template::prepared_by("confine", ["no user", ""]).unwrap();
    (0..3).for_each(|_| assert_told(&template, "no user"));
    // This process is not confined.
    assert_eq!(status_line(std::process::id(), "Seccomp"), "0");
    Ok(())
}

fn without_one_of_them_there_are_no_children() -> Result<(), Skipped> {
    needs_filters()?;
    for call in [libc::SYS_recvmsg, libc::SYS_clone3, libc::SYS_close_range, libc::SYS_fcntl] {
        let template = Template::prepared_by("confine", ["no user".to_owned(), call.to_string()]);
        let Ok(child) = telling(&template.unwrap()).spawn() else { continue };
        assert!(!child.is_from_template(), "without call {call}");
    }
    Ok(())
}

fn children_of_another_user_are_still_ours() -> Result<(), Skipped> {
    needs_root()?;
    needs_filters()?;
    let template = Template::prepared_by("confine", ["user", ""]).unwrap();
    (0..2).for_each(|_| assert_told(&template, "user"));
    assert!(geteuid().is_root());
    let child = telling(&template).spawn().unwrap();
    assert_contains(&status_line(child.id(), "Uid"), &NOBODY.to_string());
    child.signal(libc::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    Ok(())
}

fn children_of_another_user_end_with_their_maker() -> Result<(), Skipped> {
    needs_root()?;
    needs_filters()?;
    let mut maker = Running::start(&mut program("be_killed"));
    let ids: Vec<u32> = maker.line().split(' ').map(|id| id.parse().unwrap()).collect();
    maker.kill();
    wait_until("the template and its child have ended", || {
        // We adopt them.
        let _ = waitpid(None, Some(WaitPidFlag::WNOHANG));
        ids.iter().all(|id| is_gone(*id))
    });
    Ok(())
}

/// Makes a child from a template of another user, and waits to be killed.
fn be_killed() {
    let template = Template::prepared_by("confine", ["user", ""]).unwrap();
    let child = telling(&template).spawn().unwrap();
    println!("{} {}", template.id().unwrap(), child.id());
    thread::sleep(LIMIT);
}
