//! What a run shows at its end: the table on the terminal, the HTML report, JSON for programs.
//!
//! Flow: parts (numbers) -> table cells -> text or HTML; parts -> drawings -> HTML.

mod bars;
mod curves;
mod html;
mod measured;
mod numbers;
mod part;
#[cfg(test)]
mod sample;
mod svg;
mod table;

pub use measured::Run;
pub use numbers::{bytes, count, percent, short};
pub use part::{Count, LockRow, Part, PartKind, Sample};
pub use table::{locks, text};

use std::io;
use std::path::Path;

/// Writes the HTML report on `parts` to `path`; `about` says in a line what was run.
pub fn write(path: &Path, parts: &[Part], about: &str) -> io::Result<()> {
    let page = html::page(parts, about).map_err(io::Error::other)?;
    std::fs::write(path, page)
}
