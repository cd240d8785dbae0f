//! What is measured: a file for each command, and one for what comes out of it.

mod chaos;
pub(crate) mod echo;
mod echo_results;
mod machine;
mod outcome;
pub(crate) mod rolling;
mod rolling_result;
pub(crate) mod soak;
mod soak_result;
pub(crate) mod spawn;
mod unexplained_errors;

use std::fmt::Display;

/// Returns the value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns a line of a table whose columns have these names and widths: the first cell is on the left of its
/// column, the others are on the right.
fn table_line<const N: usize>(columns: [(&str, usize); N], cells: [impl Display; N]) -> String {
    let mut line = String::new();
    for (index, (cell, (_, width))) in cells.into_iter().zip(columns).enumerate() {
        let cell = cell.to_string();
        line += &match index {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        };
    }
    line + "\n"
}

/// Returns one line of JSON for each of these.
fn ndjson(lines: impl IntoIterator<Item = serde_json::Result<String>>) -> String {
    let lines = lines.into_iter().flatten();
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert!(median(&[]).is_nan());
    }
}
