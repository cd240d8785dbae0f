//! A process, and what its line in /proc says of it.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A process and its life: the number alone may be another's later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks after boot, field 22 of /proc/PID/stat; 0 if the process was gone before we could
    /// read it.
    pub(crate) start_time: u64,
}

impl Process {
    pub(crate) const fn new(pid: i32, start_time: u64) -> Self {
        Self { pid, start_time }
    }
}

/// As far as we tell states apart. Whether a process that is alive runs or sleeps is chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Alive,
    Stopped,
    Zombie,
}

impl State {
    /// From the first letter in `ps`, and in /proc/PID/stat.
    pub(crate) fn from_letter(letter: char) -> Self {
        match letter {
            'Z' | 'X' => State::Zombie,
            'T' | 't' => State::Stopped,
            _ => State::Alive,
        }
    }
}

/// What /proc/PID/stat says. It is recorded as the line itself, and parsed when it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) name: String,
    /// The letter.
    pub(crate) state: char,
    pub(crate) ppid: i32,
    /// How long it has used the processor, mostly in hundredths of a second.
    pub(crate) ticks: u64,
    pub(crate) threads: usize,
    /// Where its stack begins: another place after each `execve`. 0 in the midst of one, at the
    /// end, and if we may not know.
    pub(crate) stack: u64,
    /// If so, the kernel forgets its children at once when they end: nobody has to wait for them.
    pub(crate) ignores_sigchld: bool,
    raw: String,
}

impl Stat {
    pub(crate) fn state(&self) -> State {
        State::from_letter(self.state)
    }

    /// Whether it sleeps, in a way that a signal can end.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state == 'S'
    }

    pub(crate) fn is_zombie(&self) -> bool {
        self.state() == State::Zombie
    }
}

impl From<Stat> for String {
    fn from(stat: Stat) -> Self {
        stat.raw
    }
}

impl TryFrom<String> for Stat {
    type Error = &'static str;

    fn try_from(raw: String) -> Result<Self, Self::Error> {
        parse(raw).ok_or("a line of /proc/PID/stat is not as in proc_pid_stat(5)")
    }
}

/// Parses `PID (NAME) STATE PPID …`. The name may contain anything, also `) Z 1`; the last `)` ends it.
fn parse(raw: String) -> Option<Stat> {
    let (head, rest) = raw.rsplit_once(") ")?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied(); // as proc_pid_stat(5) counts
    let ignored: u64 = field(33)?.parse().ok()?;
    let has_code = field(26)? != "0";
    let stack = if has_code { field(28)? } else { "0" };
    Some(Stat {
        process: Process { pid: pid.parse().ok()?, start_time: field(22)?.parse().ok()? },
        name: name.to_owned(),
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
        threads: field(20)?.parse().ok()?,
        stack: stack.parse().ok()?,
        ignores_sigchld: ignored & (1 << (Signal::SIGCHLD as u32 - 1)) != 0,
        raw,
    })
}
