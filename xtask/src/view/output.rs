//! Writes to the terminal: text, NDJSON, and the status line.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::iter;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use textwrap::core::{Word, display_width};
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use crate::model::failure::Failure;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const MARK: Style = AnsiColor::Yellow.on_default();

/// Switches colours off on a dumb terminal, unless they are asked for. Must be called first, as `--help`
/// has colours, too. anstream does the same, except where the variable CI is set: it then assumes a log
/// that shows colours, whatever TERM says.
pub(crate) fn respect_dumb_terminals() {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    let is_asked_for =
        ["CLICOLOR", "CLICOLOR_FORCE"].iter().any(|name| env::var_os(name).is_some());
    if is_dumb && !is_asked_for {
        ColorChoice::Never.write_global();
    }
}

/// Does as the option `--color` says; it says nothing by default.
pub(crate) fn choose_color(choice: clap::ColorChoice) {
    match choice {
        clap::ColorChoice::Auto => {}
        clap::ColorChoice::Always => ColorChoice::Always.write_global(),
        clap::ColorChoice::Never => ColorChoice::Never.write_global(),
    }
}

/// Writes text to stdout; with `--json`, NDJSON to stdout and text to stderr.
pub(crate) struct Output {
    json: bool,
    /// The status, which is drawn over again on a terminal, and hidden elsewhere. On stderr, as it is not
    /// part of the result.
    status: ProgressBar,
    /// Whether there is a line for each event instead.
    lines: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let status = status("{spinner} {elapsed} {wide_msg}");
        // It is hidden also on a dumb terminal.
        Self { json, lines: status.is_hidden(), status }
    }

    /// For a status of several lines below the text: drawn only where both go to the terminal.
    pub(crate) fn tree() -> Self {
        match io::stdout().is_terminal() {
            true => Self { json: false, status: status("{msg}"), lines: false },
            false => Self::dialogue(),
        }
    }

    /// For questions that are answered in the last line: no line is drawn over again.
    pub(crate) fn dialogue() -> Self {
        Self { json: false, status: ProgressBar::hidden(), lines: false }
    }

    /// Text with styles in it, for people.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let written = self.status.suspend(|| match self.json {
            true => write_all(anstream::stderr(), text),
            false => write_all(anstream::stdout(), text),
        });
        written.map_err(Failure::writing_result)
    }

    /// A line of NDJSON, if that is wanted.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let written = serde_json::to_string(value)
            .map_err(io::Error::other)
            .and_then(|line| self.status.suspend(|| write_all(io::stdout(), &(line + "\n"))));
        written.map_err(Failure::writing_result)
    }

    /// How wide a snapshot may be shown: what is left of a terminal beside the times. Elsewhere, and in
    /// the files, it is not cut.
    pub(crate) fn columns(&self) -> usize {
        const TIMES: usize = 9;
        let terminal = terminal_size::terminal_size_of(io::stdout());
        terminal.map_or(usize::MAX, |(width, _)| usize::from(width.0).saturating_sub(TIMES))
    }

    /// The columns and lines that a status may have.
    pub(crate) fn status_size(&self) -> (usize, usize) {
        let terminal = terminal_size::terminal_size_of(io::stderr());
        terminal.map_or((80, 24), |(width, height)| (width.0.into(), height.0.into()))
    }

    /// Prints a line where there is no status.
    pub(crate) fn event(&self, event: &str) {
        if self.lines {
            // It is not part of the result: if it cannot be written, it is lost.
            let _ = writeln!(io::stderr(), "{event}");
        }
    }

    /// Draws the status; to be called a few times a second.
    pub(crate) fn status(&self, status: String) {
        self.status.set_message(match AutoStream::choice(&io::stderr()) {
            ColorChoice::Never => anstream::adapter::strip_str(&status).to_string(),
            _ => status,
        });
        self.status.tick();
    }

    /// Removes the status.
    pub(crate) fn finish(&self) {
        self.status.finish_and_clear();
    }
}

fn status(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    // We move it; a thread of its own would be started before signals are blocked.
    ProgressBar::new_spinner().with_style(style)
}

fn write_all(mut stream: impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// `text` in this style, which ends with it.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The width for text on stdout: that of the terminal, but at most 100 columns.
pub(crate) fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    terminal.map_or(80, |(width, _)| usize::from(width.0).clamp(20, 100))
}

/// `text` broken into lines of `width`: the first behind `first`, the others behind `other`. A word
/// that is too long for a line has one of its own, so that it can still be pasted.
pub(crate) fn wrapped(text: &str, first: &str, other: &str, width: usize) -> String {
    let options = Options::new(width).initial_indent(first).subsequent_indent(other);
    let options = options.wrap_algorithm(WrapAlgorithm::FirstFit);
    let options = options.word_separator(WordSeparator::Custom(words));
    let whole_words = options.break_words(false).word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, whole_words) + "\n"
}

/// A name, and as much of what it is about as fits the line.
pub(crate) fn entry(name: &str, about: &str, width: usize) -> String {
    let about = cut(about, width.saturating_sub(name.len() + 2));
    format!("{}  {about}\n", styled(BOLD, name))
}

/// As much of `text` as has this width, with an ellipsis if that is not all.
fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let fits = |end: &usize| display_width(&text[..*end]) < width;
    let ends = text.char_indices().map(|(end, _)| end);
    format!("{}…", &text[..ends.take_while(fits).last().unwrap_or(0)])
}

/// Splits a line where it may be broken: before a word, and between Han characters. Punctuation must not
/// begin a line, nor an opening bracket end one.
fn words(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    let is_han = |c: char| c >= '\u{2e80}';
    let may_break = move |(before, after): (char, char)| match (before, after) {
        (_, ' ') => false,
        (' ', _) => true,
        _ => {
            (is_han(before) || is_han(after))
                && !"（「《".contains(before)
                && !"，。；：、）」》？！".contains(after)
        }
    };
    let mut rest = line;
    Box::new(iter::from_fn(move || {
        let pairs = rest.char_indices().zip(rest.chars().skip(1));
        let mut breaks = pairs.filter(|((_, before), after)| may_break((*before, *after)));
        let end = breaks.next().map_or(rest.len(), |((at, before), _)| at + before.len_utf8());
        let (word, others) = rest.split_at(end);
        rest = others;
        (!word.is_empty()).then(|| Word::from(word))
    }))
}

/// Prints all that a command has to say, with styles in it, on stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_all(anstream::stdout(), text).map_err(|error| Failure::writing("stdout", &error))
}
