//! The real `ps`: how it is called, and what it says.
//!
//! That of procps, or there is no demo: another one has other columns, and other words for the same.
//! Nor do we draw the picture ourselves: what `ps` shows could not be judged by it.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::procfs;

/// Wide enough for the arguments, and for `<defunct>`, whatever the terminal's width.
const WIDTH: &str = "132";
const COLUMNS: &str = "pid,ppid,pgid,sid,stat,wchan:20,comm,args";

/// More than enough, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// For one that is killed to end.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// Between two looks whether it has ended, which it has as good as done by then.
const TICK: Duration = Duration::from_millis(1);

/// What `ps` printed, and how it was called.
pub(crate) struct Picture {
    /// To be pasted into a shell.
    pub(crate) command: String,
    pub(crate) text: String,
    /// 1 if none of the processes exists.
    pub(crate) exit_code: Option<i32>,
}

/// Photographs these processes. With `-p`, and not `ps au` as in the chapter: that shows only
/// processes that have a terminal.
pub(crate) fn photograph(pids: &[i32]) -> io::Result<Picture> {
    let list = pids
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let command = format!("LC_ALL=C COLUMNS={WIDTH} ps -o {COLUMNS} -p {list}");
    let output = output(
        Command::new("ps")
            .env("COLUMNS", WIDTH)
            .args(["-o", COLUMNS, "-p", &list]),
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let exit_code = output.status.code();
    if !is_picture(&text, exit_code) {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no picture was printed");
        let why = format!("`{command}` ended with {}: {said}", output.status);
        return Err(io::Error::other(why));
    }
    Ok(Picture {
        command,
        text,
        exit_code,
    })
}

/// Whether `ps` has done what it was asked to: only then is who is not listed gone. With or without
/// anybody, there is a heading; and the exit code is 1 if nobody is listed.
pub(crate) fn is_picture(text: &str, exit_code: Option<i32>) -> bool {
    let is_headed = text.trim_start().starts_with("PID ");
    is_headed && exit_code == Some(i32::from(rows(text).is_empty()))
}

/// All that it prints and says, if it comes to an end.
fn output(command: &mut Command) -> io::Result<Output> {
    let mut ps = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("ps cannot be run: {error}")))?;
    let output = output_in_time(&mut ps, Instant::now() + LIMIT);
    if output.is_err() {
        // What became of it matters more than whether it can be killed. If it cannot, it is a child
        // that has not ended, and is told of with the others at the end.
        let _ = ps.kill();
        let _ = wait_in_time(&mut ps, Instant::now() + TIME_TO_END);
    }
    output
}

fn output_in_time(ps: &mut Child, deadline: Instant) -> io::Result<Output> {
    let (stdout, stderr) = (ps.stdout.take(), ps.stderr.take());
    let nothing = || Ok(Vec::new());
    Ok(Output {
        stdout: stdout.map_or_else(nothing, |stdout| read_in_time(stdout, deadline))?,
        stderr: stderr.map_or_else(nothing, |stderr| read_in_time(stderr, deadline))?,
        status: wait_in_time(ps, deadline)?,
    })
}

fn read_in_time(mut stream: impl Read + AsFd, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = PollTimeout::try_from(time_left(deadline)?).unwrap_or(PollTimeout::MAX);
        let mut readable = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        match poll(&mut readable, left) {
            Ok(0) | Err(Errno::EINTR) => continue,
            polled => polled?,
        };
        match stream.read(&mut part)? {
            0 => return Ok(text),
            length => text.extend_from_slice(&part[..length]),
        }
    }
}

fn wait_in_time(ps: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = ps.try_wait()? {
            return Ok(status);
        }
        time_left(deadline)?;
        thread::sleep(TICK);
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .ok_or_else(|| io::Error::other("ps does not come to an end"))
}

/// How to get a `ps` that can be called like this.
pub(crate) const PACKAGE: &str = "apt-get install procps";

/// Whether there is one.
pub(crate) fn check() -> Result<(), String> {
    if !version()?.contains("procps") {
        return Err("this ps is not that of procps".to_owned());
    }
    let own = procfs::own_pid();
    match photograph(&[own]) {
        Ok(picture) if row(&picture.text, own).is_some() => Ok(()),
        Ok(picture) => Err(format!("this ps cannot do `{}`", picture.command)),
        Err(error) => Err(error.to_string()),
    }
}

/// What it says of itself; nothing, if it does not know the question.
pub(crate) fn version() -> Result<String, String> {
    let output = output(Command::new("ps").arg("--version"));
    let output = output.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// One line of a picture.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) pid: i32,
    pub(crate) ppid: i32,
    pub(crate) stat: String,
    pub(crate) wchan: String,
    /// `comm` and `args`.
    pub(crate) rest: String,
}

impl Row {
    pub(crate) fn is_zombie(&self) -> bool {
        self.stat.starts_with('Z')
    }

    /// Sleeping, running, or waiting for a disk: not ended.
    pub(crate) fn is_alive(&self) -> bool {
        self.stat.starts_with(['S', 'R', 'D', 'I'])
    }
}

pub(crate) fn rows(text: &str) -> Vec<Row> {
    text.lines().filter_map(parse_row).collect()
}

pub(crate) fn row(text: &str, pid: i32) -> Option<Row> {
    rows(text).into_iter().find(|row| row.pid == pid)
}

/// The heading is not a row: its first word is not a number.
fn parse_row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let pid = words.next()?.parse().ok()?;
    let ppid = words.next()?.parse().ok()?;
    let (_pgid, _sid) = (words.next()?, words.next()?);
    Some(Row {
        pid,
        ppid,
        stat: words.next()?.to_owned(),
        wchan: words.next()?.to_owned(),
        rest: words.collect::<Vec<_>>().join(" "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
    PID    PPID    PGID     SID STAT WCHAN                COMMAND         COMMAND
   4710     900    4710     900 Sl   hrtimer_nanosleep    zombie          target/debug/zombie
   4711    4710    4710     900 Z    -                    childProcess    [childProcess] <defunct>
";

    #[test]
    fn a_zombie_is_read_from_its_row() {
        let zombie = row(TEXT, 4711).unwrap();
        assert!(zombie.is_zombie() && !zombie.is_alive());
        assert_eq!(
            (zombie.ppid, zombie.rest.as_str()),
            (4710, "childProcess [childProcess] <defunct>")
        );
    }

    #[test]
    fn a_sleeper_is_alive_and_who_is_not_listed_has_no_row() {
        let sleeper = row(TEXT, 4710).unwrap();
        assert!(sleeper.is_alive());
        assert_eq!(sleeper.wchan, "hrtimer_nanosleep");
        assert!(row(TEXT, 4712).is_none());
        assert_eq!(rows(TEXT).len(), 2);
    }
}
