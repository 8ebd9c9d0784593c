//! Texts that grow side by side: one column each, printed row by row as soon as a row is complete in
//! every column that has begun. Needs no cursor movement, so a log reads like a terminal.

/// Width of a column, characters.
const WIDTH: usize = 34;

/// One growing text.
#[derive(Debug, Default)]
struct Column {
    rows: Vec<String>,
    begun: bool,
    ended: bool,
}

impl Column {
    fn push(&mut self, text: &str) {
        self.begun = true;
        for word in text.split_inclusive(' ') {
            let word = word.replace(['\n', '\r', '\t'], " ");
            let fits = |row: &String| row.chars().count() + word.trim_end().chars().count() <= WIDTH;
            match self.rows.last_mut().filter(|row| fits(row)) {
                Some(row) => row.push_str(&word),
                None => self.rows.push(word.trim_start().to_owned()),
            }
        }
    }

    /// Rows that will not change any more.
    fn complete(&self) -> usize {
        if self.ended {
            self.rows.len()
        } else {
            self.rows.len().saturating_sub(1)
        }
    }

    fn row(&self, at: usize) -> String {
        let visible = |c: char| if c.is_control() { '·' } else { c };
        self.rows
            .get(at)
            .map_or_else(String::new, |row| row.chars().map(visible).take(WIDTH).collect())
    }
}

/// The columns and how many rows were printed.
#[derive(Debug)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    printed: usize,
}

impl Columns {
    pub(crate) fn new(count: usize) -> Self {
        let mut columns = Vec::new();
        columns.resize_with(count, Column::default);
        Self { columns, printed: 0 }
    }

    /// Appends to a column and gives the rows that are complete now.
    pub(crate) fn push(&mut self, column: usize, text: &str) -> Vec<String> {
        self.columns[column].push(text);
        self.rows()
    }

    /// Ends a column and gives the rows that are complete now.
    pub(crate) fn end(&mut self, column: usize) -> Vec<String> {
        self.columns[column].ended = true;
        self.rows()
    }

    fn rows(&mut self) -> Vec<String> {
        let live = self
            .columns
            .iter()
            .filter(|c| c.begun && !c.ended)
            .map(Column::complete)
            .min();
        let longest = self.columns.iter().map(Column::complete).max().unwrap_or(0);
        let until = live.unwrap_or(longest).min(longest);
        let rows = (self.printed..until).map(|at| self.line(at)).collect();
        self.printed = self.printed.max(until);
        rows
    }

    fn line(&self, at: usize) -> String {
        let cells: Vec<String> = self.columns.iter().map(|c| pad(&c.row(at))).collect();
        cells.join(" │ ").trim_end().to_owned()
    }
}

/// Fills a cell up to the column's width.
pub(crate) fn pad(text: &str) -> String {
    let missing = WIDTH.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_printed_once_when_every_begun_column_has_it() {
        let mut columns = Columns::new(2);
        let long = "word ".repeat(20);
        assert!(
            !columns.push(0, &long).is_empty(),
            "a column that has not begun holds nothing up"
        );
        let mut columns = Columns::new(2);
        assert!(columns.push(1, "x ").is_empty());
        assert!(
            columns.push(0, &long).is_empty(),
            "the second column has begun and has no row yet"
        );
        let rows = columns.end(1);
        assert!(rows[0].contains("word") && rows[0].ends_with('x'), "{rows:?}");
        assert!(!columns.end(0).is_empty());
        assert!(columns.end(0).is_empty(), "nothing is printed twice");
    }
}
