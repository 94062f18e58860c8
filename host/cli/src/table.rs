//! Tables and lists of facts for people: columns by width, colours only on a terminal.

use crate::text::plain;
use console::{measure_text_width, style};

/// What a word's colour says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Waiting,
    Bad,
}

/// One field. Its text is harmless once it is here.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: plain(text.as_ref()), tone }
    }

    /// The text, with its colour where colours are wanted.
    pub(crate) fn paint(&self) -> String {
        self.paint_if(console::colors_enabled())
    }

    fn paint_if(&self, colours: bool) -> String {
        let styled = style(&self.text).force_styling(colours);
        match self.tone {
            Tone::Plain => self.text.clone(),
            Tone::Good => styled.green().to_string(),
            Tone::Waiting => styled.yellow().to_string(),
            Tone::Bad => styled.red().to_string(),
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(Cell::from).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table; the text for nothing where it has no rows.
    pub(crate) fn render(&self, nothing: &str) -> String {
        if self.rows.len() <= 1 {
            format!("{nothing}\n")
        } else {
            align(&self.rows, console::colors_enabled())
        }
    }
}

/// A list of facts: a name and a value on each line.
pub(crate) fn facts(facts: Vec<(&str, Cell)>) -> String {
    let rows: Vec<_> = facts.into_iter().map(|(name, value)| vec![Cell::from(name), value]).collect();
    align(&rows, console::colors_enabled())
}

fn align(rows: &[Vec<Cell>], colours: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| measure_text_width(&cell.text)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&cell.paint_if(colours));
            let gap = width.saturating_sub(measure_text_width(&cell.text)).saturating_add(GAP);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

const GAP: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec!["NAME".into(), "STATE".into(), "AGENT".into()],
            vec!["web-3".into(), Cell::toned("gone", Tone::Waiting), "0.1.0".into()],
            vec!["größer".into(), Cell::toned("connected", Tone::Good), "".into()],
        ]
    }

    #[test]
    fn columns_stand_under_their_heads_and_lines_have_no_tail() {
        let expected = "NAME    STATE      AGENT\nweb-3   gone       0.1.0\ngrößer  connected\n";
        assert_eq!(align(&rows(), false), expected);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let coloured = align(&rows(), true);
        assert!(coloured.contains("\u{1b}[32mconnected\u{1b}[0m"), "{coloured:?}");
        assert_eq!(console::strip_ansi_codes(&coloured), align(&rows(), false));
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(&["NAME"]).render("no guests"), "no guests\n");
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        assert_eq!(align(&[vec!["a\nb".into(), "c".into()]], false), "a\\nb  c\n");
    }
}
