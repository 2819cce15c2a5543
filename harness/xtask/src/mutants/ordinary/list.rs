//! Which mutants there are: cargo-mutants lists them, and says where and how each changes the source.
//!
//! It is only asked; `.cargo/mutants.toml` names the files. Flow: its JSON -> mutants -> edited texts.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{step, workspace};

/// Pinned, because another version makes other mutants.
const VERSION: &str = "27.1.0";

/// One small change of one file.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    /// File, line, column and what is changed.
    pub(super) name: String,
    /// From the root of the tree.
    pub(super) file: String,
    /// Line and column, in characters, from 1.
    start: [usize; 2],
    end: [usize; 2],
    /// What takes the place of that.
    replacement: String,
    /// What the function that it is in returns.
    pub(super) returns: Returns,
}

/// What a function returns, as far as that matters to several bodies of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Returns {
    /// A type with a name: all bodies have it.
    Named,
    /// `impl Iterator`: each body has a type of its own, and either of two iterators is one.
    Iterator,
    /// Something else that only the body knows.
    Opaque,
}

/// All mutants of the tree at `root`.
pub(super) fn mutants(root: &Path) -> Result<Vec<Mutant>> {
    need_cargo_mutants()?;
    let output = step::cargo(root, "mutants --list --json --package rumpvm").output();
    let output = output.context("cannot start cargo mutants")?;
    if !output.status.success() {
        bail!("cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    list.iter().map(|value| Mutant::parse(value).with_context(|| value.to_string())).collect()
}

fn need_cargo_mutants() -> Result<()> {
    let root = workspace::root();
    let version = step::cargo(&root, "mutants --version").output();
    let wanted = format!("cargo-mutants {VERSION}");
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(());
    }
    let install = format!("install --locked cargo-mutants@{VERSION}");
    step::run(&format!("cargo {install}"), &mut step::cargo(&root, &install))
}

impl Mutant {
    fn parse(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let place = |value: &Value| {
            Some([value["line"].as_u64()? as usize, value["column"].as_u64()? as usize])
        };
        let returned = value["function"]["return_type"].as_str().unwrap_or_default();
        let returns = match returned.split_once("impl ") {
            None => Returns::Named,
            Some((_, bounds)) if bounds.starts_with("Iterator<") => Returns::Iterator,
            Some(_) => Returns::Opaque,
        };
        Some(Self {
            name: text(&value["name"])?,
            file: text(&value["file"])?,
            start: place(&value["span"]["start"])?,
            end: place(&value["span"]["end"])?,
            replacement: text(&value["replacement"])?,
            returns,
        })
    }

    /// The bytes of `text`, its file, that it replaces.
    pub(super) fn span(&self, text: &str) -> Option<Range<usize>> {
        Some(offset(text, self.start)?..offset(text, self.end)?)
    }

    /// The bytes `within` of `text` as it changes them. Its span lies there.
    pub(super) fn apply(&self, text: &str, within: Range<usize>) -> Option<String> {
        let span = self.span(text)?;
        let (before, after) = (&text[within.start..span.start], &text[span.end..within.end]);
        Some(format!("{before}{}{after}", self.replacement))
    }
}

/// The byte at a line and column.
fn offset(text: &str, [line, column]: [usize; 2]) -> Option<usize> {
    let lines = text.split_inclusive('\n').take(line - 1);
    let start: usize = lines.map(str::len).sum();
    let line = text[start..].split('\n').next()?;
    let column = line.chars().take(column - 1).map(char::len_utf8).sum::<usize>();
    Some(start + column)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A mutant that replaces `[from, to)`, columns of `line`.
    pub(crate) fn mutant(line: usize, columns: Range<usize>, replacement: &str) -> Mutant {
        Mutant {
            name: format!("a.rs:{line}:{}: {replacement}", columns.start),
            file: "a.rs".to_owned(),
            start: [line, columns.start],
            end: [line, columns.end],
            replacement: replacement.to_owned(),
            returns: Returns::Named,
        }
    }

    #[test]
    fn a_mutant_is_read_from_what_cargo_mutants_prints() {
        let text = r#"{"file":"a.rs","function":{"return_type":"-> impl Iterator<Item = u8>"},"name":"a.rs:2:3: x",
            "replacement":"-","span":{"start":{"line":2,"column":3},"end":{"line":2,"column":4}}}"#;
        let mutant = Mutant::parse(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((mutant.returns, mutant.name.as_str()), (Returns::Iterator, "a.rs:2:3: x"));
        assert_eq!(mutant.apply("é\nä + b\n", 0..10).unwrap(), "é\nä - b\n");
        assert!(Mutant::parse(&Value::Null).is_none());
    }
}
