//! The patches of `tests/mutants`: each puts one class of flaw into today's code.
//!
//! ```text
//! # report: #2350
//! # flaw: the page is unlocked before its rights are taken away
//! # scenario: protect-against-io, protect-against-fault
//! diff --git a/rumpvm/src/...
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// What a patch says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The report whose class of flaw it is.
    pub(super) report: String,
    /// What is wrong, in a sentence.
    pub(super) flaw: String,
    /// Scenarios, one of which must show it.
    pub(super) scenarios: Vec<String>,
}

/// One patch.
#[derive(Debug)]
pub(super) struct Patch {
    /// Its file without the ending.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) header: Header,
}

impl Header {
    /// Reads the lines above the first difference.
    fn parse(text: &str) -> Result<Self> {
        let (head, _) = text.split_once("\ndiff --git ").context("no `diff --git` line")?;
        let field = |name: &str| -> Result<String> {
            let start = format!("# {name}:");
            let mut found = head.lines().filter_map(|line| line.strip_prefix(&start));
            let value = found.next().with_context(|| format!("no line `{start} ...`"))?.trim();
            ensure!(!value.is_empty(), "nothing behind `{start}`");
            ensure!(found.next().is_none(), "more than one line `{start} ...`");
            Ok(value.to_owned())
        };
        let scenarios = field("scenario")?;
        let scenarios = scenarios.split(',').map(|name| name.trim().to_owned()).collect();
        Ok(Self { report: field("report")?, flaw: field("flaw")?, scenarios })
    }
}

/// The patches called `names`, or all that are in `folder`; by name.
pub(super) fn read(folder: &Path, names: &[String]) -> Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let header = Header::parse(&text).with_context(|| path.display().to_string())?;
        patches.push(Patch { name, path, header });
    }
    let is_there = |name: &&String| !patches.iter().any(|patch| patch.name == **name);
    if let Some(missing) = names.iter().find(is_there) {
        bail!("there is no {missing}.patch in {}", folder.display());
    }
    patches.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(patches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "# report: #2350\n# flaw: no lock\n# scenario: one, two\ndiff --git a/x b/x\n";

    #[test]
    fn a_header_names_report_flaw_and_scenarios() {
        let header = Header::parse(GOOD).unwrap();
        assert_eq!((header.report.as_str(), header.flaw.as_str()), ("#2350", "no lock"));
        assert_eq!(header.scenarios, ["one", "two"]);
    }

    #[test]
    fn a_header_that_lacks_a_line_is_refused_and_the_line_named() {
        for line in ["report", "flaw", "scenario"] {
            let text = GOOD.replace(line, "note");
            let error = Header::parse(&text).unwrap_err().to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn an_empty_or_repeated_line_is_refused() {
        assert!(Header::parse(&GOOD.replace("no lock", "")).is_err());
        assert!(Header::parse(&format!("# flaw: again\n{GOOD}")).is_err());
    }

    #[test]
    fn what_follows_the_first_difference_is_no_header() {
        let text = "# report: a\n# flaw: b\ndiff --git a/x b/x\n# scenario: c\n";
        assert!(Header::parse(text).is_err());
        assert!(Header::parse("# report: a\n# flaw: b\n# scenario: c\n").is_err());
    }
}
