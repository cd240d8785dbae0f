//! A bar chart.

use maud::html;

use crate::plot;

/// One bar.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) is_ours: bool,
    pub(crate) value: f64,
}

const WIDTH: f64 = 800.0;
const LEFT: f64 = 190.0; // for the names
const RIGHT: f64 = 110.0; // for the figures
const TOP: f64 = 48.0;
const STEP: f64 = 26.0;
const THICKNESS: f64 = 17.0;

/// Draws them from the best to the worst: the most, or the least if `less_is_better`.
pub(crate) fn draw(title: &str, unit: &str, less_is_better: bool, bars: &[Bar]) -> String {
    let mut order: Vec<&Bar> = bars.iter().collect();
    order.sort_by(|one, other| other.value.total_cmp(&one.value));
    if less_is_better {
        order.reverse();
    }
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    let y = |index: usize| TOP + STEP * index as f64;
    let length = |bar: &Bar| ((WIDTH - LEFT - RIGHT) * bar.value / longest).max(1.0);
    let drawing = html! {
        @for (index, bar) in order.into_iter().enumerate() {
            @let text_y = y(index) + THICKNESS - 4.0;
            @let name = plot::class("name", bar.is_ours);
            text class=(name) x=(LEFT - 8.0) y=(text_y) text-anchor="end" { (bar.name) }
            rect class=(plot::class("bar", bar.is_ours)) x=(LEFT) y=(y(index))
                width=(format!("{:.1}", length(bar))) height=(THICKNESS) {}
            text class=(name) x=(format!("{:.1}", LEFT + length(bar) + 6.0)) y=(text_y) {
                (figure(bar.value)) " " (unit)
            }
        }
    };
    plot::file(title, WIDTH, height, &drawing)
}

/// Returns the figure as one reads it aloud: `12,300`, or `4.2`.
pub(crate) fn figure(value: f64) -> String {
    if value < 9.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_can_be_read() {
        assert_eq!(
            [4.16, 9.96, 999.4, 12_345.6, 1_234_567.0].map(figure),
            ["4.2", "10", "999", "12,346", "1,234,567"]
        );
    }

    #[test]
    fn the_best_is_on_top() {
        let bar = |name: &str, value| Bar { name: name.to_owned(), is_ours: false, value };
        let bars = [bar("small", 1.0), bar("large", 2.0)];
        let first = |svg: String| svg.find("small") < svg.find("large");
        assert!(!first(draw("t", "u", false, &bars)));
        assert!(first(draw("t", "u", true, &bars)));
    }
}
