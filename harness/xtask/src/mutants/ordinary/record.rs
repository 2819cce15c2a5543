//! The outcomes of a run, on disk as they come, so that one that was stopped goes on where it was.
//!
//! They hold for one state of the tree. After a change of the tests alone, what was killed may be taken as
//! killed: then only survivors are tried again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::trial::Outcome;
use crate::mutants::scratch::Scratch;

/// Outcomes by the mutants' names.
pub(super) struct Record {
    file: File,
    pub(super) outcomes: BTreeMap<String, Outcome>,
}

/// A number for all in the tree that outcomes depend on.
pub(super) fn fingerprint(tree: &Scratch) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let apart = |file: &&Path| {
        !file.starts_with("harness/xtask")
            && !file.starts_with("tests/mutants")
            && file.extension().is_none_or(|ending| ending != "md")
    };
    for file in tree.files().filter(apart) {
        hasher.write(file.as_os_str().as_encoded_bytes());
        hasher.write(&tree.read(file)?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

impl Record {
    /// What is known of the tree `fingerprint`; with `survivors`, what was killed in the last tree.
    pub(super) fn open(path: &Path, fingerprint: &str, survivors: bool) -> Result<Self> {
        let old = fs::read_to_string(path).unwrap_or_default();
        let mut lines = old.lines();
        let same = lines.next() == Some(fingerprint);
        let mut outcomes = BTreeMap::new();
        if same || survivors {
            // The last line may be half of one.
            outcomes.extend(lines.filter_map(|line| parse(line).ok()));
        }
        if survivors {
            outcomes.retain(|_, outcome| *outcome != Outcome::Survived);
        }
        fs::write(path, format!("{fingerprint}\n")).with_context(|| path.display().to_string())?;
        let file = OpenOptions::new().append(true).open(path)?;
        let mut record = Self { file, outcomes: BTreeMap::new() };
        outcomes.into_iter().try_for_each(|(name, outcome)| record.add(&name, outcome))?;
        Ok(record)
    }

    /// Notes what came of mutant `name`.
    pub(super) fn add(&mut self, name: &str, outcome: Outcome) -> Result<()> {
        if self.outcomes.contains_key(name) {
            return Ok(());
        }
        let (word, test) = match &outcome {
            Outcome::Killed(test) => ("killed", test.as_str()),
            Outcome::TimedOut(test) => ("timed out", test.as_str()),
            Outcome::Survived => ("survived", ""),
            Outcome::Unviable => ("unviable", ""),
        };
        self.file.write_all(format!("{word}\t{test}\t{name}\n").as_bytes())?;
        self.outcomes.insert(name.to_owned(), outcome);
        Ok(())
    }
}

fn parse(line: &str) -> Result<(String, Outcome)> {
    let fields: Vec<&str> = line.splitn(3, '\t').collect();
    let outcome = match fields[..] {
        ["killed", test, _] => Outcome::Killed(test.to_owned()),
        ["timed out", test, _] => Outcome::TimedOut(test.to_owned()),
        ["survived", _, _] => Outcome::Survived,
        ["unviable", _, _] => Outcome::Unviable,
        _ => bail!("no outcome: {line}"),
    };
    Ok((fields[2].to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_last_as_long_as_the_tree_and_kills_longer() {
        let path = std::env::temp_dir().join(format!("rumpvm-record-{}", std::process::id()));
        let mut record = Record::open(&path, "1", false).unwrap();
        record.add("a: x", Outcome::Killed("cases".into())).unwrap();
        record.add("b: x", Outcome::Survived).unwrap();
        let known = |fingerprint: &str, survivors: bool| {
            Record::open(&path, fingerprint, survivors).unwrap().outcomes.len()
        };
        assert_eq!(known("1", false), 2);
        assert_eq!(known("2", true), 1);
        assert_eq!(known("2", false), 1);
        assert_eq!(known("3", false), 0);
        fs::remove_file(path).unwrap();
    }
}
