//! The table of figures. Pure.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::figure::{Figure, Target, Verdict};
use crate::stats::Samples;

const HEADER: [&str; 7] = ["figure", "unit", "ours", "nginx", "ours/nginx", "target", ""];
/// Columns of numbers.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=5;

/// One row per figure; medians, the smallest and largest sample in parentheses.
pub(super) fn render(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .force_no_tty()
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEADER).add_rows(figures.iter().map(row));
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if NUMBERS.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

fn row(figure: &Figure) -> [String; 7] {
    let absent = || "–".to_owned();
    let target = match figure.target {
        Target::Ratio(Some(most)) => format!("≤ {most} × nginx"),
        Target::Value(Some(most)) => format!("≤ {most} {}", figure.unit),
        Target::Ratio(None) | Target::Value(None) => absent(),
    };
    let verdict = match figure.verdict() {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::NoTarget => "",
    };
    [
        figure.name.clone(),
        figure.unit.to_owned(),
        with_spread(&figure.ours),
        figure.nginx.as_ref().map_or_else(absent, with_spread),
        figure.ratios().as_ref().map_or_else(absent, with_spread),
        target,
        verdict.to_owned(),
    ]
}

fn with_spread(samples: &Samples) -> String {
    let (least, most) = samples.spread();
    let number = short(samples.median());
    format!("{number} ({}…{})", short(least), short(most))
}

/// About three digits.
fn short(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_medians_spread_ratio_and_verdict() {
        let samples = |values: [f64; 3]| Samples::new(values);
        let figure = Figure::ratio(
            "CPU per token".to_owned(),
            "µs",
            samples([16.0, 18.0, 17.0]),
            samples([10.0, 10.0, 10.0]),
            Some(1.5),
        );
        let text = render(&[figure]);
        let row = text
            .lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let expected =
            "CPU per token µs 17.0 (16.0…18.0) 10.0 (10.0…10.0) 1.70 (1.60…1.80) ≤ 1.5 × nginx MISSED";
        assert_eq!(row, expected);
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [1234.56, 12.345, 1.2345, -0.5].map(short),
            ["1235", "12.3", "1.23", "-0.50"]
        );
    }
}
