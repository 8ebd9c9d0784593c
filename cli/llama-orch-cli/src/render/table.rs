//! Tables without lines: one row per line for scripts, wrapped to the terminal for people.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::text::{clean, clean_line};

/// What a table is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// No terminal: never wrapped, never coloured.
    Piped,
    /// A terminal without colours.
    Plain,
    /// A terminal with colours.
    Coloured,
}

/// How a cell strikes the eye.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    Good,
    Doubtful,
    Bad,
}

/// Spaces between columns.
const GAP: u16 = 2;

/// Below this many columns wrapping makes words out of single letters; some terminals say that they have none.
const LEAST_WIDTH: u16 = 40;

pub(super) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(clean_line(text.as_ref()))
}

pub(super) fn toned(text: impl AsRef<str>, tone: Tone, look: Look) -> Cell {
    let cell = cell(text);
    if look != Look::Coloured {
        return cell;
    }
    cell.fg(match tone {
        Tone::Good => Color::Green,
        Tone::Doubtful => Color::Yellow,
        Tone::Bad => Color::Red,
    })
}

pub(super) fn draw(look: Look, header: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().map(cell));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    if look == Look::Piped {
        table.force_no_tty();
    }
    let arrangement = match table.width() {
        Some(columns) if columns >= LEAST_WIDTH => ContentArrangement::Dynamic,
        _ => ContentArrangement::Disabled,
    };
    table.set_content_arrangement(arrangement);
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Names and values below each other, the values aligned, also over several lines.
pub(super) fn pairs(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let next_line = format!("\n{:width$}  ", "");
    let known = pairs
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let line = |(name, value): (&&str, &String)| {
        let value = clean(value.trim_end()).replace('\n', &next_line);
        format!("{name:width$}  {value}\n")
    };
    known.map(line).collect()
}
