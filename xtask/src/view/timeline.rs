//! Draws a run: a lane for each process, and what happens between them.

use maud::{Markup, PreEscaped, html};
use textwrap::core::display_width;

use crate::model::bilingual::{Language, Text, text};
use crate::model::process::State;
use crate::view::story::{Arrow, Lane, Step, Story, WORKER};
use crate::view::{legend, words};

pub(super) const FILE: Text = text("timeline.svg", "timeline.zh-CN.svg");

/// For a screen or paper, and for a telephone.
pub(super) const WIDE: f64 = 760.0;
pub(super) const NARROW: f64 = 310.0;

const LEFT: f64 = 14.0;
/// Room for the last words, which lean to the right.
const RIGHT: f64 = 58.0;
/// The height that each letter adds to the words over the steps, which lean.
const RISE: f64 = 5.2;
/// The height over the lanes for the numbers of snapshots.
const NUMBERS: f64 = 13.0;
const LANE: f64 = 46.0;
const BAR: f64 = 16.0;
/// The height for the axis and its labels.
const BOTTOM: f64 = 46.0;
/// The width that a word over a step needs.
const STEP: f64 = 26.0;
/// The least distance between two words; with less, the second is left out. Han characters are taller.
const WORD: f64 = 10.0;
const HAN_WORD: f64 = 15.0;
/// The gap between a bar and the line of an arrow that passes it.
const GAP: f64 = 4.0;
/// The width of a letter, in bold, and of a Han character.
const LETTER: f64 = 7.2;
const HAN: f64 = 12.4;

/// Readable on light and dark, and without colour.
pub(super) const STYLE: &str = concat!("\n", include_str!("timeline.css"));
pub(super) const DARK_STYLE: &str = concat!("\n", include_str!("timeline-dark.css"));

/// The pattern of the zombies; once a page, in an image that is never hidden.
pub(super) fn hatching() -> Markup {
    PreEscaped(include_str!("hatching.svg").trim_end().to_owned())
}

/// Draws it as a file of its own, with the style, the pattern and the legend.
pub(super) fn file(story: &Story, title: &str, language: Language) -> String {
    let timeline = Timeline::new(story, WIDE, language);
    let drawn = timeline.draw().into_string();
    let (legend, legend_height) = legend::rows(LEFT, WIDE, language, &drawn);
    let height = timeline.height + legend_height;
    let dark = format!("@media (prefers-color-scheme:dark){{{DARK_STYLE}}}");
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tl" viewBox=(format!("0 0 {WIDE} {height}")) width=(WIDE) height=(height) role="img" {
            title { (title) }
            style { (PreEscaped(STYLE)) (PreEscaped(dark)) }
            (hatching())
            rect class="paper" width=(WIDE) height=(height) {}
            (PreEscaped(drawn))
            g transform=(format!("translate(0 {})", timeline.height)) { (legend) }
        }
    };
    svg.into_string()
}

/// Draws it for the page, which has the style and the pattern.
pub(super) fn inline(story: &Story, title: &str, width: f64, language: Language) -> Markup {
    let timeline = Timeline::new(story, width, language);
    let class = if width == WIDE { "tl wide" } else { "tl narrow" };
    html! {
        svg class=(class) viewBox=(format!("0 0 {width} {}", timeline.height)) role="img" aria-label=(title) {
            (timeline.draw())
        }
    }
}

struct Timeline<'a> {
    story: &'a Story,
    language: Language,
    order: Vec<usize>,
    /// The place of each step.
    x: Vec<f64>,
    width: f64,
    /// Where the lanes begin, below the words over the steps.
    top: f64,
    height: f64,
}

impl<'a> Timeline<'a> {
    fn new(story: &'a Story, width: f64, language: Language) -> Self {
        let order = story.order(WORKER);
        let words = story.steps.iter().map(|step| display_width(&label_of(step, language)));
        let top = 2.0 * NUMBERS + 14.0 + (RISE * words.max().unwrap_or(0) as f64).ceil();
        let height = top + LANE * order.len() as f64 + BOTTOM;
        Self { story, language, order, x: places(story, width), width, top, height }
    }

    fn draw(&self) -> Markup {
        html! {
            @for step in 0..self.story.steps.len() { (self.step(step)) }
            @for (arrow, x) in self.arrows() { (self.line(arrow, x)) }
            // After the lines, so that these pass behind the lanes.
            @for &lane in &self.order { (self.lane(lane)) (self.label(lane)) }
            @for (arrow, x) in self.arrows() { (self.head(arrow, x)) }
            (self.axis())
        }
    }

    fn say(&self, text: Text) -> &'static str {
        text.to(self.language)
    }

    fn arrows(&self) -> impl Iterator<Item = (Arrow, f64)> {
        let steps = self.story.steps.iter().zip(&self.x);
        steps.flat_map(|(step, x)| step.arrows.iter().map(|arrow| (*arrow, *x)))
    }

    fn place(&self, lane: usize) -> usize {
        self.order.iter().position(|other| *other == lane).unwrap_or(0)
    }

    /// The upper edge of a lane's bar.
    fn y(&self, lane: usize) -> f64 {
        self.top + LANE * self.place(lane) as f64 + 20.0
    }

    fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }

    /// Draws a step: its word or the number of its snapshot, and a line down.
    fn step(&self, number: usize) -> Markup {
        let (step, x) = (&self.story.steps[number], self.x[number]);
        let word = label_of(step, self.language);
        let line = format!("M{x} {}V{}", self.top - 2.0 * NUMBERS, self.bottom());
        html! {
            @if let Some(number) = step.snapshot {
                path class="snapshot" d=(line) {}
                circle class="disc" cx=(x) cy=(self.top - NUMBERS) r="9" {}
                text class="number" x=(x) y=(self.top - NUMBERS + 4.2) { (number) }
            } @else if !word.is_empty() {
                path class="guide" d=(line) {}
            }
            @if !word.is_empty() && self.has_room(number) {
                text transform=(format!("translate({} {}) rotate(-50)", round(x + 4.0), self.top - 2.0 * NUMBERS - 2.0)) { (word) }
            }
        }
    }

    /// Whether the word of this step can be read beside those before it.
    fn has_room(&self, wanted: usize) -> bool {
        let least = if self.language == Language::Chinese { HAN_WORD } else { WORD };
        let mut last = f64::NEG_INFINITY;
        for (number, step) in self.story.steps.iter().enumerate() {
            let fits = self.x[number] - last >= least;
            if number == wanted {
                return fits;
            }
            if fits && !step.word.is_empty() {
                last = self.x[number];
            }
        }
        false
    }

    fn lane(&self, number: usize) -> Markup {
        let lane = &self.story.lanes[number];
        let y = self.y(number);
        let middle = y + BAR / 2.0;
        let end = lane.end.map(|step| self.x[step]);
        let last = end.or(self.x.last().copied()).unwrap_or(LEFT);
        html! {
            @for (index, (state, from)) in lane.states.iter().enumerate() {
                @let to = lane.states.get(index + 1).map_or(last, |next| self.x[next.1]);
                (self.bar(number, *state, self.x[*from], to, y))
            }
            @for step in &lane.execs { path class="mark" d=(format!("M{} {}l5 5-5 5-5-5z", self.x[*step], middle - 5.0)) {} }
            @if let Some(x) = lane.ignores.map(|step| self.x[step]) {
                circle class="ignores" cx=(x) cy=(middle) r="5.5" {}
                path class="ignores" d=(format!("M{} {}l7.8 -7.8", x - 3.9, middle + 3.9)) {}
            }
            @if let Some(end) = end {
                path class="gone" d=(format!("M{end} {}v{}", y - 3.0, BAR + 6.0)) {}
                @if end + 40.0 < self.width {
                    rect class="paper" x=(end + 4.0) y=(y + 1.0) width="29" height="14" {}
                    text class="small" x=(end + 6.0) y=(y + 12.0) { (self.say(text("gone", "消失"))) }
                }
            }
        }
    }

    /// Draws the name of a process, as long as there is room for, where its bar begins; further left if
    /// it would be cut off.
    fn label(&self, number: usize) -> Markup {
        let room = |text: &str| {
            let letters = text.chars().count();
            let han = display_width(text).saturating_sub(letters); // each is two columns wide
            letters as f64 * LETTER + han as f64 * (HAN - LETTER)
        };
        let [full, shorter, shortest] = self.story.labels(number, self.language);
        let fits = |text: &String| room(text) < self.width - 8.0;
        let label = [full, shorter].into_iter().find(fits).unwrap_or(shortest);
        let lane = &self.story.lanes[number];
        let begin = lane.states.first().map(|state| state.1).or(lane.end);
        let begin =
            begin.map_or(LEFT, |step| self.x[step]) + if number == WORKER { 0.0 } else { 7.0 };
        let length = room(&label);
        let x = round(begin.min(self.width - 4.0 - length).max(4.0));
        let y = self.y(number);
        html! {
            // Covers the lines, but not the heads of arrows that end at the bars above and below.
            rect class="paper" x=(x - 2.0) y=(y - 21.0) width=(round(length * 0.96)) height="13" {}
            text class="name" x=(x) y=(y - 11.0) { (label) }
        }
    }

    /// Whether a mark of this lane would lie on a word here.
    fn is_marked(&self, lane: usize, x: f64) -> bool {
        let lane = &self.story.lanes[lane];
        let mut marks = lane.execs.iter().chain(&lane.ignores);
        marks.any(|step| (self.x[*step] - x).abs() < 4.0 * LETTER)
    }

    fn bar(&self, lane: usize, state: State, from: f64, to: f64, y: f64) -> Markup {
        let width = round((to - from).max(1.0));
        let zombie = [self.say(text("zombie (Z)", "僵尸 (Z)")), "Z"];
        let middle = from + width / 2.0;
        match state {
            State::Alive if lane == WORKER => html! {
                rect class="worker" x=(from) y=(y + thinner(lane)) width=(width) height=(BAR - 2.0 * thinner(lane)) {}
            },
            State::Alive => html! {
                rect class="lives" x=(from) y=(y) width=(width) height=(BAR) {}
                @if !self.is_marked(lane, middle) { (word(&[self.say(text("lives", "活着"))], width, middle, y, "on-lives")) }
            },
            State::Stopped => html! {
                path class="stopped" d=(format!("M{from} {}h{width}", y + BAR / 2.0)) {}
                (word(&[self.say(text("stopped (T)", "暂停 (T)")), "T"], width, middle, y, "halo"))
            },
            State::Zombie if !self.story.is_zombie_in_snapshot(lane) => html! {
                rect class="zombie" x=(from) y=(y + BAR / 4.0) width=(width) height=(BAR / 2.0) {}
            },
            State::Zombie => html! {
                rect class="zombie" x=(from) y=(y) width=(width) height=(BAR) {}
                (word(&zombie, width, middle, y, "name halo"))
            },
        }
    }

    /// Draws the line of an arrow, straight up or down, from its head to the edge of the other bar, so
    /// that the dashes of lines to the same bar coincide. It has a gap at each bar that it only passes.
    fn line(&self, arrow: Arrow, x: f64) -> Markup {
        let (from, to) = (self.y(arrow.from), self.y(arrow.to));
        let inset = thinner(arrow.from);
        let start = if from < to { from + BAR - inset } else { from + inset };
        let (_, base) = self.head_of(arrow);
        let mut line = format!("M{x} {base}");
        for lane in self.crossed(arrow, x) {
            let (above, below) = (self.y(lane) - GAP, self.y(lane) + BAR + GAP);
            let (near, far) = if from < to { (below, above) } else { (above, below) };
            line += &format!("V{near}M{x} {far}");
        }
        line += &format!("V{start}");
        html! { path class=(format!("arrow {}", arrow.class)) d=(line) {} }
    }

    /// The lanes between the two of an arrow that have a bar there, beginning at its head.
    fn crossed(&self, arrow: Arrow, x: f64) -> Vec<usize> {
        let (from, to) = (self.place(arrow.from), self.place(arrow.to));
        let has_bar = |lane: &usize| {
            let Lane { states, end, .. } = &self.story.lanes[*lane];
            let begin = states.first().map(|(_, step)| self.x[*step]);
            let end = end.map_or(self.width, |step| self.x[step]);
            begin.is_some_and(|begin| begin < x && x < end)
        };
        let between = self.order.get(from.min(to) + 1..from.max(to));
        let between = between.unwrap_or_default().iter().copied();
        let mut crossed: Vec<usize> = between.filter(has_bar).collect();
        if from < to {
            crossed.reverse();
        }
        crossed
    }

    fn head(&self, arrow: Arrow, x: f64) -> Markup {
        let class = format!("head {}", arrow.class);
        let (tip, base) = self.head_of(arrow);
        let begin = round(x - 4.5);
        html! { path class=(class) d=(format!("M{begin} {base}h9L{x} {tip}z")) {} }
    }

    /// Where the head of an arrow ends, and where it begins.
    fn head_of(&self, arrow: Arrow) -> (f64, f64) {
        let (from, to) = (self.y(arrow.from), self.y(arrow.to));
        let inset = thinner(arrow.to);
        if from < to {
            (to + inset, to + inset - 7.0)
        } else {
            (to + BAR - inset, to + BAR - inset + 7.0)
        }
    }

    fn axis(&self) -> Markup {
        let y = self.bottom();
        let mut labels: Vec<(f64, String)> = Vec::new();
        for (step, x) in self.story.steps.iter().zip(&self.x) {
            let label = format!("{:.3} s", step.t); // steps that are drawn apart differ
            if labels.last().is_none_or(|last| x - last.0 > 48.0 && label != last.1) {
                labels.push((*x, label));
            }
        }
        let end = self.x.last().copied().unwrap_or(LEFT);
        html! {
            path class="axis" d=(format!("M{LEFT} {y}H{end}")) {}
            @for (x, label) in &labels {
                path class="axis" d=(format!("M{x} {y}v5")) {}
                text class="small" x=(round(x - 8.0)) y=(y + 18.0) { (label) }
            }
            text class="small" x=(LEFT) y=(y + 36.0) { (self.say(text("Time, not to scale: short spans are drawn wider.", "时间，不按比例：短的一段画得更宽。"))) }
        }
    }
}

/// What happened in this step, and how often.
fn label_of(step: &Step, language: Language) -> String {
    let word = words::to(language, &step.word);
    match step.times {
        1 => word.into_owned(),
        times => format!("{word} ×{times}"),
    }
}

/// The place of each step: with room for its word, and further from the last the more time has passed.
fn places(story: &Story, width: f64) -> Vec<f64> {
    let gaps = story.steps.len().saturating_sub(1).max(1) as f64;
    let total = width - LEFT - RIGHT;
    let least = STEP.min(total * 0.8 / gaps);
    let times: Vec<f64> = story.steps.iter().map(|step| step.t).collect();
    let weight = |pair: &[f64]| (pair[1] - pair[0]).max(0.0).sqrt();
    let all: f64 = times.windows(2).map(weight).sum();
    let mut x = LEFT;
    let mut places = vec![x];
    for pair in times.windows(2) {
        x += least + (total - least * gaps) * weight(pair) / all.max(f64::MIN_POSITIVE);
        places.push(round(x));
    }
    places
}

/// How much thinner the bar of this lane is, on each side.
fn thinner(lane: usize) -> f64 {
    if lane == WORKER { 5.0 } else { 0.0 }
}

fn round(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// The longest of these words that fits, in the middle.
fn word(words: &[&str], width: f64, middle: f64, y: f64, class: &str) -> Markup {
    let fitting = words.iter().find(|word| display_width(word) as f64 * LETTER + 6.0 < width);
    html! {
        @if let Some(word) = fitting {
            text class=(class) x=(round(middle)) y=(y + 12.2) text-anchor="middle" { (word) }
        }
    }
}
