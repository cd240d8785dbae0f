//! A plot of times on a logarithmic scale.

use maud::html;

use crate::plot;

/// One way, and its time in microseconds at each position.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) is_ours: bool,
    pub(crate) values: Vec<f64>,
}

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 290.0; // for the names at the ends of the lines
const TOP: f64 = 56.0;
const BOTTOM: f64 = 50.0;
/// Between the base lines of two names.
const NAME_HEIGHT: f64 = 16.0;

/// Draws `lines` over the positions that `labels` name.
pub(crate) fn draw(title: &str, labels: &[String], lines: &[Line]) -> String {
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
    let last = |line: &Line| line.values.last().copied().unwrap_or(f64::NAN);
    let name_heights = spread(&lines.iter().map(|line| y(last(line))).collect::<Vec<_>>());
    let names_x = WIDTH - RIGHT + 24.0;
    let one_digit = |value: f64| format!("{value:.1}");

    let drawing = html! {
        @for value in (low as i32..=high as i32).map(|power| 10_f64.powi(power)) {
            path class="grid" d=(format!("M{LEFT} {:.1}H{}", y(value), WIDTH - RIGHT)) {}
            text x=(LEFT - 8.0) y=(one_digit(y(value) + 4.0)) text-anchor="end" { (duration(value)) }
        }
        @for (index, label) in labels.iter().enumerate() {
            text x=(one_digit(x(index))) y=(HEIGHT - BOTTOM + 22.0) text-anchor="middle" { (label) }
        }
        @for (line, name_y) in lines.iter().zip(name_heights) {
            @let points = line.values.iter().enumerate().map(|(index, value)| (x(index), y(*value)));
            @let points: Vec<(f64, f64)> = points.collect();
            polyline class=(plot::class("line", line.is_ours)) points=(polyline(&points)) {}
            @for (x, y) in &points {
                circle class=(plot::class("dot", line.is_ours)) cx=(one_digit(*x)) cy=(one_digit(*y))
                    r="3.5" {}
            }
            @if let Some(end) = points.last() {
                polyline class="lead" points=(polyline(&[*end, (names_x - 3.0, name_y)])) {}
                text class=(plot::class("name", line.is_ours)) x=(names_x) y=(one_digit(name_y + 4.0)) {
                    (line.name) " " (duration(last(line)))
                }
            }
        }
    };
    plot::file(title, WIDTH, HEIGHT, &drawing)
}

/// The corners of a line, as SVG has them.
fn polyline(points: &[(f64, f64)]) -> String {
    let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    points.collect::<Vec<_>>().join(" ")
}

/// Returns heights for the names, near the wanted ones, that do not overlap; in the order of `wanted`.
fn spread(wanted: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut heights = wanted.to_vec();
    // From below upwards: names that are crowded at the bottom move up into the free space.
    let mut lowest = HEIGHT - BOTTOM;
    for index in order.into_iter().rev() {
        heights[index] = heights[index].min(lowest);
        lowest = heights[index] - NAME_HEIGHT;
    }
    heights
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
    fn a_time_has_the_unit_that_fits() {
        assert_eq!(
            [duration(950.0), duration(1_200.0), duration(130_000.0)],
            ["950 µs", "1.2 ms", "130 ms"]
        );
    }
}
