//! Finds the program's own file after an update has renamed or deleted it. The path that the program
//! was started by no longer leads to it, nor does the file's name. The kernel's link does.
//!
//! `cargo run -p reexec --example self-exe`; then with `-- --keep`, which leaves the file alone.

#![forbid(unsafe_code)]

mod common;

use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{self, Command, ExitCode};

use common::{report, say, wait_for_enter};

fn main() -> ExitCode {
    reexec::register("childProcess", || report("self-exe", child_process()));
    if let Some(code) = reexec::init() {
        return code;
    }
    match env::args().nth(1).as_deref() {
        Some("nothing") => ExitCode::SUCCESS, // the file was found
        Some("copy") => report("self-exe", copy()),
        _ => report("self-exe", parent()),
    }
}

/// Runs a copy of this program, whose file may be deleted.
fn parent() -> io::Result<()> {
    let folder = env::temp_dir().join(format!("self-exe-{}", process::id()));
    fs::create_dir(&folder)?;
    let program = folder.join("program");
    let status = fs::copy("/proc/self/exe", &program).and_then(|_| {
        let args = env::args_os().skip(1);
        Command::new(&program).arg("copy").args(args).status()
    });
    fs::remove_dir_all(&folder)?;
    if status?.success() {
        return Ok(());
    }
    Err(io::Error::other("the copy failed"))
}

fn copy() -> Result<(), Box<dyn Error>> {
    let keep = env::args().any(|arg| arg == "--keep");
    let path = env::current_exe()?;
    let renamed = path.with_file_name("renamed");
    if !keep {
        fs::rename(&path, &renamed)?;
    }
    say(&format!("Renamed, by path: {}", found(&path)))?;
    say(&format!("Renamed, by name: {}", found(&env::current_exe()?)))?;
    if !keep {
        fs::remove_file(&renamed)?;
    }
    say(&format!("Deleted, by path: {}", found(&path)))?;
    say(&format!("Deleted, by name: {}", found(&env::current_exe()?)))?;
    let status = reexec::command("childProcess").status()?;
    say(&format!("Deleted, by /proc/self/exe: {status}"))?;
    Ok(())
}

fn found(program: &Path) -> String {
    let status = Command::new(program).arg("nothing").status();
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn child_process() -> io::Result<()> {
    say(&format!("My pid is: {}", process::id()))?;
    wait_for_enter()
}
