use std::ffi::OsString;
use std::process::Command;

use clap::ValueEnum;

/// Runs a command in the chapter's three ways: without its output, with both of its output streams
/// in one, and with each by itself. Runs all three one after another, or one of them:
///
///   exec-cmd
///   exec-cmd separate
///   exec-cmd -- COMMAND ARG...
///   exec-cmd separate -- COMMAND ARG...
///
/// Exit codes: 0 done, 1 a command failed or could not be run (a sentence on stderr says why),
/// 2 usage.
#[derive(clap::Parser)]
#[command(version, verbatim_doc_comment)]
pub(crate) struct Options {
    /// Which way; all three if none is given
    #[arg(value_enum)]
    pub(crate) way: Option<Way>,

    /// What to run instead of the chapter's `ls`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// `cmd.Run()`: `ls -l /var/log`, whose output nobody sees
    Run,
    /// `cmd.CombinedOutput()`: `ls -l /var/log/`, with stdout and stderr through one pipe
    Combined,
    /// `cmd.Stdout` and `cmd.Stderr`, each by itself: `ls -l /var/log/*.log`, which no shell
    /// expands
    Separate,
}

impl Options {
    /// Returns the way that was asked for, or all three.
    pub(crate) fn ways(&self) -> Vec<Way> {
        self.way.map_or_else(|| Way::value_variants().to_vec(), |way| vec![way])
    }

    /// Returns the command that was asked for, or the chapter's for this way.
    pub(crate) fn command(&self, way: Way) -> Command {
        if let [program, args @ ..] = &self.command[..] {
            let mut command = Command::new(program);
            command.args(args);
            return command;
        }
        let mut command = Command::new("ls");
        command.arg("-l").arg(match way {
            Way::Run => "/var/log",
            Way::Combined => "/var/log/",
            Way::Separate => "/var/log/*.log",
        });
        command
    }
}
