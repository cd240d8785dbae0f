//! The programs of the chapter: built by cargo, or found in a folder.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Deserialize;

use crate::scenarios::{ALL, Scenario};

/// The name of the entry that builds, for a parent that goes on taking signals meanwhile, and
/// blocks them, which cargo must not inherit.
pub(crate) const BUILD: &str = "xtask-build";

/// Where each program is, or a sentence that says why they cannot be had.
pub(crate) type Programs = Result<BTreeMap<String, PathBuf>, String>;

/// The entry: builds, or looks into the folder that is its argument, and prints what is found.
pub(crate) fn print() -> ExitCode {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let programs = locate(folder.as_deref());
    let printed = serde_json::to_string(&programs)
        .map_err(io::Error::other)
        .and_then(|line| writeln!(io::stdout(), "{line}"));
    if printed.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where each program that the scenarios run is found.
fn locate(folder: Option<&Path>) -> Programs {
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
            .chain(scenario.twin.as_ref().map(|twin| twin.program))
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

/// The part of cargo's messages that we are after.
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

/// Where cargo, and we, put what we make.
pub(crate) fn target_folder() -> PathBuf {
    let set = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    set.unwrap_or_else(|| workspace().join("target"))
}
