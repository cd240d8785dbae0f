//! The programs that are measured: built by cargo or another compiler, or found in PATH. The
//! results name those that are missing, and how to get them.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// A rival that is not here, and how to get it.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "missing")]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) how_to_get_it: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { what, why, how_to_get_it } = self;
        write!(f, "missing: {what}: {why}\n  to get it: {how_to_get_it}")
    }
}

/// How to get what [`cargo_build`] and the two compilers need.
pub(crate) const GET_RUST: &str = "rustup, and libc6-dev for a static libc";
pub(crate) const GET_C: &str = "apt-get install gcc libc6-dev";
pub(crate) const GET_GO: &str = "apt-get install golang-go";

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Linking {
    Dynamic,
    Static,
}

impl fmt::Display for Linking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Linking::Dynamic => "dynamic",
            Linking::Static => "static",
        })
    }
}

/// Returns cargo's target folder, which this program is in a sub-folder of, such as `release`.
pub(crate) fn target_folder() -> Result<PathBuf, String> {
    let program = env::current_exe()
        .map_err(|error| format!("cannot find the file of this program: {error}"))?;
    let folder = program.ancestors().nth(2).map(Path::to_owned);
    folder.ok_or_else(|| format!("{} is not in a target folder", program.display()))
}

/// The part of cargo's messages that we need.
#[derive(Deserialize)]
struct Message {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Has cargo build one of our programs in release. `package` and the last of `options` (`--bin`,
/// `--example`) say which.
pub(crate) fn cargo_build(
    package: &str,
    options: &[&str],
    name: &str,
    linking: Linking,
    folder: &Path,
) -> Result<PathBuf, String> {
    // Set by cargo for what it runs, so that it is the same one again.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args(["rustc", "--release", "--message-format=json-render-diagnostics"])
        .args(["--package", package])
        .args(options)
        .arg(name)
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if linking == Linking::Static {
        // In a folder of its own, or it would replace the dynamic one.
        command.arg("--target-dir").arg(folder.join("static")).args([
            "--",
            "-C",
            "target-feature=+crt-static",
        ]);
    }
    let output =
        command.output().map_err(|error| format!("{} cannot be run: {error}", cargo.display()))?;
    if !output.status.success() {
        return Err(format!("cargo failed to build {name}: {}", output.status));
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let programs: BTreeMap<String, PathBuf> = messages
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter_map(|message| Some((message.target.name, message.executable?)))
        .collect();
    let program = programs.get(name).cloned();
    program.ok_or_else(|| format!("cargo has not built {name}"))
}

/// Compiles a program in C from a file in `rivals`, with more flags.
pub(crate) fn compile_c(file: &str, to: &Path, flags: &[&str]) -> Result<(), String> {
    compile("cc", &[&["-O2"], flags].concat(), file, to)
}

/// Compiles a program in Go from a file in `rivals`.
pub(crate) fn compile_go(file: &str, to: &Path) -> Result<(), String> {
    compile("go", &["build"], file, to)
}

fn compile(compiler: &str, args: &[&str], file: &str, to: &Path) -> Result<(), String> {
    let rivals = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/rivals"));
    let output = Command::new(compiler)
        .args(args)
        .arg("-o")
        .args([to, &rivals.join(file)])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{compiler} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr.lines().next().unwrap_or_default();
    Err(format!("{compiler} failed: {first}"))
}

/// Finds a program in PATH.
pub(crate) fn installed(name: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("there is no {name} in PATH"))
}
