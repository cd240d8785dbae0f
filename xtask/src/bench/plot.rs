//! A plot of times on a logarithmic scale, as SVG.

use std::fmt::Write as _;

/// One way, and its time in microseconds at each position.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) is_ours: bool,
    pub(super) values: Vec<f64>,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0; // for the names at the ends of the lines
const TOP: f64 = 56.0;
const BOTTOM: f64 = 50.0;
/// Between the base lines of two names.
const NAME_HEIGHT: f64 = 16.0;

/// Readable on light and dark, and without colour: ours are thick or filled, the names stand at the
/// lines and bars.
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

/// What every picture begins with.
pub(super) fn head(title: &str, width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"12\" y=\"26\">{title}</text>\n"
    )
}

/// Draws `lines` over the positions that `labels` name.
pub(super) fn draw(title: &str, labels: &[String], lines: &[Line]) -> String {
    let values = || lines.iter().flat_map(|line| line.values.iter().copied());
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.0, f64::max).log10().ceil();
    let x = |index: usize| {
        let steps = labels.len().saturating_sub(1).max(1) as f64;
        LEFT + (WIDTH - LEFT - RIGHT) * index as f64 / steps
    };
    let y = |value: f64| {
        let part = (value.log10() - low) / (high - low);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
    };

    let mut svg = head(title, WIDTH, HEIGHT);
    for power in low as i32..=high as i32 {
        let y = y(10_f64.powi(power));
        let end = WIDTH - RIGHT;
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{end}\"/>");
        let label = time(power);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for (index, label) in labels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            x(index),
            HEIGHT - BOTTOM + 22.0
        );
    }
    let ends: Vec<f64> = lines
        .iter()
        .map(|line| line.values.last().map_or(0.0, |value| y(*value)))
        .collect();
    for (line, name_y) in lines.iter().zip(spread(&ends)) {
        let class = if line.is_ours { " ours" } else { "" };
        let points: Vec<String> = line
            .values
            .iter()
            .enumerate()
            .map(|(index, value)| format!("{:.1},{:.1}", x(index), y(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"line{class}\" points=\"{}\"/>",
            points.join(" ")
        );
        for point in &points {
            if let Some((cx, cy)) = point.split_once(',') {
                let _ = writeln!(
                    svg,
                    "<circle class=\"dot{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3.5\"/>"
                );
            }
        }
        if let (Some(last), Some(value)) = (points.last(), line.values.last()) {
            let from = WIDTH - RIGHT + 24.0;
            let _ = writeln!(
                svg,
                "<polyline class=\"lead\" points=\"{last} {:.1},{name_y:.1}\"/>",
                from - 3.0
            );
            let name = format!("{} {}", line.name, duration(*value));
            let _ = writeln!(
                svg,
                "<text class=\"name{class}\" x=\"{from}\" y=\"{:.1}\">{name}</text>",
                name_y + 4.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Heights for the names, near the wanted ones, that do not overlap; in the order of `wanted`.
fn spread(wanted: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut heights = wanted.to_vec();
    // From below upwards, so that what is crowded at the bottom moves up into the free space.
    let mut lowest = HEIGHT - BOTTOM;
    for index in order.into_iter().rev() {
        heights[index] = heights[index].min(lowest);
        lowest = heights[index] - NAME_HEIGHT;
    }
    heights
}

fn time(power: i32) -> String {
    duration(10_f64.powi(power))
}

fn duration(microseconds: f64) -> String {
    match microseconds {
        us if us < 999.5 => format!("{us:.0} µs"),
        us if us < 9_950.0 => format!("{:.1} ms", us / 1000.0),
        us => format!("{:.0} ms", us / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap_and_keep_their_order() {
        let heights = spread(&[300.0, 301.0, 100.0, 299.0]);
        assert_eq!(heights[2], 100.0);
        assert!(heights[1] - heights[0] >= NAME_HEIGHT && heights[0] - heights[3] >= NAME_HEIGHT);
    }

    #[test]
    fn a_time_is_told_in_the_unit_that_fits() {
        assert_eq!(
            [duration(950.0), duration(1_200.0), duration(130_000.0)],
            ["950 µs", "1.2 ms", "130 ms"]
        );
    }
}
