//! Measures the time from a spawn until the child is reaped: the Rust side of `cargo xtask bench
//! spawn`.
//!
//! `spawn-bench MIB` keeps that much memory resident. For each line `METHOD COUNT` on stdin, it starts
//! COUNT children one after another, and prints the nanoseconds that each has taken, and last the
//! processor time of all of them and of this process.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::LazyLock;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use reexec::{Resource, Template};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // The child of std ends here. Ours comes as far, and then runs its entry.
    if env::args_os().nth(1).is_some_and(|arg| arg == "exit") {
        return ExitCode::SUCCESS;
    }
    reexec::register("nothing", || {});
    if let Some(code) = reexec::init() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "spawn-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mib: usize = env::args().nth(1).ok_or("how many MiB?")?.parse()?;
    reexec::start_clean()?; // leaked descriptors would cost our children time
    let held = vec![1_u8; mib << 20]; // not zeros: those would not be resident
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (method, count) = line.split_once(' ').ok_or("METHOD COUNT")?;
        let spawn: fn() -> Result<()> = match method {
            "reexec" => reexec_plain,
            "reexec-all" => reexec_with_everything,
            "template" => template_plain,
            "template-all" => template_with_everything,
            "std" => std_plain,
            "std-uid" => std_with_uid,
            _ => return Err(format!("there is no method {method}").into()),
        };
        let before = processor_time()?;
        let times: Result<Vec<String>> = (0..count.parse()?).map(|_| time(spawn)).collect();
        writeln!(io::stdout(), "{} {}", times?.join(" "), processor_time()? - before)?;
    }
    drop(held);
    Ok(())
}

fn time(spawn: fn() -> Result<()>) -> Result<String> {
    let start = Instant::now();
    spawn()?;
    Ok(start.elapsed().as_nanos().to_string())
}

/// Returns the processor time of this process and of the children that it has reaped, in nanoseconds.
fn processor_time() -> Result<i64> {
    let mut total = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        total += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(total * 1000)
}

fn reexec_plain() -> Result<()> {
    reexec::command("nothing").status()?;
    Ok(())
}

/// Spawns with every setting, and a passed descriptor.
fn reexec_with_everything() -> Result<()> {
    with_everything(reexec::command("nothing"))
}

fn template_plain() -> Result<()> {
    template().command("nothing").status()?;
    Ok(())
}

fn template_with_everything() -> Result<()> {
    with_everything(template().command("nothing"))
}

/// Returns the template, which the first call makes.
fn template() -> &'static Template {
    static TEMPLATE: LazyLock<Template> = LazyLock::new(|| match Template::new() {
        Ok(template) => template,
        Err(error) => panic!("{error}"),
    });
    &TEMPLATE
}

fn with_everything(mut command: reexec::Command) -> Result<()> {
    let (_, passed) = io::pipe()?;
    command
        .fd("passed", OwnedFd::from(passed))
        .setsid()
        .current_dir("/")
        .umask(0o077)
        .rlimit(Resource::CoreSize, 0, 0)
        .nice(1)
        .no_new_privs()
        .parent_death_signal(15);
    if is_root() {
        command.groups(&[65534]).gid(65534).uid(65534);
    }
    command.status()?;
    Ok(())
}

fn std_plain() -> Result<()> {
    Command::new("/proc/self/exe").arg("exit").status()?;
    Ok(())
}

/// Spawns with a uid, so that std forks, as with a `pre_exec` closure. The uid is our own.
fn std_with_uid() -> Result<()> {
    let uid = if is_root() { 0 } else { std::fs::metadata("/proc/self").map(|m| uid(&m))? };
    Command::new("/proc/self/exe").arg("exit").uid(uid).status()?;
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| uid(&metadata) == 0)
}

fn uid(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}
