//! Jobs: nothing that a program starts survives its job.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "programs of this test report on stdout")]

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getsid, pipe};
use reexec::{Fork, Job, Resource, Stage, Stdio, exit_now};
use support::filters::{self, Before};
use support::{
    Running, Skipped, assert_contains, assert_stage, children, children_of, is_gone, needs,
    needs_root, program, read_all, signals, stat, status_line, stdout_of, trials, wait_until,
    without_proc,
};

/// How long the twins must survive.
const SURVIVAL: Duration = Duration::from_secs(1);

/// The deadline of a job whose caller is stopped. A busy machine must not reach it before that.
const DEADLINE: Duration = Duration::from_secs(3);

/// The variable in the environment of everything that a job starts.
const MARK: &str = "JOB_TEST_MARK";

/// How often each way to escape is tried: `JOB_TEST_RUNS=200 cargo test -p reexec --test job`.
const RUNS: &str = "JOB_TEST_RUNS";

/// A user without privileges, of which no other test starts processes.
const USER: u32 = 54_321;

fn main() -> ExitCode {
    reexec::register("describe", describe);
    reexec::register("exit_7", || ExitCode::from(7));
    reexec::register("panics", || panic!("as it must"));
    reexec::register("writes_descriptor", writes_descriptor);
    reexec::register("nests", nests);
    if let Some(code) = reexec::init() {
        return code;
    }
    support::run(
        support::programs![
            holds_job,
            holds_job_with_deadline,
            holds_job_twice,
            ignores_children,
            ignores_interrupts,
            has_no_pidfds,
            has_no_proc,
            drops_in_copy,
            runs_std,
        ],
        trials![
            nothing_escapes_by_setsid,
            nothing_escapes_by_double_fork,
            nothing_escapes_in_a_storm,
            nothing_escapes_when_stopped,
            nothing_survives_a_killed_caller,
            nothing_survives_a_deadline_while_the_caller_is_stopped,
            std_leaves_some,
            a_chain_of_forks_ends,
            a_deep_chain_ends,
            a_chain_without_end_ends,
            a_storm_that_goes_on_ends,
            a_fork_bomb_ends,
            a_cgroup_is_killed_at_once,
            a_program_can_end_at_once,
            the_status_is_the_programs,
            what_the_program_left_is_killed_at_its_end,
            an_entry_runs_as_in_a_plain_child,
            an_entry_gets_descriptors,
            an_entry_can_have_jobs,
            streams_are_the_programs,
            output_is_collected,
            failures_have_their_stage,
            settings_are_the_programs,
            the_program_starts_with_default_signals,
            another_user_is_killed_too,
            the_deadline_ends_the_job,
            kill_ends_the_job,
            terminate_ends_the_job,
            a_signal_reaches_the_program_only,
            a_killed_keeper_is_noticed,
            a_kill_of_the_callers_group_leaves_nothing,
            a_stop_of_the_callers_group_does_not_stop_the_deadline,
            a_stopped_keeper_is_continued,
            many_chains_of_forks_end,
            a_copy_of_the_caller_does_not_keep_a_job,
            dropping_a_job_in_a_copy_does_nothing,
            interrupts_reach_the_program_not_the_keeper,
            a_caller_may_ignore_sigchld,
            pidfds_are_not_needed,
            proc_is_not_needed,
            nothing_is_left,
        ],
    )
}

fn runs() -> u32 {
    env::var(RUNS).map_or(20, |runs| runs.parse().unwrap())
}

/// A mark that no other process has.
fn new_mark() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}.{next}", process::id())
}

/// The processes that have the mark, without zombies, which have no environment any more.
fn marked(mark: &str) -> Vec<u32> {
    let variable = format!("{MARK}={mark}").into_bytes();
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|known| known == variable)
    })
    .collect()
}

/// Fails unless all processes with the mark are gone soon.
fn assert_none_survives(mark: &str) {
    let deadline = Instant::now() + SURVIVAL;
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            let left: Vec<_> = left.into_iter().map(|pid| (pid, stat(pid))).collect();
            panic!("survived: {left:?}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Reaps the children that we have adopted, and waits until they have ended.
fn reap_adopted() {
    wait_until("adopted processes have ended", || {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return true,
                Ok(WaitStatus::StillAlive) => return false,
                _ => {}
            }
        }
    });
}

/// The beginning of a script that starts processes without an exec: they wait by `read x <&3`.
const WAITABLE: &str = "sleep 1000 | { exec 3<&0;";

/// Ways to escape. Each script prints a line when a process has got away.
const SETSID: &str = "setsid sleep 1000 & setsid sh -c 'echo ready; sleep 1000; :' & sleep 1000; :";
const DOUBLE_FORK: &str = "(sleep 1000 &); (setsid sh -c 'echo ready; sleep 1000; :' &); \
                           sleep 1000; :";
const STOPPED: &str = "setsid sh -c 'kill -STOP $$; :' & sleep 1000 & kill -STOP $!; echo ready; \
                       kill -STOP $$; :";
const STORM: &str = "i=0; while [ $i -lt 200 ]; do read x <&3 & i=$((i+1)); done; \
                     echo ready; read x <&3; }";

fn shell(script: &str, mark: &str) -> reexec::Command {
    let mut shell = reexec::program("sh");
    shell.args(["-c", script]).env(MARK, mark).stdout(Stdio::piped());
    shell
}

/// Starts the script as a job, and waits for its first line.
fn start(script: &str, mark: &str) -> Job {
    await_line(shell(script, mark).spawn_job().unwrap())
}

fn await_line(job: Job) -> Job {
    assert_eq!(first_line(&job), "ready\n");
    job
}

fn first_line(job: &Job) -> String {
    let mut line = String::new();
    BufReader::new(job.take_stdout().unwrap()).read_line(&mut line).unwrap();
    line
}

/// Runs the script as a job again and again, and drops the job when the script is ready.
fn try_to_escape(script: &str, at_least: usize) {
    for _ in 0..runs() {
        let mark = new_mark();
        let job = start(script, &mark);
        wait_until("the processes are there", || marked(&mark).len() >= at_least);
        drop(job);
        assert_none_survives(&mark);
        // The kernel reaps what the keeper has killed, perhaps a moment after the keeper's end.
        wait_until("no child is left", || children().is_empty());
    }
}

fn nothing_escapes_by_setsid() {
    try_to_escape(SETSID, 4); // with the keeper
}

fn nothing_escapes_by_double_fork() {
    try_to_escape(DOUBLE_FORK, 4);
}

fn nothing_escapes_in_a_storm() {
    try_to_escape(&format!("{WAITABLE} {STORM}"), 200);
}

fn nothing_escapes_when_stopped() {
    for _ in 0..runs() {
        let mark = new_mark();
        let job = start(STOPPED, &mark);
        wait_until("three processes are stopped", || {
            let is_stopped = |pid: &u32| stat(*pid).is_some_and(|stat| stat.state == 'T');
            marked(&mark).iter().filter(|pid| is_stopped(pid)).count() == 3
        });
        drop(job);
        assert_none_survives(&mark);
    }
}

/// A program: holds a job until somebody kills it.
fn holds_job() {
    let _job = start(&env::var("SCRIPT").unwrap(), &env::var(MARK).unwrap());
    println!("ready");
    support::until_stdin_ends();
}

/// The same with a deadline.
fn holds_job_with_deadline() {
    let mut shell = shell(&env::var("SCRIPT").unwrap(), &env::var(MARK).unwrap());
    let job = await_line(shell.deadline(DEADLINE).spawn_job().unwrap());
    println!("ready");
    let status = job.wait().unwrap();
    println!("{:?} {}", status.signal(), job.has_timed_out());
}

/// Starts a program of this test that runs the script. It has the mark, too.
fn start_holder(name: &str, script: &str, mark: &str) -> Running {
    let mut command = program(name);
    Running::start(command.env("SCRIPT", script).env(MARK, mark))
}

/// Without the process that holds the job, which has the mark, too.
fn marked_without(mark: &str, holder: u32) -> Vec<u32> {
    marked(mark).into_iter().filter(|pid| *pid != holder).collect()
}

fn nothing_survives_a_killed_caller() {
    for script in [SETSID, DOUBLE_FORK] {
        for _ in 0..runs().div_ceil(2) {
            let mark = new_mark();
            let mut holder = start_holder("holds_job", script, &mark);
            assert_eq!(holder.line(), "ready");
            holder.kill();
            assert_none_survives(&mark);
            reap_adopted();
        }
    }
}

/// Twenty callers at a time, because each waits for its deadline.
fn nothing_survives_a_deadline_while_the_caller_is_stopped() {
    for _ in 0..runs().div_ceil(20) {
        let start = |_| {
            let mark = new_mark();
            (start_holder("holds_job_with_deadline", DOUBLE_FORK, &mark), mark)
        };
        let mut holders: Vec<_> = (0..20).map(start).collect();
        let mut ready = Instant::now();
        for (holder, _) in &mut holders {
            assert_eq!(holder.line(), "ready");
            ready = Instant::now();
            kill(Pid::from_raw(holder.id() as i32), Signal::SIGSTOP).unwrap();
        }
        let is_over =
            |(holder, mark): &(Running, String)| marked_without(mark, holder.id()).is_empty();
        wait_until("the deadline has ended the jobs", || holders.iter().all(is_over));
        assert!(ready.elapsed() < DEADLINE + SURVIVAL, "{:?}", ready.elapsed());
        for (holder, _) in &mut holders {
            assert_eq!(stat(holder.id()).unwrap().state, 'T');
            kill(Pid::from_raw(holder.id() as i32), Signal::SIGCONT).unwrap();
            assert_eq!(holder.line(), "Some(9) true");
            assert!(holder.wait().success());
        }
    }
}

/// What std offers: a process group that can be killed, and with the help of setpriv(1) the kernel's
/// parent-death signal.
fn std_shell(script: &str, mark: &str) -> process::Command {
    let mut shell = process::Command::new("setpriv");
    shell.args(["--pdeathsig", "KILL", "sh", "-c", script]).env(MARK, mark).process_group(0);
    shell
}

/// A program: the same as [`holds_job`] with std.
fn runs_std() {
    let mut child =
        Running::start(&mut std_shell(&env::var("SCRIPT").unwrap(), &env::var(MARK).unwrap()));
    assert_eq!(child.line(), "ready");
    println!("ready");
    support::until_stdin_ends();
}

/// The twins of the tests above: without a keeper, the same scripts leave processes.
fn std_leaves_some() -> Result<(), Skipped> {
    needs(&["setpriv", "--pdeathsig", "KILL", "true"])?;
    let mut marks = Vec::new();
    for script in [SETSID, DOUBLE_FORK] {
        let mark = new_mark();
        let mut child = Running::start(&mut std_shell(script, &mark));
        assert_eq!(child.line(), "ready");
        killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
        child.wait();
        marks.push(mark);

        let mark = new_mark();
        let mut holder = start_holder("runs_std", script, &mark);
        assert_eq!(holder.line(), "ready");
        holder.kill();
        marks.push(mark);
    }
    thread::sleep(SURVIVAL); // as long as nothing of a job survives
    let survivors: Vec<_> = marks.iter().map(|mark| kill_survivors(mark)).collect();
    reap_adopted();
    assert!(survivors.iter().all(|some| *some > 0), "{survivors:?}");
    Ok(())
}

/// Kills the processes with the mark, and returns how many there are.
fn kill_survivors(mark: &str) -> usize {
    let survivors = marked(mark);
    for pid in &survivors {
        let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
    }
    survivors.len()
}

/// Ends the job of a script while it forks, a few times.
fn end_while_forking(script: &str) {
    for _ in 0..5 {
        let mark = new_mark();
        let job = start(script, &mark);
        thread::sleep(Duration::from_millis(20)); // lets it fork
        drop(job);
        assert_none_survives(&mark);
        // The kernel reaps what the keeper has killed, perhaps a moment after the keeper's end.
        wait_until("no child is left", || children().is_empty());
    }
}

fn a_chain_of_forks_ends() {
    end_while_forking("f() { f & }; f & echo ready; sleep 1000; :");
}

fn a_deep_chain_ends() {
    end_while_forking("f() { ( f; : ); }; f & echo ready; sleep 1000; :");
}

/// Ends the job of a Perl program while it forks, a few times. Root's processes cannot be limited, so
/// those are a user's.
fn end_perl_while_forking(script: &str) -> Result<(), Skipped> {
    needs_root()?;
    needs(&["perl", "-e", "1"])?;
    for _ in 0..5 {
        let mark = new_mark();
        let mut perl = reexec::program("perl");
        perl.args(["-e", &format!("$| = 1; print \"ready\\n\"; while (1) {{ {script} }}")]);
        perl.env(MARK, &mark).stdout(Stdio::piped());
        perl.uid(USER).gid(USER).rlimit(Resource::Processes, 500, 500);
        let job = await_line(perl.spawn_job().unwrap());
        wait_until("there are many", || marked(&mark).len() > 50);
        drop(job);
        assert_none_survives(&mark);
    }
    Ok(())
}

/// Each process makes one, and waits. It is too fast for a keeper that kills its children only, and
/// finds the next generation when those have ended.
fn a_chain_without_end_ends() -> Result<(), Skipped> {
    end_perl_while_forking(
        "my $pid = fork; if ($pid) { waitpid $pid, 0; exit } \
         defined $pid or select undef, undef, undef, 0.001",
    )
}

/// One process makes others, which lose their parent, again and again.
fn a_storm_that_goes_on_ends() -> Result<(), Skipped> {
    end_perl_while_forking(
        "my $pid = fork; if (defined $pid and !$pid) { fork and exit; sleep 1000; exit } \
         $pid ? waitpid $pid, 0 : select undef, undef, undef, 0.001",
    )
}

/// Each process makes two, and waits.
fn a_fork_bomb_ends() -> Result<(), Skipped> {
    needs_root()?;
    let script = "f() { f & f & read x <&3; }; f & echo ready; read x <&3; }";
    let mark = new_mark();
    let mut bomb = shell(&format!("{WAITABLE} {script}"), &mark);
    bomb.uid(USER).gid(USER).rlimit(Resource::Processes, 300, 300).stderr(Stdio::null());
    let job = await_line(bomb.spawn_job().unwrap());
    // Many more are zombies: they could not fork.
    wait_until("there are many", || marked(&mark).len() > 100);
    drop(job);
    assert_none_survives(&mark);
    Ok(())
}

/// A process that is in the job's cgroup, and no descendant of the keeper, shows which way was used.
fn a_cgroup_is_killed_at_once() -> Result<(), Skipped> {
    let mark = new_mark();
    let script = "setsid sleep 1000 & echo ready; sleep 1000; :";
    assert!(!start(script, &mark).has_cgroup());
    let job = await_line(shell(script, &mark).job_cgroup().spawn_job().unwrap());
    if !job.has_cgroup() {
        return Err(Skipped::because("this process cannot make a cgroup, or not in cgroup v2"));
    }
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", job.id())).unwrap();
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|mount| mount.contains(" - cgroup2 ")).unwrap();
    let cgroup = format!("{}{cgroup}", mount.split(' ').nth(4).unwrap());
    fs::create_dir(format!("{cgroup}/inner")).unwrap(); // as a program in it may do
    let mut other = process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(format!("{cgroup}/inner/cgroup.procs"), other.id().to_string()).unwrap();
    drop(job);
    assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_none_survives(&mark);
    assert!(!fs::exists(cgroup).unwrap());

    let missing = reexec::program("/no/such/program").job_cgroup().spawn_job().unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    Ok(())
}

fn a_program_can_end_at_once() {
    for _ in 0..20 {
        let job = reexec::program("true").spawn_job().unwrap();
        assert!(job.wait().unwrap().success());
        assert!(!job.has_timed_out());
        wait_until("no child is left", || children().is_empty());
    }
}

fn the_status_is_the_programs() {
    let status = |script: &str| {
        let job = reexec::program("sh").args(["-c", script]).spawn_job().unwrap();
        let status = job.wait().unwrap();
        assert_eq!(job.wait().unwrap(), status);
        assert_eq!(job.try_wait().unwrap(), Some(status));
        assert_eq!(job.wait_timeout(Duration::ZERO).unwrap(), Some(status));
        assert!(job.usage().unwrap().max_resident > 0);
        status
    };
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 125").code(), Some(125));
    assert_eq!(status("exit 127").code(), Some(127));
    assert_eq!(status("kill -TERM $$").signal(), Some(libc::SIGTERM));
    assert_eq!(status("kill -KILL $$").signal(), Some(libc::SIGKILL));
}

fn what_the_program_left_is_killed_at_its_end() {
    let mark = new_mark();
    let job = start("setsid sleep 1000 & (sleep 1000 &); echo ready; exit 3", &mark);
    assert_eq!(job.wait().unwrap().code(), Some(3));
    assert_eq!(marked(&mark), []); // at once
}

/// An entry: prints what it sees of itself.
fn describe() {
    let args: Vec<_> = env::args().collect();
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    println!("{args:?} {} {:?}", comm.trim(), env::var("VARIABLE"));
    println!("{:?} {:?}", signals("self", "SigBlk"), signals("self", "SigIgn"));
    let descriptors = support::descriptors();
    println!("{:?}", descriptors.keys().collect::<Vec<_>>());
}

fn an_entry_runs_as_in_a_plain_child() {
    let describe = || {
        let mut command = reexec::command("describe");
        command.args(["one", "two"]).env("VARIABLE", "value").stdout(Stdio::piped());
        command.ignore_signal(libc::SIGUSR1);
        command
    };
    let child = describe().outlive_parent().spawn().unwrap().wait_with_output().unwrap();
    let job = describe().spawn_job().unwrap();
    assert_ne!(job.id(), process::id());
    let output = job.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&output.stdout), text(&child.stdout));
    assert_contains(
        &text(&output.stdout),
        "[\"describe\", \"one\", \"two\"] describe Ok(\"value\")",
    );

    let status = |entry| reexec::command(entry).stderr(Stdio::null()).spawn_job().unwrap().wait();
    assert_eq!(status("exit_7").unwrap().code(), Some(7));
    assert_eq!(status("panics").unwrap().code(), Some(101));
}

/// An entry: writes into a descriptor, closes it, and lives on.
fn writes_descriptor() {
    let mut pipe = fs::File::from(reexec::inherited_fd("pipe").unwrap());
    pipe.write_all(b"through the pipe").unwrap();
    drop(pipe);
    support::until_stdin_ends();
}

fn an_entry_gets_descriptors() {
    let (read, write) = pipe().unwrap();
    let mut command = reexec::command("writes_descriptor");
    let job = command.fd("pipe", write).stdin(Stdio::piped()).spawn_job().unwrap();
    // It has an end, so neither we nor the keeper have a copy.
    assert_eq!(read_all(read), "through the pipe");
    assert_eq!(job.try_wait().unwrap(), None);
    assert!(job.wait().unwrap().success());
    assert_stage!(command.spawn_job().unwrap_err(), Stage::Invalid(_));
}

/// An entry: has a job with a job of its own, and a plain child.
fn nests() -> ExitCode {
    let inner = reexec::program("sh").args(["-c", "setsid sleep 1000 & exit 5"]).spawn_job();
    let status = inner.unwrap().wait().unwrap();
    let child = reexec::command("exit_7").status().unwrap();
    ExitCode::from((status.code().unwrap() + child.code().unwrap()) as u8)
}

fn an_entry_can_have_jobs() {
    let job = reexec::command("nests").spawn_job().unwrap();
    assert_eq!(job.wait().unwrap().code(), Some(12));
}

fn streams_are_the_programs() {
    let script = "read line; echo \"$line\" >&2; exec >&-; read line; echo \"$line\" >&2";
    let mut shell = reexec::program("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let job = shell.spawn_job().unwrap();
    let mut stdin = job.take_stdin().unwrap();
    stdin.write_all(b"one\n").unwrap();
    // The program closes its stdout while it runs. The keeper must have no copy.
    assert_eq!(read_all(OwnedFd::from(job.take_stdout().unwrap())), "");
    assert_eq!(job.try_wait().unwrap(), None);
    stdin.write_all(b"two\n").unwrap();
    drop(stdin);
    assert_eq!(read_all(OwnedFd::from(job.take_stderr().unwrap())), "one\ntwo\n");
    assert!(job.wait().unwrap().success());
}

fn output_is_collected() {
    let mut shell = reexec::program("sh");
    shell.args(["-c", "sleep 1000 & head -c 200000 /dev/zero; echo error >&2; exit 4"]);
    let job = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn_job().unwrap();
    // The sleep holds the streams open until the keeper kills it at the program's end.
    let output = job.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(output.stdout.len(), 200_000);
    assert_eq!(output.stderr, b"error\n");
    // A wait closes stdin, or this would wait for ever.
    let job = reexec::program("cat").stdin(Stdio::piped()).spawn_job().unwrap();
    assert!(job.wait().unwrap().success());
}

fn failures_have_their_stage() {
    let scratch = support::Scratch::new();
    let not_executable = scratch.0.join("not-executable");
    fs::write(&not_executable, "").unwrap();
    let before = Before::now();

    let missing = reexec::program("/no/such/program").spawn_job().unwrap_err();
    assert_stage!(missing, Stage::Exec { .. });
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    assert_contains(&missing, "/no/such/program");
    let missing = reexec::program("no-such-program").spawn_job().unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    let refused = reexec::program(&not_executable).spawn_job().unwrap_err();
    assert_stage!(refused, Stage::Exec { .. });
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));

    let unknown = reexec::command("unknown").spawn_job().unwrap_err();
    assert_stage!(unknown, Stage::UnknownEntry);
    let directory = reexec::program("true").current_dir("/no/such").spawn_job().unwrap_err();
    assert_stage!(directory, Stage::SetUp { .. });
    assert_eq!(directory.raw_os_error(), Some(libc::ENOENT));
    let group = reexec::program("true").process_group(1).spawn_job().unwrap_err();
    assert_stage!(group, Stage::ProcessGroup { group: 1, .. });

    // Mistakes of the caller.
    let spawned = reexec::program("true").spawn().unwrap_err();
    assert_stage!(spawned, Stage::Invalid(_));
    assert_contains(&spawned, "spawn_job");
    let timed = reexec::command("exit_7").deadline(Duration::MAX).status().unwrap_err();
    assert_stage!(timed, Stage::Invalid(_));
    let (read, _write) = pipe().unwrap();
    let passed = reexec::program("true").fd("pipe", read).spawn_job().unwrap_err();
    assert_stage!(passed, Stage::Invalid(_));
    let orphan = reexec::program("true").outlive_parent().spawn_job().unwrap_err();
    assert_stage!(orphan, Stage::Invalid(_));
    let nul = reexec::program("a\0b").spawn_job().unwrap_err();
    assert_stage!(nul, Stage::Invalid(_));

    drop(_write);
    before.is_restored("failed starts");
}

fn settings_are_the_programs() {
    let script = "echo ready; sleep 1000; :";
    let mark = new_mark();
    let mut command = shell(script, &mark);
    command.current_dir("/dev").umask(0o027).rlimit(Resource::OpenFiles, 77, 88).setsid().nice(3);
    command.no_new_privs().ignore_signal(libc::SIGTERM).ignore_signal(libc::SIGUSR2);
    let job = await_line(command.spawn_job().unwrap());
    let pid = job.id();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/dev"));
    assert_eq!(status_line(pid, "Umask"), "0027");
    assert_eq!(status_line(pid, "NoNewPrivs"), "1");
    assert_eq!(signals(pid, "SigIgn"), [Signal::SIGUSR2, Signal::SIGTERM]);
    assert_eq!(getsid(Some(Pid::from_raw(pid as i32))).unwrap().as_raw(), pid as i32);
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: Vec<_> = files.split_whitespace().collect();
    assert_eq!(files[3..5], ["77", "88"]);

    // The keeper has none of them.
    let keeper = stat(pid).unwrap().parent;
    assert_eq!(stat(keeper).unwrap().comm, "reexec/keeper");
    assert_eq!(status_line(keeper, "NoNewPrivs"), "0");
    assert_ne!(getsid(Some(Pid::from_raw(keeper as i32))).unwrap().as_raw(), pid as i32);

    // A command can be started again.
    let mut command = reexec::program("sh");
    command.args(["-c", "exit 6"]).process_group(0);
    for _ in 0..2 {
        assert_eq!(command.spawn_job().unwrap().wait().unwrap().code(), Some(6));
    }
    let job = command.spawn_job().unwrap();
    drop(job);
    let mut command = shell(script, &mark);
    let job = await_line(command.process_group(0).spawn_job().unwrap());
    let group = nix::unistd::getpgid(Some(Pid::from_raw(job.id() as i32))).unwrap();
    assert_eq!(group.as_raw(), job.id() as i32);
    let job = start(script, &mark);
    let group = nix::unistd::getpgid(Some(Pid::from_raw(job.id() as i32))).unwrap();
    assert_eq!(group, getpgrp());
}

fn the_program_starts_with_default_signals() {
    let mark = new_mark();
    let job = reexec::program("sleep").arg("1000").env(MARK, &mark).spawn_job().unwrap();
    assert_eq!(signals(job.id(), "SigIgn"), []); // not even SIGPIPE
    assert_eq!(signals(job.id(), "SigBlk"), []);
    assert_eq!(stat(job.id()).unwrap().comm, "sleep");
    wait_until("the loader has closed its files, and three are left", || {
        fs::read_dir(format!("/proc/{}/fd", job.id())).unwrap().count() == 3
    });
}

fn another_user_is_killed_too() -> Result<(), Skipped> {
    needs_root()?;
    let mark = new_mark();
    let mut command = shell("setsid sleep 1000 & echo ready; sleep 1000; :", &mark);
    let job = await_line(command.uid(USER).gid(USER).spawn_job().unwrap());
    let user = [USER; 4].map(|user| user.to_string()).join(" ");
    assert_eq!(status_line(job.id(), "Uid"), user);
    drop(job);
    assert_none_survives(&mark);
    // The program dies with its keeper, although the kernel forgets that when the user changes.
    let job = await_line(command.spawn_job().unwrap());
    kill(Pid::from_raw(stat(job.id()).unwrap().parent as i32), Signal::SIGKILL).unwrap();
    wait_until("the program is dead", || is_dead(job.id()));
    drop(job);
    // One that is executing another program has no environment for a moment.
    wait_until("a survivor is found", || kill_survivors(&mark) > 0);
    reap_adopted();
    Ok(())
}

/// Whether there is no such process, or only a zombie.
fn is_dead(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| stat.state == 'Z')
}

fn the_deadline_ends_the_job() {
    let deadline = Duration::from_millis(200);
    let begin = Instant::now();
    let mut command = reexec::program("sh");
    let job = command.args(["-c", "setsid sleep 1000 & sleep 1000"]).deadline(deadline);
    let job = job.spawn_job().unwrap();
    assert!(!job.has_timed_out());
    assert_eq!(job.wait_timeout(Duration::from_millis(10)).unwrap(), None);
    assert_eq!(job.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(job.has_timed_out());
    let took = begin.elapsed();
    assert!(took >= deadline && took < deadline + SURVIVAL, "{took:?}");

    // The time begins when the program runs, so the start succeeds.
    for deadline in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(300)] {
        let mut command = reexec::program("sleep");
        let job = command.arg("1000").deadline(deadline).spawn_job().unwrap();
        assert_eq!(job.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(job.has_timed_out());
    }

    let mut command = reexec::program("true");
    let job = command.deadline(Duration::MAX).spawn_job().unwrap();
    assert!(job.wait().unwrap().success());
    assert!(!job.has_timed_out());
}

fn kill_ends_the_job() {
    let mark = new_mark();
    let job = start(DOUBLE_FORK, &mark);
    assert_eq!(job.kill().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(marked(&mark), []); // at once
    assert_eq!(job.kill().unwrap().signal(), Some(libc::SIGKILL));
    job.signal(libc::SIGTERM).unwrap(); // does nothing
}

fn terminate_ends_the_job() {
    let mark = new_mark();
    let job = start("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", &mark);
    assert_eq!(job.terminate(support::LIMIT).unwrap().code(), Some(3));
    let job = start("trap '' TERM; echo ready; while :; do sleep 1; done", &mark);
    let status = job.terminate(Duration::from_millis(50)).unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(marked(&mark), []);
}

fn a_signal_reaches_the_program_only() {
    let mark = new_mark();
    let script = "trap 'echo caught; exit 0' USR1; sleep 1000 & echo ready; wait";
    let job = shell(script, &mark).spawn_job().unwrap();
    let mut lines = BufReader::new(job.take_stdout().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    job.signal(libc::SIGUSR1).unwrap();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\ncaught\n");
    assert!(job.wait().unwrap().success());
    assert_eq!(job.signal(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

/// The hole that the documentation names.
fn a_killed_keeper_is_noticed() {
    let mark = new_mark();
    let job = start("setsid sleep 1000 & echo ready; sleep 1000; :", &mark);
    let keeper = stat(job.id()).unwrap().parent;
    kill(Pid::from_raw(keeper as i32), Signal::SIGKILL).unwrap();
    let error = job.wait().unwrap_err();
    assert_contains(&error, "keeper");
    wait_until("the program is dead", || is_dead(job.id()));
    assert_eq!(job.usage(), None);
    drop(job);
    // One that is executing another program has no environment for a moment.
    wait_until("a survivor is found", || kill_survivors(&mark) > 0);
    reap_adopted();
}

/// Nor with the kill of the group of which the caller is a member, which is how many programs kill it.
fn a_kill_of_the_callers_group_leaves_nothing() {
    for _ in 0..runs().div_ceil(4) {
        let mark = new_mark();
        let mut command = program("holds_job");
        command.env("SCRIPT", SETSID).env(MARK, &mark).process_group(0);
        let mut holder = Running::start(&mut command);
        assert_eq!(holder.line(), "ready");
        wait_until("the processes are there", || marked(&mark).len() >= 5); // with both of ours
        killpg(Pid::from_raw(holder.id() as i32), Signal::SIGKILL).unwrap();
        holder.wait();
        assert_none_survives(&mark);
        reap_adopted();
    }
}

fn a_stop_of_the_callers_group_does_not_stop_the_deadline() {
    let mark = new_mark();
    let mut command = program("holds_job_with_deadline");
    command.env("SCRIPT", SETSID).env(MARK, &mark).process_group(0);
    let mut holder = Running::start(&mut command);
    assert_eq!(holder.line(), "ready");
    let group = Pid::from_raw(holder.id() as i32);
    killpg(group, Signal::SIGSTOP).unwrap();
    wait_until("the job has ended", || marked_without(&mark, holder.id()).is_empty());
    assert_eq!(stat(holder.id()).unwrap().state, 'T');
    killpg(group, Signal::SIGCONT).unwrap();
    assert_eq!(holder.line(), "Some(9) true");
    assert!(holder.wait().success());
}

fn stop_keeper(program: u32) {
    let keeper = stat(program).unwrap().parent;
    kill(Pid::from_raw(keeper as i32), Signal::SIGSTOP).unwrap();
    wait_until("the keeper is stopped", || stat(keeper).unwrap().state == 'T');
}

fn a_stopped_keeper_is_continued() {
    let mark = new_mark();
    let job = start(SETSID, &mark);
    stop_keeper(job.id());
    drop(job);
    assert_none_survives(&mark);
    let job = start(SETSID, &mark);
    stop_keeper(job.id());
    assert_eq!(job.kill().unwrap().signal(), Some(libc::SIGKILL));

    let mut holder = start_holder("holds_job", SETSID, &mark);
    assert_eq!(holder.line(), "ready");
    let is_keeper = |pid: &u32| stat(*pid).is_some_and(|stat| stat.comm == "reexec/keeper");
    let keeper = marked(&mark).into_iter().find(is_keeper).unwrap();
    stop_keeper(children_of(keeper)[0]);
    holder.kill();
    assert_none_survives(&mark);
    reap_adopted();
}

/// Chains of processes that fork and exit, which make zombies as fast as the keeper reaps them. Each
/// ends by itself after ten seconds. Without a real-time priority, the keeper may have to wait that long.
fn many_chains_of_forks_end() -> Result<(), Skipped> {
    needs(&["perl", "-e", "1"])?;
    needs(&["chrt", "--fifo", "1", "true"])?;
    let script = "$SIG{CHLD} = 'IGNORE'; $end = time + 10;
        for (1..50) { unless (fork) { while (time < $end) { exit if fork } exit } }
        sleep 10";
    for _ in 0..3 {
        let mark = new_mark();
        let mut perl = reexec::program("perl");
        perl.args(["-e", script]).env(MARK, &mark).deadline(Duration::from_millis(300));
        let begin = Instant::now();
        let job = perl.spawn_job().unwrap();
        assert_eq!(job.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        assert!(job.has_timed_out());
        assert_eq!(marked(&mark), []);
    }
    Ok(())
}

/// A program: a copy of it, which does not end with it, has the channel to the keeper.
fn holds_job_twice() {
    let _job = start(DOUBLE_FORK, &env::var(MARK).unwrap());
    match reexec::fork().unwrap() {
        Fork::Child => {
            prctl::set_pdeathsig(None).unwrap();
            println!("{}", process::id());
            support::until_stdin_ends();
            exit_now(0)
        }
        Fork::Parent(_copy) => support::until_stdin_ends(),
    }
}

fn a_copy_of_the_caller_does_not_keep_a_job() {
    let mark = new_mark();
    let mut holder = start_holder("holds_job_twice", "", &mark);
    let copy = holder.pid();
    holder.kill();
    wait_until("the job has ended", || marked_without(&mark, copy).is_empty());
    assert!(!is_gone(copy));
    holder.close_stdin();
    reap_adopted();
}

/// A program: drops a job in a copy of itself.
fn drops_in_copy() {
    let job = start("echo ready; sleep 1000; :", &env::var(MARK).unwrap());
    match reexec::fork().unwrap() {
        Fork::Child => {
            assert!(job.try_wait().is_err());
            assert!(job.kill().is_err());
            assert!(job.signal(libc::SIGKILL).is_err());
            assert!(!job.has_timed_out());
            drop(job);
            exit_now(9)
        }
        Fork::Parent(copy) => {
            assert_eq!(copy.wait().unwrap().code(), Some(9));
            thread::sleep(Duration::from_millis(50)); // nothing tells that something will not happen
            assert_eq!(job.try_wait().unwrap(), None);
            assert_eq!(job.kill().unwrap().signal(), Some(libc::SIGKILL));
        }
    }
}

fn dropping_a_job_in_a_copy_does_nothing() {
    stdout_of(program("drops_in_copy").env(MARK, new_mark()));
}

/// A program: interrupts its process group, as Ctrl-C does.
fn ignores_interrupts() {
    reexec::signal::ignore(libc::SIGINT).unwrap();
    let job = start("setsid sleep 1000 & echo ready; exec sleep 1000", &env::var(MARK).unwrap());
    wait_until("the shell is a sleep", || stat(job.id()).unwrap().comm == "sleep");
    killpg(getpgrp(), Signal::SIGINT).unwrap();
    assert_eq!(job.wait().unwrap().signal(), Some(libc::SIGINT));
}

fn interrupts_reach_the_program_not_the_keeper() {
    let mark = new_mark();
    stdout_of(program("ignores_interrupts").env(MARK, &mark).process_group(0));
    assert_eq!(marked(&mark), []);
}

/// A program: the kernel reaps its children.
fn ignores_children() {
    reexec::signal::ignore(libc::SIGCHLD).unwrap();
    let job = start("setsid sleep 1000 & echo ready; exit 3", &env::var(MARK).unwrap());
    assert_eq!(job.wait().unwrap().code(), Some(3));
    assert_eq!(job.try_wait().unwrap().unwrap().code(), Some(3));
    drop(start(DOUBLE_FORK, &env::var(MARK).unwrap()));
    let missing = reexec::program("/no/such/program").spawn_job().unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
}

fn a_caller_may_ignore_sigchld() {
    let mark = new_mark();
    stdout_of(program("ignores_children").env(MARK, &mark));
    assert_eq!(marked(&mark), []);
}

/// A program: pidfds are refused to it and to its children.
fn has_no_pidfds() {
    filters::refuse(&["pidfd_open"], libc::ENOSYS);
    drops_and_signals();
    // The keeper does not come to read all signals before it finds that the program has ended.
    let job = start("echo ready; exec sleep 1000", &env::var(MARK).unwrap());
    let keeper = Pid::from_raw(stat(job.id()).unwrap().parent as i32);
    kill(keeper, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(job.id() as i32), Signal::SIGTERM).unwrap();
    wait_until("the program has ended", || support::is_zombie(job.id()));
    for _ in 0..3 {
        let _ = job.signal(libc::SIGCONT); // the first one continues the keeper
    }
    assert_eq!(job.wait().unwrap().signal(), Some(libc::SIGTERM));
}

fn drops_and_signals() {
    let mark = env::var(MARK).unwrap();
    drop(start(DOUBLE_FORK, &mark));
    drop(start(STOPPED, &mark));
    let job = start("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", &mark);
    job.signal(libc::SIGTERM).unwrap();
    assert_eq!(job.wait().unwrap().code(), Some(3));
    job.signal(libc::SIGTERM).unwrap();
    let job = start(SETSID, &mark);
    assert_eq!(job.kill().unwrap().signal(), Some(libc::SIGKILL));
}

fn pidfds_are_not_needed() -> Result<(), Skipped> {
    filters::needs_filters()?;
    let mark = new_mark();
    stdout_of(program("has_no_pidfds").env(MARK, &mark));
    assert_eq!(marked(&mark), []);
    Ok(())
}

/// A program: it and its children have no /proc.
fn has_no_proc() {
    assert!(fs::read_dir("/proc").unwrap().next().is_none());
    drops_and_signals();
}

fn proc_is_not_needed() -> Result<(), Skipped> {
    let mark = new_mark();
    stdout_of(without_proc(&program("has_no_proc"))?.env(MARK, &mark));
    assert_eq!(marked(&mark), []);
    Ok(())
}

fn nothing_is_left() {
    let before = Before::now();
    let mark = new_mark();
    for _ in 0..20 {
        let job = start(DOUBLE_FORK, &mark);
        assert!(children_of(process::id()).len() == 1);
        job.as_fd().try_clone_to_owned().unwrap();
        drop(job);
        let mut command = reexec::program("cat");
        let job = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn_job().unwrap();
        let mut stdout = job.take_stdout().unwrap();
        drop(job.take_stdin());
        stdout.read_to_end(&mut Vec::new()).unwrap();
        job.wait().unwrap();
    }
    before.is_restored("forty jobs");
}
