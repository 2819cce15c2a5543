//! What a command says on its standard output.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Says `text`, as a line.
pub(super) fn say(text: impl Display) -> Result<()> {
    say_on(&mut io::stdout(), text)
}

/// Says `text` on `out`, as a line. Whoever was listening may have gone (`| head`): that is no failure, and the exit
/// status still tells how the checks went.
pub(super) fn say_on(out: &mut dyn Write, text: impl Display) -> Result<()> {
    match writeln!(out, "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the result"),
    }
}

/// Whether a report can be written to `path`: asked before the work and not after it.
pub(super) fn can_write(path: &Path) -> Result<()> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).with_context(|| format!("cannot write the report {}", path.display()))
}
