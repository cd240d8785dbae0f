//! The folder with a learner's programs: a package of its own, which is laid out once. Nothing in it that
//! a learner may have written is overwritten.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::exercises::Exercise;
use crate::runner::programs::workspace;

const MANIFEST: &str = include_str!("../../exercises/answers.toml");

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
        fs::create_dir_all(self.folder.join("src/bin"))?;
        let library = format!("{:?}", workspace().join("reexec"));
        let is_inside = self.folder == workspace().join("xtask/answers");
        let manifest = match is_inside {
            true => MANIFEST.to_owned(),
            false => MANIFEST.replace("\"../../reexec\"", &library),
        };
        create(&self.folder.join("Cargo.toml"), &manifest)?;
        let lock = self.folder.join("Cargo.lock");
        if !lock.exists() {
            fs::copy(workspace().join("Cargo.lock"), lock)?; // the same versions
        }
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
