//! Charts, as files of SVG.

pub(crate) mod bars;
pub(crate) mod lines;

use maud::{Markup, PreEscaped, html};

/// Readable on light and dark, and without colour: ours are thick or filled, and each line and bar has
/// its name beside it.
const STYLE: &str = "
  svg { font: 13px system-ui, sans-serif; background: #fff; fill: #222 }
  .title { font-size: 16px; font-weight: 600 }
  .grid { stroke: #ddd }
  .line { fill: none; stroke: #888; stroke-width: 1.5 }
  .dot { fill: #888 }
  .ours { stroke: #0a7d38; stroke-width: 3.5 }
  .dot.ours { fill: #0a7d38; stroke: none }
  .name.ours { fill: #0a7d38; stroke: none; font-weight: 600 }
  .lead { stroke: #bbb; fill: none }
  .bar { fill: #8882; stroke: #888 }
  .bar.ours { fill: #0a7d38; stroke: #0a7d38; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    svg { background: #14171a; fill: #ddd }
    .grid { stroke: #333 } .lead { stroke: #555 }
    .ours { stroke: #46c97a } .dot.ours, .name.ours, .bar.ours { fill: #46c97a }
    .bar.ours { stroke: #46c97a }
  }
";

/// A whole file.
fn file(title: &str, width: f64, height: f64, drawing: &Markup) -> String {
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) role="img" {
            title { (title) }
            style { (PreEscaped(STYLE)) }
            text class="title" x="12" y="26" { (title) }
            (drawing)
        }
    };
    svg.into_string() + "\n"
}

/// The class of what is drawn: with another look if it is ours.
fn class(name: &str, is_ours: bool) -> String {
    format!("{name}{}", if is_ours { " ours" } else { "" })
}
