use std::time::Duration;

use program_support::seconds;

/// The chapter's goroutine_wait.go: the parent has its own work to do, and a thread waits for the
/// child meanwhile.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(clap::Parser)]
#[command(version)]
pub(crate) struct Options {
    /// How long the parent sleeps before it starts the waiting thread; in the chapter, the first
    /// `time.Sleep(5 * time.Second)` in main
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) parent_sleep: Duration,

    /// How long the child lives; in the chapter, `time.Sleep(30 * time.Second)` in childProcess
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) child_sleep: Duration,

    /// How long the parent works beside the waiting thread; in the chapter, the second
    /// `time.Sleep(60 * time.Second)` in main
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) parent_work: Duration,

    /// Leave out the waiting thread, as in the chapter's last variant: the child becomes a zombie
    #[arg(long)]
    pub(crate) no_wait: bool,
}
