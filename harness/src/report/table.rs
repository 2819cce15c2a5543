//! The table: one row a part, once as cells, shown by the terminal and by the report alike.
//!
//! Copies are not a column of their own: they are the faults of the kind that copies.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::numbers;
use super::part::{LockRow, Part};

/// Lines above, below and under the titles; none between columns, which costs width.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// The cells of the table.
pub(super) struct Cells {
    /// Titles of the columns.
    pub(super) head: Vec<String>,
    /// A row for each part, as many cells as there are titles.
    pub(super) rows: Vec<Vec<String>>,
}

/// The cells that show `parts`; the kinds of faults are those of the first part.
pub(super) fn cells(parts: &[Part]) -> Cells {
    let kinds = parts.first().map(|part| part.faults.as_slice()).unwrap_or_default();
    let mut head: Vec<String> = ["part", "check", "ops/s"].map(String::from).to_vec();
    head.extend(kinds.iter().map(|kind| kind.what.clone()));
    head.extend(["file in", "file out", "peak", "tables"].map(String::from));
    Cells { head, rows: parts.iter().map(row).collect() }
}

fn row(part: &Part) -> Vec<String> {
    let verdict = if part.passed() { "ok" } else { "FAILED" };
    let mut row = vec![part.name.clone(), verdict.to_string(), numbers::short(part.rate())];
    row.extend(part.faults.iter().map(|fault| numbers::short(fault.count as f64)));
    row.extend([part.pages_in, part.pages_out].map(|n| numbers::short(n as f64)));
    row.extend([numbers::bytes(part.peak_bytes), numbers::percent(part.table_share())]);
    row
}

/// The table as text. Its width does not depend on the terminal, so that a log shows the same.
pub fn text(parts: &[Part]) -> String {
    let cells = cells(parts);
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(cells.head).add_rows(cells.rows);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    table.to_string()
}

/// What was counted of each class of locks, a row each.
pub fn locks(rows: &[LockRow]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["lock", "taken", "waited for", "longest hold, us"]);
    table.add_rows(rows.iter().map(|row| {
        let longest = format!("{:.1}", row.longest as f64 / 1000.0);
        [row.class.clone(), numbers::count(row.acquired), numbers::count(row.contended), longest]
    }));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        column.set_padding((1, 0));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::parts;

    #[test]
    fn every_row_has_a_cell_for_each_title() {
        let cells = cells(&parts());
        assert!(cells.rows.iter().all(|row| row.len() == cells.head.len()));
    }

    #[test]
    fn a_failed_part_says_so_in_its_row() {
        let mut parts = parts();
        parts[1].failures.push("byte 7 is wrong".into());
        let text = text(&parts);
        let line = text.lines().find(|line| line.contains(&parts[1].name)).expect("a row each");
        assert!(line.contains("FAILED"), "{text}");
    }
}
