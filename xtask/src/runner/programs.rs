//! The programs of the chapter: built by cargo, or found in a folder.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenarios;

/// Where each program is, or a sentence on why one is missing. Processes pass this on as JSON, in which an
/// `OsString` may be any path; a `PathBuf` must be UTF-8.
pub(crate) type Programs = Result<BTreeMap<String, OsString>, String>;

/// Which programs are to be found, and where.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The folder of answers to exercises, and the name of one; otherwise the programs of all scenarios.
    pub(crate) answer: Option<(OsString, String)>,
    /// Where they are; otherwise cargo builds them.
    pub(crate) folder: Option<OsString>,
}

/// Finds the programs, or builds them.
pub(super) fn locate(wanted: &Wanted) -> Programs {
    let names = match &wanted.answer {
        Some((_, name)) => vec![name.as_str()],
        None => names().collect(),
    };
    let found = match (&wanted.folder, &wanted.answer) {
        (Some(folder), _) => in_folder(folder.as_ref(), &names),
        (None, Some((answers, name))) => build(answers.as_ref(), &["--bin", name])?,
        (None, None) => {
            // The first build takes a while: what cargo prints on stderr is shown, too.
            let _ = writeln!(io::stderr(), "cargo builds the programs");
            let all = ["--workspace", "--bins", "--examples", "--exclude", "xtask", "--exclude"];
            build(workspace(), &[&all[..], &["xtask-bench"]].concat()).map_err(|why| {
                format!("{why}; --programs takes a folder of programs that were built elsewhere")
            })?
        }
    };
    match names.iter().find(|name| !found.contains_key(**name)) {
        None => Ok(found),
        Some(missing) => Err(match &wanted.folder {
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
fn in_folder(folder: &Path, names: &[&str]) -> BTreeMap<String, OsString> {
    let find = |name: &str| {
        let places = [folder.join(name), folder.join("examples").join(name)];
        places.into_iter().find(|path| path.is_file())
    };
    names.iter().filter_map(|name| Some(((*name).to_owned(), find(name)?.into()))).collect()
}

/// Builds programs of the package, or the workspace, in this folder, and asks cargo where they are.
fn build(folder: &Path, which: &[&str]) -> Programs {
    let target_folder = target_folder()?;
    let stdout = output(
        cargo("build", folder)
            .args(which)
            .arg("--message-format=json-render-diagnostics")
            .args(as_this_one(&target_folder))
            .arg("--target-dir")
            .arg(target_folder)
            .stderr(Stdio::inherit()),
    )?;
    let messages = stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let program = |message: Value| {
        let (name, path) = (&message["target"]["name"], &message["executable"]);
        Some((name.as_str()?.to_owned(), path.as_str()?.into()))
    };
    Ok(messages.filter_map(program).collect())
}

/// The options that make cargo build for the target and in the profile of this program. Cargo documents
/// that it puts programs into PROFILE in its target folder, or with `--target` into TARGET/PROFILE.
fn as_this_one(target_folder: &Path) -> Vec<OsString> {
    let place = || {
        let program = env::current_exe().ok()?;
        let place = program.strip_prefix(fs::canonicalize(target_folder).ok()?);
        Some(place.ok()?.parent()?.to_owned())
    };
    let place = place().unwrap_or_default(); // it may have been copied to somewhere else
    let option = |name: &str, value: &OsStr| [OsString::from(name), value.to_owned()];
    let profile = |name: &OsStr| match name.to_str() {
        Some("debug") => option("--profile", "dev".as_ref()),
        _ => option("--profile", name),
    };
    match place.iter().collect::<Vec<_>>()[..] {
        [folder] => profile(folder).to_vec(),
        [target, folder] => [option("--target", target), profile(folder)].concat(),
        _ => Vec::new(),
    }
}

/// Asks cargo for its target folder.
fn target_folder() -> Result<PathBuf, String> {
    let stdout = output(cargo("metadata", workspace()).args(["--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_slice(&stdout).unwrap_or_default();
    let folder = metadata["target_directory"].as_str().map(PathBuf::from);
    folder.ok_or_else(|| "cargo metadata has printed no target_directory".to_owned())
}

/// Cargo's target folder, or where it is if nothing sets another. Where there is no cargo, nothing does.
pub(crate) fn target_folder_or_default() -> PathBuf {
    target_folder().unwrap_or_else(|_| workspace().join("target"))
}

/// Cargo, in the folder in which it was called: a relative path in its settings means the same then.
fn cargo(command: &str, package: &Path) -> Command {
    // Cargo sets this for the programs that it runs, so that they can call the same cargo.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--manifest-path"]).arg(package.join("Cargo.toml")).stdin(Stdio::null());
    cargo
}

/// What cargo has printed on stdout, or a sentence on why it failed.
fn output(cargo: &mut Command) -> Result<Vec<u8>, String> {
    let output = cargo.output().map_err(|error| {
        let program = cargo.get_program().display();
        format!("{program} cannot be run: {error}")
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let command = cargo.get_args().next().unwrap_or_default().display();
    let why = String::from_utf8_lossy(&output.stderr); // empty if it was shown
    let failed = format!("cargo {command} failed with {}", output.status);
    Err(format!("{failed} {why}").trim_end().to_owned())
}

/// The folder of the workspace that this program was built in.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}
