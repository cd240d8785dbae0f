//! The folder with a learner's programs: a package of its own, which is laid out once. Nothing in it that
//! a learner may have written is overwritten.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::exercises::Exercise;
use crate::runner::programs::workspace;

const MANIFEST: &str = include_str!("../../exercises/answers.toml");

/// For cargo, where a learner calls it in that folder.
const CONFIG: &str = "[build]\ntarget-dir = \"../../target\"\n";

/// The names of the exercises that an answer has satisfied, a line each.
const DONE: &str = "done";

/// A folder of answers.
pub(crate) struct Answers {
    pub(crate) folder: PathBuf,
}

impl Answers {
    /// In this folder, or else in that for learners, which git ignores. `cargo clean` does not touch it.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder: folder.unwrap_or_else(|| workspace().join("xtask/answers")) }
    }

    pub(crate) fn path(&self, exercise: &Exercise) -> PathBuf {
        self.folder.join("src/bin").join(exercise.run.name).with_extension("rs")
    }

    /// Lays out the package, and the program to mend. Returns whether the program is new.
    pub(crate) fn lay_out(&self, exercise: &Exercise) -> io::Result<bool> {
        for folder in ["src/bin", ".cargo"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        let library = workspace().join("reexec");
        let manifest = match self.folder == workspace().join("xtask/answers") {
            true => MANIFEST.to_owned(), // the workspace may be moved
            false => MANIFEST.replace("\"../../reexec\"", &format!("{library:?}")),
        };
        create(&self.folder.join("Cargo.toml"), &manifest)?;
        create(&self.folder.join(".cargo/config.toml"), CONFIG)?;
        let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
        create(&self.folder.join("Cargo.lock"), &lock)?; // the same versions
        create(&self.path(exercise), exercise.start)
    }

    pub(crate) fn is_done(&self, exercise: &Exercise) -> bool {
        let done = fs::read_to_string(self.folder.join(DONE)).unwrap_or_default();
        done.lines().any(|name| name == exercise.run.name)
    }

    pub(crate) fn set_done(&self, exercise: &Exercise) -> io::Result<()> {
        if self.is_done(exercise) {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let mut file = File::options().create(true).append(true).open(self.folder.join(DONE))?;
        writeln!(file, "{}", exercise.run.name)
    }
}

/// Writes a file unless there is one. Returns whether it is new.
fn create(path: &Path, text: &str) -> io::Result<bool> {
    match File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
