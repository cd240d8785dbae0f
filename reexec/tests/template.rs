//! A template makes children that are like executed ones, and belong to the caller. What it cannot
//! make is executed. It refuses to make a child with other rights than the caller has.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // a panic fails a test

mod support;

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chroot;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Gid, Pid, Uid, close, getpgid, getpgrp, setgroups, setresgid, setresuid};
use reexec::{Command, Fork, Stage, Stdio, Template};
use support::filters::{needs_filters, refuse};
use support::{
    LIMIT, NOBODY, Running, Skipped, assert_contains, assert_stage, children, descriptors, exited,
    is_gone, needs_root, program, stat, status_line, stdout_of, until_stdin_ends, wait_until,
};

/// The most arguments that a child of a template can have.
const ARGUMENTS_MAX: usize = 64;

/// The most descriptors that a message can carry.
const RIGHTS_MAX: usize = 253;

/// How often the tests kill at a random instant; the variable sets another number.
const KILLS: &str = "KILLS";

fn main() -> ExitCode {
    if env::var_os("PRINT_EARLY").is_some() {
        print!("early ");
    }
    if env::var_os("OPEN_EARLY").is_some() {
        std::mem::forget(File::open("/dev/null").unwrap());
    }
    if env::var_os("THREAD_EARLY").is_some() {
        thread::spawn(|| thread::sleep(LIMIT));
    }
    reexec::register("describe", describe);
    reexec::register("untilStdinEnds", until_stdin_ends);
    reexec::register("nothing", || {});
    reexec::register("seven", || ExitCode::from(7));
    reexec::register("say", || print!("once"));
    reexec::register("group", || println!("{}", getpgrp()));
    reexec::register("threads", threads);
    reexec::register("abort", || -> ExitCode { process::abort() });
    reexec::register("panic", || panic!("on purpose"));
    reexec::register("overflow", || println!("{}", overflow(1)));
    reexec::register("useTemplate", use_template);
    reexec::register("address", || println!("{:p}", describe as fn()));
    reexec::register("mayUnshare", || {
        ExitCode::from(u8::from(unshare(CloneFlags::CLONE_FS).is_err()))
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run_in_programs(
        || Ok(()),
        support::programs![
            a_closed_stream_is_executed,
            descriptors_that_do_not_fit_are_executed,
            a_forked_copy_cannot_use_the_template,
        ],
        support::programs![
            spawn_with_clone3_refused,
            spawn_with_the_reply_refused,
            spawn_without_pidfds,
            spawn_without_room_for_processes,
            spawn_after_a_change,
            spawn_after_a_further_filter,
            spawn_after_an_early_start,
            print_early,
            be_killed,
        ],
        support::trials![
            a_child_is_like_an_executed_one,
            a_child_is_the_callers_own,
            a_child_has_threads_and_locks,
            an_abort_is_an_abort,
            a_panic_is_exit_code_101,
            a_stack_overflow_is_reported,
            a_child_can_make_a_template,
            a_job_has_its_keeper_from_the_template,
            output_before_init_is_written_once,
            stages_are_those_of_an_executed_child,
            a_child_joins_a_process_group,
            an_entry_runs_in_the_group,
            a_keeper_is_cloned_too,
            what_does_not_fit_is_executed,
            what_is_started_before_init_is_noticed,
            a_refused_clone3_is_executed,
            a_template_needs_no_pidfds,
            no_room_for_a_process_is_an_error,
            a_change_is_refused,
            a_further_filter_is_not_noticed,
            a_template_is_renewed,
            dropping_the_last_handle_ends_the_template,
            a_killed_template_is_replaced,
            a_template_that_has_ended_is_renewed_without_a_spawn,
            a_stopped_template_is_replaced,
            a_child_that_its_template_does_not_report_is_kept,
            a_template_killed_at_any_instant_loses_no_child,
            a_caller_killed_at_any_instant_leaves_nothing,
            a_thousand_children_leave_no_descriptor,
        ],
    )
}

/// In a child: prints all that a program can see of itself, except numbers that differ each time.
fn describe() {
    let read = |name: &str| {
        let bytes = fs::read(format!("/proc/self/{name}")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    println!("{:?} {:?}", env::args_os(), env::vars_os().collect::<Vec<_>>());
    println!("{:?} {:?} {:?}", read("cmdline"), read("environ"), read("comm"));
    for line in read("status").lines() {
        let is_fixed = ["Umask", "Uid", "Gid", "Groups", "Threads", "NoNew", "Seccomp:", "Cap"];
        if line.starts_with("Sig") && !line.starts_with("SigQ")
            || is_fixed.iter().any(|name| line.starts_with(name))
        {
            println!("{line}");
        }
    }
    for (fd, target) in descriptors() {
        let target = target.to_string_lossy().into_owned();
        let kind = target.split(':').next().unwrap().to_owned();
        println!("{fd} {kind}");
    }
    println!("{} {}", read("limits"), env::current_dir().unwrap().display());
    let stat = read("stat");
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    println!("{:?} {} {}", &fields[1..5], fields[15], fields[16]); // parent, group, session, tty; nice
    println!("{:?} {:?}", env::current_exe().unwrap(), reexec::self_exe().unwrap());
    println!("{:?}", read("exe").len());
    let passed = reexec::inherited_fd("passed");
    println!("{:?}", passed.map(support::read_all).unwrap_or_default());
}

/// In a child: uses what depends on the number of the thread that libc keeps.
fn threads() {
    let shared = Arc::new(Mutex::new(0));
    let add =
        |shared: Arc<Mutex<i32>>| move || (0..1000).for_each(|_| *shared.lock().unwrap() += 1);
    let running: Vec<_> = (0..4).map(|_| thread::spawn(add(shared.clone()))).collect();
    running.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(*shared.lock().unwrap(), 4000);
    raise(Signal::SIGWINCH).unwrap(); // to the thread of that number
    assert!(process::Command::new("true").status().unwrap().success());
}

#[expect(unconditional_recursion, reason = "that is what a stack overflow is")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box([depth; 128]);
    overflow(depth + 1) + 1
}

/// In a child: makes a template, and a child of it.
fn use_template() -> ExitCode {
    let template = Template::new().unwrap();
    let child = template.command("seven").spawn().unwrap();
    assert!(child.is_from_template(), "{:?}", template.why_executed());
    ExitCode::from(child.wait().unwrap().code().unwrap() as u8)
}

/// Makes a template that can make children.
fn template() -> Template {
    let template = Template::new().unwrap();
    assert_eq!(template.why_executed(), None);
    template
}

/// Spawns and waits; returns whether the template has made the child.
#[track_caller]
fn exits_with_seven(command: &mut Command) -> bool {
    let child = command.spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    child.is_from_template()
}

/// Fails unless the child is executed, for this reason.
#[track_caller]
fn assert_executed(template: &Template, command: &mut Command, reason: &str) {
    assert!(!exits_with_seven(command));
    assert_contains(&template.why_executed().unwrap(), reason);
}

fn a_child_is_like_an_executed_one() {
    let template = template();
    let described = |mut command: Command, change: &dyn Fn(&mut Command) -> &mut Command| {
        change(command.stdout(Stdio::piped()).stderr(Stdio::inherit()));
        let child = command.spawn().unwrap();
        let from_template = child.is_from_template();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        (String::from_utf8(output.stdout).unwrap(), from_template)
    };
    let changes: [&dyn Fn(&mut Command) -> &mut Command; 8] = [
        &|command| command,
        &|command| command.args(["one", "", "two words", "ü"]),
        &|command| command.args((0..ARGUMENTS_MAX).map(|number| number.to_string())),
        &|command| command.env_clear(),
        &|command| command.env_clear().env("ONLY", "this").arg("x"),
        &|command| command.stdin(Stdio::null()).stderr(Stdio::null()).umask(0o70),
        &|command| command.ignore_signal(libc::SIGUSR1).ignore_signal(libc::SIGHUP).setsid(),
        &|command| {
            let (read, write) = io::pipe().unwrap();
            io::Write::write_all(&mut &write, b"hello").unwrap();
            let other = File::open("/dev/null").unwrap();
            command.fd("passed", read).fd("other", other).outlive_parent().nice(1)
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let own = |text: String| {
            // A new session has the number of the child.
            text.lines()
                .filter(|line| number != 6 || !line.starts_with('['))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let (executed, from_template) = described(reexec::command("describe"), change);
        assert!(!from_template);
        let (made, from_template) = described(template.command("describe"), change);
        assert!(from_template, "{:?}", template.why_executed());
        assert_eq!(own(made), own(executed), "change {number}");
    }
}

fn a_child_is_the_callers_own() {
    // The kernel gives the child to the thread that has started the template; then to another one.
    let template = thread::spawn(template).join().unwrap();
    let child = template.command("seven").spawn().unwrap();
    assert!(child.is_from_template());
    assert_eq!(stat(child.id()).unwrap().parent, process::id());
    let pid = Pid::from_raw(child.id() as i32);
    let ended = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    assert_eq!(ended, exited(child.id(), 7));
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let threads = (0..4).map(|_| {
        let template = template.clone();
        thread::spawn(move || (0..10).all(|_| exits_with_seven(&mut template.command("seven"))))
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|thread| assert!(thread.join().unwrap()));
    let unconfirmed = template.command("seven").spawn_unconfirmed().unwrap();
    assert!(unconfirmed.is_from_template());
    assert_eq!(unconfirmed.wait().unwrap().code(), Some(7));
    assert_eq!(template.command("seven").status().unwrap().code(), Some(7));
    let output = template.command("describe").output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty());
}

fn a_child_has_threads_and_locks() {
    assert!(template().command("threads").status().unwrap().success());
}

fn an_abort_is_an_abort() {
    let mut command = template().command("abort");
    let status = command.rlimit(reexec::Resource::CoreSize, 0, 0).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT));
}

fn a_panic_is_exit_code_101() {
    let output = template().command("panic").output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    assert_contains(&String::from_utf8(output.stderr).unwrap(), "on purpose");
}

fn a_stack_overflow_is_reported() {
    let template = template();
    for mut command in [reexec::command("overflow"), template.command("overflow")] {
        let output = command.rlimit(reexec::Resource::CoreSize, 0, 0).output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        assert_contains(&String::from_utf8(output.stderr).unwrap(), "overflowed its stack");
    }
}

fn a_job_has_its_keeper_from_the_template() {
    let template = template();
    let mut shell = template.program("sh");
    shell.args(["-c", "setsid sleep 1000 & echo $!; exit 5"]).stdout(Stdio::piped());
    let output = shell.spawn_job().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let escaped: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(is_gone(escaped));
    let missing = template.program("/no/such/program").spawn_job().unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(template.why_executed(), None);
}

fn a_child_can_make_a_template() {
    assert!(exits_with_seven(&mut template().command("useTemplate")));
}

fn output_before_init_is_written_once() {
    assert_eq!(stdout_of(program("print_early").env("PRINT_EARLY", "1")), "early from template\n");
}

fn print_early() {
    let template = template();
    assert!(exits_with_seven(&mut template.command("seven")));
    println!("from template");
}

fn stages_are_those_of_an_executed_child() {
    let template = template();
    let error = template.command("nobodyKnowsThis").spawn().unwrap_err();
    assert_stage!(error, Stage::UnknownEntry);
    let error = template.command("nothing").current_dir("/nonexistent").spawn().unwrap_err();
    assert_stage!(error, Stage::SetUp { .. });
    let error = template.command("nothing").uid(u32::MAX).spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
    assert_eq!(children(), [template.id().unwrap()]);
    assert_eq!(template.why_executed(), None);
}

fn a_child_joins_a_process_group() {
    let template = template();
    let first = piped(&template).process_group(0).spawn().unwrap();
    let group =
        |child: &reexec::Child| getpgid(Some(Pid::from_raw(child.id() as i32))).unwrap().as_raw();
    assert_eq!(group(&first), first.id() as i32);
    let second = piped(&template).process_group(first.id() as i32).spawn().unwrap();
    assert_eq!(group(&second), first.id() as i32);
    let plain = piped(&template).spawn().unwrap();
    assert_eq!(group(&plain), getpgrp().as_raw());
    assert!([&first, &second, &plain].iter().all(|child| child.is_from_template()));
    let error = piped(&template).process_group(1).spawn().unwrap_err();
    assert_stage!(error, Stage::ProcessGroup { group: 1, .. });
    drop((first, second, plain));
    assert_eq!(children(), [template.id().unwrap()]);
}

fn a_keeper_is_cloned_too() {
    let template = template();
    let mut described = template.command("describe");
    let job = described.arg("one").stdout(Stdio::piped()).spawn_job().unwrap();
    // The keeper was not executed.
    assert_eq!(template.why_executed(), None);
    let output = job.wait_with_output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
    assert_eq!(template.command("seven").spawn_job().unwrap().wait().unwrap().code(), Some(7));
    assert_eq!(template.why_executed(), None);
}

fn piped(template: &Template) -> Command {
    let mut command = template.command("untilStdinEnds");
    command.stdin(Stdio::piped());
    command
}

fn what_does_not_fit_is_executed() {
    let template = template();
    let seven = || template.command("seven");
    let arguments = |count| vec!["x"; count];
    assert!(exits_with_seven(seven().args(arguments(ARGUMENTS_MAX))));
    assert_executed(&template, seven().args(arguments(ARGUMENTS_MAX + 1)), "64 arguments");
    assert!(exits_with_seven(seven().env("LONG", "x".repeat(40 << 10))));
    assert_executed(&template, seven().env("LONG", "x".repeat(70 << 10)), "sending the request");
    assert_executed(&template, seven().sealed(), "sealed");
    assert_executed(&template, seven().executable(env::current_exe().unwrap()), "file to execute");
    // It has made the others meanwhile, and is still the same.
    assert_eq!(children(), [template.id().unwrap()]);
}

fn descriptors_that_do_not_fit_are_executed() {
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let template = template();
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let with = |count: usize| {
        let mut command = template.command("seven");
        for number in 0..count {
            command.fd(number.to_string(), null());
        }
        command
    };
    const OWN: usize = 5; // the streams, the control channel, the lifeline
    assert!(exits_with_seven(&mut with(RIGHTS_MAX - OWN)));
    assert_executed(&template, &mut with(RIGHTS_MAX - OWN + 1), "253 descriptors");
    // A template without room for them.
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let small = Template::new().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let mut command = small.command("seven");
    for number in 0..70 {
        command.fd(number.to_string(), null());
    }
    assert_executed(&small, &mut command, "Too many open files");
    assert!(exits_with_seven(&mut small.command("seven")));
}

fn a_closed_stream_is_executed() {
    let template = template();
    close(0).unwrap();
    assert_executed(&template, &mut template.command("seven"), "stdin");
    assert!(exits_with_seven(template.command("seven").stdin(Stdio::null())));
}

fn what_is_started_before_init_is_noticed() {
    for (early, reason) in [("THREAD_EARLY", "2 threads"), ("OPEN_EARLY", "was opened before")] {
        stdout_of(program("spawn_after_an_early_start").env(early, "1").env("REASON", reason));
    }
}

fn spawn_after_an_early_start() {
    let template = Template::new().unwrap();
    assert_executed(&template, &mut template.command("seven"), &env::var("REASON").unwrap());
    assert_eq!(template.id(), None);
    assert!(children().is_empty());
}

fn a_refused_clone3_is_executed() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("spawn_with_clone3_refused"));
    Ok(())
}

fn spawn_with_clone3_refused() {
    // With another error, libc does not start processes either.
    refuse(&["clone3"], libc::ENOSYS);
    let template = Template::new().unwrap();
    assert_executed(&template, &mut template.command("seven"), "made no process");
}

fn a_template_needs_no_pidfds() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("spawn_without_pidfds"));
    Ok(())
}

fn spawn_without_pidfds() {
    refuse(&["pidfd_open"], libc::EPERM);
    let template = template();
    (0..3).for_each(|_| assert!(exits_with_seven(&mut template.command("seven"))));
    signal(template.id().unwrap(), Signal::SIGKILL);
    assert_executed(&template, &mut template.command("seven"), "has ended");
    assert!(exits_with_seven(&mut template.command("seven")));
    drop(template);
    assert!(children().is_empty());
}

fn no_room_for_a_process_is_an_error() -> Result<(), Skipped> {
    needs_root()?;
    stdout_of(&mut program("spawn_without_room_for_processes"));
    Ok(())
}

fn spawn_without_room_for_processes() {
    // A user that nobody else is; the template counts as well.
    support::become_user(1_000_000 + process::id());
    setrlimit(Resource::RLIMIT_NPROC, 2, 2).unwrap();
    let template = template();
    let error = template.command("seven").spawn().unwrap_err();
    assert_stage!(error, Stage::NewProcess { .. });
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(children(), [template.id().unwrap()]);
}

fn a_change_is_refused() -> Result<(), Skipped> {
    needs_root()?;
    needs_filters()?;
    for name in CHANGES {
        let mut command = program("spawn_after_a_change");
        assert_contains(&stdout_of(command.env("CHANGE", name)), "refused");
    }
    Ok(())
}

const CHANGES: [&str; 8] = [
    "user ids",
    "group ids",
    "supplementary groups",
    "capabilities",
    "no_new_privs flag",
    "seccomp mode",
    "root directory",
    "namespaces",
];

fn spawn_after_a_change() {
    let change = env::var("CHANGE").unwrap();
    if change == "seccomp mode" {
        prctl::set_no_new_privs().unwrap(); // with a filter, seccompiler sets it
    }
    let template = template();
    assert!(exits_with_seven(&mut template.command("seven")));
    match change.as_str() {
        "user ids" => setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(NOBODY)).unwrap(),
        "group ids" => {
            let (root, nobody) = (Gid::from_raw(0), Gid::from_raw(NOBODY));
            setresgid(root, nobody, root).unwrap();
        }
        "supplementary groups" => setgroups(&[Gid::from_raw(NOBODY)]).unwrap(),
        "capabilities" => reexec::workspace::drop_capabilities().unwrap(),
        "no_new_privs flag" => prctl::set_no_new_privs().unwrap(),
        "seccomp mode" => refuse(&["unshare"], libc::EPERM),
        "root directory" => chroot("/proc").unwrap(),
        "namespaces" => unshare(CloneFlags::CLONE_NEWUTS).unwrap(),
        other => panic!("{other}"),
    }
    let error = template.command("seven").spawn().unwrap_err();
    assert_stage!(error, Stage::Invalid(_));
    assert_contains(&error, &change);
    println!("refused");
}

fn a_further_filter_is_not_noticed() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("spawn_after_a_further_filter"));
    Ok(())
}

fn spawn_after_a_further_filter() {
    refuse(&["signalfd4"], libc::EPERM);
    let before = template();
    refuse(&["unshare"], libc::EPERM);
    // The mode is the same. So the documentation begins: "confine yourself, then make the template".
    assert_eq!(before.command("mayUnshare").status().unwrap().code(), Some(0));
    assert_eq!(reexec::command("mayUnshare").status().unwrap().code(), Some(1));
    assert_eq!(Template::new().unwrap().command("mayUnshare").status().unwrap().code(), Some(1));
}

fn a_forked_copy_cannot_use_the_template() {
    let template = template();
    match reexec::fork().unwrap() {
        Fork::Parent(copy) => assert_eq!(copy.wait().unwrap().code(), Some(0)),
        Fork::Child => {
            let error = template.command("seven").spawn().unwrap_err();
            assert_stage!(error, Stage::Invalid(_));
            assert_contains(&error, "forked");
            assert_contains(&template.renew().unwrap_err(), "forked");
            drop(template); // does not end the parent's
            reexec::exit_now(0);
        }
    }
    assert!(exits_with_seven(&mut template.command("seven")));
}

fn a_template_is_renewed() {
    let template = template();
    let place = || {
        let output = template.command("address").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let first = template.id();
    assert_eq!(place(), place());
    assert_eq!(template.id(), first);
    template.renew_after(4);
    assert!(exits_with_seven(&mut template.command("seven")));
    assert_eq!(template.id(), first);
    assert!(exits_with_seven(&mut template.command("seven")));
    assert_ne!(template.id(), first);
    template.renew_after(1);
    let ids: Vec<_> = (0..4)
        .map(|_| {
            assert!(exits_with_seven(&mut template.command("seven")));
            template.id().unwrap()
        })
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    assert_eq!(children(), [template.id().unwrap()]);
}

fn dropping_the_last_handle_ends_the_template() {
    let template = template();
    let id = template.id().unwrap();
    let child = piped(&template).spawn().unwrap();
    let command = template.command("seven");
    drop(template);
    assert!(!is_gone(id));
    drop(command);
    assert!(is_gone(id));
    drop(child.take_stdin());
    assert!(child.wait().unwrap().success());
}

fn a_killed_template_is_replaced() {
    let template = template();
    let first = template.id().unwrap();
    let child = piped(&template).spawn().unwrap();
    signal(first, Signal::SIGKILL);
    assert_executed(&template, &mut template.command("seven"), "has ended");
    assert!(is_gone(first));
    assert!(exits_with_seven(&mut template.command("seven")));
    drop(child.take_stdin());
    assert!(child.wait().unwrap().success());
}

fn a_template_that_has_ended_is_renewed_without_a_spawn() {
    let template = template();
    let first = template.id().unwrap();
    let end = template.end_fd().unwrap().unwrap();
    assert!(!is_readable(&end, PollTimeout::ZERO));
    assert_eq!(template.renew().unwrap(), None);
    assert_eq!(template.id(), Some(first));

    signal(first, Signal::SIGKILL);
    assert!(is_readable(&end, PollTimeout::from(LIMIT.as_millis() as u16)));
    assert_eq!(template.renew().unwrap().unwrap().signal(), Some(libc::SIGKILL));
    assert!(is_gone(first));
    let second = template.id().unwrap();
    assert_eq!(children(), [second]);
    assert!(exits_with_seven(&mut template.command("seven")));

    // A spawn is faster.
    let end = template.end_fd().unwrap().unwrap();
    assert!(!is_readable(&end, PollTimeout::ZERO));
    signal(second, Signal::SIGKILL);
    assert_executed(&template, &mut template.command("seven"), "has ended");
    assert!(is_readable(&end, PollTimeout::ZERO));
    assert_eq!(template.renew().unwrap(), None);
    assert!(exits_with_seven(&mut template.command("seven")));
}

fn is_readable(end: &OwnedFd, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

fn a_stopped_template_is_replaced() {
    let template = template();
    let first = template.id().unwrap();
    signal(first, Signal::SIGSTOP);
    wait_until("it is stopped", || stat(first).unwrap().state == 'T');
    assert_executed(&template, &mut template.command("seven"), "did not answer");
    assert!(is_gone(first));
    assert!(exits_with_seven(&mut template.command("seven")));
}

fn signal(pid: u32, signal: Signal) {
    // A template that has ended meanwhile is a zombie, or has been reaped.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

fn kills() -> u32 {
    env::var(KILLS).map_or(20, |text| text.parse().unwrap())
}

fn a_child_that_its_template_does_not_report_is_kept() -> Result<(), Skipped> {
    needs_filters()?;
    stdout_of(&mut program("spawn_with_the_reply_refused"));
    Ok(())
}

/// The template ends after it has made a child, and before it can say so. Another child for the same
/// command would run the entry twice.
fn spawn_with_the_reply_refused() {
    refuse(&["sendto of a reply"], libc::EPERM);
    let template = template();
    for round in 0..6 {
        let (read, write) = io::pipe().unwrap();
        let mut command = template.command("say");
        command.stdout(write).outlive_parent();
        let child = match round % 2 {
            0 => command.spawn().unwrap(),
            _ => command.spawn_unconfirmed().unwrap(),
        };
        assert!(child.is_from_template());
        assert!(child.wait().unwrap().success());
        assert_eq!(support::read_all(read), "once");
        assert_eq!(children(), [template.id().unwrap()], "the next template alone");
    }
    assert_eq!(template.why_executed(), None);
}

/// An unconfirmed child may run its entry before the spawn returns.
fn an_entry_runs_in_the_group() {
    let template = template();
    let leader = piped(&template).process_group(0).spawn().unwrap();
    for round in 0..40 {
        let group = if round % 2 == 0 { 0 } else { leader.id() as i32 };
        let mut command = template.command("group");
        let child = command.stdout(Stdio::piped()).process_group(group);
        let child = child.spawn_unconfirmed().unwrap();
        assert!(child.is_from_template(), "{:?}", template.why_executed());
        let group = if group == 0 { child.id() } else { leader.id() };
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{group}\n"));
    }
    // The template has stayed in its own.
    let template = Pid::from_raw(template.id().unwrap() as i32);
    assert_eq!(getpgid(Some(template)).unwrap(), getpgrp());
}

fn a_template_killed_at_any_instant_loses_no_child() {
    let template = template();
    let mut spawned = [0, 0];
    let mut spawn = || {
        let from_template = exits_with_seven(&mut template.command("seven"));
        spawned[usize::from(from_template)] += 1;
        from_template
    };
    for round in 0..kills() {
        while !spawn() {} // the next template is ready
        let (id, has_killed) = (template.id().unwrap(), &AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(move || {
                // Another instant each time: a spawn takes some hundred microseconds.
                thread::sleep(Duration::from_micros(u64::from(round * 7919 % 500)));
                if round % 8 == 7 {
                    signal(id, Signal::SIGSTOP);
                    thread::sleep(Duration::from_millis(5)); // while a spawn waits for the answer
                }
                signal(id, Signal::SIGKILL);
                has_killed.store(true, Ordering::SeqCst);
            });
            while !has_killed.load(Ordering::SeqCst) {
                spawn();
            }
        });
        let left = children();
        assert!(left.len() <= 1, "{left:?}: the template alone");
    }
    println!("executed {}, from a template {}", spawned[0], spawned[1]);
}

fn a_caller_killed_at_any_instant_leaves_nothing() {
    for round in 0..kills() {
        let mut caller = Running::start(&mut program("be_killed"));
        assert_eq!(caller.line(), "ready");
        thread::sleep(Duration::from_micros(u64::from(round * 7919 % 3000)));
        caller.kill();
        // We adopt the template and the children, and reap them.
        let deadline = Instant::now() + LIMIT;
        while !children().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:?}", children());
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if waitid(Id::All, flags).is_ok_and(|status| status == WaitStatus::StillAlive) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Starts children for ever.
fn be_killed() {
    let template = template();
    println!("ready");
    let mut children = Vec::new();
    loop {
        children.push(piped(&template).spawn().unwrap());
        children.truncate(3);
    }
}

fn a_thousand_children_leave_no_descriptor() {
    let template = template();
    let of_template =
        || fs::read_dir(format!("/proc/{}/fd", template.id().unwrap())).unwrap().count();
    assert!(exits_with_seven(&mut template.command("seven")));
    let before = (descriptors(), of_template());
    let size = || status_line(template.id().unwrap(), "VmSize");
    let size_before = size();
    for _ in 0..1000 {
        assert!(template.command("nothing").status().unwrap().success());
    }
    assert_eq!((descriptors(), of_template()), before);
    assert_eq!(size(), size_before);
}
