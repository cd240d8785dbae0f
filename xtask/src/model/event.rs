//! What a run records. Verdicts are made from nothing else.

use serde::{Deserialize, Serialize};

use crate::model::bilingual::Language;
use crate::model::process::{Process, Stat};

/// The status of a program that cannot do its part on this machine; its last line on stderr says why.
pub(crate) const SKIPPED: &str = "exit status: 77";

/// One event of one run, as a line of NDJSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Which run: the scenario's name, or that of its control.
    pub(crate) scenario: String,
    /// Seconds since the run began.
    pub(crate) t: f64,
    pub(crate) source: Source,
    /// Only of what the worker did not do itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) noticed: Option<Noticed>,
    #[serde(flatten)]
    pub(crate) what: What,
}

impl Event {
    pub(crate) fn new(scenario: &str, t: f64, what: What) -> Self {
        Self { scenario: scenario.to_owned(), t, source: what.source(), noticed: None, what }
    }
}

/// How the worker noticed something, and how long before that it can have happened.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Noticed {
    pub(crate) by: By,
    /// It happened at most these seconds before the event's time: the look before did not show it.
    pub(crate) within: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// The pidfd of a process became readable: the process has ended.
    Pidfd,
    /// It was in the pipe that a program writes to.
    Pipe,
    /// /proc differed from the last time.
    Sample,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The program wrote it.
    Program,
    /// The kernel's files.
    #[serde(rename = "/proc")]
    Proc,
    /// `ps` printed it.
    Ps,
    /// The worker did it, or the kernel informed the worker as the parent.
    Worker,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum What {
    /// The run begins in this process, which starts the programs and adopts orphans.
    Worker {
        #[serde(flatten)]
        process: Process,
    },
    /// A program was started, from outside, as a user would.
    Start {
        #[serde(flatten)]
        process: Process,
        command: String,
    },
    /// A process was found, and has this role from now on.
    Found {
        #[serde(flatten)]
        process: Process,
        role: String,
    },
    /// A line was written, by this program or by a process that inherited its stream.
    Line {
        #[serde(flatten)]
        program: Process,
        stream: Stream,
        text: String,
    },
    /// What /proc says of a process, whenever that has changed.
    State {
        raw: Stat,
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
    /// The worker waited for one of its children, born or adopted.
    Reaped {
        #[serde(flatten)]
        process: Process,
        status: String,
    },
    Snapshot(Snapshot),
    /// The live processes go on after a pause. They were stopped so long, and their sleeps were not.
    Resumed {
        seconds: f64,
    },
    /// The worker wanted to look, and it took so long to come to that, or to look. A sleep that it was to
    /// show may have been over by then.
    Late {
        seconds: f64,
        /// How much faster than in the chapter the programs slept.
        speed: f64,
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
    Client {
        number: usize,
        saw: String,
    },
    /// This machine lacks what the run requires.
    Skipped {
        why: String,
    },
    /// A condition did not come true.
    Missed {
        condition: String,
    },
    /// The run could not go on, for a reason that has nothing to do with the claims.
    Failed {
        why: String,
    },
    /// The run is over, and this many processes are left of it.
    End {
        left: usize,
    },
}

/// What `ps` printed when something had come true.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// What had come true.
    pub(crate) title: String,
    /// The same in Chinese; a recording from before there was a Chinese page has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) title_zh: String,
    /// The processes that `ps` was asked for.
    pub(crate) pids: Vec<i32>,
    /// Whether live processes were then stopped, so that somebody can look.
    pub(crate) frozen: bool,
    /// To be pasted into a shell.
    pub(crate) command: String,
    pub(crate) text: String,
    /// 1 if none of the processes exists.
    pub(crate) exit_code: Option<i32>,
}

impl Snapshot {
    /// What had come true; in English if the recording has nothing else.
    pub(crate) fn title_in(&self, language: Language) -> &str {
        match language {
            Language::Chinese if !self.title_zh.is_empty() => &self.title_zh,
            _ => &self.title,
        }
    }
}

impl What {
    /// The process whose life it is part of, if it is.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            What::State { raw } => Some(raw.process),
            What::Start { process, .. }
            | What::Gone { process }
            | What::Signal { process, .. }
            | What::Reaped { process, .. }
            | What::Proc { process, .. } => Some(*process),
            _ => None,
        }
    }

    pub(crate) fn source(&self) -> Source {
        match self {
            What::Line { .. } => Source::Program,
            What::State { .. } | What::Gone { .. } | What::Proc { .. } => Source::Proc,
            What::Snapshot(_) => Source::Ps,
            _ => Source::Worker,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}
