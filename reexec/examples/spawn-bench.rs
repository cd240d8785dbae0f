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
use std::sync::OnceLock;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use reexec::{Resource, Template};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // The child of std ends here. Ours comes as far, and then runs its entry. One from a template
    // does not come here: the template has.
    if env::args_os().nth(1).is_some_and(|arg| arg == "exit") {
        return ExitCode::SUCCESS;
    }
    reexec::register("nothing", || {});
    #[cfg(feature = "serde")]
    reexec::register_call("nothingTyped", |()| ());
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
            "job" => job,
            "job-foreign" => job_of_another_program,
            "template-job-foreign" => template_job_of_another_program,
            #[cfg(feature = "serde")]
            "call" => typed_call,
            "std" => std_plain,
            "std-foreign" => std_of_another_program,
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

/// Returns the processor time of this process, of the children that it has reaped, and of its template,
/// in nanoseconds.
fn processor_time() -> Result<i64> {
    let mut total = match TEMPLATE.get().and_then(Template::id) {
        Some(template) => processor_time_of_template(template)?,
        None => 0,
    };
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        let time = usage.user_time() + usage.system_time();
        total += time.num_nanoseconds();
    }
    Ok(total)
}

/// Returns the time that the template has run, from /proc/PID/schedstat. A template has one thread.
fn processor_time_of_template(template: u32) -> Result<i64> {
    let schedstat = std::fs::read_to_string(format!("/proc/{template}/schedstat"))?;
    Ok(schedstat.split(' ').next().unwrap_or_default().parse()?)
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
    template()?.command("nothing").status()?;
    Ok(())
}

fn template_with_everything() -> Result<()> {
    with_everything(template()?.command("nothing"))
}

fn template_job_of_another_program() -> Result<()> {
    template()?.program("/bin/true").spawn_job()?.wait()?;
    Ok(())
}

static TEMPLATE: OnceLock<Template> = OnceLock::new();

/// Returns the template, which the first call makes.
fn template() -> Result<&'static Template> {
    match TEMPLATE.get() {
        Some(template) => Ok(template),
        None => {
            let template = Template::new()?;
            Ok(TEMPLATE.get_or_init(|| template))
        }
    }
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

fn job() -> Result<()> {
    reexec::command("nothing").spawn_job()?.wait()?;
    Ok(())
}

fn job_of_another_program() -> Result<()> {
    reexec::program("/bin/true").spawn_job()?.wait()?;
    Ok(())
}

#[cfg(feature = "serde")]
fn typed_call() -> Result<()> {
    reexec::command("nothingTyped").call::<_, ()>(&())?.wait()?;
    Ok(())
}

fn std_plain() -> Result<()> {
    Command::new("/proc/self/exe").arg("exit").status()?;
    Ok(())
}

fn std_of_another_program() -> Result<()> {
    Command::new("/bin/true").status()?;
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
