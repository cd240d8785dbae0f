//! What a run records: the only thing that verdicts are made from.

use serde::{Deserialize, Serialize};

/// How a program ends that cannot do its part on this machine; what it wrote to stderr says why.
pub(crate) const SKIPPED: &str = "exit status: 77";

/// One event of one run, as a line of NDJSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Which run: the scenario's name, or that of its twin.
    pub(crate) scenario: String,
    /// Seconds since the run began.
    pub(crate) t: f64,
    pub(crate) source: Source,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// What the program wrote.
    Program,
    /// The kernel's files.
    #[serde(rename = "/proc")]
    Proc,
    /// What `ps` printed.
    Ps,
    /// What the stage did, or the kernel told it as the parent.
    Stage,
}

/// A process and its life: the number alone may be another's later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat.
    pub(crate) start_time: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum What {
    /// The stage is set: the process that starts the programs, and adopts orphans.
    Stage {
        #[serde(flatten)]
        adopter: Process,
    },
    /// A program was started, from outside, as a user would.
    Start {
        #[serde(flatten)]
        process: Process,
        command: String,
    },
    /// A process of the story was found, and is called this from now on.
    Found {
        #[serde(flatten)]
        process: Process,
        role: String,
    },
    /// A line was written, by this program or by who inherited its stream.
    Line {
        #[serde(flatten)]
        program: Process,
        stream: Stream,
        text: String,
    },
    /// What /proc says of a process, whenever it has changed.
    State {
        #[serde(flatten)]
        process: Process,
        state: char,
        ppid: i32,
        name: String,
        /// /proc/PID/stat, from which the rest is taken.
        raw: String,
    },
    /// /proc has no entry for it any more.
    Gone {
        #[serde(flatten)]
        process: Process,
    },
    /// We sent a signal; `error` is what the call returned, if it failed.
    Signal {
        #[serde(flatten)]
        process: Process,
        signal: String,
        error: Option<String>,
    },
    /// The stage, which is the adopter, waited for one of its children, born or adopted.
    Reaped {
        #[serde(flatten)]
        process: Process,
        status: String,
    },
    /// A photograph of the process table.
    Snapshot {
        moment: String,
        /// Who was to be in it.
        pids: Vec<i32>,
        /// Whether the processes were then held, for somebody to look.
        held: bool,
        /// To be pasted into a shell.
        command: String,
        text: String,
        exit_code: Option<i32>,
    },
    /// What a file, a folder or a link in /proc says of a process, or the lines of it that matter;
    /// `error` is why it says nothing.
    Proc {
        #[serde(flatten)]
        process: Process,
        path: String,
        text: String,
        error: Option<String>,
    },
    /// What a client of the server saw.
    Client { number: usize, saw: String },
    /// This machine lacks what the run takes.
    Skipped { why: String },
    /// A condition did not come true.
    Missed { condition: String },
    /// The run could not go on, for a reason that has nothing to do with the story.
    Failed { why: String },
    /// The run is over, and this many processes are left of it.
    End { left: usize },
}

impl What {
    pub(crate) fn source(&self) -> Source {
        match self {
            What::Line { .. } => Source::Program,
            What::State { .. } | What::Gone { .. } | What::Proc { .. } => Source::Proc,
            What::Snapshot { .. } => Source::Ps,
            _ => Source::Stage,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}
