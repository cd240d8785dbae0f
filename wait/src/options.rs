use std::time::Duration;

use program_support::seconds;

/// The chapter's wait.go: the parent blocks in wait until its child has ended, and so leaves no
/// zombie.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(clap::Parser)]
#[command(version)]
pub(crate) struct Options {
    /// How long the parent sleeps before it waits; in the chapter, `time.Sleep(5 * time.Second)`
    /// in main
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) parent_sleep: Duration,

    /// How long the child lives; in the chapter, `time.Sleep(10 * time.Second)` in childProcess
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) child_sleep: Duration,
}
