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
/// The lines of the chapter are on stdout. On stderr, each way begins with a line that says what it
/// runs, and what you will see.
///
/// Exit codes: 0 done, also if the chapter's third command failed, which is meant to; 1 another
/// command failed, or could not be run (a sentence on stderr says why); 2 usage.
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

impl Way {
    /// Returns which of the three ways it is, what it runs, and what one will see of it.
    pub(crate) fn describe(self, command: &Command) -> String {
        let (name, shown) = match self {
            Way::Run => ("1 of 3, run", "its output goes to the null device, so nothing is shown"),
            Way::Combined => ("2 of 3, combined", "stdout and stderr are shown as one output"),
            Way::Separate => ("3 of 3, separate", "stdout is shown after out:, stderr after err:"),
        };
        format!("{name}: {command:?}; {shown}")
    }

    /// Returns the call that the chapter's program names when the command fails.
    pub(crate) fn go_call(self) -> &'static str {
        match self {
            Way::Run => "cmd.Run",
            Way::Combined | Way::Separate => "cmd.Run()",
        }
    }
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

    /// Returns why the command of this way is meant to fail, if it is.
    pub(crate) fn reason_to_fail(&self, way: Way) -> Option<&'static str> {
        let is_meant = self.command.is_empty() && matches!(way, Way::Separate);
        is_meant.then_some(
            "that is meant to fail: no shell runs here to replace *.log by the names of files, so ls \
             looks for a file that is called *.log",
        )
    }
}
