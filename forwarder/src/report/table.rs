//! Aligned columns.

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows of as many cells as there are columns.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    sides: [Side; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// One whose first line is the columns' names.
    pub fn new(columns: [(&str, Side); N]) -> Self {
        Self {
            sides: columns.map(|(_, side)| side),
            rows: vec![columns.map(|(name, _)| name.to_owned())],
        }
    }

    /// One without a heading.
    pub fn plain(sides: [Side; N]) -> Self {
        Self {
            sides,
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: [String; N]) {
        // A name from elsewhere must not move the cursor.
        self.rows
            .push(cells.map(|cell| cell.chars().filter(|c| !c.is_control()).collect()));
    }

    pub fn render(&self) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            out.push_str(self.line(row, &widths).trim_end());
            out.push('\n');
        }
        out
    }

    fn line(&self, row: &[String; N], widths: &[usize; N]) -> String {
        let cells = row.iter().zip(widths).zip(self.sides);
        let cells = cells
            .filter(|((_, width), _)| **width > 0)
            .map(|((cell, width), side)| match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
        cells.collect::<Vec<_>>().join("  ")
    }
}
