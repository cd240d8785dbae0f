//! The programs of the chapter: built by cargo, or found in a folder.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::scenarios;

/// Where each program is, or a sentence on why one is missing.
pub(crate) type Programs = Result<BTreeMap<String, PathBuf>, String>;

/// Where each program that the scenarios run is found.
pub(super) fn locate(folder: Option<&Path>) -> Programs {
    let found = match folder {
        Some(folder) => in_folder(folder),
        None => build().map_err(|why| {
            format!("{why}; --programs takes a folder of what was built elsewhere")
        })?,
    };
    match names().find(|name| !found.contains_key(*name)) {
        None => Ok(found),
        Some(missing) => Err(match folder {
            Some(folder) => format!("there is no program {missing} in {}", folder.display()),
            None => format!("cargo has not built the program {missing}"),
        }),
    }
}

/// The programs of all scenarios and controls.
fn names() -> impl Iterator<Item = &'static str> {
    let commands = scenarios::all().flat_map(|scenario| [scenario.command, scenario.control]);
    commands.filter_map(|command| command.split_whitespace().next())
}

/// Finds the programs as cargo lays them out, with the examples in a folder within; or all in one folder.
fn in_folder(folder: &Path) -> BTreeMap<String, PathBuf> {
    let find = |name: &str| {
        let places = [folder.join(name), folder.join("examples").join(name)];
        places.into_iter().find(|path| path.is_file())
    };
    names()
        .filter_map(|name| Some((name.to_owned(), find(name)?)))
        .collect()
}

/// The part of cargo's messages that we need.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs `cargo build` as `cargo run` would, and asks it where the programs are. An error is a sentence.
fn build() -> Programs {
    // Cargo sets this for the programs that it runs, so that they can call the same cargo.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["build", "--workspace", "--bins", "--examples"])
        .args(["--exclude", "xtask", "--exclude", "xtask-bench"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", cargo.display()))?;
    if !output.status.success() {
        return Err(format!("cargo build failed with {}", output.status));
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    Ok(messages
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect())
}

/// The folder of the workspace that this program was built in.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it makes, and we put the report.
pub(crate) fn target_folder() -> PathBuf {
    let set = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    set.unwrap_or_else(|| workspace().join("target"))
}
