//! The legend of the timelines: what each sign means.

use maud::{Markup, PreEscaped, html};

use crate::model::bilingual::{Language, Text, text};

/// A sign of the legend.
struct Sign {
    meaning: Text,
    /// What only a drawing with this sign contains, perhaps in each language: `this or that`.
    marker: &'static str,
    /// 44 wide and 16 high.
    svg: &'static str,
}

/// In `legend.txt`, each is a paragraph with a line for what it means in English, one for Chinese, and one
/// for each other field.
fn signs() -> impl Iterator<Item = Sign> {
    include_str!("legend.txt").split("\n\n").map(|sign| {
        let mut lines = sign.lines();
        let mut next = || lines.next().unwrap_or_default();
        Sign { meaning: text(next(), next()), marker: next(), svg: next() }
    })
}

/// What the signs mean, as a list for the page.
pub(super) fn list(language: Language) -> Markup {
    html! {
        ul class="legend" {
            @for Sign { svg, meaning, .. } in signs() {
                li { svg class="tl sign" viewBox="0 0 44 16" aria-hidden="true" { (PreEscaped(svg)) } (meaning.to(language)) }
            }
        }
    }
}

/// The same, as the lower part of a file: what this drawing contains. And its height.
pub(super) fn rows(left: f64, width: f64, language: Language, drawn: &str) -> (Markup, f64) {
    const ROW: f64 = 24.0;
    let is_there = |sign: &Sign| sign.marker.split(" or ").any(|marker| drawn.contains(marker));
    let signs: Vec<Sign> = signs().filter(is_there).collect();
    let half = signs.len().div_ceil(2);
    let place = |index: usize| {
        let x = left + (index / half) as f64 * width / 2.0;
        format!("translate({x} {})", 8.0 + ROW * (index % half) as f64)
    };
    let svg = html! {
        @for (index, Sign { svg, meaning, .. }) in signs.iter().enumerate() {
            g transform=(place(index)) { (PreEscaped(svg)) text x="54" y="12.2" { (meaning.to(language)) } }
        }
    };
    (svg, ROW * half as f64 + 16.0)
}
