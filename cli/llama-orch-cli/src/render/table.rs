//! Tables without lines: one row per line for scripts, wrapped to the terminal for people.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::text::clean_line;

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
    match look {
        Look::Piped => table
            .force_no_tty()
            .set_content_arrangement(ContentArrangement::Disabled),
        Look::Plain | Look::Coloured => table.set_content_arrangement(ContentArrangement::Dynamic),
    };
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Names and values below each other, the values aligned.
pub(super) fn pairs(pairs: &[(&str, Option<String>)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let known = pairs
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    known
        .map(|(name, value)| format!("{name:width$}  {}\n", clean_line(value)))
        .collect()
}
