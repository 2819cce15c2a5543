//! Survivors that are accepted: `tests/mutants/ordinary.txt` and `sites.txt`, each under the reason why nothing
//! kills it.
//!
//! A mutant is named by its file and what it does, without its line, which moves with every change. Two
//! that do the same in one function have one name and are listed twice. A reason that begins with "Equivalent"
//! says that the mutant does nothing wrong.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

/// Which names may survive.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// How often.
    names: BTreeMap<String, usize>,
    equivalent: BTreeSet<String>,
}

impl Accepted {
    /// Reads the list: mutants, a line each, below a comment that says why; a blank line ends the comment's
    /// reach.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut accepted = Self::default();
        let mut reason = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                reason = None;
            } else if let Some(words) = line.strip_prefix('#') {
                reason.get_or_insert(words.trim());
            } else if let Some(reason) = reason {
                *accepted.names.entry(line.to_owned()).or_default() += 1;
                if reason.starts_with("Equivalent") {
                    accepted.equivalent.insert(line.to_owned());
                }
            } else {
                bail!("line {}: a survivor without a reason: {line}", number + 1);
            }
        }
        Ok(accepted)
    }

    /// Whether the list says that `mutant` does nothing wrong.
    pub(super) fn is_equivalent(&self, mutant: &str) -> bool {
        self.equivalent.contains(&name(mutant))
    }

    /// Those of `missed` that are not on the list, and those on the list that neither survived now nor can be
    /// one of `unasked`, which this run has not tried.
    pub(super) fn compare<'a>(
        mut self,
        missed: &[String],
        unasked: impl IntoIterator<Item = &'a str>,
    ) -> Complaints {
        let mut complaints = Complaints::default();
        for mutant in missed {
            match self.names.get_mut(&name(mutant)) {
                Some(left) if *left > 0 => *left -= 1,
                _ => complaints.unlisted.push(mutant.clone()),
            }
        }
        for mutant in unasked {
            if let Some(left) = self.names.get_mut(&name(mutant)) {
                *left = left.saturating_sub(1);
            }
        }
        complaints.dead =
            self.names.into_iter().filter_map(|(name, left)| (left > 0).then_some(name)).collect();
        complaints
    }
}

/// What is wrong with the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaints {
    /// Survived, and nobody has said why that is well.
    pub(super) unlisted: Vec<String>,
    /// Listed as survivors, and killed, or no mutants any more.
    pub(super) dead: Vec<String>,
}

/// `file:line:column: what` without line and column.
fn name(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_survivor_is_known_by_file_and_change_wherever_it_has_moved() {
        let accepted = Accepted::parse("# Equivalent.\na.rs: replace + with - in f\n").unwrap();
        let missed =
            strings(&["a.rs:9:3: replace + with - in f", "b.rs:9:3: replace + with - in f"]);
        let complaints = accepted.compare(&missed, []);
        assert_eq!(complaints.unlisted, strings(&["b.rs:9:3: replace + with - in f"]));
    }

    #[test]
    fn one_line_of_the_list_accepts_one_survivor() {
        let accepted = Accepted::parse("# Equivalent.\na.rs: replace A::f with ()\n").unwrap();
        let missed = strings(&["a.rs:1:2: replace A::f with ()", "a.rs:5:2: replace A::f with ()"]);
        assert_eq!(accepted.compare(&missed, []).unlisted, missed[1..]);
    }

    #[test]
    fn a_listed_mutant_that_did_not_survive_is_called_dead_unless_it_was_not_asked() {
        let accepted = || Accepted::parse("# Equivalent.\na.rs: x\na.rs: x\na.rs: y\n").unwrap();
        let dead = |missed: &[&str], unasked: &[&str]| {
            accepted().compare(&strings(missed), unasked.iter().copied()).dead
        };
        assert_eq!(dead(&["a.rs:1:1: x"], &[]), strings(&["a.rs: x", "a.rs: y"]));
        assert_eq!(dead(&["a.rs:1:1: x"], &["a.rs:2:1: x"]), strings(&["a.rs: y"]));
        assert!(dead(&[], &["a.rs:1:1: x", "a.rs:2:1: x", "a.rs:3:1: y"]).is_empty());
    }

    #[test]
    fn a_reason_says_whether_its_mutants_are_equivalent() {
        let text = "# Equivalent:\n# it is stored again.\na.rs: x\n\n# Not equivalent.\na.rs: y\n";
        let accepted = Accepted::parse(text).unwrap();
        assert!(accepted.is_equivalent("a.rs:7:1: x") && !accepted.is_equivalent("a.rs:7:1: y"));
    }

    #[test]
    fn every_survivor_needs_a_reason() {
        assert!(Accepted::parse("a.rs: x\n").is_err());
        assert!(Accepted::parse("# Why.\na.rs: x\n\na.rs: y\n").is_err());
    }
}
