use std::time::Duration;

use program_support::seconds;

/// The chapter's zombie.go: the child ends, and its parent does not wait for it. Look with `ps`
/// in another terminal while the parent sleeps: the command is on stderr.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(clap::Parser)]
#[command(version)]
pub(crate) struct Options {
    /// How long the parent sleeps without waiting; in the chapter, `time.Sleep(30 * time.Second)`
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) parent_sleep: Duration,
}
