//! What people and programs see of a demo: text, NDJSON, and the line that says how far it is.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::options::Color;
use crate::outcome::EXIT_OUTPUT;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const MARK: Style = AnsiColor::Yellow.on_default();

/// No colours where the terminal says that it knows none, unless they are asked for. To be called
/// first, for `--help` has colours, too. anstream would do the same, but for where the variable CI
/// is set: that is a sign of a log that understands colours, and outweighs TERM there.
pub(crate) fn respect_dumb_terminals() {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    let is_asked_for = ["CLICOLOR", "CLICOLOR_FORCE"]
        .iter()
        .any(|name| env::var_os(name).is_some());
    if is_dumb && !is_asked_for {
        ColorChoice::Never.write_global();
    }
}

/// Where things are written. Every error is one of writing to stdout, or, with `--json`, stderr.
pub(crate) struct Output {
    json: bool,
    color: ColorChoice,
    live: Live,
}

/// How far it is: a line that is drawn over again on a terminal, elsewhere a line an event. On
/// stderr, so that it is no part of the result.
enum Live {
    Bar(ProgressBar),
    Lines,
    None,
}

impl Output {
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let live = Live::new("{spinner} {elapsed} {wide_msg}");
        Self::with(json, color, live)
    }

    /// Where the status is a picture of several lines, below those that are written: so only where
    /// both go to the terminal.
    pub(crate) fn picture(color: Color) -> Self {
        let live = match io::stdout().is_terminal() {
            true => Live::new("{msg}"),
            false => Live::None,
        };
        Self::with(false, color, live)
    }

    /// Where one is asked, and answers in the last line: none is drawn over again.
    pub(crate) fn dialogue(color: Color) -> Self {
        Self::with(false, color, Live::None)
    }

    fn with(json: bool, color: Color, live: Live) -> Self {
        let color = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Self { json, color, live }
    }

    /// Text with styles in it, for people.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        self.undisturbed(|| {
            if self.json {
                write_all(AutoStream::new(io::stderr(), self.color), text)
            } else {
                write_all(AutoStream::new(io::stdout(), self.color), text)
            }
        })
    }

    /// A line of NDJSON, if that is wanted.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(value)? + "\n";
        self.undisturbed(|| write_all(io::stdout(), &line))
    }

    /// How wide a picture can be shown: what is left of a terminal beside the times; elsewhere,
    /// and in the files, it is shown as it is.
    pub(crate) fn columns(&self) -> usize {
        const TIMES: usize = 9;
        let terminal = terminal_size::terminal_size_of(io::stdout());
        terminal.map_or(usize::MAX, |(width, _)| {
            usize::from(width.0).saturating_sub(TIMES)
        })
    }

    /// How wide, and of how many lines, what is drawn over again may be.
    pub(crate) fn status_size(&self) -> (usize, usize) {
        let terminal = terminal_size::terminal_size_of(io::stderr());
        terminal.map_or((80, 24), |(width, height)| {
            (width.0.into(), height.0.into())
        })
    }

    /// One step further.
    pub(crate) fn event(&self, event: &str) {
        if let Live::Lines = self.live {
            // Nobody waits for it; if it cannot be written, it is lost.
            let _ = writeln!(io::stderr(), "{event}");
        }
    }

    /// What is going on right now; to be called a few times a second.
    pub(crate) fn status(&self, status: String) {
        if let Live::Bar(bar) = &self.live {
            let choice = match self.color {
                ColorChoice::Auto => AutoStream::choice(&io::stderr()),
                told => told,
            };
            bar.set_message(match choice {
                ColorChoice::Never => anstream::adapter::strip_str(&status).to_string(),
                _ => status,
            });
            bar.tick();
        }
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        if let Live::Bar(bar) = &self.live {
            bar.finish_and_clear();
        }
    }

    fn undisturbed(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.live {
            Live::Bar(bar) => bar.suspend(write),
            Live::Lines | Live::None => write(),
        }
    }
}

impl Live {
    fn new(template: &str) -> Self {
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        // It moves when it is told to, not by a thread of its own: see `crate::interrupt`.
        let bar = ProgressBar::new_spinner().with_style(style);
        // Hidden where it cannot be drawn over again: elsewhere than on a terminal, or on a dumb one.
        if bar.is_hidden() {
            Live::Lines
        } else {
            Live::Bar(bar)
        }
    }
}

fn write_all(mut stream: impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// `text` in this style, and no further.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How wide text is on stdout: as wide as the terminal, but not wider than one likes to read.
pub(crate) fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    terminal.map_or(80, |(width, _)| usize::from(width.0).clamp(20, 100))
}

/// `text` broken into lines of `width`: the first behind `first`, the others behind `other`. A word
/// that is too long for a line has one of its own, so that it can still be pasted.
pub(crate) fn wrapped(text: &str, first: &str, other: &str, width: usize) -> String {
    let mut out = first.to_owned();
    let mut column = columns(first);
    let mut empty = true;
    for word in text.split(' ') {
        let length = columns(word);
        if !empty && column + 1 + length > width {
            out = out + "\n" + other;
            column = columns(other);
        } else if !empty {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
        empty = false;
    }
    out + "\n"
}

/// How many columns `text` takes, whose styles take none.
fn columns(text: &str) -> usize {
    let plain = anstream::adapter::strip_str(text);
    plain.map(|part| part.chars().count()).sum()
}

/// All that a command has to say, with styles in it, on stdout. Returns the exit code.
pub(crate) fn print(text: &str) -> ExitCode {
    match write_all(anstream::stdout(), text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: cannot write to stdout: {error}");
            ExitCode::from(EXIT_OUTPUT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_are_as_long_as_can_be_and_no_longer() {
        let text = "one two three four";
        assert_eq!(wrapped(text, "- ", "  ", 9), "- one two\n  three\n  four\n");
        assert_eq!(wrapped(text, "", "", 80), "one two three four\n");
        assert_eq!(wrapped("a longest b", "", "", 4), "a\nlongest\nb\n");
    }
}
