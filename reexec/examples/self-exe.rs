//! Finds the program's own file after an update has renamed or deleted it. The path that the program
//! was started by no longer leads to it, nor does the file's name. The kernel's link does.
//!
//! `cargo run -p reexec --example self-exe`, and `ls -l /proc/N/exe` with the printed pid; then with
//! `-- --keep`, which leaves the file alone.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, Command, ExitCode};

use program_support::{exit_code, stdout, wait_for_enter};

fn main() -> ExitCode {
    reexec::register("childProcess", || exit_code("self-exe", child_process()));
    if let Some(code) = reexec::init() {
        return code;
    }
    match env::args().nth(1).as_deref() {
        Some("nothing") => ExitCode::SUCCESS, // the file was found
        Some("copy") => exit_code("self-exe", copy()),
        _ => exit_code("self-exe", parent()),
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
    writeln!(stdout(), "Renamed, by path: {}", found(&path))?;
    writeln!(stdout(), "Renamed, by name: {}", found(&env::current_exe()?))?;
    if !keep {
        fs::remove_file(&renamed)?;
    }
    writeln!(stdout(), "Deleted, by path: {}", found(&path))?;
    writeln!(stdout(), "Deleted, by name: {}", found(&env::current_exe()?))?;
    let status = reexec::command("childProcess").status()?;
    writeln!(stdout(), "Deleted, by /proc/self/exe: {status}")?;
    Ok(())
}

fn found(program: &Path) -> String {
    let status = Command::new(program).arg("nothing").status();
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn child_process() -> io::Result<()> {
    writeln!(stdout(), "My pid is: {}", process::id())?;
    wait_for_enter()
}
