//! Aligned columns without lines around them.

/// Rows of text under a head. Every row has as many cells as the head.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    head: [&'static str; N],
    /// Columns of numbers stand to the right.
    right: [bool; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A head that ends with `>` marks a column of numbers.
    pub(crate) fn new(head: [&'static str; N]) -> Self {
        Self {
            right: head.map(|name| name.ends_with('>')),
            head: head.map(|name| name.trim_end_matches('>')),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { printable(&cell) }));
    }

    /// Lines without trailing blanks, the head first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let head = self.head.map(str::to_owned);
        let all: Vec<&[String; N]> = std::iter::once(&head).chain(&self.rows).collect();
        let widths: [usize; N] = std::array::from_fn(|column| {
            all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        all.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(self.right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            if right {
                line.push_str(&format!("{cell:>width$}"));
            } else {
                line.push_str(&format!("{cell:<width$}"));
            }
        }
        line.trim_end().to_owned()
    }
}

/// Control characters of others never reach the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["model", "cost>", "state"]);
        table.row(["a".to_owned(), "1".to_owned(), "warm".to_owned()]);
        table.row(["longer".to_owned(), "12345".to_owned(), String::new()]);
        assert_eq!(table.lines(), ["model    cost  state", "a           1  warm", "longer  12345  -"]);
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(Table::new(["a", "b>"]).lines(), ["a  b"]);
    }

    #[test]
    fn an_escape_sequence_in_a_cell_does_not_reach_the_terminal() {
        let mut table = Table::new(["name"]);
        table.row(["\x1b[2Jgone\r\n".to_owned()]);
        assert!(table.lines().iter().all(|line| !line.contains(['\x1b', '\r', '\n'])), "{:?}", table.lines());
    }
}
