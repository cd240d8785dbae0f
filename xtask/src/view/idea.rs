//! Draws an idea in frames, one for a moment: processes at the sides, the kernel's objects between them,
//! and lines from what a process has to the object that it is.

use maud::{Markup, PreEscaped, html};

use crate::model::bilingual::{Text, text};
use crate::view::output::wrapped;
use crate::view::timeline::{self, WIDE};

pub(super) const FILE: Text = text("idea.svg", "idea.zh-CN.svg");
pub(super) const STYLE: &str = include_str!("idea.css");

const PAD: f64 = 10.0;
/// The height of a line, and the width of a letter, plain or bold; a Han character is as wide as two.
const LINE: f64 = 16.0;
const LETTER: f64 = 6.4;
const BOLD: f64 = 7.0;
/// The heights of a frame's title, of a process's name, and of an object.
const TITLE: f64 = 34.0;
const NAME: f64 = 38.0;
const OBJECT: f64 = 104.0;
/// The widths for objects, and for the lines beside them.
const OBJECTS: f64 = 92.0;
const LINES: f64 = 18.0;

pub(super) struct Idea {
    pub(super) frames: Vec<Frame>,
    /// Where its facts come from.
    pub(super) sources: String,
}

/// A moment.
#[derive(Default)]
pub(super) struct Frame {
    title: String,
    t: f64,
    /// The processes at the left, and at the right.
    sides: [Vec<Node>; 2],
    /// Each with its shape, its words, and its label.
    objects: Vec<Vec<String>>,
    /// What is to be seen.
    point: String,
}

/// A process, or several of a kind.
struct Node {
    name: String,
    pid: String,
    rows: Vec<Row>,
}

struct Row {
    look: &'static str,
    text: String,
    /// The object that its line leads to; where there is none, it is the other side.
    to: Option<usize>,
}

impl Frame {
    /// Reads it from lines as in `ideas.txt`.
    pub(super) fn new(t: f64, text: &str) -> Self {
        let (mut frame, mut side) = (Self { t, ..Self::default() }, 0);
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match (word, frame.sides[side].last_mut()) {
                ("title", _) => frame.title = rest.to_owned(),
                ("point", _) => frame.point = rest.to_owned(),
                ("object", _) => frame.objects.push(rest.split(" / ").map(Into::into).collect()),
                ("left" | "right", _) => {
                    side = usize::from(word == "right");
                    let node = Node { name: rest.to_owned(), pid: String::new(), rows: Vec::new() };
                    frame.sides[side].push(node);
                }
                ("pid", Some(node)) => node.pid = rest.to_owned(),
                (_, Some(node)) => {
                    let look = match word {
                        "!" => "point",
                        "~" => "lost",
                        _ => "plain",
                    };
                    let (text, to) = rest.rsplit_once(" >").unwrap_or((rest, ""));
                    node.rows.push(Row { look, text: text.to_owned(), to: to.parse().ok() });
                }
                _ => {}
            }
        }
        frame
    }
}

/// Draws an object around its middle. Returns where lines to it end from there, and its look, too.
fn object(parts: &[String]) -> (Markup, f64, &'static str) {
    let path = |look, d| (html! { path class=(format!("object {look}")) d=(d) {} }, 19.0, look);
    let half = OBJECTS / 2.0;
    let words = parts.get(1..).unwrap_or_default();
    match parts.first().map_or("", String::as_str) {
        "flag-up" => path("point", "M-13 22V-22h30l-7 9 7 9h-30"),
        "flag-down" => path("plain", "M-13 22V-22M-13 4h12l-3 7 3 7h-12z"),
        "locked" => path("point", "M-14-3h28v22h-28zM-8-3v-7a8 8 0 0 1 16 0v7"),
        "unlocked" => path("plain", "M-14-3h28v22h-28zM-8-3v-13a8 8 0 0 1 16 0v4"),
        "connection" => {
            let ways = ["M-36-6h72m-6-4l6 4-6 4", "M36 22h-72m6-4l-6 4 6 4"];
            let shape = html! {
                rect class="pipe" x=(-half) y="-30" width=(OBJECTS) height="60" rx="10" {}
                @for ((word, way), y) in words.iter().zip(ways).zip([-6, 22]) {
                    @let ended = word.strip_prefix('~');
                    text class=(ended.map_or("plain", |_| "point")) y=(y - 7) text-anchor="middle" { (ended.unwrap_or(word)) }
                    path class=(ended.map_or("way", |_| "way lost")) d=(way) {}
                    @if ended.is_some() { path class="stop" d=(format!("M-4 {}l8 8m0-8l-8 8", y - 4)) {} }
                }
            };
            (shape, half, "plain")
        }
        _ => {
            let shape = html! {
                rect class="object point" x=(-half) y="-16" width=(OBJECTS) height="32" rx="16" {}
                text class="name" y="4.5" text-anchor="middle" { @for word in words.iter().take(1) { (word) } }
            };
            (shape, half, "point")
        }
    }
}

/// Draws it as a file of its own.
pub(super) fn file(idea: &Idea, title: &str) -> String {
    let (drawn, height) = draw(idea, WIDE);
    let dark = format!("@media (prefers-color-scheme:dark){{{}}}", timeline::DARK_STYLE);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tl idea" viewBox=(format!("0 0 {WIDE} {height}")) width=(WIDE) height=(height) role="img" {
            title { (title) }
            style { (PreEscaped(timeline::STYLE)) (PreEscaped(dark)) (PreEscaped(STYLE)) }
            rect class="paper" width=(WIDE) height=(height) {}
            (drawn)
        }
    };
    svg.into_string()
}

/// Draws it for the page, which has the styles.
pub(super) fn inline(idea: &Idea, title: &str, width: f64) -> Markup {
    let (drawn, height) = draw(idea, width);
    let class = if width == WIDE { "tl idea wide" } else { "tl idea narrow" };
    html! {
        svg class=(class) viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(title) { (drawn) }
    }
}

/// Draws the frames, in two columns if there is room, and then the sources. Returns the height, too.
fn draw(idea: &Idea, width: f64) -> (Markup, f64) {
    let columns = if width == WIDE { idea.frames.len().clamp(1, 2) } else { 1 };
    let step = (width + PAD) / columns as f64;
    let (mut y, mut drawn, mut last) = (1.0, Vec::new(), 0.0);
    for (row, frames) in idea.frames.chunks(columns).enumerate() {
        let each = step - PAD - 2.0;
        last = frames.iter().map(|frame| frame.height(each)).fold(0.0, f64::max) + PAD;
        for (column, frame) in frames.iter().enumerate() {
            let place = format!("translate({} {y})", 1.0 + step * column as f64);
            let frame = frame.draw(row * columns + column + 1, each, last - PAD);
            drawn.push(html! { g transform=(place) { (frame) } });
        }
        y += last;
    }
    // In the place that is left, or below.
    let is_beside = idea.frames.len() % columns == 1;
    let (x, top) = if is_beside { (step + PAD, y - last) } else { (PAD, y) };
    let sources = wrap(&idea.sources, width - x - PAD, LETTER);
    let height = y.max(top + LINE * sources.len() as f64 + PAD);
    (html! { @for frame in drawn { (frame) } (lines(&sources, "pale", x, top + 14.0)) }, height)
}

/// A row with its lines, and its place in the process.
type Placed<'a> = (&'a Row, Vec<String>, f64);

impl Node {
    fn rows(&self, width: f64) -> (Vec<Placed<'_>>, f64) {
        let mut y = NAME;
        let rows = self.rows.iter().map(|row| {
            let lines = wrap(&row.text, width - 14.0, LETTER);
            let begin = y;
            y += LINE * lines.len() as f64 + 4.0;
            (row, lines, begin)
        });
        (rows.collect(), y + 2.0)
    }
}

impl Frame {
    /// The width of a process.
    fn side(&self, width: f64) -> f64 {
        let middle = if self.objects.is_empty() { 24.0 } else { OBJECTS + 2.0 * LINES };
        (width - 2.0 * PAD - middle) / 2.0
    }

    fn height(&self, width: f64) -> f64 {
        let side = self.side(width);
        let of_side = |nodes: &Vec<Node>| nodes.iter().map(|node| node.rows(side).1 + PAD).sum();
        let sides = self.sides.iter().map(of_side).fold(0.0, f64::max);
        let point = wrap(&self.point, width - 2.0 * PAD, BOLD).len() as f64;
        TITLE + sides.max(OBJECT * self.objects.len() as f64) + point * LINE + PAD
    }

    fn draw(&self, number: usize, width: f64, height: f64) -> Markup {
        let point = wrap(&self.point, width - 2.0 * PAD, BOLD);
        let end = height - PAD - LINE * point.len() as f64;
        let room = end - TITLE;
        let step = room / self.objects.len().max(1) as f64;
        let y_of = |index: usize| (TITLE + step * (index as f64 + 0.5) - 22.0).round();
        let side = self.side(width);
        html! {
            rect class="frame" width=(width) height=(height) rx="8" {}
            text class="name" x=(PAD) y="21" { @if !self.objects.is_empty() { (number) ". " } (self.title) }
            text class="pale" x=(width - PAD) y="21" text-anchor="end" { (format!("{:.3} s", self.t)) }
            @for (nodes, is_right) in self.sides.iter().zip([false, true]) {
                @let x = if is_right { width - PAD - side } else { PAD };
                @let placed: Vec<_> = nodes.iter().map(|node| (node, node.rows(side))).collect();
                @let all = placed.iter().map(|(_, (_, height))| height + PAD).sum::<f64>();
                @for (index, (node, (rows, height))) in placed.iter().enumerate() {
                    @let above = placed.iter().take(index).map(|(_, (_, height))| height + PAD).sum::<f64>();
                    @let y = TITLE + (room - all) / 2.0 + above;
                    rect class="process" x=(x) y=(y) width=(side) height=(height) rx="5" {}
                    text class="name" x=(x + 7.0) y=(y + 16.0) { (node.name) }
                    text x=(x + 7.0) y=(y + 31.0) { (node.pid) }
                    @for (row, text, at) in rows {
                        @let (y, height) = (y + at, LINE * text.len() as f64 + 2.0);
                        rect class=(format!("row {}", row.look)) x=(x + 3.0) y=(y) width=(side - 6.0) height=(height) rx="3" {}
                        (lines(text, row.look, x + 7.0, y + 13.0))
                        @if let Some(to) = row.to {
                            @let (from, sign) = if is_right { (x, 1.0) } else { (x + side, -1.0) };
                            @let (to, to_y) = match self.objects.get(to) {
                                Some(parts) => (width / 2.0 + sign * object(parts).1, y_of(to)),
                                None => (width - from, y + height / 2.0),
                            };
                            path class=(format!("link {}", row.look)) d=(format!("M{from} {}L{to} {to_y}", y + height / 2.0)) {}
                        }
                    }
                }
            }
            @for (index, parts) in self.objects.iter().enumerate() {
                @let (shape, _, look) = object(parts);
                @let label = wrap(parts.last().map_or("", String::as_str), OBJECTS + 8.0, BOLD);
                g transform=(format!("translate({} {})", width / 2.0, y_of(index))) {
                    (shape)
                    g class="label" { (lines(&label, look, 0.0, 44.0)) }
                }
            }
            (lines(&point, "says", PAD, end + 10.0))
        }
    }
}

fn lines(lines: &[String], class: &str, x: f64, y: f64) -> Markup {
    html! {
        @for (index, line) in lines.iter().enumerate() {
            text class=(class) x=(x) y=(y + LINE * index as f64) { (line) }
        }
    }
}

fn wrap(text: &str, width: f64, letter: f64) -> Vec<String> {
    wrapped(text, "", "", (width / letter) as usize).lines().map(str::to_owned).collect()
}
