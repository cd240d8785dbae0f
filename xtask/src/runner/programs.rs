//! The programs of the chapter: built by cargo, or found in a folder.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::scenarios::{ALL, Scenario};

/// Where each program is, or a sentence on why one is missing.
pub(crate) type Programs = Result<BTreeMap<String, PathBuf>, String>;

/// Where each program that the scenarios run is found.
pub(super) fn locate(folder: Option<&Path>) -> Programs {
    let found = match folder {
        Some(folder) => in_folder(folder),
        None => build()?,
    };
    match names().find(|name| !found.contains_key(*name)) {
        None => Ok(found),
        Some(missing) => Err(match folder {
            Some(folder) => format!("there is no program {missing} in {}", folder.display()),
            None => format!("cargo has not built the program {missing}"),
        }),
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    let of = |scenario: &'static Scenario| {
        [scenario.program]
            .into_iter()
            .chain(scenario.control.as_ref().map(|control| control.program))
    };
    ALL.iter().flat_map(of)
}

/// As cargo lays them out: the examples in a folder within. Or all in one.
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

/// Builds them as `cargo run` would.
fn build() -> Programs {
    cargo_build(
        ["--workspace", "--exclude", "xtask", "--bins", "--examples"],
        None,
    )
    .map_err(|why| format!("{why}; --programs takes a folder of what was built elsewhere"))
}

/// Runs `cargo build`, and asks it where the programs are. An error is a sentence.
pub(crate) fn cargo_build<'a>(
    args: impl IntoIterator<Item = &'a str>,
    rustflags: Option<&str>,
) -> Programs {
    // Set by cargo for what it runs, so that it is the same one again.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .arg("build")
        .args(args)
        .arg("--message-format=json-render-diagnostics");
    if let Some(flags) = rustflags {
        command.env("RUSTFLAGS", flags);
    }
    let output = command
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
